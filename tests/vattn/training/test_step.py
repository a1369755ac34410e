"""Steps in parts, in mixed precision and with several workers are the steps that they should be."""

from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError
from torch import nn

from tests.vattn.support import model
from tests.vattn.training.test_uneven_steps import write_clips
from vattn.canonical import trial_id
from vattn.config import TrainConfig, TrialConfig
from vattn.errors import UserError
from vattn.model import VideoModel, build_model
from vattn.training.device import autocast, backward_pass
from vattn.training.fit import fit
from vattn.training.optimization import ScaledOptimizer
from vattn.training.step import part_sizes, train_step

CPU = torch.device("cpu")


@given(clips=st.integers(1, 100), limit=st.integers(1, 20))
def test_parts_are_few_and_equal_and_none_is_a_single_clip(clips: int, limit: int) -> None:
    sizes = part_sizes(clips, limit)

    assert sum(sizes) == clips
    assert max(sizes) - min(sizes) <= 1
    assert max(sizes) <= limit or (limit == 2 and max(sizes) == 3)
    assert min(sizes) > 1 or limit == 1 or clips == 1


def train_config(**options: Any) -> TrainConfig:
    return TrainConfig.parse({"epochs": 1, "batch": 12, "lr": 0.1} | options)


def stepped(train: TrainConfig, clips: int, steps: int = 2) -> VideoModel:
    """Return a network without batch norm and dropout after steps of this many clips."""
    torch.manual_seed(0)
    config = model(backbone={"kind": "c3d", "width": 1 / 64, "dropout": 0}, frames=16, size=16, head={"dropout": 0})
    net = build_model(config, 5).train()
    optimizer = ScaledOptimizer(net, train, CPU)
    for _ in range(steps):
        images = torch.randint(0, 256, (clips, 3, 16, 16, 16), dtype=torch.uint8)
        train_step(net, net, optimizer, train, images, torch.arange(clips) % 5, clips, 1, 0.1)
    return net


@pytest.mark.parametrize("clips", [12, 7, 5])
@pytest.mark.parametrize("accumulate", [2, 3, 12])
def test_a_step_in_parts_is_the_step_of_the_whole_batch(accumulate: int, clips: int) -> None:
    whole, in_parts = (stepped(train_config(accumulate=parts), clips) for parts in (1, accumulate))

    torch.testing.assert_close(in_parts.state_dict(), whole.state_dict(), rtol=0, atol=1e-6)


def test_only_a_part_is_in_the_network_at_once() -> None:
    sizes = []
    net = build_model(model(), 5).train()
    net.backbone.register_forward_pre_hook(lambda _, args: sizes.append(len(args[0]) // 4))
    train = train_config(accumulate=4)

    images = torch.zeros(12, 3, 4, 32, 32, dtype=torch.uint8)
    train_step(net, net, ScaledOptimizer(net, train, CPU), train, images, torch.zeros(12).long(), 12, 1, 0.1)

    assert sizes == [3, 3, 3, 3]


def test_a_batch_that_has_no_equal_parts_is_refused() -> None:
    with pytest.raises(ValidationError, match=r"accumulate: must divide batch, 12 \(got 5\)"):
        train_config(accumulate=5)


def test_new_keys_change_an_identity_only_if_they_are_set() -> None:
    # The identity that this config had before these keys existed.
    tree: dict[str, Any] = {
        "data": {"kind": "motion"},
        "model": {"frames": 4, "size": 32, "backbone": {"kind": "resnet", "depth": 10}, "attention": [{"kind": "tam"}]},
        "train": {"epochs": 3, "batch": 16, "lr": 0.1},
    }
    defaults = {"accumulate": 1, "compile": "none", "deterministic": False}
    others = {"accumulate": 2, "compile": "default", "deterministic": True, "amp": "fp16"}

    assert trial_id(TrialConfig.parse(tree)) == "9ffe1097d9d3b5ce"
    assert trial_id(TrialConfig.parse(tree | {"train": tree["train"] | defaults})) == "9ffe1097d9d3b5ce"
    changed = {trial_id(TrialConfig.parse(tree | {"train": tree["train"] | {k: v}})) for k, v in others.items()}
    assert len(changed - {"9ffe1097d9d3b5ce"}) == len(others)


# Mixed precision


def test_a_step_whose_gradients_are_not_finite_is_skipped_and_halves_the_scale() -> None:
    net = nn.Linear(2, 1)
    optimizer = ScaledOptimizer(net, train_config(amp="fp16"), CPU)
    before = net.weight.detach().clone()

    optimizer.start(0.1)
    optimizer.backward(net(torch.ones(1, 2)).sum() * float("inf"))
    optimizer.step()

    assert torch.equal(net.weight, before)
    assert optimizer.scaler.get_scale() == 2**15
    optimizer.start(0.1)
    optimizer.backward(net(torch.ones(1, 2)).sum())
    optimizer.step()
    torch.testing.assert_close(net.weight, before - 0.1)


def test_the_greatest_norm_is_that_of_gradients_without_the_scale() -> None:
    net = nn.Linear(2, 1, bias=False)
    optimizer = ScaledOptimizer(net, train_config(amp="fp16", clip_norm=1.0, weight_decay=0.0), CPU)
    before = net.weight.detach().clone()

    optimizer.start(0.1)
    optimizer.backward(net(torch.tensor([[3.0, 4.0]])).sum())  # a gradient of norm 5
    optimizer.step()

    torch.testing.assert_close(net.weight.detach(), before - 0.1 * torch.tensor([[0.6, 0.8]]), rtol=0, atol=1e-6)
    optimizer.start(0.1)
    optimizer.backward(net(torch.tensor([[0.3, 0.4]])).sum())  # a shorter one stays as it is
    optimizer.step()
    # 0.9 of the last step is added by the momentum.
    moved = 0.1 * (0.9 * torch.tensor([[0.6, 0.8]]) + torch.tensor([[0.3, 0.4]])) + 0.1 * torch.tensor([[0.6, 0.8]])
    torch.testing.assert_close(net.weight.detach(), before - moved, rtol=0, atol=1e-4)


def trial(batch: int, dropout: float = 0.5, **train: Any) -> TrialConfig:
    return TrialConfig.parse({
        "data": {"kind": "motion"},
        "model": {"frames": 16, "size": 16, "backbone": {"kind": "c3d", "width": 1 / 64, "dropout": dropout},
                  "head": {"dropout": 0}},
        "train": {"epochs": 2, "batch": batch, "lr": 0.5, "checkpoint_minutes": 1e-9} | train,
    })  # fmt: skip


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_clips(tmp_path_factory.mktemp("clips") / "15", 15)


def test_gradients_in_bf16_are_those_in_float32_but_for_rounding() -> None:
    torch.manual_seed(0)
    conv, clip = nn.Conv3d(16, 16, 3, padding=1), torch.randn(2, 16, 2, 4, 4)  # two frames, as in the last ones of C3D
    gradients = []
    for train in (train_config(amp="bf16"), train_config()):
        with autocast(train, CPU):
            loss = conv(clip).float().square().mean()
        for size in range(1, 7):  # what is freed here is the memory of the gradient, if it is not written
            torch.full((10**size,), float("nan"), dtype=torch.bfloat16)
        with backward_pass(train, CPU):
            gradients.append(torch.autograd.grad(loss, conv.weight)[0])

    half, whole = gradients
    assert (half - whole).norm() < 0.02 * whole.norm()


class KilledError(Exception):
    pass


@pytest.mark.medium
@pytest.mark.parametrize("amp", ["bf16", "fp16"])
def test_a_training_in_parts_and_half_precision_resumes_within_an_epoch_with_the_same_weights(
    amp: str, clips: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = trial(4, amp=amp, accumulate=2, optimizer="adamw", lr=0.01)
    list(fit(config, clips, tmp_path / "whole"))
    step, done = ScaledOptimizer.step, []

    def killed_at_the_sixth(self: ScaledOptimizer) -> None:
        if len(done) == 5:
            raise KilledError
        done.append(step(self))

    with monkeypatch.context() as patch:
        patch.setattr(ScaledOptimizer, "step", killed_at_the_sixth)
        with pytest.raises(KilledError):
            list(fit(config, clips, tmp_path / "cut"))
    list(fit(config, clips, tmp_path / "cut"))

    whole, cut = (torch.load(tmp_path / run / "model.pt", weights_only=True) for run in ("whole", "cut"))
    torch.testing.assert_close(cut, whole, rtol=0, atol=0)


def test_the_scale_is_part_of_the_state() -> None:
    net = nn.Linear(2, 1)
    optimizer, other = (ScaledOptimizer(net, train_config(amp="fp16"), CPU) for _ in range(2))
    optimizer.start(0.1)
    optimizer.backward(net(torch.ones(1, 2)).sum() * float("inf"))
    optimizer.step()

    other.load_state_dict(optimizer.state_dict())

    assert other.scaler.get_scale() == 2**15
    assert "scaler" not in ScaledOptimizer(net, train_config(), CPU).state_dict()


def test_a_state_is_loaded_with_the_layout_of_the_weights_and_the_kernels_of_the_device() -> None:
    net = nn.Conv2d(3, 4, 3)
    plain = ScaledOptimizer(net, train_config(optimizer="adamw"), CPU)
    net(torch.ones(1, 3, 3, 3)).sum().backward()
    plain.step()
    state = plain.state_dict()
    state["param_groups"][0]["fused"] = True  # as if it had been written on a GPU
    net.weight.data = net.weight.data.contiguous(memory_format=torch.channels_last)
    loaded = ScaledOptimizer(net, train_config(optimizer="adamw"), CPU)

    loaded.load_state_dict(state)

    assert loaded.torch.param_groups[0]["fused"] is None
    average = loaded.torch.state[net.weight]["exp_avg"]
    assert average.stride() == net.weight.stride()
    torch.testing.assert_close(average, plain.torch.state[net.weight]["exp_avg"])


# Several workers


def _worker(rank: int, folder: Path, cache: Path) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=(folder / "meeting").as_uri(), rank=rank, world_size=2)
    list(fit(trial(8, dropout=0, accumulate=2), cache, folder / "two"))
    try:
        list(fit(trial(8, accumulate=8), cache, folder / "refused"))
    except UserError as error:
        (folder / f"{rank}.txt").write_text(str(error))
    dist.destroy_process_group()


@pytest.mark.medium
def test_two_workers_that_divide_their_shares_into_parts_train_as_one_does(clips: Path, tmp_path: Path) -> None:
    # 15 clips: the last step has 7, of which one worker has 4 and the other 3.
    mp.spawn(_worker, (tmp_path, clips), nprocs=2)  # pyright: ignore[reportPrivateImportUsage]
    list(fit(trial(8, dropout=0), clips, tmp_path / "one"))

    one, two = (torch.load(tmp_path / run / "model.pt", weights_only=True) for run in ("one", "two"))
    torch.testing.assert_close(two, one, rtol=0, atol=1e-6)
    for rank in (0, 1):
        assert "must divide a worker's share of train.batch, 4 clips" in (tmp_path / f"{rank}.txt").read_text()

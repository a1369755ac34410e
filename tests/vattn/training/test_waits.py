"""Within an epoch the host never waits for the accelerator. The meta device and fake GPUs stand for it here."""

import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch._subclasses import FakeTensorMode
from torch.optim.optimizer import register_optimizer_step_post_hook

from tests.vattn.support import model, place_of
from tests.vattn.training.waits import NoWaits, WaitError
from vattn.config import ModelConfig, TrainConfig, TrialConfig
from vattn.data import open_clips, prepare
from vattn.model import SparseModel, VideoModel, build_model
from vattn.modules import ModuleConfig
from vattn.training.evaluation import evaluate
from vattn.training.fit import fit
from vattn.training.optimization import ScaledOptimizer
from vattn.training.step import train_step

META = torch.device("meta")


def with_mechanism(kind: str) -> ModelConfig:
    module = ModuleConfig.kinds[kind]()
    assert isinstance(module, ModuleConfig)
    tree = module.tree() | {"position": place_of(module), "stages": [3, 4], "every": 1}
    return model(tree, depth=14, width=0.5, size=64)


def on_meta(config: ModelConfig, classes: int = 5) -> VideoModel:
    with META:
        return build_model(config, classes).to(META).train()


def steps(net: VideoModel, config: ModelConfig, **options: Any) -> None:
    """Train for three steps, the last with fewer clips."""
    train = TrainConfig.parse({"epochs": 1, "batch": 8, "lr": 0.1, "accumulate": 2} | options)
    optimizer = ScaledOptimizer(net, train, META)
    frames = config.frames * config.backbone.frames_per_segment
    shape = (8, frames, config.size, config.size, 3)
    images = torch.empty(shape, dtype=torch.uint8, device=META).movedim(-1, 1)
    labels = torch.empty(8, dtype=torch.int64, device=META)
    train_step(net, net, optimizer, train, images, labels, 8, 1, 0.1)  # normalisation's constants are copied once
    with NoWaits():
        for clips, lr in (8, 0.1), (5, 0.05):
            train_step(net, net, optimizer, train, images[:clips], labels[:clips], clips, 1, lr)


@pytest.mark.parametrize("kind", ModuleConfig.kinds)
def test_a_step_with_a_mechanism_does_not_wait(kind: str) -> None:
    config = with_mechanism(kind)

    steps(on_meta(config), config, optimizer="adamw" if kind == "tam" else "sgd")


@pytest.mark.medium
@pytest.mark.parametrize("kind", ["mobilenet_v2", "shufflenet_v2", "resnet_tdn", "resnet3d", "slowfast", "c3d"])
def test_a_step_of_a_backbone_does_not_wait(kind: str) -> None:
    options = {"resnet_tdn": {"depth": 14}, "resnet3d": {"depth": 10}, "slowfast": {"depth": 14}}
    config = model(backbone={"kind": kind} | options.get(kind, {}), frames=16)

    steps(on_meta(config), config)


@pytest.mark.medium
@pytest.mark.parametrize("epoch", [1, 5, 10])
@pytest.mark.parametrize("paper_kernels", [False, True])
def test_a_step_of_sparse_attention_does_not_wait_in_any_stage(epoch: int, paper_kernels: bool) -> None:
    config = model(sparse={"paper_kernels": paper_kernels})
    net = on_meta(config)
    assert isinstance(net, SparseModel)
    net.begin(epoch, 10)

    steps(net, config)


class Planted(nn.Module):
    def __init__(self, wait: Callable[[Tensor], object]) -> None:
        super().__init__()
        self.wait = wait

    def forward(self, x: Tensor) -> Tensor:
        self.wait(x)
        return x


@pytest.mark.parametrize(
    "wait",
    [
        lambda x: x.sum().item(),
        lambda x: bool((x > 0).any()),
        lambda x: x[x > 0],
        lambda x: (x > 0).nonzero(),
        lambda x: torch.where(x > 0),
        lambda x: torch.masked_select(x, x > 0),
        lambda x: torch.bincount(x.flatten().long()),
        lambda x: torch.unique(x),
        lambda x: x.cpu(),
        lambda x: x.sum().tolist(),
        lambda x: x * torch.tensor([1.0, 2.0], device=x.device)[0],
        lambda x: x + torch.ones(x.shape, device="cpu").to(x.device),
        lambda x: x[..., [0, -1]],
        lambda x: torch.empty_like(x).copy_(torch.ones(x.shape)),
        lambda x: torch.equal(x, x),
    ],
)
def test_a_planted_wait_is_found(wait: Callable[[Tensor], object]) -> None:
    config = with_mechanism("tsm")
    net = on_meta(config)
    # The first step, in which constants are copied, is not watched.
    calls: list[Tensor] = []
    net.backbone.layer2.append(Planted(lambda x: wait(x) if len(calls) > 1 else calls.append(x)))  # pyright: ignore

    with pytest.raises(WaitError):
        steps(net, config)


def fake_gpu(net: VideoModel) -> VideoModel:
    """Put fake parameters of a GPU into ``net``, with fake gradients; call it within FakeTensorMode."""
    for module in net.modules():
        for name, parameter in module.named_parameters(recurse=False):
            fake = nn.Parameter(torch.empty_strided(parameter.shape, parameter.stride(), device="cuda:0"))
            fake.grad = torch.empty_like(fake)
            module.register_parameter(name, fake)
    return net


@pytest.mark.parametrize("name", ["sgd", "adamw"])
@pytest.mark.parametrize("scaled", [False, True])
def test_the_fused_optimizers_do_not_wait_for_a_gpu_with_or_without_a_scale(name: str, scaled: bool) -> None:
    train = TrainConfig.parse({"epochs": 1, "batch": 8, "lr": 0.1, "optimizer": name})
    net = build_model(model(), 5)
    with FakeTensorMode(allow_non_fake_inputs=True), NoWaits(armed=False) as waits:
        optimizer = ScaledOptimizer(fake_gpu(net), train, torch.device("cuda", 0))
        # Torch disables the scale of a GPU where there is none.
        optimizer.scaler = torch.amp.GradScaler("cpu", enabled=scaled)
        optimizer.scaler.scale(torch.zeros((), device="cuda:0"))
        waits.armed = True
        for _ in range(2):
            optimizer.step()

    assert all(group["fused"] for group in optimizer.torch.param_groups)


def trial() -> TrialConfig:
    return TrialConfig.parse({
        "data": {"kind": "motion", "train_clips": 2, "val_clips": 1, "test_clips": 1, "frames": 4, "size": 32,
                 "store": {"size": 32}},
        "model": {"frames": 2, "size": 32, "backbone": {"kind": "resnet", "depth": 10, "width": 0.125},
                  "attention": [{"kind": "tsm"}]},
        "train": {"epochs": 1, "batch": 8, "lr": 0.05, "checkpoint_minutes": "none"},
    })  # fmt: skip


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return prepare(trial().data, tmp_path_factory.mktemp("motion"))


def functions(error: BaseException) -> set[str]:
    return {frame.name for frame in traceback.extract_tb(error.__traceback__)}


def test_an_epoch_waits_only_at_its_end(cache: Path, tmp_path: Path) -> None:
    ended = []
    with NoWaits(armed=False) as waits:

        def arm(*_: object) -> None:
            waits.armed = True
            ended.append(1)

        handle = register_optimizer_step_post_hook(arm)
        try:
            with pytest.raises(WaitError) as error:
                list(fit(trial(), cache, tmp_path, META))
        finally:
            handle.remove()

    assert len(ended) == 4  # 32 clips, 8 in a step
    assert "_mean_loss" in functions(error.value)


def test_an_evaluation_waits_only_at_its_end(cache: Path) -> None:
    net = on_meta(trial().model, classes=16)
    clips = open_clips(cache, "val")

    with NoWaits(armed=False) as waits:

        def arm(*_: object) -> None:
            waits.armed = True

        net.backbone.register_forward_hook(arm)
        with pytest.raises(WaitError) as error:
            evaluate(net, clips, trial(), META)

    assert "_count" not in functions(error.value)
    assert "score" not in functions(error.value)

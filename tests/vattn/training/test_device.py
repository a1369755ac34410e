"""Options of the device, and compilation without graph breaks and with few graphs."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import jaxtyping
import pytest
import torch
from pydantic import ValidationError
from torch._dynamo.testing import CompileCounterWithBackend

from tests.vattn.support import model, place_of
from vattn.config import ModelConfig, TrainConfig, TrialConfig
from vattn.data import prepare
from vattn.model import SparseModel, build_model
from vattn.modules import ModuleConfig
from vattn.training.device import autocast, set_up
from vattn.training.fit import fit

GPU = torch.device("cuda", 0)


def train(**options: Any) -> TrainConfig:
    return TrainConfig.parse({"epochs": 1, "batch": 2, "lr": 0.1} | options)


@pytest.fixture
def restored(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Restore torch's options."""
    monkeypatch.setattr(os, "environ", dict(os.environ))
    before = torch.backends.cuda.matmul.fp32_precision, torch.backends.cudnn.fp32_precision
    yield
    torch.backends.cuda.matmul.fp32_precision, torch.backends.cudnn.fp32_precision = before
    torch.backends.cudnn.benchmark = torch.backends.cudnn.deterministic = False
    torch.use_deterministic_algorithms(False)


@pytest.mark.usefixtures("restored")
def test_a_gpu_uses_tf32_and_the_fastest_or_deterministic_algorithms() -> None:
    set_up(GPU, train(deterministic=True))

    assert torch.backends.cuda.matmul.fp32_precision == torch.backends.cudnn.fp32_precision == "tf32"
    assert (torch.backends.cudnn.benchmark, torch.backends.cudnn.deterministic) == (False, True)
    assert torch.are_deterministic_algorithms_enabled()
    assert torch.is_deterministic_algorithms_warn_only_enabled()
    assert os.environ["CUBLAS_WORKSPACE_CONFIG"] == ":4096:8"

    # The next training of the same process.
    set_up(GPU, train())

    assert (torch.backends.cudnn.benchmark, torch.backends.cudnn.deterministic) == (True, False)
    assert not torch.are_deterministic_algorithms_enabled()


@pytest.mark.usefixtures("restored")
def test_a_cpu_keeps_torchs_options() -> None:
    before = torch.backends.cuda.matmul.fp32_precision, torch.backends.cudnn.benchmark

    set_up(torch.device("cpu"), train(deterministic=True))

    assert (torch.backends.cuda.matmul.fp32_precision, torch.backends.cudnn.benchmark) == before
    assert not torch.are_deterministic_algorithms_enabled()


@pytest.mark.parametrize(("amp", "dtype"), [("none", torch.float32), ("bf16", torch.bfloat16), ("fp16", torch.float16)])
def test_products_have_the_type_of_amp(amp: str, dtype: torch.dtype) -> None:
    with autocast(train(amp=amp), torch.device("cpu")):
        assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype == dtype


def test_recomputed_blocks_are_not_compiled() -> None:
    with pytest.raises(ValidationError, match=r"compile: the blocks of recompute: blocks cannot .* \(got default\)"):
        train(compile="default", recompute="blocks")


CASES: dict[str, ModelConfig] = {
    kind: model({"kind": kind, "position": place_of(cast(ModuleConfig, module())), "stages": [3]}, depth=14, width=0.5)
    for kind, module in ModuleConfig.kinds.items()
} | {
    "resnet3d": model(backbone={"kind": "resnet3d", "depth": 10, "width": 0.25}, frames=8),
    "slowfast": model(backbone={"kind": "slowfast", "depth": 14, "width": 0.25}, frames=8),
    "resnet_tdn": model(backbone={"kind": "resnet_tdn", "depth": 14, "width": 0.25}),
}


@pytest.fixture
def unchecked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)  # the compiler cannot read its assertions
    torch.compiler.reset()


@pytest.mark.slow
@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize("kind", CASES)
def test_a_network_is_one_graph_for_a_full_batch_and_one_for_others(kind: str) -> None:
    config = CASES[kind]
    torch.manual_seed(0)
    net = build_model(config, 5).train()
    count = CompileCounterWithBackend("eager")
    compiled = torch.compile(net, backend=count, fullgraph=True)
    clips = torch.randn(4, 3, config.frames * config.backbone.frames_per_segment, 32, 32)

    counts = []
    for size in (4, 4, 3, 4, 2, 3):
        net.loss(compiled(clips[:size]), torch.arange(size)).backward()
        counts.append(count.frame_count)

    assert counts == [1, 1, 2, 2, 2, 2]


@pytest.mark.slow
@pytest.mark.usefixtures("unchecked")
def test_sparse_attention_is_one_graph_in_each_stage() -> None:
    net = build_model(model(sparse={}), 5).train()
    assert isinstance(net, SparseModel)
    count = CompileCounterWithBackend("eager")
    compiled = torch.compile(net, backend=count, fullgraph=True)
    clips = torch.randn(3, 3, 4, 32, 32)

    counts = []
    for epoch in (1, 1, 5, 5, 10, 10):
        net.begin(epoch, 10)
        net.loss(compiled(clips), torch.arange(3)).backward()
        counts.append(count.frame_count)

    assert counts == [1, 1, 2, 2, 3, 3]


@pytest.mark.slow
@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize("mode", ["default", "reduce-overhead"])
def test_a_compiled_training_has_the_losses_of_one_that_is_not(mode: str, tmp_path: Path) -> None:
    tree: dict[str, Any] = {
        "data": {"kind": "motion", "train_clips": 2, "val_clips": 1, "test_clips": 1, "frames": 4, "size": 32,
                 "store": {"size": 32}},
        "model": {"frames": 2, "size": 32, "backbone": {"kind": "resnet", "depth": 10, "width": 0.125},
                  "attention": [{"kind": "tam", "beta": 2}],
                  "head": {"dropout": 0}},  # a compiled dropout draws other random numbers
        "train": {"epochs": 2, "batch": 12, "lr": 0.01},
    }  # fmt: skip
    cache = prepare(TrialConfig.parse(tree).data, tmp_path)
    losses = []
    for compiled in ("none", mode):
        config = TrialConfig.parse(tree | {"train": tree["train"] | {"compile": compiled}})
        epochs = list(fit(config, cache, tmp_path / compiled))
        losses.append([epoch.metrics["train_loss"] for epoch in epochs])

    assert losses[1] == pytest.approx(losses[0], rel=1e-4)
    one, two = (torch.load(tmp_path / run / "model.pt", weights_only=True).keys() for run in ("none", mode))
    assert one == two

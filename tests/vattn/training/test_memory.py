"""The predicted memory of a training equals what torch's allocator counts in a real one, and arithmetic by hand."""

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import pytest
import torch
from torch.profiler import ProfilerActivity, profile

from tests.vattn.support import model
from vattn.config import ModelConfig, TrialConfig
from vattn.model import build_model, network_on_meta
from vattn.training.memory import (
    CONTEXT,
    GAPS,
    STAGED,
    WORKSPACE,
    Peak,
    evaluation_peak,
    has_batch_norm,
    lowered,
    recompute_on_meta,
    render,
    render_size,
    step_peak,
    training_memory,
)
from vattn.training.recompute import recompute_blocks

CLASSES = 7
#: clips of a step; with this number the activations take far more than the weights
CLIPS = 48


def allocated(network: ModelConfig, clips: int, recompute: bool = False, amp: str = "none") -> int:
    """Return the most bytes that torch's allocator had given out in a step on the CPU, by the profiler's count.

    It includes scratch memory of the CPU's kernels, which is about the size of the weights.
    """
    net = build_model(network, CLASSES).train()
    if recompute:
        recompute_blocks(net)
    frames = network.frames * network.backbone.frames_per_segment
    labels = torch.zeros(clips, dtype=torch.long)

    def step() -> None:
        images = torch.randn(clips, frames, network.size, network.size, 3).permute(0, 4, 1, 2, 3)
        with torch.autocast("cpu", torch.bfloat16) if amp == "bf16" else nullcontext():
            loss = net.loss(net(images), labels)
        loss.backward()

    step()  # the kernels are prepared
    net.zero_grad(set_to_none=True)
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        step()
    events = profiler.profiler.kineto_results.events()  # pyright: ignore[reportOptionalMemberAccess]
    live = most = 0
    for event in sorted((e for e in events if e.name() == "[memory]"), key=lambda e: e.start_ns()):
        live += event.nbytes()  # pyright: ignore[reportAttributeAccessIssue]  # missing in torch's stub
        most = max(most, live)
    return most


def predicted(network: ModelConfig, clips: int, recompute: bool = False, amp: str = "none") -> int:
    net = network_on_meta(network, CLASSES)
    if recompute:
        recompute_on_meta(net, amp)
    return step_peak(net, network, clips, amp) + sum(4 * p.numel() for p in net.parameters())


R18 = {"depth": 18, "size": 64}
NETWORKS: dict[str, ModelConfig] = {
    "resnet": model(**R18),
    "tsm": model({"kind": "tsm"}, **R18),
    "tam": model({"kind": "tam"}, **R18),
    "tea": model({"kind": "tea"}, **R18),
    "action": model({"kind": "action"}, **R18),
    "m2a": model({"kind": "m2a"}, **R18),
    "se": model({"kind": "se"}, **R18),
    "nonlocal": model({"kind": "nonlocal", "stages": [3, 4]}, **R18),
    "mobilenet": model(backbone={"kind": "mobilenet_v2"}, size=64),
    "sta": model({"kind": "sta"}, backbone={"kind": "i3d_resnet", "depth": 10, "width": 0.25}, size=64, frames=8),
}


@pytest.mark.medium
@pytest.mark.parametrize("name", NETWORKS)
def test_a_step_takes_what_is_predicted_within_a_tenth(name: str) -> None:
    network = NETWORKS[name]

    assert predicted(network, CLIPS) == pytest.approx(allocated(network, CLIPS), rel=0.1)


@pytest.mark.medium
@pytest.mark.parametrize("name", ["tam", "nonlocal", "mobilenet"])
def test_a_step_with_recomputation_takes_what_is_predicted_within_a_tenth(name: str) -> None:
    network = NETWORKS[name]

    assert predicted(network, CLIPS, recompute=True) == pytest.approx(
        allocated(network, CLIPS, recompute=True), rel=0.1
    )
    assert predicted(network, CLIPS, recompute=True) < 0.8 * predicted(network, CLIPS)


def kept(network: ModelConfig, device: str, context: AbstractContextManager[Any]) -> int:
    """Return the bytes that autograd keeps of a forward pass, without parameters, each storage once."""
    net = build_model(network, CLASSES) if device == "cpu" else network_on_meta(network, CLASSES)
    saved: dict[int, torch.Tensor] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        saved[tensor.untyped_storage()._cdata] = tensor
        return tensor

    images = torch.ones(16, 3, network.frames, network.size, network.size, device=device)
    with context, torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        loss = net.train().loss(net(images), torch.zeros(16, dtype=torch.long, device=device))
    own = {parameter.untyped_storage()._cdata for parameter in net.parameters()}
    total = sum(tensor.untyped_storage().nbytes() for key, tensor in saved.items() if key not in own)
    del loss
    return total


@pytest.mark.medium
@pytest.mark.parametrize("name", ["resnet", "tam", "tea", "m2a", "nonlocal", "mobilenet"])
def test_in_bfloat16_autograd_keeps_what_it_keeps_under_the_autocast_of_a_cpu(name: str) -> None:
    network = NETWORKS[name]
    real = kept(network, "cpu", torch.autocast("cpu", torch.bfloat16))

    assert kept(network, "meta", lowered("bf16")) == pytest.approx(real, rel=0.1)
    assert real < 0.8 * kept(network, "meta", lowered("none"))


def test_storages_count_from_their_creation_to_their_end() -> None:
    with Peak() as peak:
        a = torch.zeros(1000, device="meta")  # 4,000 bytes
        b = a.view(10, 100)[1:] + 1  # 3,600 bytes; views are free
        a.add_(1)
        del a
        assert peak.live == 3600
        c = torch.zeros(100, dtype=torch.bfloat16, device="meta")  # 200 bytes
        del b, c

    assert (peak.live, peak.most) == (0, 7600)


def test_the_peak_is_what_autograd_keeps_and_a_little_more() -> None:
    network = model(**R18)
    net, least = network_on_meta(network, CLASSES), kept(network, "meta", nullcontext())

    # Temporary results of the backward pass come on top of what autograd keeps.
    assert least <= step_peak(net, network, 16, "none") + sum(4 * p.numel() for p in net.parameters()) <= 1.25 * least


def trial(**changes: Any) -> TrialConfig:
    tree = {
        "data": {"kind": "motion", "views": {"clips": 1, "crops": 1}},
        "model": {"frames": 4, "size": 32, "backbone": {"kind": "resnet", "depth": 10, "width": 0.25}},
        "train": {"epochs": 1, "batch": 16, "lr": 0.1},
    }
    return TrialConfig.parse({key: value | changes.get(key, {}) for key, value in tree.items()})


def test_parts_are_those_of_arithmetic() -> None:
    memory = training_memory(trial(), CLASSES)

    net = network_on_meta(trial().model, CLASSES)
    parameters = sum(p.numel() for p in net.parameters())
    assert memory.gradients == memory.optimizer == 4 * parameters  # one momentum, float32
    # Buffers: mean, variance (float32) and a counter (int64) of each norm.
    norms = [m for m in net.modules() if isinstance(m, torch.nn.BatchNorm2d)]
    assert memory.weights == 4 * parameters + sum(8 * norm.num_features + 8 for norm in norms)
    assert memory.inputs == STAGED * 16 * 3 * 4 * 32 * 32  # uint8
    assert memory.context == CONTEXT
    assert memory.workspace == WORKSPACE + round(GAPS * memory.activations)
    assert memory.total == sum(getattr(memory, name) for name in memory.__slots__)


def test_memory_follows_the_training() -> None:
    plain = training_memory(trial(), CLASSES)

    adamw = training_memory(trial(train={"optimizer": "adamw"}), CLASSES)
    assert adamw.optimizer == 2 * plain.optimizer
    recomputed = training_memory(trial(train={"recompute": "blocks"}), CLASSES)
    assert recomputed.activations < plain.activations
    halves = training_memory(trial(), CLASSES, workers=2)
    assert halves.activations == pytest.approx(plain.activations / 2, rel=0.15)
    twice = training_memory(trial(train={"batch": 32}), CLASSES)
    assert twice.activations == pytest.approx(2 * plain.activations, rel=0.15)


def test_memory_follows_the_recipe() -> None:
    plain = training_memory(trial(), CLASSES)

    assert training_memory(trial(train={"optimizer": {"kind": "sgd", "momentum": 0}}), CLASSES).optimizer == 0
    average = training_memory(trial(train={"ema": 0.99}), CLASSES)
    counters = sum(8 for m in network_on_meta(trial().model, CLASSES).modules() if isinstance(m, torch.nn.BatchNorm2d))
    assert average.optimizer == plain.optimizer + plain.weights - counters  # a copy of all but the whole numbers
    frozen = training_memory(trial(train={"freeze": [1, 2, 3]}), CLASSES)
    assert frozen.weights == plain.weights
    assert frozen.gradients == frozen.optimizer < plain.gradients
    assert frozen.activations < 0.7 * plain.activations


def test_many_views_can_make_the_evaluation_the_peak() -> None:
    views = trial(data={"views": {"clips": 100, "crops": 3}})

    memory = training_memory(views, CLASSES)

    # A batch of the evaluation is 16 views, but at least one clip with its 300.
    net = network_on_meta(views.model, CLASSES)
    assert memory.activations == evaluation_peak(net, views.model, 300, "none")
    assert memory.activations > training_memory(trial(), CLASSES).activations
    few = training_memory(trial(data={"views": {"clips": 2, "crops": 3}}), CLASSES)
    assert few == training_memory(trial(), CLASSES)


def test_sparse_attention_runs_the_network_for_each_branch() -> None:
    sparse = trial(model={"sparse": {}})
    branches = 3

    memory = training_memory(sparse, CLASSES)

    assert memory.activations > 0.95 * branches * training_memory(trial(), CLASSES).activations


def test_whether_parts_of_a_step_change_it_depends_on_the_network() -> None:
    c3d = ModelConfig.parse({"frames": 16, "size": 112, "backbone": {"kind": "c3d"}})

    assert has_batch_norm(model(), CLASSES)
    assert not has_batch_norm(c3d, CLASSES)


def test_the_text_has_the_total_and_its_parts() -> None:
    first, second = render(trial(), CLASSES).splitlines()

    assert first.startswith("GPU memory in training, batch 16: 0.7")
    assert second.startswith("  (context 0.50, weights 0.00, gradients 0.00, optimizer 0.00, activations 0.0")


def test_the_size_of_a_model_is_four_bytes_for_each_parameter_and_each_statistic() -> None:
    # A ResNet-18 has 11,689,512 parameters with 1000 classes, and 2 statistics of the 4800 channels of its norms.
    resnet = ModelConfig.parse({"frames": 8, "size": 224, "backbone": {"kind": "resnet", "depth": 18}})

    first, second = render_size(resnet, 1000).splitlines()

    assert first.startswith("Model size (size_mb): 46.8 MB, 4 bytes for each of 11,689,512 parameters")
    assert second.startswith("  and 9,600 values of buffers")


def test_views_of_another_size_change_the_evaluation_only() -> None:
    small, large = (trial(data={"views": {"size": size, "clips": 100}}) for size in ("auto", 64))

    assert training_memory(large, CLASSES).activations > training_memory(small, CLASSES).activations
    assert training_memory(large, CLASSES).inputs == training_memory(small, CLASSES).inputs

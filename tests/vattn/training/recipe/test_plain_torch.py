"""Twenty steps of each optimizer, schedule and option are those of plain torch, written here."""

import math
from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.optim import SGD, AdamW, Optimizer

from tests.vattn.support import model
from tests.vattn.training.recipe.support import CLIPS, CPU, STEPS, batches, network, pixels, train_config, trained
from vattn.config import TrainConfig
from vattn.model import VideoModel, build_model
from vattn.training.optimization import ScaledOptimizer
from vattn.training.recipe.losses import Criterion
from vattn.training.step import train_step

Rate = Callable[[float], float]


def constant(epoch: float) -> float:
    return 0.05


def plain(
    net: VideoModel, optimizer: Optimizer, rate: Rate, factors: Sequence[float] = (1,),
    loss: Callable[[Tensor, Tensor], Tensor] = cross_entropy, longest: float = math.inf,
    after: Callable[[], None] = lambda: None, mode: Callable[[], object] | None = None,
) -> VideoModel:  # fmt: skip
    """Return the network after two epochs of ten steps each."""
    (mode or net.train)()
    for step, (images, labels) in enumerate(batches()):
        for group, factor in zip(optimizer.param_groups, factors, strict=True):
            group["lr"] = factor * rate(step / STEPS)
        optimizer.zero_grad()
        loss(net(pixels(images)), labels).backward()
        if longest < math.inf:
            nn.utils.clip_grad_norm_(net.parameters(), longest)
        optimizer.step()
        after()
    return net


def check(net: VideoModel, expected: VideoModel) -> None:
    torch.testing.assert_close(net.state_dict(), expected.state_dict(), rtol=0, atol=1e-6)


OPTIMIZERS: dict[str, tuple[Any, Callable[[Any], Optimizer]]] = {
    "sgd": ("sgd", lambda p: SGD(p, lr=1, momentum=0.9, weight_decay=1e-4)),
    "no momentum": ({"kind": "sgd", "momentum": 0.0}, lambda p: SGD(p, lr=1, weight_decay=1e-4)),
    "nesterov": (
        {"kind": "sgd", "momentum": 0.8, "nesterov": True},
        lambda p: SGD(p, lr=1, momentum=0.8, weight_decay=1e-4, nesterov=True),
    ),
    "adamw": ("adamw", lambda p: AdamW(p, lr=1, betas=(0.9, 0.999), weight_decay=1e-4)),
    "betas": (
        {"kind": "adamw", "betas": [0.8, 0.95]},
        lambda p: AdamW(p, lr=1, betas=(0.8, 0.95), weight_decay=1e-4),
    ),
}


@pytest.mark.medium
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_optimizers(name: str) -> None:
    option, optimizer = OPTIMIZERS[name]
    net, _ = trained(train_config(optimizer=option, schedule="constant"))

    expected = network()
    check(net, plain(expected, optimizer(expected.parameters()), constant))


SCHEDULES: dict[str, tuple[dict[str, Any], Rate]] = {
    "constant": ({"schedule": "constant"}, constant),
    "cosine": ({}, lambda epoch: 0.05 * (1 + math.cos(math.pi * epoch / 2)) / 2),
    "floor": (
        {"schedule": {"kind": "cosine", "floor": 0.01}},
        lambda epoch: 0.01 + 0.04 * (1 + math.cos(math.pi * epoch / 2)) / 2,
    ),
    "steps": ({"schedule": {"kind": "steps", "at": [1], "factor": 0.2}}, lambda epoch: 0.05 if epoch < 1 else 0.01),
    "wsd": ({"schedule": {"kind": "wsd", "decay": 0.5}}, lambda epoch: 0.05 * min(1, 2 - epoch)),
    "warmup": (
        {"warmup": {"epochs": 0.5, "start": 0.2}},
        lambda epoch: (
            0.05 * (0.2 + 0.8 * epoch / 0.5)
            if epoch < 0.5
            else 0.05 * (1 + math.cos(math.pi * (epoch - 0.5) / 1.5)) / 2
        ),
    ),
    "scaled": ({"schedule": "constant", "lr_batch": 12}, lambda epoch: 0.025),
}


@pytest.mark.medium
@pytest.mark.parametrize("name", SCHEDULES)
def test_schedules(name: str) -> None:
    options, rate = SCHEDULES[name]
    net, _ = trained(train_config(**options))

    expected = network()
    check(net, plain(expected, SGD(expected.parameters(), lr=1, momentum=0.9, weight_decay=1e-4), rate))


@pytest.mark.medium
def test_the_policy_of_tsn() -> None:
    train = train_config(
        schedule="constant", rates={"new": 3, "head": 5, "first": 0.5, "biases": 2}, decay_norms=False,
        weight_decay=0.01,
    )  # fmt: skip
    net, _ = trained(train)

    expected = network()
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    for name, parameter in expected.named_parameters():
        is_norm = "bn" in name or "downsample.1" in name or ".kernel.1." in name or ".gate.1." in name
        is_bias = name == "fc.bias"
        factor = 3.0 if ".at." in name else 5.0 if name.startswith("fc.") else 1.0
        factor *= (0.5 if name == "backbone.conv1.weight" else 1.0) * (2.0 if is_bias else 1.0)
        groups.setdefault((factor, 0.0 if is_norm or is_bias else 0.01), []).append(parameter)
    optimizer = SGD(
        [{"params": parameters, "weight_decay": decay} for (_, decay), parameters in groups.items()], lr=1, momentum=0.9
    )
    assert {key[0] for key in groups} == {3.0, 5.0, 10.0, 0.5, 1.0}
    check(net, plain(expected, optimizer, constant, [factor for factor, _ in groups]))


def sgd(net: VideoModel) -> SGD:
    return SGD(net.parameters(), lr=1, momentum=0.9, weight_decay=1e-4)


@pytest.mark.medium
def test_label_smoothing_and_class_weights() -> None:
    weights = torch.tensor([1.0, 2.0, 0.5, 3.0, 0.1])
    net, _ = trained(train_config(schedule="constant"), Criterion(0.1, weights))

    expected = network()
    loss = nn.CrossEntropyLoss(weights, label_smoothing=0.1)
    check(net, plain(expected, sgd(expected), constant, loss=loss))


@pytest.mark.medium
def test_the_norm_of_gradients() -> None:
    net, _ = trained(train_config(schedule="constant", clip_norm=0.5))

    expected = network()
    check(net, plain(expected, sgd(expected), constant, longest=0.5))


@pytest.mark.medium
def test_the_moving_average() -> None:
    net, optimizer = trained(train_config(schedule="constant", ema=0.7))

    expected = network()
    average = {name: value.clone() for name, value in expected.state_dict().items()}
    steps = 0

    def update() -> None:
        nonlocal steps
        steps += 1
        decay = min(0.7, (1 + steps) / (10 + steps))
        for name, value in expected.state_dict().items():
            if value.is_floating_point():
                average[name] = decay * average[name] + (1 - decay) * value
            else:
                average[name] = value.clone()

    plain(expected, sgd(expected), constant, after=update)
    check(net, expected)
    with optimizer.averaged():
        torch.testing.assert_close(net.state_dict(), average, rtol=0, atol=1e-6)
    check(net, expected)


def backbone_norms(net: VideoModel) -> list[nn.Module]:
    return [m for m in net.backbone.modules() if isinstance(m, nn.BatchNorm2d)]  # those of TAM have one dimension


@pytest.mark.medium
@pytest.mark.parametrize("norm", ["frozen", "partial"])
def test_norms_that_keep_their_statistics(norm: str) -> None:
    net, _ = trained(train_config(schedule="constant", norm=norm))

    expected = network()
    held = backbone_norms(expected)[norm == "partial" :]
    if norm == "partial":
        for module in held:
            module.requires_grad_(False)

    def mode() -> None:
        expected.train()
        for module in held:
            module.eval()

    optimizer = SGD([p for p in expected.parameters() if p.requires_grad], lr=1, momentum=0.9, weight_decay=1e-4)
    check(net, plain(expected, optimizer, constant, mode=mode))


@pytest.mark.medium
def test_frozen_stages() -> None:
    net, _ = trained(train_config(schedule="constant", freeze=[1, 3]))

    expected = network()
    backbone = expected.backbone
    frozen = [backbone.get_submodule(name) for name in ("conv1", "bn1", "layer2")]
    for module in frozen:
        module.requires_grad_(False)

    def mode() -> None:
        expected.train()
        for module in frozen:
            module.eval()

    optimizer = SGD([p for p in expected.parameters() if p.requires_grad], lr=1, momentum=0.9, weight_decay=1e-4)
    check(net, plain(expected, optimizer, constant, mode=mode))
    start = network().state_dict()
    same = {name for name, value in net.state_dict().items() if torch.equal(value, start[name])}
    assert {name for name in start if name.startswith(("backbone.conv1", "backbone.bn1", "backbone.layer2."))} <= same
    assert any(".at." in name for name in same)  # TAM in stage 3
    assert "backbone.layer3.0.conv1.weight" not in same


@pytest.mark.parametrize("accumulate", [2, 3])
def test_a_step_in_parts_with_class_weights_smoothing_and_a_greatest_norm_is_that_of_the_whole(accumulate: int) -> None:
    criterion = Criterion(0.1, torch.tensor([1.0, 2.0, 0.5, 3.0, 0.1]))

    whole, in_parts = (
        stepped(train_config(accumulate=parts, clip_norm=0.3), criterion).state_dict() for parts in (1, accumulate)
    )

    torch.testing.assert_close(in_parts, whole, rtol=0, atol=1e-6)


def stepped(train: TrainConfig, criterion: Criterion) -> VideoModel:
    """Return a network without batch norm and dropout after two steps."""
    torch.manual_seed(0)
    c3d = {"kind": "c3d", "width": 1 / 64, "dropout": 0}
    net = build_model(model(backbone=c3d, frames=16, size=16, head={"dropout": 0}), 5).train()
    optimizer = ScaledOptimizer(net, train, CPU)
    for _ in range(2):
        images = torch.randint(0, 256, (CLIPS, 3, 16, 16, 16), dtype=torch.uint8)
        train_step(net, net, optimizer, train, images, torch.arange(CLIPS) % 5, CLIPS, 1, 0.1, criterion)
    return net

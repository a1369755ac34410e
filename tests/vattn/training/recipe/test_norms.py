"""Norms over the clips of all workers, frozen stages of each backbone, and the groups of each."""

from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch import nn

from tests.vattn.random_configs import random_network
from tests.vattn.training.recipe.support import trial, write_unequal_classes
from vattn.backbones import BackboneConfig
from vattn.config import TrialConfig
from vattn.model import build_model
from vattn.modules import ModuleConfig
from vattn.training.fit import fit
from vattn.training.recipe.norms import prepare, synchronise


def without_chance(norm: str) -> TrialConfig:
    """Return a training of 45 clips in steps of 8, the last of which has 5: 3 for one worker and 2 for the other."""
    config = trial({}, None, norm=norm, epochs=1, lr=0.01, balance={"weights": 1}, label_smoothing=0.1, ema=0.5)
    head = config.model.head.model_copy(update={"dropout": 0.0})
    return config.model_copy(update={"model": config.model.model_copy(update={"head": head})})


def _worker(rank: int, folder: Path) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=(folder / "meeting").as_uri(), rank=rank, world_size=2)
    part = slice(0, 3) if rank == 0 else slice(3, 7)
    for kind, (norm, x, grad) in torch.load(folder / "given.pt", weights_only=False).items():
        own = x[part].clone().requires_grad_()
        synchronise(norm)
        y = norm.train()(own)
        y.backward(grad[part])
        torch.save(
            (y.detach(), own.grad, norm.weight.grad, norm.bias.grad, norm.state_dict()), folder / f"{kind}{rank}.pt"
        )
    list(fit(without_chance("sync"), folder / "cache", folder / "two"))
    dist.destroy_process_group()


SHAPES = {"BatchNorm1d": (7, 4), "BatchNorm2d": (7, 4, 3, 5), "BatchNorm3d": (7, 4, 2, 3, 3)}


@pytest.fixture(scope="module")
def by_two(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder in which two workers have passed 3 and 4 clips through norms, and trained a network."""
    folder = tmp_path_factory.mktemp("two")
    given: dict[str, Any] = {}
    for kind, shape in SHAPES.items():
        norm = getattr(nn, kind)(4)
        nn.init.uniform_(norm.weight)
        nn.init.normal_(norm.bias)
        given[kind] = norm, 5 + 2 * torch.randn(shape), torch.randn(shape)
    torch.save(given, folder / "given.pt")
    write_unequal_classes(folder / "cache")
    mp.spawn(_worker, (folder,), nprocs=2)  # pyright: ignore[reportPrivateImportUsage]
    return folder


@pytest.mark.medium
@pytest.mark.parametrize("kind", SHAPES)
def test_two_workers_normalise_as_one_does_with_all_clips(by_two: Path, kind: str) -> None:
    norm, x, grad = torch.load(by_two / "given.pt", weights_only=False)[kind]
    whole = x.clone().requires_grad_()
    y = norm.train()(whole)
    y.backward(grad)

    first, second = (torch.load(by_two / f"{kind}{rank}.pt") for rank in (0, 1))

    torch.testing.assert_close(torch.cat([first[0], second[0]]), y.detach(), rtol=0, atol=1e-5)
    torch.testing.assert_close(torch.cat([first[1], second[1]]), whole.grad, rtol=0, atol=1e-5)
    torch.testing.assert_close(first[2] + second[2], norm.weight.grad, rtol=0, atol=1e-4)
    torch.testing.assert_close(first[3] + second[3], norm.bias.grad, rtol=0, atol=1e-4)
    for state in (first[4], second[4]):
        torch.testing.assert_close(state, norm.state_dict(), rtol=0, atol=1e-6)


@pytest.mark.medium
def test_two_workers_with_synchronised_norms_and_class_weights_train_as_one_does(by_two: Path, tmp_path: Path) -> None:
    list(fit(without_chance("train"), by_two / "cache", tmp_path / "one"))

    one, two = (torch.load(path / "model.pt", weights_only=True) for path in (tmp_path / "one", by_two / "two"))
    torch.testing.assert_close(two, one, rtol=0, atol=1e-5)


SEED_OF = {
    kind: n * len(ModuleConfig.kinds) for n, kind in enumerate(sorted(BackboneConfig.kinds))
}  # seeds of pairs of the first mechanism and each backbone


@pytest.mark.parametrize("kind", sorted(BackboneConfig.kinds))
def test_the_stages_of_a_backbone_have_the_parameters_that_its_cost_counts(kind: str) -> None:
    config = random_network(SEED_OF[kind]).model_copy(update={"attention": (), "sparse": "none"})
    with torch.device("meta"):
        net = build_model(config, 4).backbone

    counted: dict[int, int] = {}
    for name, parameter in net.named_parameters():
        stage = net.stage_of(name)
        counted[stage] = counted.get(stage, 0) + parameter.numel()

    parts = config.backbone.parts(config.size, config.frames)
    assert counted == {part.stage: part.params for part in parts if part.params}


@pytest.mark.parametrize("kind", sorted(BackboneConfig.kinds))
def test_the_first_convolutions_are_those_that_see_the_pixels(kind: str) -> None:
    config = random_network(SEED_OF[kind])
    with torch.device("meta"):
        net = build_model(config, 4)
    seen: set[nn.Module] = set()
    channels = config.backbone.input_channels
    pixels = 12 if kind == "resnet_tdn" else channels

    for module in net.backbone.modules():
        if (
            isinstance(module, nn.Conv2d | nn.Conv3d)
            and module.in_channels in (channels, pixels)
            and module.kernel_size[-1] > 1
        ):
            seen.add(module)

    first = net.backbone.first_convolutions()
    assert {
        c for c in seen if c not in {m for mechanism in net.backbone.mechanisms for m in mechanism.modules()}
    } >= set(first)
    assert len(first) == (2 if kind in ("resnet_tdn", "slowfast") else 1)


@pytest.mark.parametrize("kind", sorted(BackboneConfig.kinds))
def test_frozen_stages_have_neither_gradients_nor_statistics_that_change(kind: str) -> None:
    config = random_network(SEED_OF[kind]).model_copy(update={"sparse": "none"})
    with torch.device("meta"):
        net = build_model(config, 4)
    stages = [part.stage for part in config.backbone.parts(config.size, config.frames)]
    frozen = stages[: len(stages) // 2]

    prepare(net, "train", frozen, workers=1)
    net.train()

    for name, module in net.backbone.named_modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm | nn.Dropout):
            assert module.training == (net.backbone.stage_of(name) not in frozen), name
    assert all(p.requires_grad == (net.backbone.stage_of(n) not in frozen) for n, p in net.backbone.named_parameters())
    assert all(parameter.requires_grad for parameter in net.fc.parameters())
    assert not any(module.training for module in net.eval().modules())

"""Random configs of all registered mechanisms and backbones, sampled from their fields; new kinds are included."""

import random
import types
import typing
from collections.abc import Callable
from typing import Any, Literal, Union, get_args, get_origin

from pydantic import ValidationError

from vattn.backbones import BackboneConfig
from vattn.config import ModelConfig
from vattn.modules import ModuleConfig

#: Values that options of type float get.
_FLOATS = (0.1, 0.25, 0.5, 0.75, 1.0)
#: Number of pairs of a mechanism and a backbone. As many successive seeds give all pairs.
PAIRS = len(ModuleConfig.kinds) * len(BackboneConfig.kinds)


def random_network(seed: int) -> ModelConfig:
    """Return a backbone with one to three mechanisms; successive seeds give all pairs of a mechanism and a backbone."""
    rng = random.Random(seed)
    kinds, backbones = sorted(ModuleConfig.kinds), sorted(BackboneConfig.kinds)
    lead, backbone = kinds[seed % len(kinds)], backbones[seed // len(kinds) % len(backbones)]
    for attempt in range(200):
        network = _bare(backbone, rng)
        network = network and _with(lead, network, rng)
        if network:
            for kind in rng.choices(kinds, k=rng.choice([0, 0, 1, 2])):
                network = _with(kind, network, rng) or network
            return network
        if attempt > 60:
            # No block of this backbone has a site for this mechanism.
            backbone = rng.choice(backbones)
    raise AssertionError(f"no backbone has a site for {lead}")


def _bare(backbone: str, rng: random.Random) -> ModelConfig | None:
    """Return a backbone without mechanisms, or None if its config is not valid."""
    tree = {"backbone": _options(BackboneConfig.kinds[backbone], rng, leave=("weights", "stochastic_depth"))}
    # Some backbones need at least 16 frames.
    frames = rng.choice([1, 2, 3, 4, 5, 6, 16])
    tree |= {"frames": frames, "size": rng.randint(16, 96), "head": {"dropout": rng.choice([0.0, 0.5])}}
    try:
        return ModelConfig.parse(tree)
    except ValidationError:
        return None


def _with(kind: str, network: ModelConfig, rng: random.Random) -> ModelConfig | None:
    """Return the network with one more mechanism that has a site in it, or None if no sampled config has one."""
    sites = network.backbone.sites(network.size)
    leave = () if any(site.pathway for site in sites) else ("pathway",)
    for _ in range(20):
        module = ModuleConfig.kinds[kind].parse(_options(ModuleConfig.kinds[kind], rng, leave))
        try:
            larger = ModelConfig.parse(network.tree() | {"attention": [*network.tree()["attention"], module.tree()]})
        except ValidationError:
            continue
        if larger.attention[-1].at(sites):
            return larger
    return None


#: Options that are lists of a fixed length: those of T-CNN's seven stages.
_LISTS: dict[str, Callable[[random.Random], Any]] = {
    "widths": lambda rng: [rng.randint(1, 24) for _ in range(7)],
    "dilations": lambda rng: [[rng.choice([1, 2, 4]) for _ in range(rng.randint(1, 3))] for _ in range(7)],
}


def _options(config: type[Any], rng: random.Random, leave: tuple[str, ...] = ()) -> dict[str, Any]:
    """Sample every option of ``config``, and sample again if the config is not valid."""
    while True:
        tree = {
            name: _LISTS[name](rng) if name in _LISTS else _value(field.annotation, rng)
            for name, field in config.model_fields.items()
            if name not in leave and (field.is_required() or rng.random() < 0.7)
        }
        try:
            return config.parse({"kind": config.model_fields["kind"].default} | tree).tree()
        except ValidationError:
            continue


def _value(annotation: Any, rng: random.Random) -> Any:
    """Sample a value of the type ``annotation``."""
    origin, args = get_origin(annotation), get_args(annotation)
    if origin is typing.Annotated:
        return _value(args[0], rng)
    if origin is Literal:
        return rng.choice(args)
    if origin in (Union, types.UnionType):
        return _value(rng.choice(args), rng)
    if origin is tuple:
        items = [2, 3, 4, 5] if args[0] is int else list(get_args(args[0]))
        return rng.sample(items, rng.randint(1, len(items)))
    if annotation is bool:
        return rng.random() < 0.5
    if annotation is int:
        return rng.randint(1, 8)
    assert annotation is float, annotation
    return rng.choice(_FLOATS)

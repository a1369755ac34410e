"""The front of a search: which trials are best at their cost, how much they cover, and which one to take."""

import math
import re
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from search.analysis.metrics import RATES
from search.ledger.history import Trial


def shown(name: str, value: float) -> str:
    """Return a metric as people read it: rates in percent, the others with four digits."""
    if not math.isfinite(value):
        return "-"
    return f"{100 * value:.1f} %" if name in RATES else f"{value:.4g}"


def label(trial: Trial) -> str:
    """Return the kinds of a trial's mechanisms in their order, such as "tsm + tam", or "no attention"."""
    return " + ".join(module["kind"] for module in trial.config["model"]["attention"]) or "no attention"


def describe(trial: Trial) -> str:
    """Return a trial's config in a few words, such as "tam a2 b4 K3 @res2-5 b, T8, lr 0.05".

    The mechanisms with their numbers, and with their words and switches where these were searched; the frames; what
    else of the config was searched. Of a training with a fresh seed, which trial it trains again.
    """
    if trial.confirms is not None:
        return f"trial {trial.confirms} again, seed {trial.config['train']['seed']}"
    words = [mechanisms(trial), f"T{trial.config['model']['frames']}"]
    for name, value in searched(trial).items():
        if "attention" not in name and name != "model.frames":
            words.append(f"{name.rpartition('.')[-1]} {worded(value)}")
    return ("base of others: " if trial.base else "") + ", ".join(words)


def mechanisms(trial: Trial) -> str:
    """Return a trial's mechanisms in their order as `describe` shows them, or "no attention"."""
    varied = {re.split(r"[./]", name)[-1] for name in trial.params}
    return " + ".join(_module(module, varied) for module in trial.config["model"]["attention"]) or "no attention"


def searched(trial: Trial) -> dict[str, Any]:
    """Return what was chosen for a trial: its mechanisms, and the value of each range by a name with dots.

    A ledger has the index of an option, such as ``model.frames: 1``; here is what stands in the config, 8.
    """
    found: dict[str, Any] = {"attention": label(trial)}
    for name in trial.params:
        keys = [key for key in re.split(r"[./\[\]]+", name) if key]
        value = _at(trial.config, keys)
        if keys != ["model", "attention"]:
            found[".".join(keys)] = value.get("kind") if isinstance(value, Mapping) else value
    return found


def _at(tree: Any, keys: Sequence[str]) -> Any:
    """Return what stands in a config at the keys of a range's name, where labels of options stand between the keys."""
    for key in keys:
        if isinstance(tree, list):
            named = {str(n): item for n, item in enumerate(tree)}
            named |= {item["kind"]: item for item in tree if isinstance(item, Mapping) and "kind" in item}
            if key not in named and len(tree) == 1 and isinstance(tree[0], Mapping):
                named = tree[0]
            tree = named.get(key, tree)
        elif isinstance(tree, Mapping):
            tree = tree.get(key, tree)
    return tree


def _module(module: Mapping[str, Any], varied: Collection[str]) -> str:
    """Return one mechanism as "tam a2 b4 K3 @res2-5 b"."""
    words = [module["kind"]]
    for name, value in module.items():
        number = isinstance(value, int | float) and not isinstance(value, bool)
        if name in ("kind", "stages", "position", "every") or not (number or name in varied):
            continue
        if number:
            short = "K" if name == "kernel_size" else "".join(part[0] for part in name.split("_"))
            words.append(short + worded(value))
        else:
            words.append(f"{name} {worded(value)}")
    if "stages" in module:
        words.append(f"@res{_stages(module['stages'])}")
    words.append(str(module.get("position", "")))
    if module.get("every", 1) != 1:
        words.append(f"every {module['every']}")
    return " ".join(filter(None, words))


def _stages(stages: Sequence[int]) -> str:
    """Return 2, 3, 4, 5 as "2-5" and 2, 4, 5 as "2,4,5"."""
    together = len(stages) > 2 and list(stages) == list(range(stages[0], stages[-1] + 1))
    return f"{stages[0]}-{stages[-1]}" if together else ",".join(map(str, stages))


def worded(value: Any) -> str:
    """Return a value of a config as people read it: yes and no, numbers in four digits, kinds, lists with commas."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int | float):
        return f"{value:.4g}"
    if isinstance(value, Mapping):
        return str(value.get("kind", "")) or " ".join(f"{key} {worded(item)}" for key, item in value.items())
    return ",".join(map(worded, value)) if isinstance(value, list | tuple) else str(value)

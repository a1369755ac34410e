"""A trial's config in a few words: its mechanisms, its clip length, and the other values that were searched."""

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from search.ledger.events import MemorySaved
from search.ledger.history import Trial
from search.report.wording.values import format_value


def describe(trial: Trial) -> str:
    """Return a trial's config in a few words, such as "tam a2 b4 K3 @res2-5 b, T8, lr 0.05".

    These are the mechanisms (`describe_mechanisms`), the number of frames, and the other searched values. A
    retraining is described by the trial that it trains again and its seed.
    """
    if trial.confirms is not None:
        return f"trial {trial.confirms} again, seed {trial.config['train']['seed']}"
    words = [describe_mechanisms(trial), f"T{trial.config['model']['frames']}"]
    for name, value in searched_values(trial).items():
        if "attention" not in name and name != "model.frames":
            words.append(f"{name.rpartition('.')[-1]} {format_value(value)}")
    if is_another_training(trial):
        words.append(f"steps in {parts(trial)} parts*")
    return ("base of others: " if trial.base else "") + ", ".join(words)


def parts(trial: Trial) -> int:
    """Return the number of parts of each step in which a trial was trained for lack of GPU memory; 1 if it was whole.

    Parts that the config asks for do not count.
    """
    return trial.memory.accumulate if trial.memory else 1


def is_another_training(trial: Trial) -> bool:
    """Return whether a trial, for lack of GPU memory, was trained in a way that its config does not describe."""
    return trial.memory is not None and trial.memory.changes_result


#: Keys of a mechanism that say what and where it is.
_PLACES = ("kind", "stages", "position", "every")
#: What the asterisk of `describe` says.
ANOTHER_TRAINING = (
    "* for lack of GPU memory, batch norm saw each step in parts: another training than the config describes; compare "
    "it with care"
)


def describe_memory(saved: MemorySaved) -> str:
    """Return how a training is tried after a lack of GPU memory."""
    words = ["alone on its GPU"] if saved.alone else []
    words += ["with blocks computed again (the same numbers)"] if saved.recompute else []
    if saved.accumulate > 1:
        words.append(f"with each step in {saved.accumulate} parts")
    another = "; batch norm sees the parts, so it is another training than its config describes"
    return ", ".join(words) + (another if saved.changes_result else "")


def mechanism_kinds(trial: Trial) -> str:
    """Return the kinds of a trial's mechanisms in their order, such as "tsm + tam", or "no attention"."""
    return " + ".join(module["kind"] for module in trial.config["model"]["attention"]) or "no attention"


def describe_mechanisms(trial: Trial) -> str:
    """Return a trial's mechanisms in their order, such as "tam a2 b4 K3 @res2-5 b", or "no attention".

    Each has its numbers, its stages and its position in the block. Its words and switches are listed where they were
    searched.
    """
    varied = {re.split(r"[./]", name)[-1] for name in trial.params}
    return " + ".join(_module(module, varied) for module in trial.config["model"]["attention"]) or "no attention"


def searched_values(trial: Trial) -> dict[str, Any]:
    """Return the values that the search chose for a trial, by dotted name; "attention" has the kinds of mechanisms.

    A ledger has the index of the chosen option, such as ``model.frames: 1``; this returns the value in the config, 8.
    The elements of a list are one value: its searched items. A block without a kind, such as `sparse`, is described in
    words (`_block`).
    """
    values: dict[str, Any] = {"attention": mechanism_kinds(trial)}
    items: dict[str, dict[str, None]] = {}
    for name in trial.params:
        keys, item = range_keys(name)
        if keys != ("model", "attention"):
            items.setdefault(".".join(keys), {}).update({item: None} if item else {})
    for name, searched in items.items():
        value = _value_at(trial.config, name.split("."))
        if isinstance(value, list) and any(isinstance(item, list) for item in value):
            value = [item for n, item in enumerate(value) if str(n) in searched]
        values[name] = _block(name, value) if isinstance(value, Mapping) else value
    return values


def range_keys(name: str) -> tuple[tuple[str, ...], str]:
    """Return the keys of the value that a range is a part of, and the item of it, if that is a list.

    The range "model.backbone.dilations.3.times" is a part of the list "dilations", in its item 3.
    """
    keys = [key for key in re.split(r"[./\[\]]+", name) if key]
    item = ""
    while keys[-1].isdigit() or keys[-1] == "times":
        item = keys.pop()
    return tuple(keys), item


def _block(name: str, block: Mapping[str, Any]) -> str:
    """Return a block of a config in words: its kind, or its values.

    Of sparse attention these are the values that are not usual, and of a distillation the loss and the teacher's file.
    """
    if name == "train.distill":
        return f"{block['loss']} of {'/'.join(Path(block['checkpoint']).parts[-2:])}"
    if "kind" in block or name != "model.sparse":
        return format_value(block)
    from vattn.sparse import SparseConfig  # it imports torch, which takes seconds

    usual = SparseConfig().tree()
    return format_value({key: value for key, value in block.items() if value != usual[key]}) or "default"


def _value_at(tree: Any, keys: Sequence[str]) -> Any:
    """Return the value of a config at the keys of a range's name; keys that are labels of options lead nowhere."""
    for key in keys:
        if isinstance(tree, list):
            items = {str(n): item for n, item in enumerate(tree)}
            items |= {item["kind"]: item for item in tree if isinstance(item, Mapping) and "kind" in item}
            if key not in items and len(tree) == 1 and isinstance(tree[0], Mapping):
                items = tree[0]
            tree = items.get(key, tree)
        elif isinstance(tree, Mapping):
            tree = tree.get(key, tree)
    return tree


def explain_names(trials: Iterable[Trial]) -> str:
    """Return what the short words of `describe` mean, with the letters that the mechanisms of ``trials`` have."""
    modules = [module for trial in trials for module in trial.config["model"]["attention"]]
    if not modules:
        return "T: frames of a clip."
    names = dict.fromkeys(
        name for module in modules for name, value in module.items() if _is_numeric_option(name, value)
    )
    letters = ", ".join(
        f"{short}: {' or '.join(name for name in names if _letters(name) == short)}"
        for short in sorted({*map(_letters, names)})
    )
    options = f" ({letters})" if letters else ""
    place = ", and its place in a block" if any(module.get("position") for module in modules) else ""
    return f"A model is named by its mechanism{options}, @ its stages{place}; T: frames of a clip."


def _is_numeric_option(name: str, value: Any) -> bool:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return is_number and name not in _PLACES


def _letters(name: str) -> str:
    return "K" if name == "kernel_size" else "".join(part[0] for part in name.split("_"))


def _module(module: Mapping[str, Any], varied: Collection[str]) -> str:
    """Return one mechanism as "tam a2 b4 K3 @res2-5 b"; ``varied`` are the names of the searched values."""
    words = [module["kind"]]
    for name, value in module.items():
        if _is_numeric_option(name, value):
            words.append(_letters(name) + format_value(value))
        elif name in varied and name not in _PLACES:
            words.append(f"{name} {format_value(value)}")
    if "stages" in module:
        words.append(f"@{describe_stages(module['stages'])}")
    words.append(str(module.get("position", "")))
    if module.get("every", 1) != 1:
        words.append(f"every {module['every']}")
    return " ".join(filter(None, words))


def describe_stages(stages: Sequence[int]) -> str:
    """Return 2, 3, 4, 5 as "res2-5" and 2, 4, 5 as "res2,4,5"."""
    is_range = len(stages) > 2 and list(stages) == list(range(stages[0], stages[-1] + 1))
    return f"res{stages[0]}-{stages[-1]}" if is_range else f"res{','.join(map(str, stages))}"

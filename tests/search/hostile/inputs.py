"""Hostile specs, ledgers, checkpoints and caches, each made from a good one by a few random changes."""

import copy
import json
import random
from collections.abc import Sequence
from typing import Any

Tree = Any

SPEC: Tree = {
    "schema": 1,
    "name": "small",
    "trial": {
        "data": {"kind": "motion", "root": "auto", "cache": "auto", "store": {"size": 32}, "train_clips": 2},
        "model": {
            "frames": 4,
            "size": 16,
            "backbone": {"kind": "resnet", "depth": 10, "width": 0.25, "weights": "none"},
            "attention": {"choice": [[], [{"kind": "tam", "alpha": {"choice": [1, 2]}, "stages": [2]}]]},
        },
        "train": {"epochs": 2, "batch": 8, "lr": {"float": [0.01, 0.3], "log": True}, "init": "scratch"},
    },
    "objectives": {"top1": "max", "gflops": "min"},
    "constraints": {"gflops": {"max": 1.0}},
    "search": {"sampler": {"kind": "tpe"}, "budget": {"trials": 4}, "warm_start": []},
    "resources": {"workers": 1, "cpus": 1, "gpus": 0},
    "tracking": {"uri": "auto"},
    "output": "auto",
}

VALUES: Sequence[Tree] = [
    None,
    True,
    "",
    " ",
    "auto",
    "none",
    "default",
    0,
    -1,
    1e-300,
    1e300,
    -1e300,
    1e-320,
    10**19,
    -(10**19),
    10**30,
    10**400,
    2**63 - 1,
    2**31,
    0.1,
    "0.1",
    [],
    {},
    [[]],
    [None],
    {"": 1},
    {"choice": []},
    {"choice": [1]},
    {"choice": [1, 1]},
    {"choice": "x"},
    {"choice": [{"choice": [{"choice": [2, 4]}, 8]}]},
    {"int": [0, 10**18]},
    {"int": [3, 1]},
    {"int": [1, 9], "step": 0},
    {"int": [1, 9], "log": "yes"},
    {"float": [0.1, 0.1]},
    {"float": [0.1, 0.1], "log": True},
    {"float": [0, 1], "step": 1e-300},
    {"float": [-1e308, 1e308]},
    {"float": [1e-320, 1e308], "log": True},
    {"float": [0.1, 0.10000000000000002], "log": True},
    {"float": [0, 0.3], "step": 0.1},
    {"subset": []},
    {"subset": [2, 3], "min": 3},
    {"subset": list(range(60))},
    {"subset": [[1], {"a": 1}]},
    {"repeat": 3},
    {"repeat": {"times": 1000, "of": {"repeat": {"times": 1000, "of": 1}}}},
    {"repeat": {"times": {"int": [1, 1000]}, "of": {"kind": "tam"}}},
    {"choice": [1], "int": [1, 2]},
    {"choice": list(range(20_000))},
    [1] * 5_000,
    ["x" * 100] * 300,
    "x" * 200_000,
    "x" * 300_000,
    "\0",
    "a\0b",
    "\x1b[2J",
    "a\nb",
    "\ud800",
    "ä",
    "\u202e",
    "/etc/passwd",
    "/dev/zero",
    "/",
    "~",
    "~nobody-here/x",
    "../..",
    "a/../../b",
    "%2F?#",
    "http://me:secret@host/",
    "sqlite:////etc/passwd",
    "file:///etc",
    "!!set {a}",
    "&a [*a]",
    "${HOME}",
    "$(id)",
    "`id`",
    "'; import os",
    "__import__('os')",
    "{{7*7}}",
    [{"kind": "tam"}] * 40,
    [{"kind": "nonlocal"}],
    {"kind": "tam"},
    {"kind": "__class__"},
    {"kind": ["tam"]},
    {"kind": {"choice": ["tam", "tsm"]}},
    [{"kind": "tam", "stages": [2] * 999}],
]

#: texts that YAML reads in a special way
SNIPPETS = [
    "!!binary aGVsbG8=",
    "!!set {a, b}",
    "!!timestamp 2020-01-01",
    "!!omap [a: 1]",
    "!!pairs [a: 1]",
    "!!python/name:os.system",
    "!!python/object/apply:os.system [id]",
    "!!bool maybe",
    "!!int abc",
    "!!float [1]",
    "!!map [1]",
    "!!null {a: 1}",
    "!x y",
    "&a [*a]",
    "*a",
    "&a {b: *a}",
    "<<: {a: 1}",
    ".inf",
    ".nan",
    "0x" + "f" * 5000,
    "1" + "0" * 5000,
    "1e999",
    "[" * 3000,
    "{" * 3000,
    "- " * 3000,
    "? " * 3000,
    "\0",
    "\ufeff",
    "\u2028",
    "\t",
    "%YAML 9.9\n---\n",
    "---\n",
    "...\n",
    "|\n  a\n b",
    '"\\0"',
    '"\\ud800"',
    "'",
    '"',
    "#" * 1000,
    ": " * 1000,
    "a: &a [x,x,x,x,x,x,x,x]\n"
    + "".join(f"b{i}: &b{i} [{','.join([f'*b{i - 1}' if i else '*a'] * 9)}]\n" for i in range(9)),
]


def paths(tree: Tree, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Return the places of all values of a tree."""
    items = tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list) else ()
    return [path, *(inner for key, value in items for inner in paths(value, (*path, key)))]


def changed(tree: Tree, rng: random.Random, times: int) -> Tree:
    """Return a tree in which some values are replaced, removed, or joined by another key."""
    tree = copy.deepcopy(tree)
    for _ in range(times):
        *way, last = rng.choice(paths(tree)[1:])
        parent = tree
        for key in way:
            parent = parent[key]
        match rng.randrange(6):
            case 0:
                del parent[last]
            case 1 if isinstance(parent, dict):
                parent[rng.choice(["kind", "choice", "x", "seed", "a.b", "\0", "é", "k" * 1000])] = rng.choice(VALUES)
            case _:
                parent[last] = copy.deepcopy(rng.choice(VALUES))
    return tree


def spec(seed: int) -> bytes:
    """Return the bytes of a hostile spec file."""
    rng = random.Random(f"spec {seed}")
    text = json.dumps(changed(SPEC, rng, rng.choice([1, 1, 1, 2, 3])), indent=rng.choice([None, 1]))
    if rng.random() < 0.4:
        at = rng.randrange(len(text))
        text = text[:at] + rng.choice(SNIPPETS) + text[at + rng.choice([0, 0, 1, 20]) :]
    data = text.encode("utf-8", "surrogatepass")
    if rng.random() < 0.1:
        at = rng.randrange(len(data))
        data = data[:at] + rng.randbytes(rng.randrange(1, 9)) + data[at:]
    return data[: rng.randrange(len(data))] if rng.random() < 0.05 else data


def ledger(seed: int, good: Sequence[bytes]) -> bytes:
    """Return the bytes of a hostile ledger, made of one or two of the ``good`` ones."""
    rng = random.Random(f"ledger {seed}")
    lines = rng.choice(good).splitlines(keepends=True)
    for _ in range(rng.choice([1, 1, 2, 4])):
        at, other = rng.randrange(len(lines)), rng.randrange(len(lines))
        match rng.randrange(8):
            case 0:
                del lines[at]
            case 1:
                lines.insert(at, lines[other])
            case 2:
                lines[at], lines[other] = lines[other], lines[at]
            case 3:
                lines.insert(at, rng.choice(rng.choice(good).splitlines(keepends=True)))
            case 4:
                lines[at] = lines[at][: rng.randrange(len(lines[at]))] + rng.choice([b"", b"\n"])
            case 5:
                lines[at] = rng.randbytes(rng.randrange(1, 200)) + b"\n"
            case _:
                tree = json.loads(lines[at]) if lines[at].startswith(b"{") and lines[at].endswith(b"}\n") else {"a": 1}
                lines[at] = json.dumps(changed(tree, rng, 1)).encode() + b"\n"
        lines = lines or [b"{}\n"]
    return b"".join(lines)


def damaged(data: bytes, rng: random.Random) -> bytes:
    """Return a binary file with changed, missing or added bytes."""
    changed = bytearray(data)
    for _ in range(rng.choice([1, 1, 3, 30])):
        at = rng.randrange(len(changed))
        match rng.randrange(4):
            case 0:
                del changed[at : at + rng.choice([1, 8, 1000, len(changed)])]
            case 1:
                changed[at:at] = rng.randbytes(rng.choice([1, 8, 1000]))
            case _:
                changed[at : at + 8] = rng.randbytes(8)
        changed = changed or bytearray(b"\0")
    return bytes(changed)

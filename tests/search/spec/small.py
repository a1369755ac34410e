"""A space of 8 architectures and 16 trials, small enough to count by hand."""

from pathlib import Path

from search.spec.schema import Spec
from search.spec.validation import parse

SMALL = {
    "schema": 1,
    "name": "small",
    "trial": {
        "data": {"kind": "motion"},
        "model": {
            "frames": {"choice": [4, 8]}, "size": 48, "backbone": {"kind": "resnet", "depth": 10, "width": 0.5},
            "attention": {"choice": [[], [{"kind": "tsm", "stages": {"subset": [2, 3]}}]]},
        },
        "train": {"epochs": 9, "batch": 4, "lr": {"choice": [0.1, 0.01]}},
    },
    "search": {"budget": {"trials": 100}},
}  # fmt: skip


def small(**changes: object) -> Spec:
    """Return the spec of the small space with other sections, or with other values in its model."""
    model = {key: changes.pop(key) for key in list(changes) if key in ("frames", "attention", "size", "backbone")}
    trial = SMALL["trial"] | {"model": SMALL["trial"]["model"] | model}
    return parse(SMALL | {"trial": trial} | changes, Path("spec.yaml"))

"""Untrimmed videos: which actions they hold, and when. Times are seconds after the first frame."""

from collections.abc import Mapping, Sequence
from typing import Annotated, Literal, NamedTuple

import numpy as np
from jaxtyping import Float64
from pydantic import Field

Rate = Annotated[
    float,
    Field(
        gt=0,
        le=1000,
        description="frames per second that a detector sees: of each moment the frame that is shown then, whatever the "
        "video's own rate",
    ),
]
Metric = Annotated[
    Literal["thumos14", "activitynet"],
    Field(
        description="rule of the average precision; thumos14: the official one of THUMOS'14; activitynet: "
        "ActivityNet's, which gives some points more; numbers of both cannot be compared"
    ),
]


class Annotation(NamedTuple):
    """The actions of one video, in the order of its lists."""

    instances: Float64[np.ndarray, "_ 3"]
    """rows (start, end, label), labels from 0"""
    ambiguous: Float64[np.ndarray, "_ 2"]
    """rows (start, end) of segments whose class is uncertain"""


def annotation(
    instances: Sequence[tuple[float, float, int]], ambiguous: Sequence[tuple[float, float]] = ()
) -> Annotation:
    """Return the annotation of these segments."""
    return Annotation(np.array(instances, np.float64).reshape(-1, 3), np.array(ambiguous, np.float64).reshape(-1, 2))


#: The actions of each video, by its path below the root.
Annotations = Mapping[str, Annotation]
EMPTY = annotation([])

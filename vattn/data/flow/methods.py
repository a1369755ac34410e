"""Methods that compute optical flow, and how flow becomes an image.

* TV-L1: C. Zach, T. Pock, H. Bischof: "A Duality Based Approach for Realtime TV-L1 Optical Flow", DAGM 2007, as OpenCV
  computes it.
* RAFT: Z. Teed, J. Deng: "RAFT: Recurrent All-Pairs Field Transforms for Optical Flow", ECCV 2020, arXiv:2003.12039, as
  torchvision computes it.
"""

from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
from jaxtyping import Float32, UInt8

from vattn.errors import UserError

#: Greatest displacement that an image can hold, pixels between two frames.
BOUND = 20.0
#: RAFT has features at an eighth of the size, and needs 16 of them in each direction.
RAFT_STEP, RAFT_LEAST = 8, 128

Flow = Float32[np.ndarray, "h w 2"]


class Method(NamedTuple):
    """How flow is computed."""

    kind: Literal["tvl1", "raft"]
    weights: str = ""
    """of raft: the file of its state dict, as torchvision names its entries"""

    def check(self) -> None:
        """Raise UserError if it cannot be used here."""
        if self.kind == "tvl1":
            _opencv()
        else:
            _raft(self.weights)

    def flows(self, frames: Sequence[UInt8[np.ndarray, "h w 3"]]) -> Iterator[Flow]:
        """Yield the flow from each frame to the next, x and y in pixels: x > 0 to the right, y > 0 downwards.

        Raises:
            UserError: OpenCV is missing, or the weights cannot be read.
        """
        return _tvl1_flows(frames) if self.kind == "tvl1" else _raft_flows(frames, self.weights)


def as_levels(flow: Float32[np.ndarray, "*shape"]) -> UInt8[np.ndarray, "*shape"]:
    """Return flow as levels of grey: -`BOUND` is 0, `BOUND` is 255, and what is beyond is cut off.

    Levels are rounded down, as the code of MARS rounds them: no motion is level 127. Mirroring a clip makes a level x
    of the horizontal flow 255 - x. N. Crasto, P. Weinzaepfel, K. Alahari, C. Schmid: "MARS: Motion-Augmented RGB Stream
    for Action Recognition", CVPR 2019.
    """
    return ((flow.clip(-BOUND, BOUND) + BOUND) / (2 * BOUND) * 255).astype(np.uint8)


def _opencv() -> Any:
    """Return OpenCV with its contributed modules, which have TV-L1."""
    try:
        import cv2

        # The package without contributed modules lacks it.
        cv2.optflow.DualTVL1OpticalFlow_create  # noqa: B018  # pyright: ignore[reportAttributeAccessIssue]
    except (ImportError, AttributeError) as error:
        raise UserError(
            "TV-L1 needs OpenCV with its contributed modules",
            path="--flow",
            way_out="install the extra flow: pip install 'vattn-search[flow]', and no other OpenCV beside it",
            found=error,
        ) from error
    return cv2


def _tvl1_flows(frames: Sequence[np.ndarray]) -> Iterator[Flow]:
    cv2 = _opencv()
    cv2.setNumThreads(1)  # several processes compute the flow of different videos
    # OpenCV's defaults, written out: those of its CUDA version too, whose 300 iterations are 10 x 30 here.
    method = cv2.optflow.DualTVL1OpticalFlow_create(
        tau=0.25, lambda_=0.15, theta=0.3, nscales=5, warps=5, epsilon=0.01, innnerIterations=30, outerIterations=10,
        scaleStep=0.8, gamma=0.0, medianFiltering=5, useInitialFlow=False,
    )  # fmt: skip
    before = None
    for frame in frames:
        grey = cv2.cvtColor(np.ascontiguousarray(frame), cv2.COLOR_RGB2GRAY)
        if before is not None:
            yield method.calc(before, grey, None)
        before = grey


@cache  # once in a process, which computes the flow of many videos
def _raft(weights: str) -> Any:
    """Return RAFT, large or small, with the weights in a file.

    Raises:
        UserError: the file cannot be read, or has the weights of neither.
    """
    from torchvision.models.optical_flow import raft_large, raft_small

    from vattn.weights import Fit, read_state

    if not weights:
        raise UserError(
            "raft needs its weights", path="--flow-weights", way_out="name the file that torchvision publishes"
        )
    try:
        state = read_state(Path(weights))
    except UserError as error:
        raise UserError(str(error), path="--flow-weights") from error
    for build in (raft_large, raft_small):
        net = build(weights=None)
        if fit := Fit.of(state, net.state_dict()):
            net.load_state_dict(state, strict=False)
            return net.eval().requires_grad_(False)
    raise UserError(
        f"{weights} has the weights of neither raft_large nor raft_small: {fit}", path="--flow-weights",
        way_out="name the file that torchvision publishes",
    )  # fmt: skip


def _raft_flows(frames: Sequence[np.ndarray], weights: str) -> Iterator[Flow]:
    import torch
    from torch.nn.functional import pad

    net = _raft(weights)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    net = net.to(device)

    def prepared(frame: np.ndarray) -> torch.Tensor:
        """Return a frame in -1 ... 1, its edges repeated until both sides can be divided."""
        pixels = torch.from_numpy(np.array(frame)).permute(2, 0, 1).to(device)[None].float() / 127.5 - 1
        return pad(pixels, tuple(margins), mode="replicate")

    height, width = frames[0].shape[:2]
    extra = [max(-side % RAFT_STEP, RAFT_LEAST - side) for side in (width, height)]
    margins = [part for more in extra for part in (more // 2, more - more // 2)]
    left, top = margins[0], margins[2]
    before = prepared(frames[0])
    for frame in frames[1:]:
        after = prepared(frame)
        with torch.no_grad():
            flow = net(before, after)[-1][0, :, top : top + height, left : left + width]
        yield np.ascontiguousarray(flow.permute(1, 2, 0).cpu().numpy())
        before = after

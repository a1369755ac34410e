"""Videos and manifests for the tests of `vattn.data`."""

from pathlib import Path

import av
import numpy as np
import pyarrow as pa

from vattn.data.config import StoreConfig

STORE = StoreConfig(size=32)


def footage(frames: int = 5, seed: int = 0, height: int = 32, width: int = 48) -> np.ndarray:
    """Return a video of blocks of random colours, which survive lossy encoding."""
    blocks = np.random.default_rng(seed).integers(0, 256, (frames, height // 16, width // 16, 3), np.uint8)
    return blocks.repeat(16, axis=1).repeat(16, axis=2)


def decoded(path: Path) -> np.ndarray:
    """Return all frames of a video as PyAV decodes them, in order."""
    with av.open(str(path)) as container:
        return np.stack([frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)])


def manifest(*paths: str) -> pa.Table:
    """Return a manifest with a training clip of each path; labels are 0, 1, 2, ..."""
    labels = pa.array(range(len(paths)), pa.int32())
    return pa.table({"path": pa.array(paths, pa.string()), "label": labels, "split": ["train"] * len(paths)})


class Steps(list[tuple[str, int, int]]):
    """The calls of a progress function, (stage, done, total)."""

    def __call__(self, stage: str, done: int, total: int) -> None:
        self.append((stage, done, total))

    @property
    def done(self) -> list[int]:
        """Number of files done, at each call."""
        return [done for _, done, _ in self]

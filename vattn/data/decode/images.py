"""Reads clips that are folders of images: RGB frames, or optical flow as pairs of grey images."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from vattn.data.cache.format import Frame
from vattn.data.config import StoreConfig
from vattn.data.decode.errors import UnreadableFileError
from vattn.data.decode.scaling import scaled
from vattn.data.decode.sequence import FrameFiles

#: Level of the third channel of flow frames, which carries nothing.
_GREY = 128


def read_images(files: Sequence[FrameFiles], store: StoreConfig) -> list[Frame | bytes]:
    """Return frames that are images, as the cache stores them.

    Args:
        files: the files of each frame, see `vattn.data.decode.sequence.ImageFolder`: an RGB image, or two grey ones,
            whose levels are channels 0 and 1; then channel 2 is 128.
        store: the size, the number of frames and the codec of the cache.

    Returns:
        Frames in the same order: uint8 RGB (H, W, 3), or the bytes of a JPEG file that can be stored as it is.

    Raises:
        UnreadableFileError: an image cannot be read, or frames have different sizes.
    """
    frames = [
        _rgb(each[0], store) if len(each) == 1 else _flow(each[0], each[1], store) for each in store.select(files)
    ]
    if len({shape for shape, _ in frames}) > 1:
        raise UnreadableFileError("has frames of different sizes")
    return [frame for _, frame in frames]


def image_size(file: Path) -> tuple[int, int]:
    """Return (height, width) of an image in pixels; raise UnreadableFileError if it is no image."""
    width, height = _opened(file).size
    return height, width


def _rgb(file: Path, store: StoreConfig) -> tuple[tuple[int, int], Frame | bytes]:
    """Return (height, width) of an image, and its pixels, or its bytes if the cache can store the file as it is."""
    image, pixels = _decoded(file, "RGB")
    if store.codec == "jpeg" and image.format == "JPEG" and image.mode == "RGB" and min(image.size) == store.size:
        return pixels.shape[:2], file.read_bytes()  # encoding it a second time would only lose quality
    frame = scaled([pixels], store.size)[0]
    return frame.shape[:2], frame


def _flow(x: Path, y: Path, store: StoreConfig) -> tuple[tuple[int, int], Frame]:
    """Return (height, width) of a flow frame, and its two components as the first two channels."""
    across, down = (_decoded(file, "L")[1] for file in (x, y))
    if across.shape != down.shape:
        raise UnreadableFileError(f"{x.name} and {y.name} are of different sizes")
    frame = scaled([np.stack([across, down, np.full_like(down, _GREY)], axis=-1)], store.size)[0]
    return frame.shape[:2], frame


def _opened(file: Path) -> Any:
    from PIL import Image, UnidentifiedImageError

    try:
        return Image.open(file)
    except (UnidentifiedImageError, OSError) as error:
        raise UnreadableFileError(f"{file.name}: {error}") from error


def _decoded(file: Path, mode: str) -> tuple[Any, np.ndarray]:
    image = _opened(file)
    try:
        return image, np.asarray(image.convert(mode))
    except OSError as error:
        raise UnreadableFileError(f"{file.name}: {error}") from error

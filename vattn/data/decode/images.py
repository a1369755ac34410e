"""Reads clips that are folders of images: RGB frames, or optical flow as pairs of grey images."""

import re
from pathlib import Path
from typing import Any

import numpy as np

from vattn.data.cache.format import Frame
from vattn.data.config import StoreConfig
from vattn.data.decode.errors import UnreadableFileError
from vattn.data.decode.scaling import scaled

_IMAGES = (".jpg", ".jpeg", ".png")
_FLOW_PREFIXES = ("flow_x", "flow_y")
#: Level of the third channel of flow frames, which carries nothing.
_GREY = 128


def rgb_frames(folder: Path, store: StoreConfig, first: int = -1, last: int = -1) -> list[Frame | bytes]:
    """Return the frames of a folder of images, as the cache stores them.

    Args:
        folder: images whose names end in the number of the frame.
        store: the size, the number of frames and the codec of the cache.
        first: number of the first frame; -1: the first that exists.
        last: number of the last frame, inclusive; -1: the last that exists.

    Returns:
        Frames in the order of their numbers: uint8 RGB (H, W, 3), or the bytes of a JPEG file that can be stored as it
        is.

    Raises:
        UnreadableFileError: there are no such frames, an image cannot be read, or frames have different sizes.
    """
    files = _selected(folder, "", store, first, last)
    return _same_size([_rgb(file, store) for file in files], f"has no frames from {max(first, 0)} on")


def flow_frames(folder: Path, store: StoreConfig, first: int = -1, last: int = -1) -> list[Frame | bytes]:
    """Return the frames of a folder of ``flow_x_NNNNN`` and ``flow_y_NNNNN`` images.

    The x and y components are channels 0 and 1, channel 2 is 128. Arguments and errors are those of `rgb_frames`.
    """
    across, down = (_selected(folder, prefix, store, first, last) for prefix in _FLOW_PREFIXES)
    if len(across) != len(down):
        raise UnreadableFileError(f"has {len(across)} flow_x images, but {len(down)} flow_y images")
    frames = [_flow(x, y, store) for x, y in zip(across, down, strict=True)]
    return _same_size(frames, f"has no flow frames from {max(first, 0)} on")


def numbered_images(folder: Path, prefix: str) -> list[tuple[int, Path]]:
    """Return (number, file) of the images in a folder, sorted by the number at the end of their names.

    With an empty ``prefix`` the flow images are left out; else only names with that prefix count.
    """
    files = []
    for file in folder.iterdir():
        number = re.search(r"(\d+)$", file.stem)
        is_flow = file.stem.startswith(_FLOW_PREFIXES)
        is_image = file.suffix.lower() in _IMAGES
        if number and is_image and is_flow == bool(prefix) and file.stem.startswith(prefix):
            files.append((int(number[1]), file))
    return sorted(files)


def image_size(file: Path) -> tuple[int, int]:
    """Return (height, width) of an image in pixels; raise UnreadableFileError if it is no image."""
    width, height = _opened(file).size
    return height, width


def _selected(folder: Path, prefix: str, store: StoreConfig, first: int, last: int) -> list[Path]:
    files = [
        file for number, file in numbered_images(folder, prefix) if number >= first and (last < 0 or number <= last)
    ]
    return store.select(files)


def _same_size(frames: list[tuple[tuple[int, int], Any]], without_frames: str) -> list[Any]:
    if not frames:
        raise UnreadableFileError(without_frames)
    if len({shape for shape, _ in frames}) > 1:
        raise UnreadableFileError("has frames of different sizes")
    return [frame for _, frame in frames]


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

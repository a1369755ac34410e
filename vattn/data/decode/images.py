"""Reads clips that are folders of images: RGB frames, or optical flow as pairs of grey images."""

import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from simplejpeg import decode_jpeg

from vattn.data.cache.format import Frame
from vattn.data.config import StoreConfig
from vattn.data.decode.errors import UnreadableFileError
from vattn.data.decode.scaling import Scaler
from vattn.data.decode.sequence import FrameFiles

#: Level of the third channel of flow frames, which carries nothing.
_GREY = 128
#: Colours of JPEG files whose pixels need no conversion, by Pillow's names and by libjpeg's.
_JPEG_COLOURS = {"RGB": "RGB", "L": "GRAY"}
#: Length of the signature of a PNG file, and of a chunk's length and of its type, bytes.
_SIGNATURE, _FIELD = 8, 4


def read_images(
    files: Sequence[FrameFiles], store: StoreConfig, damaged: list[str] | None = None
) -> list[Frame | bytes]:
    """Return frames that are images, as the cache stores them.

    Args:
        files: the files of each frame, see `vattn.data.decode.sequence.ImageFolder`: an RGB image, or two grey ones,
            whose levels are channels 0 and 1; then channel 2 is 128.
        store: the size, the number of frames and the codec of the cache.
        damaged: gets the name of each image whose decoder concealed damage, with the reason.

    Returns:
        Frames in the same order: uint8 RGB (H, W, 3), or the bytes of a JPEG file that can be stored as it is.

    Raises:
        UnreadableFileError: an image cannot be read, or frames have different sizes.
    """
    damaged = [] if damaged is None else damaged
    frames = [
        _rgb(each[0], store, damaged) if len(each) == 1 else _flow(each[0], each[1], store, damaged)
        for each in store.select(files)
    ]
    if len({shape for shape, _ in frames}) > 1:
        raise UnreadableFileError("has frames of different sizes")
    return [frame for _, frame in frames]


def image_size(file: Path) -> tuple[int, int]:
    """Return (height, width) of an image in pixels; raise UnreadableFileError if it is no image."""
    with _naming(file) as image:
        width, height = image.size
        return (width, height) if _orientation(image) > 4 else (height, width)


def _rgb(file: Path, store: StoreConfig, damaged: list[str]) -> tuple[tuple[int, int], Frame | bytes]:
    """Return (height, width) of an image, and its pixels, or its bytes if the cache can store the file as it is."""
    before = len(damaged)
    with _naming(file) as image:
        plain = image.format == "JPEG" and image.mode == "RGB" and _orientation(image) == 1
        pixels = _pixels(file, image, "RGB", damaged)
    # Encoding a file a second time would only lose quality. Readers of a cache refuse damaged ones.
    if store.codec == "jpeg" and plain and min(pixels.shape[:2]) == store.size and len(damaged) == before:
        return pixels.shape[:2], file.read_bytes()
    return _scaled(pixels, store)


def _flow(x: Path, y: Path, store: StoreConfig, damaged: list[str]) -> tuple[tuple[int, int], Frame]:
    """Return (height, width) of a flow frame, and its two components as the first two channels."""
    components = []
    for file in (x, y):
        with _naming(file) as image:
            if _orientation(image) != 1:
                raise UnreadableFileError(f"{file.name}: is turned by its EXIF orientation, which would mix x and y")
            components.append(_pixels(file, image, "L", damaged))
    across, down = components
    if across.shape != down.shape:
        raise UnreadableFileError(f"{x.name} and {y.name} are of different sizes")
    return _scaled(np.stack([across, down, np.full_like(down, _GREY)], axis=-1), store)


def _scaled(pixels: Frame, store: StoreConfig) -> tuple[tuple[int, int], Frame]:
    from av.video.frame import VideoFrame

    frame = Scaler(store.size)(VideoFrame.from_ndarray(np.ascontiguousarray(pixels), format="rgb24"))
    return frame.shape[:2], frame


@contextmanager
def _naming(file: Path) -> Iterator[Any]:
    """Open an image; raise UnreadableFileError, with its name, if it cannot be read."""
    from PIL import Image

    try:
        with Image.open(file) as image:
            yield image
    except UnreadableFileError:
        raise
    except Exception as error:  # of broken files Pillow raises whatever its parsers raise
        raise UnreadableFileError(f"{file.name}: {error}") from error


def _pixels(file: Path, image: Any, mode: str, damaged: list[str]) -> np.ndarray:
    """Return the upright pixels of an image in ``mode``, RGB or L (grey); transparency is ignored, as in videos."""
    from PIL import Image, ImageOps

    # An MPO file is a photo with previews; its first picture is the photo.
    if image.format != "MPO" and getattr(image, "n_frames", 1) > 1:
        raise UnreadableFileError(f"{file.name}: is an animation of {image.n_frames} pictures, not one frame")
    # Pillow conceals the damage that libjpeg warns of, and does not compare the checksums of PNG files.
    if image.format == "JPEG" and image.mode in _JPEG_COLOURS:
        try:
            pixels = decode_jpeg(file.read_bytes(), _JPEG_COLOURS[image.mode])
        except ValueError as error:
            damaged.append(f"{file.name}: {error}")
        else:
            if image.mode == mode and _orientation(image) == 1:
                return pixels if mode == "RGB" else pixels[..., 0]
    elif image.format == "PNG" and not _has_right_checksums(file.read_bytes()):
        damaged.append(f"{file.name}: a checksum is wrong")
    ImageOps.exif_transpose(image, in_place=True)
    if image.mode.startswith("I"):
        # 16 bits of grey. Pillow would cut values off at 255; of colours with 16 bits it keeps the upper 8.
        image = Image.fromarray((np.asarray(image) >> 8).clip(0, 255).astype(np.uint8))
    return np.asarray(image.convert(mode))


def _has_right_checksums(png: bytes) -> bool:
    """Return whether each chunk of a PNG file is whole and has its checksum: length, type, content, CRC-32."""
    start, kind = _SIGNATURE, b""
    while kind != b"IEND":
        if start >= len(png):
            return False
        length, kind = int.from_bytes(png[start : start + _FIELD]), png[start + _FIELD : start + 2 * _FIELD]
        end = start + 2 * _FIELD + length
        if zlib.crc32(memoryview(png)[start + _FIELD : end]) != int.from_bytes(png[end : end + _FIELD]):
            return False
        start = end + _FIELD
    return True


def _orientation(image: Any) -> int:
    from PIL import ExifTags

    return image.getexif().get(ExifTags.Base.Orientation, 1)

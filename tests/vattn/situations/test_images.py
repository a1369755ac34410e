"""Images of unusual kinds: whatever a file's colours, bits and orientation, a frame shows what a viewer shows."""

import io
import zlib
from collections.abc import Callable, Sequence
from contextlib import suppress
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from av.codec.context import Flags
from PIL import Image, ImageOps

from vattn.data.cache import Codec, StoredClip
from vattn.data.config import StoreConfig
from vattn.data.decode import UnreadableFileError, read_images
from vattn.data.decode.images import image_size

HEIGHT, WIDTH = 32, 48
STORE = StoreConfig(size=HEIGHT)

#: Mirrored or turned picture by EXIF's orientation, from the upright one (Exif 2.32, section 4.6.4): which side of the
#: picture its first row and its first column are.
STORED_BY_ORIENTATION: dict[int, Callable[[np.ndarray], np.ndarray]] = {
    1: lambda upright: upright,  # top, left
    2: lambda upright: upright[:, ::-1],  # top, right
    3: lambda upright: upright[::-1, ::-1],  # bottom, right
    4: lambda upright: upright[::-1],  # bottom, left
    5: lambda upright: upright.swapaxes(0, 1),  # left, top
    6: lambda upright: upright[:, ::-1].swapaxes(0, 1),  # right, top: the first row is the right side
    7: lambda upright: upright[::-1, ::-1].swapaxes(0, 1),  # right, bottom
    8: lambda upright: upright[::-1].swapaxes(0, 1),  # left, bottom
}


def blocks(height: int = HEIGHT, width: int = WIDTH) -> np.ndarray:
    """Return an image of 8 x 8 blocks of random colours, none of which has a symmetry."""
    rng = np.random.default_rng(0)
    return rng.integers(0, 256, (height // 8, width // 8, 3), np.uint8).repeat(8, 0).repeat(8, 1)


def grey(image: np.ndarray) -> np.ndarray:
    """Return three equal channels, of the first channel of an image."""
    return image[..., :1].repeat(3, axis=2)


def png(image: np.ndarray, pixels: str, interlaced: bool = False, source: str = "rgb24") -> bytes:
    """Encode a PNG file by FFmpeg, which writes kinds that Pillow does not write."""
    encoder: Any = av.CodecContext.create("png", "w")
    encoder.width, encoder.height, encoder.pix_fmt = image.shape[1], image.shape[0], pixels
    encoder.time_base = Fraction(1, 25)
    if interlaced:
        encoder.flags |= Flags.interlaced_dct
    frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(image), format=source).reformat(format=pixels)
    return b"".join(bytes(packet) for packet in [*encoder.encode(frame), *encoder.encode(None)])


def saved(image: np.ndarray | Image.Image, format: str = "PNG", **options: Any) -> bytes:
    """Encode an image by Pillow."""
    data = io.BytesIO()
    (image if isinstance(image, Image.Image) else Image.fromarray(image)).save(data, format, **options)
    return data.getvalue()


def read(folder: Path, *files: bytes, suffix: str = ".png", store: StoreConfig = STORE) -> list[Any]:
    """Return what the cache stores of a folder of the given image files."""
    paths = [folder / f"{number}{suffix}" for number in range(len(files))]
    for path, data in zip(paths, files, strict=True):
        path.write_bytes(data)
    return read_images([(path,) for path in paths], store)


def with_alpha(image: np.ndarray, alpha: int) -> np.ndarray:
    return np.concatenate([image, np.full_like(image[..., :1], alpha)], axis=2)


@pytest.mark.parametrize(
    ("expected", "data"),
    [
        (blocks(), saved(blocks())),
        (blocks(), png(blocks(), "rgb24", interlaced=True)),
        (blocks(), png(blocks(), "rgb48be")),
        (blocks(), png(with_alpha(blocks(), 255), "rgba64be", source="rgba")),
        (blocks(), saved(with_alpha(blocks(), 255))),
        (blocks(), saved(with_alpha(blocks(), 100))),  # transparency is ignored, as it is in videos
        (blocks(), saved(Image.fromarray(blocks()).quantize(64))),
        (blocks(), saved(Image.fromarray(blocks()).quantize(64), transparency=3)),
        (grey(blocks()), saved(blocks()[..., 0])),
        (grey(blocks()), saved(grey(blocks())[..., :2])),  # grey and alpha
        (grey(blocks() // 128 * 255), saved(Image.fromarray(blocks()[..., 0]).convert("1", dither=Image.Dither.NONE))),
        (grey(blocks()), saved(blocks()[..., 0].astype(np.uint16) * 257)),  # all 16 bits of grey
        (grey(blocks() // 16), saved(blocks()[..., 0].astype(np.uint16) * 16)),  # 12 of 16 bits: dark, but not cut off
    ],
    ids=[
        "RGB", "interlaced", "16-bit RGB", "16-bit RGBA", "opaque", "transparent", "palette", "transparent palette",
        "grey", "grey and alpha", "1 bit", "16-bit grey", "16-bit grey of a 12-bit camera",
    ],
)  # fmt: skip
def test_png_files_of_every_kind_show_their_colours(expected: np.ndarray, data: bytes, tmp_path: Path) -> None:
    (frame,) = read(tmp_path, data)

    assert frame.shape == expected.shape
    np.testing.assert_allclose(frame, expected, atol=1)


def test_every_level_of_16_bit_grey_is_scaled_to_8_bits(tmp_path: Path) -> None:
    levels = np.arange(2048, dtype=np.uint16).reshape(32, 64) * 32

    (frame,) = read(tmp_path, saved(levels))

    np.testing.assert_array_equal(frame[..., 0], levels // 256)


@pytest.mark.parametrize("mode", ["CMYK", "L", "RGB", "YCbCr"])
@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"subsampling": 0}], ids=str)
@pytest.mark.parametrize("codec", ["raw", "jpeg"])
def test_jpeg_files_of_every_kind_show_their_colours(
    mode: str, options: dict[str, Any], codec: str, tmp_path: Path
) -> None:
    smooth = Image.fromarray(blocks()).resize((WIDTH, HEIGHT), Image.Resampling.BICUBIC).convert(mode)
    store = StoreConfig.parse({"size": HEIGHT, "codec": codec})

    (frame,) = read(tmp_path, saved(smooth, "JPEG", quality=95, **options), suffix=".jpg", store=store)

    if isinstance(frame, bytes):  # the file itself goes into the cache
        assert mode in ("RGB", "YCbCr")
        frame = np.asarray(Image.open(io.BytesIO(frame)))
    assert np.abs(frame.astype(int) - np.asarray(smooth.convert("RGB"))).mean() < 12


@pytest.mark.parametrize("orientation", STORED_BY_ORIENTATION)
@pytest.mark.parametrize(("format", "codec"), [("PNG", "raw"), ("JPEG", "raw"), ("JPEG", "jpeg")])
def test_images_are_turned_upright_as_exif_says(orientation: int, format: str, codec: str, tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[274] = orientation  # 274: the tag Orientation
    stored = Image.fromarray(np.ascontiguousarray(STORED_BY_ORIENTATION[orientation](blocks())))
    data = saved(stored, format, exif=exif, **({"quality": 95, "subsampling": 0} if format == "JPEG" else {}))
    # The cases above are those that Pillow knows.
    np.testing.assert_array_equal(ImageOps.exif_transpose(_tagged(stored, exif)), blocks())
    store = StoreConfig.parse({"size": HEIGHT, "codec": codec})

    (frame,) = read(tmp_path, data, suffix=f".{format.lower()}", store=store)

    if isinstance(frame, bytes):
        assert orientation == 1  # stored as it is; the cache's decoder does not know EXIF
        frame = np.asarray(Image.open(io.BytesIO(frame)))
    assert frame.shape == (HEIGHT, WIDTH, 3)
    np.testing.assert_allclose(frame, blocks(), atol=0 if format == "PNG" else 12)
    assert image_size(next(tmp_path.iterdir())) == (HEIGHT, WIDTH)


def _tagged(image: Image.Image, exif: Image.Exif) -> Image.Image:
    return Image.open(io.BytesIO(saved(image, exif=exif)))


def test_16_bit_images_are_turned_upright_too(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[274] = 6
    stored = np.ascontiguousarray(STORED_BY_ORIENTATION[6](blocks())[..., 0]).astype(np.uint16) * 256

    (frame,) = read(tmp_path, saved(stored, exif=exif))

    np.testing.assert_array_equal(frame, grey(blocks()))


def test_an_orientation_that_does_not_exist_changes_nothing(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[274] = 77

    (frame,) = read(tmp_path, saved(blocks(), exif=exif))

    np.testing.assert_array_equal(frame, blocks())


def test_16_bit_flow_is_scaled_and_flow_that_exif_turns_is_refused(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[274] = 6
    x, y, turned = (tmp_path / f"{name}.png" for name in ("x", "y", "turned"))
    x.write_bytes(saved(blocks()[..., 0].astype(np.uint16) * 257))
    y.write_bytes(saved(blocks()[..., 1]))
    turned.write_bytes(saved(blocks()[..., 1], exif=exif))

    (frame,) = read_images([(x, y)], STORE)

    assert isinstance(frame, np.ndarray)
    np.testing.assert_array_equal(frame[..., :2], blocks()[..., :2])
    with pytest.raises(UnreadableFileError, match=r"turned\.png: is turned by its EXIF orientation"):
        read_images([(x, turned)], STORE)


def animation(format: str, count: int) -> bytes:
    pictures: Sequence[Image.Image] = [Image.fromarray(np.roll(blocks(), 8 * t, axis=1)) for t in range(count)]
    return saved(pictures[0], format, save_all=True, append_images=pictures[1:])


@pytest.mark.parametrize("format", ["PNG", "GIF", "WEBP"])
def test_an_animation_is_no_frame(format: str, tmp_path: Path) -> None:
    with pytest.raises(UnreadableFileError, match=r"0\.png: is an animation of 3 pictures, not one frame"):
        read(tmp_path, animation(format, 3))


def test_of_a_photo_with_previews_the_photo_is_the_frame(tmp_path: Path) -> None:
    photo = animation("MPO", 2)
    assert Image.open(io.BytesIO(photo)).format == "MPO"

    (frame,) = read(tmp_path, photo, suffix=".jpg")

    assert np.abs(frame.astype(int) - blocks()).mean() < 12


def flawed(data: bytes, at: int) -> bytes:
    """Change one byte of a file."""
    return data[:at] + bytes([data[at] ^ 0x10]) + data[at + 1 :]


SCAN = saved(blocks(), "JPEG").index(b"\xff\xda") + 40


@pytest.mark.parametrize(
    ("suffix", "data", "reason"),
    [
        (".jpg", flawed(saved(blocks(), "JPEG"), SCAN)[:-30] + b"\xff\xd9", "Corrupt JPEG data: "),
        (".jpg", saved(blocks(), "JPEG")[:-2] + b"rest\xff\xd9", "extraneous bytes before marker 0xd9"),
        (".png", flawed(saved(blocks()), -13), "a checksum is wrong"),
        (".png", saved(blocks())[:-12], "a checksum is wrong"),
    ],
    ids=["half a scan", "bytes after the scan", "checksum of the last data", "no end"],
)
@pytest.mark.parametrize("codec", ["raw", "jpeg"])
def test_damage_that_a_decoder_conceals_is_named_and_can_be_stored(
    suffix: str, data: bytes, reason: str, codec: Codec, tmp_path: Path
) -> None:
    path, damaged, store = tmp_path / f"0{suffix}", list[str](), StoreConfig(size=HEIGHT, codec=codec)
    path.write_bytes(data)

    (frame,) = read_images([(path,)], store, damaged)

    assert len(damaged) == 1
    assert damaged[0].startswith(path.name)
    assert reason in damaged[0]
    assert not isinstance(frame, bytes)
    StoredClip.jpeg([frame])


def test_a_whole_jpeg_file_is_stored_as_it_is(tmp_path: Path) -> None:
    path, damaged = tmp_path / "0.jpg", list[str]()
    path.write_bytes(saved(blocks(), "JPEG"))

    assert read_images([(path,)], StoreConfig(size=HEIGHT, codec="jpeg"), damaged) == [path.read_bytes()]
    assert not damaged


@pytest.mark.parametrize(
    "data",
    [
        b"", b"text", saved(blocks())[:200], saved(blocks(), "JPEG")[:300], b"\x89PNG\r\n\x1a\n" + bytes(50),
        saved(blocks())[:60] + bytes(40) + saved(blocks())[100:],
        saved(blocks()).replace(b"IDAT", b"\xe5DAT"),
    ],
    ids=["empty", "text", "half a PNG", "half a JPEG", "only a signature", "zeros in the middle", "chunk"],
)  # fmt: skip
def test_a_damaged_image_is_named(data: bytes, tmp_path: Path) -> None:
    with pytest.raises(UnreadableFileError, match=r"^1\.png: "):
        read(tmp_path, saved(blocks()), data)
    with pytest.raises(UnreadableFileError, match=r"^1\.png: "):
        read_images([(tmp_path / "1.png",) * 2], STORE)
    with suppress(UnreadableFileError):  # its header may be whole
        image_size(tmp_path / "1.png")


def test_an_image_of_a_size_that_no_memory_holds_is_named(tmp_path: Path) -> None:
    data = bytearray(saved(blocks()[..., 0]))
    data[16:24] = (60_000).to_bytes(4, "big") * 2  # width and height in the header
    data[29:33] = zlib.crc32(data[12:29]).to_bytes(4, "big")

    with pytest.raises(UnreadableFileError, match=r"0\.png: .*decompression bomb"):
        read(tmp_path, bytes(data))
    with pytest.raises(UnreadableFileError, match=r"0\.png: .*decompression bomb"):
        image_size(tmp_path / "0.png")

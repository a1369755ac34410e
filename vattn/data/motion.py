"""The generated data set: 16 motions that are 8 pairs of opposites, which only the order of frames tells apart.

Sprites move before a textured background. Label 2k + 1 is a draw of label 2k played backwards, noise and all, and each
frame is coded by itself at a constant quality: the frames of both labels of a pair have one distribution, so a model
that averages over frames without mixing them is right half of the time within a pair, at best.
"""

import json
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.csv as pa_csv
from jaxtyping import Float32, UInt8
from pydantic import Field

from vattn.data import workers
from vattn.data._base import DataConfig, Progress
from vattn.files import LOCK, locked, replacing, write_whole

LABELS = (
    "left", "right", "up", "down", "approach", "recede", "turn-cw", "turn-ccw",
    "appear", "vanish", "start-then-stop", "wait-then-go", "meet", "part", "hide", "emerge",
)  # fmt: skip
SPLITS = ("train", "val", "test")

#: Written first: what the files beside it depend on.
RECIPE = "motion.json"
#: Written last: a set that has it is complete.
MANIFEST = "manifest.csv"
#: Of the drawing; counted up when the same parameters give other pixels.
VERSION = 1

FRAMES_PER_SECOND = 12
#: Of H.264, the same for every frame: fine noise survives, and a default clip takes 30 kB.
QUANTIZER = 22

#: Side of the frame in whose pixels all lengths below are given; other sizes show the same scenes.
UNITS = 80
#: Sides of the periodic textures, pixels.
SCENERY, SKIN = 128, 64

Clips = UInt8[np.ndarray, "t h w 3"]
Track = Float32[np.ndarray, " t"]
Texture = Float32[np.ndarray, "s s 3"]


class MotionDataConfig(DataConfig, kind="motion"):
    """How many clips are generated for each of the 16 classes, and how large."""

    kind: Literal["motion"] = "motion"
    split: Literal[1] = 1
    modality: Literal["rgb", "diff"] = "rgb"
    train_clips: int = Field(50, ge=1)
    val_clips: int = Field(30, ge=1)
    test_clips: int = Field(20, ge=1)
    frames: int = Field(24, ge=2, description="frames of a clip")
    size: int = Field(80, ge=32, multiple_of=2, description="side of a frame, pixels; even, as H.264 needs it")
    seed: int = Field(0, ge=0)

    def labels(self) -> tuple[str, ...]:
        """Names of the motions; label 2k + 1 is the reverse of label 2k."""
        return LABELS

    def mirrored(self) -> list[int]:
        """As for all sets; turning clockwise and counter-clockwise change places too."""
        other = {"left": "right", "right": "left", "turn-cw": "turn-ccw", "turn-ccw": "turn-cw"}
        return [LABELS.index(other.get(name, name)) for name in LABELS]

    def supply(self, root: Path, progress: Progress | None = None) -> None:
        """Generate the set below ``root`` unless it is there."""
        if not (root / MANIFEST).is_file():
            generate(self, root, progress=progress)

    def manifest(self, root: Path) -> pa.Table:
        """Return (path, label, split) of every file; raises ValueError where ``root`` has no such set, or another."""
        _check_recipe(self, root)
        if not (root / MANIFEST).is_file():
            raise ValueError(f"{root}: has no complete motion set; write it with: vattn motion {root}")
        types = {"path": pa.string(), "label": pa.int32(), "split": pa.string()}
        return pa_csv.read_csv(root / MANIFEST, convert_options=pa_csv.ConvertOptions(column_types=types))

    def recipe(self) -> dict[str, int]:
        """Return all that the files depend on."""
        names = ("train_clips", "val_clips", "test_clips", "frames", "size", "seed")
        return {"version": VERSION} | {name: getattr(self, name) for name in names}


class Clip(NamedTuple):
    """One file of the set."""

    split: str
    label: int
    number: int

    @property
    def path(self) -> str:
        """Where it lies below the root."""
        name = LABELS[self.label]
        return f"{self.split}/{name}/{name}_{self.number:04}.mp4"


def generate(
    config: MotionDataConfig, out: Path, jobs: int | Literal["auto"] = "auto", progress: Progress | None = None
) -> None:
    """Write ``{train,val,test}/LABEL/LABEL_NNNN.mp4`` below ``out``, and the manifest, with ``jobs`` processes.

    A complete set is left as it is, one that was cut off is completed: files appear when they are whole, and are the
    same whoever writes them. Raises ValueError where ``out`` holds something else, OSError where it cannot be written.
    """
    counts = (config.train_clips, config.val_clips, config.test_clips)
    clips = [
        Clip(split, label, number)
        for split, count in zip(SPLITS, counts, strict=True)
        for label in range(len(LABELS))
        for number in range(count)
    ]
    with locked(out):
        _check_recipe(config, out)
        if (out / MANIFEST).is_file():
            return
        write_whole(out / RECIPE, json.dumps(config.recipe(), indent=2) + "\n")
        missing = [clip for clip in clips if not (out / clip.path).is_file()]
        processes = workers.cores() if jobs == "auto" else jobs
        written = workers.run(partial(write_clip, config, out), missing, processes)
        for done, (clip, outcome) in enumerate(written, start=len(clips) - len(missing) + 1):
            if isinstance(outcome, workers.Failure):
                reason = f"could not be written: {outcome.reason}"
                raise OSError(f"{out / clip.path}: {reason}; make room and call again: it goes on")
            if progress:
                progress("motion", done, len(clips))
        lines = [f"{clip.path},{clip.label},{clip.split}\n" for clip in clips]
        write_whole(out / MANIFEST, "path,label,split\n" + "".join(lines))


def _check_recipe(config: MotionDataConfig, root: Path) -> None:
    """Raise ValueError if ``root`` holds anything but a motion set, whole or not, of these parameters."""
    if (root / RECIPE).is_file():
        found, asked = json.loads((root / RECIPE).read_text()), config.recipe()
        differ = [f"{name} {found[name]} (asked for: {asked[name]})" for name in asked if found[name] != asked[name]]
        if differ:
            raise ValueError(f"{root}: holds a motion set of {', '.join(differ)}; name another folder, or remove it")
    elif root.is_dir() and any(entry.name != LOCK for entry in root.iterdir()):
        raise ValueError(f"{root}: holds files, but not of a motion set ({RECIPE}); name a new folder")


def write_clip(config: MotionDataConfig, out: Path, clip: Clip) -> None:
    """Draw and code one clip; it depends on the seed and on what ``clip`` says, and on nothing else."""
    rng = np.random.default_rng([config.seed, SPLITS.index(clip.split), clip.label, clip.number])
    path = out / clip.path
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as part:
        encode(part, render(clip.label, rng, config.frames, config.size))


def encode(path: Path, video: Clips) -> None:
    """Write H.264 in MP4 whose frames are all coded alike and alone: reversing commutes with coding."""
    import av

    with av.open(str(path), "w", format="mp4") as container:
        options = {"preset": "veryfast", "qp": str(QUANTIZER), "g": "1", "bf": "0"}
        stream = container.add_stream("libx264", rate=FRAMES_PER_SECOND, options=options)
        stream.height, stream.width = video.shape[1:3]
        stream.pix_fmt = "yuv420p"
        stream.codec_context.thread_count = 1
        for pixels in video:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(np.ascontiguousarray(pixels), format="rgb24")))
        container.mux(stream.encode(None))


@dataclass
class Sprite:
    """A shape with a skin, and its pose in every frame: pixels (of a frame of UNITS), radians, opacity 0 to 1."""

    x: Track
    y: Track
    radius: Track
    angle: Track
    opacity: Track
    outline: Float32[np.ndarray, " angles"]
    skin: Texture

    def move(self, distance: Track, direction: float) -> None:
        """Move by ``distance`` pixels along ``direction``, radians."""
        self.x += distance * np.float32(np.cos(direction))
        self.y += distance * np.float32(np.sin(direction))


def render(label: int, rng: np.random.Generator, frames: int, size: int) -> Clips:
    """Return a clip of class ``label``; all that is random is drawn before an odd one is reversed.

    Whatever does not depend on the class has one distribution forwards and backwards: where and how fast the background
    goes, how the camera shakes and the sprites drift, and the noise.
    """
    time = np.linspace(0, 1, frames, dtype=np.float32)
    backdrop = _texture(rng, SCENERY, color=rng.uniform(30, 110, 3), contrast=rng.uniform(5, 12))
    shake = rng.normal(0, 0.4, (2, frames))
    pan = rng.normal(0, 6, (2, 1)) * time + shake
    sprites = _act(label // 2, rng, time, shake)
    grid = (np.arange(size, dtype=np.float32) + 0.5) * (UNITS / size) - 0.5
    video = np.stack([_along(_along(backdrop, grid - y, 0), grid - x, 1) for x, y in pan.T.astype(np.float32)])
    for sprite in sprites:
        _paint(video, sprite, grid)
    video += rng.standard_normal(video.shape, dtype=np.float32) * np.float32(rng.uniform(2, 5))
    clip = np.clip(np.rint(video), 0, 255).astype(np.uint8)
    return clip[::-1] if label % 2 else clip


def _act(pair: int, rng: np.random.Generator, time: Track, shake: np.ndarray) -> list[Sprite]:
    """Return the sprites of the even class of ``pair``, the hindmost first."""
    progress = 2 * _ramp(rng, time, start=(0.0, 0.2), end=(0.8, 1.0)) - 1
    reach = np.float32(rng.uniform(11, 16))
    direction = rng.uniform(0, 2 * np.pi)
    sprite = _sprite(rng, time, shake)
    match pair:
        case 0:
            sprite.x -= reach * progress
        case 1:
            sprite.y -= reach * progress
        case 2:
            sprite.radius *= np.exp(np.float32(rng.uniform(0.4, 0.7)) * progress)
        case 3:
            sprite.radius *= 1.3
            sprite.angle += np.float32(rng.uniform(0.5, 0.8) * np.pi) * progress
        case 4:
            start = rng.uniform(0.25, 0.65)
            sprite.opacity = _ramp(rng, time, start=(start, start), end=(start + 0.05, start + 0.15))
        case 5:
            # Along a diagonal, so that it is not one of the classes that move all the time.
            diagonal = np.pi / 2 * (rng.integers(4) + rng.uniform(0.4, 0.6))
            sprite.move(reach * (2 * _ramp(rng, time, start=(0.0, 0.1), end=(0.35, 0.5)) - 1), diagonal)
        case 6:
            other = _sprite(rng, time, shake)
            for one, side in ((sprite, -1), (other, 1)):
                one.radius *= 0.7
                one.move(side * (14 - 7 * progress), direction)
            return [sprite, other]
        case 7:
            screen = _sprite(rng, time, shake)
            screen.radius *= 1.3
            screen.move(np.full_like(time, -10), direction)
            sprite.radius *= 0.85
            sprite.move(1 - 13 * progress, direction)
            return [sprite, screen]
    return [sprite]


def _sprite(rng: np.random.Generator, time: Track, shake: np.ndarray) -> Sprite:
    """Return a sprite near the middle that drifts a little."""
    start, drift = rng.uniform(-4, 4, (2, 1)), rng.normal(0, 2, (2, 1))
    x, y = ((UNITS - 1) / 2 + start + drift * (time - 0.5) + shake).astype(np.float32)
    angle = rng.uniform(0, 2 * np.pi) + rng.normal(0, 0.1) * time
    theta = np.linspace(0, 2 * np.pi, 256, endpoint=False)
    waves = [rng.uniform(0.03, 0.12) * np.cos(k * theta + rng.uniform(0, 2 * np.pi)) for k in (1, 2, 3)]
    # Longer and lighter on one side: which way it points can be seen, and so can which way it turns.
    outline = 1 + 0.3 * np.cos(theta) + np.sum(waves, axis=0)
    skin = _texture(rng, SKIN, color=rng.uniform(140, 220, 3), contrast=rng.uniform(6, 14))
    skin += np.where(np.arange(SKIN) < SKIN // 2, -1, 1)[:, None] * rng.uniform(15, 65, 3).astype(np.float32)
    return Sprite(
        x=x,
        y=y,
        radius=np.full_like(time, rng.uniform(10, 15)),
        angle=angle.astype(np.float32),
        opacity=np.ones_like(time),
        outline=outline.astype(np.float32),
        skin=skin,
    )


def _ramp(rng: np.random.Generator, time: Track, start: tuple[float, float], end: tuple[float, float]) -> Track:
    """Return a rise from 0 to 1 that starts and ends at random times in these ranges."""
    first, last = rng.uniform(*start), rng.uniform(*end)
    return np.clip((time - first) / (last - first), 0, 1).astype(np.float32)


def _texture(rng: np.random.Generator, size: int, color: np.ndarray, contrast: float) -> Texture:
    """Return smooth periodic noise around ``color``, with a standard deviation of ``contrast`` grey levels."""
    frequency = np.hypot(np.fft.fftfreq(size)[:, None], np.fft.rfftfreq(size)) * size
    # A part that all colours share: photographs get lighter and darker more than they change hue.
    white = rng.standard_normal((size, size, 3)) + rng.standard_normal((size, size, 1))
    spectrum = np.fft.rfft2(white, axes=(0, 1)) / (1 + frequency[..., None]) ** 1.5
    smooth = np.fft.irfft2(spectrum, (size, size), axes=(0, 1))
    smooth -= smooth.mean(axis=(0, 1))
    return (color + contrast / smooth.std() * smooth).astype(np.float32)


def _paint(video: Float32[np.ndarray, "t h w 3"], sprite: Sprite, grid: Float32[np.ndarray, " side"]) -> None:
    """Paint ``sprite`` over ``video``, whose rows and columns are at the positions ``grid``."""
    scale = len(grid) / UNITS
    for t, radius in enumerate(sprite.radius):
        bound = radius * sprite.outline.max() + 1
        rows, columns = (
            slice(*np.searchsorted(grid, (centre[t] - bound, centre[t] + bound))) for centre in (sprite.y, sprite.x)
        )
        dx, dy = grid[None, columns] - sprite.x[t], grid[rows, None] - sprite.y[t]
        cos, sin = np.cos(sprite.angle[t]), np.sin(sprite.angle[t])
        along, across = (cos * dx + sin * dy) / radius, (cos * dy - sin * dx) / radius
        angles = len(sprite.outline)
        edge = sprite.outline[(np.arctan2(across, along) * (angles / 2 / np.pi)).astype(np.intp) % angles]
        cover = np.clip((edge - np.hypot(along, across)) * radius * scale + 0.5, 0, 1) * sprite.opacity[t]
        skin = _sample(sprite.skin, along * (SKIN / 3.2) + SKIN / 2, across * (SKIN / 3.2) + SKIN / 2)
        region = video[t, rows, columns]
        region += cover[..., None] * (skin - region)


def _along(image: Float32[np.ndarray, "h w 3"], at: Float32[np.ndarray, " side"], axis: int) -> np.ndarray:
    """Return a periodic ``image`` at the positions ``at`` along an axis, linearly interpolated."""
    floor = np.floor(at)
    weight = np.expand_dims(at - floor, axis=(1 - axis, 2))
    before = floor.astype(np.intp) % image.shape[axis]
    after = (before + 1) % image.shape[axis]
    return np.take(image, before, axis) * (1 - weight) + np.take(image, after, axis) * weight


def _sample(
    texture: Texture, x: Float32[np.ndarray, "h w"], y: Float32[np.ndarray, "h w"]
) -> Float32[np.ndarray, "h w 3"]:
    """Return a periodic ``texture`` at each (x, y), bilinearly interpolated."""
    side = len(texture)
    left, top = np.floor(x), np.floor(y)
    fx, fy = (x - left)[..., None], (y - top)[..., None]
    left, top = left.astype(np.intp) % side, top.astype(np.intp) % side
    right, bottom = (left + 1) % side, (top + 1) % side
    upper = texture[top, left] * (1 - fx) + texture[top, right] * fx
    lower = texture[bottom, left] * (1 - fx) + texture[bottom, right] * fx
    return upper * (1 - fy) + lower * fy

"""Draws and encodes the clips of the motion set: 16 motions in 8 pairs of opposites.

Sprites move in front of a textured background. A clip of label 2k + 1 is drawn as a clip of label 2k and then reversed,
together with its noise, and every frame is encoded by itself with the same quantizer. So the frames of both labels of a
pair have the same distribution: a model that averages over frames without relating them to each other cannot do better
than chance level, 50 %, within a pair.
"""

from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import numpy as np
from jaxtyping import Float32, UInt8

LABELS = (
    "left", "right", "up", "down", "approach", "recede", "turn-cw", "turn-ccw",
    "appear", "vanish", "start-then-stop", "wait-then-go", "meet", "part", "hide", "emerge",
)  # fmt: skip

FRAMES_PER_SECOND = 12
#: H.264 quantizer of every frame: fine noise is preserved, and a clip of the default size takes 30 kB.
QUANTIZER = 22

#: Side of the frame, in pixels, in which all lengths below are given; other sizes show the same scenes.
UNITS = 80
#: Side of the periodic texture of the background, pixels.
BACKGROUND_SIDE = 128
#: Side of the periodic texture of a sprite, pixels.
SKIN_SIDE = 64

Video = UInt8[np.ndarray, "t h w 3"]
Track = Float32[np.ndarray, " t"]
Texture = Float32[np.ndarray, "s s 3"]


def encode(path: Path, video: Video, rate: float | int = FRAMES_PER_SECOND) -> None:
    """Write a video as H.264 in MP4.

    Every frame is a keyframe with the same quantizer, so that encoding commutes with reversal in time.
    """
    import av

    with av.open(str(path), "w", format="mp4") as container:
        options = {"preset": "veryfast", "qp": str(QUANTIZER), "g": "1", "bf": "0"}
        stream = container.add_stream("libx264", rate=Fraction(rate), options=options)
        stream.height, stream.width = video.shape[1:3]
        stream.pix_fmt = "yuv420p"
        stream.codec_context.thread_count = 1
        for pixels in video:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(np.ascontiguousarray(pixels), format="rgb24")))
        container.mux(stream.encode(None))


@dataclass
class Sprite:
    """A textured shape, and its pose in every frame; lengths are in pixels of a frame of side UNITS."""

    x: Track
    y: Track
    radius: Track
    angle: Track
    """radians"""
    opacity: Track
    """0 to 1"""
    outline: Float32[np.ndarray, " angles"]
    """distance of the edge from the centre, as a multiple of the radius, at equally spaced angles"""
    skin: Texture

    def move(self, distance: Track, direction: float) -> None:
        """Move by ``distance`` pixels along ``direction``, radians."""
        self.x += distance * np.float32(np.cos(direction))
        self.y += distance * np.float32(np.sin(direction))


def render(label: int, rng: np.random.Generator, frames: int, size: int) -> Video:
    """Return a clip of class ``label``, uint8 RGB (``frames``, ``size``, ``size``, 3).

    Everything random is drawn before a clip of an odd label is reversed. Everything that does not depend on the class
    has the same distribution forwards and backwards: the position and speed of the background, the camera shake, the
    drift of the sprites, and the noise.
    """
    return _render(label, rng, frames, size)


def render_background(rng: np.random.Generator, frames: int, size: int) -> Video:
    """Return background without an action, uint8 RGB (``frames``, ``size``, ``size``, 3).

    In half of the cases a sprite is there that drifts as all do, and does nothing else.
    """
    return _render(None, rng, frames, size)


def _render(label: int | None, rng: np.random.Generator, frames: int, size: int) -> Video:
    time = np.linspace(0, 1, frames, dtype=np.float32)
    background = _texture(rng, BACKGROUND_SIDE, color=rng.uniform(30, 110, 3), contrast=rng.uniform(5, 12))
    shake = rng.normal(0, 0.4, (2, frames))
    pan = rng.normal(0, 6, (2, 1)) * time + shake
    if label is None:
        sprites = [_sprite(rng, time, shake)] if rng.random() < 0.5 else []
    else:
        sprites = _act(label // 2, rng, time, shake)
    grid = (np.arange(size, dtype=np.float32) + 0.5) * (UNITS / size) - 0.5
    video = np.stack([_along(_along(background, grid - y, 0), grid - x, 1) for x, y in pan.T.astype(np.float32)])
    for sprite in sprites:
        _paint(video, sprite, grid)
    video += rng.standard_normal(video.shape, dtype=np.float32) * np.float32(rng.uniform(2, 5))
    clip = np.clip(np.rint(video), 0, 255).astype(np.uint8)
    return clip[::-1] if label is not None and label % 2 else clip


def _act(pair: int, rng: np.random.Generator, time: Track, shake: np.ndarray) -> list[Sprite]:
    """Return the sprites of the even class of ``pair``, from back to front."""
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
            # Along a diagonal: left, right, up and down are classes of their own.
            diagonal = np.pi / 2 * (rng.integers(4) + rng.uniform(0.4, 0.6))
            sprite.move(reach * (2 * _ramp(rng, time, start=(0.0, 0.1), end=(0.35, 0.5)) - 1), diagonal)
        case 6:
            partner = _sprite(rng, time, shake)
            for moving, side in ((sprite, -1), (partner, 1)):
                moving.radius *= 0.7
                moving.move(side * (14 - 7 * progress), direction)
            return [sprite, partner]
        case 7:
            screen = _sprite(rng, time, shake)
            screen.radius *= 1.3
            screen.move(np.full_like(time, -10), direction)
            sprite.radius *= 0.85
            sprite.move(1 - 13 * progress, direction)
            return [sprite, screen]
    return [sprite]


def _sprite(rng: np.random.Generator, time: Track, shake: np.ndarray) -> Sprite:
    """Return a sprite near the centre that drifts slightly."""
    start, drift = rng.uniform(-4, 4, (2, 1)), rng.normal(0, 2, (2, 1))
    x, y = ((UNITS - 1) / 2 + start + drift * (time - 0.5) + shake).astype(np.float32)
    angle = rng.uniform(0, 2 * np.pi) + rng.normal(0, 0.1) * time
    theta = np.linspace(0, 2 * np.pi, 256, endpoint=False)
    waves = [rng.uniform(0.03, 0.12) * np.cos(k * theta + rng.uniform(0, 2 * np.pi)) for k in (1, 2, 3)]
    # Longer and lighter on one side, so that its direction, and so its rotation, is visible.
    outline = 1 + 0.3 * np.cos(theta) + np.sum(waves, axis=0)
    skin = _texture(rng, SKIN_SIDE, color=rng.uniform(140, 220, 3), contrast=rng.uniform(6, 14))
    skin += np.where(np.arange(SKIN_SIDE) < SKIN_SIDE // 2, -1, 1)[:, None] * rng.uniform(15, 65, 3).astype(np.float32)
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
    """Return a linear rise from 0 to 1 that starts and ends at random times in these ranges."""
    first, last = rng.uniform(*start), rng.uniform(*end)
    return np.clip((time - first) / (last - first), 0, 1).astype(np.float32)


def _texture(rng: np.random.Generator, size: int, color: np.ndarray, contrast: float) -> Texture:
    """Return smooth periodic noise around ``color``, with a standard deviation of ``contrast`` grey levels."""
    frequency = np.hypot(np.fft.fftfreq(size)[:, None], np.fft.rfftfreq(size)) * size
    # Part of the noise is common to all colours: in photographs brightness varies more than hue.
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
        skin = _sample(
            sprite.skin, along * (SKIN_SIDE / 3.2) + SKIN_SIDE / 2, across * (SKIN_SIDE / 3.2) + SKIN_SIDE / 2
        )
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

from pathlib import Path

import numpy as np
import pytest
import torch

from tests.vattn.data.support import decoded
from vattn.config import TrialConfig
from vattn.data import open_clips, prepare
from vattn.data.layouts.motion import MotionDataConfig, generate
from vattn.data.motion import LABELS, encode, render
from vattn.model import build_model
from vattn.training.evaluation import evaluate
from vattn.training.fit import fit

PAIRS = pytest.mark.parametrize("pair", range(8), ids=[f"{LABELS[2 * k]}/{LABELS[2 * k + 1]}" for k in range(8)])


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small generated set."""
    folder = tmp_path_factory.mktemp("motion") / "set"
    sizes = {"train_clips": 1, "val_clips": 1, "test_clips": 1, "frames": 6, "size": 32}
    generate(MotionDataConfig.parse(sizes), folder, jobs=2)
    return folder


@PAIRS
def test_encoding_commutes_with_reversal(pair: int, tmp_path: Path) -> None:
    clip = render(2 * pair, np.random.default_rng(pair), frames=8, size=48)

    encode(tmp_path / "forwards.mp4", clip)
    encode(tmp_path / "backwards.mp4", clip[::-1])

    forwards, backwards = decoded(tmp_path / "forwards.mp4"), decoded(tmp_path / "backwards.mp4")
    np.testing.assert_array_equal(forwards[::-1], backwards)
    # Encoding is lossy, but the frames are similar.
    assert np.abs(forwards.astype(int) - clip).mean() < 10


@PAIRS
def test_a_clip_of_an_odd_label_is_a_reversed_clip_of_the_even_label(pair: int, root: Path) -> None:
    even = render(2 * pair, np.random.default_rng(7), frames=8, size=48)
    odd = render(2 * pair + 1, np.random.default_rng(7), frames=8, size=48)
    np.testing.assert_array_equal(odd, even[::-1])
    assert not np.array_equal(odd, even)

    # In the set each clip has random numbers of its own: no clip is the reverse of another.
    first, second = (
        decoded(root / f"val/{LABELS[label]}/{LABELS[label]}_0000.mp4") for label in (2 * pair, 2 * pair + 1)
    )
    assert np.abs(first.astype(int) - second[::-1]).mean() > 5


def sprite_centre(frame: np.ndarray) -> np.ndarray:
    """Return row and column of the centre of the pixels that are brighter than the background."""
    bright = frame.mean(axis=-1) > 128
    return np.argwhere(bright).mean(axis=0)


@pytest.mark.parametrize(("label", "axis", "sign"), [("left", 1, -1), ("right", 1, 1), ("up", 0, -1), ("down", 0, 1)])
def test_sprites_move_in_the_direction_of_the_label(label: str, axis: int, sign: int) -> None:
    for seed in range(10):
        clip = render(LABELS.index(label), np.random.default_rng(seed), frames=24, size=80)

        shift = sprite_centre(clip[-1]) - sprite_centre(clip[0])

        # Twice 11 to 16 pixels, plus drift and shake.
        assert 12 < sign * shift[axis] < 45
        assert abs(shift[1 - axis]) < 12


def test_sprites_grow_when_they_approach_and_are_invisible_before_they_appear() -> None:
    for seed in range(10):
        approach, appear = (
            (render(LABELS.index(label), np.random.default_rng(seed), 24, 80).mean(axis=-1) > 128).sum(axis=(1, 2))
            for label in ("approach", "appear")
        )

        # Radii grow by exp(0.8) to exp(1.4), so areas by 4.9 to 16; the border hides at most half of a sprite.
        assert approach[-1] > 2.4 * approach[0] > 0
        assert appear[0] < 20 < 100 < appear[-1]


@pytest.mark.slow
def test_only_a_temporal_model_distinguishes_a_motion_from_its_reverse(tmp_path: Path) -> None:
    def trained(*attention: dict[str, str]) -> np.ndarray:
        """Return the confusion matrix of a small network on the validation clips, 30 of each class."""
        backbone = {"kind": "resnet", "depth": 10, "width": 0.5}
        model = {"frames": 8, "size": 48, "backbone": backbone, "attention": list(attention)}
        train = {"epochs": 15, "batch": 32, "lr": 0.1}
        config = TrialConfig.parse({"data": {"kind": "motion"}, "model": model, "train": train})
        cache, folder = prepare(config.data, tmp_path), tmp_path / f"trial-{len(attention)}"
        assert len(list(fit(config, cache, folder))) == 15
        net = build_model(config.model, 16)
        net.load_state_dict(torch.load(folder / "model.pt", map_location="cpu"))
        clips = open_clips(cache, "val")
        return evaluate(net, clips, config, torch.device("cpu")).confusion.numpy()

    frame_wise, temporal = trained(), trained({"kind": "tsm"})

    # Of the clips that are classified as one of the right pair: the share that is classified as the right one of it.
    pairs = np.kron(np.eye(8), np.ones((2, 2)))
    clips = (frame_wise * pairs).sum()
    assert frame_wise.trace() / clips <= 0.5 + 2 * 0.5 / clips**0.5
    assert temporal.trace() / (temporal * pairs).sum() > 0.9
    assert temporal.trace() - frame_wise.trace() > 0.4 * frame_wise.sum()
    # Most of the 60 turning clips are classified as turning, and in the right direction.
    turns = temporal[6:8, 6:8]
    assert turns.sum() > 40
    assert turns.trace() > 0.8 * turns.sum()

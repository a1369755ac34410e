from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
import torch

from vattn.config import TrialConfig
from vattn.data import open_clips, prepare
from vattn.data.layouts.motion import MotionDataConfig, generate
from vattn.data.motion import LABELS, encode, render
from vattn.model import build_model
from vattn.train import evaluate, fit

PAIRS = pytest.mark.parametrize("pair", range(8), ids=[f"{LABELS[2 * k]}/{LABELS[2 * k + 1]}" for k in range(8)])


def motion(**changes: Any) -> MotionDataConfig:
    small = {"train_clips": 2, "val_clips": 1, "test_clips": 1, "frames": 6, "size": 32}
    return MotionDataConfig.parse(small | changes)


def files(root: Path) -> dict[str, bytes]:
    return {str(path.relative_to(root)): path.read_bytes() for path in sorted(root.rglob("*.mp4"))}


def decode(path: Path) -> list[av.VideoFrame]:
    with av.open(str(path)) as container:
        return list(container.decode(video=0))


def pixels(path: Path) -> np.ndarray:
    return np.stack([frame.to_ndarray(format="rgb24") for frame in decode(path)])


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("motion") / "set"
    generate(motion(), out, jobs=2)
    return out


def test_the_set_has_16_classes_in_three_splits_and_lists_its_files(root: Path) -> None:
    table = motion().manifest(root).to_pylist()

    assert motion().num_classes() == len(LABELS) == len(set(LABELS)) == 16
    assert {row["path"] for row in table} == set(files(root))
    for split, count in (("train", 2), ("val", 1), ("test", 1)):
        assert [row["label"] for row in table if row["split"] == split] == sorted([*range(16)] * count)
    for row in table:
        name = LABELS[row["label"]]
        assert row["path"].startswith(f"{row['split']}/{name}/{name}_000")


def test_files_depend_on_the_seed_and_not_on_who_writes_them(root: Path, tmp_path: Path) -> None:
    told: list[tuple[str, int, int]] = []
    generate(motion(), tmp_path / "again", jobs=1, progress=lambda *step: told.append(step))
    generate(motion(seed=1), tmp_path / "other", jobs=1)

    assert files(tmp_path / "again") == files(root)
    other = files(tmp_path / "other")
    assert other.keys() == files(root).keys()
    assert all(content != other[name] for name, content in files(root).items())
    assert told == [("motion", done, 64) for done in range(1, 65)]


def test_every_frame_is_a_keyframe_of_h264(root: Path) -> None:
    for path in sorted(root.rglob("*_0000.mp4")):
        with av.open(str(path)) as container:
            assert container.streams.video[0].codec_context.name == "h264"
        frames = decode(path)
        assert len(frames) == 6
        assert {(frame.width, frame.height) for frame in frames} == {(32, 32)}
        assert all(frame.key_frame for frame in frames)


@PAIRS
def test_coding_knows_no_direction_of_time(pair: int, tmp_path: Path) -> None:
    clip = render(2 * pair, np.random.default_rng(pair), frames=8, size=48)

    encode(tmp_path / "forwards.mp4", clip)
    encode(tmp_path / "backwards.mp4", clip[::-1])

    forwards, backwards = pixels(tmp_path / "forwards.mp4"), pixels(tmp_path / "backwards.mp4")
    np.testing.assert_array_equal(forwards[::-1], backwards)
    # Lossy, but the same picture.
    assert np.abs(forwards.astype(int) - clip).mean() < 10


@PAIRS
def test_an_odd_class_is_drawn_as_the_even_one_and_reversed(pair: int, root: Path) -> None:
    even = render(2 * pair, np.random.default_rng(7), frames=8, size=48)
    odd = render(2 * pair + 1, np.random.default_rng(7), frames=8, size=48)
    np.testing.assert_array_equal(odd, even[::-1])
    assert not np.array_equal(odd, even)

    # In the set each has draws of its own: no clip is another one's reverse.
    one, other = (pixels(root / f"val/{LABELS[label]}/{LABELS[label]}_0000.mp4") for label in (2 * pair, 2 * pair + 1))
    assert np.abs(one.astype(int) - other[::-1]).mean() > 5


def sprite_centre(frame: np.ndarray) -> np.ndarray:
    """Row and column of the middle of what is brighter than the dark background."""
    bright = frame.mean(axis=-1) > 128
    return np.argwhere(bright).mean(axis=0)


@pytest.mark.parametrize(("label", "axis", "sign"), [("left", 1, -1), ("right", 1, 1), ("up", 0, -1), ("down", 0, 1)])
def test_sprites_go_where_the_label_says(label: str, axis: int, sign: int) -> None:
    for seed in range(10):
        clip = render(LABELS.index(label), np.random.default_rng(seed), frames=24, size=80)

        way = sprite_centre(clip[-1]) - sprite_centre(clip[0])

        # Twice 11 to 16 pixels, and some drift and shake.
        assert 12 < sign * way[axis] < 45
        assert abs(way[1 - axis]) < 12


def test_sprites_grow_when_they_approach_and_are_not_there_before_they_appear() -> None:
    for seed in range(10):
        near, late = (
            (render(LABELS.index(label), np.random.default_rng(seed), 24, 80).mean(axis=-1) > 128).sum(axis=(1, 2))
            for label in ("approach", "appear")
        )

        # Radii grow by exp(0.8) to exp(1.4), so that areas do by 4.9 to 16; clipped by the border at most by half.
        assert near[-1] > 2.4 * near[0] > 0
        assert late[0] < 20 < 100 < late[-1]


def test_a_set_that_was_cut_off_is_completed_and_a_complete_one_is_left_alone(tmp_path: Path) -> None:
    generate(motion(train_clips=1), tmp_path, jobs=1)
    before = files(tmp_path)
    kept, lost = (tmp_path / name for name in sorted(before)[:2])
    lost.unlink()
    lost.with_name(f".part-{lost.name}").write_bytes(b"half of a file")
    (tmp_path / "manifest.csv").unlink()
    written = kept.stat().st_mtime_ns
    with pytest.raises(ValueError, match="has no complete motion set"):
        motion(train_clips=1).manifest(tmp_path)

    told: list[int] = []
    for _ in range(2):
        generate(motion(train_clips=1), tmp_path, jobs=1, progress=lambda stage, done, total: told.append(done))

    assert told == [48]
    assert files(tmp_path) == before
    assert kept.stat().st_mtime_ns == written
    assert len(motion(train_clips=1).manifest(tmp_path)) == 48


def test_a_folder_of_other_parameters_or_other_files_is_refused(root: Path, tmp_path: Path) -> None:
    other = motion(seed=3, frames=8)
    with pytest.raises(ValueError, match=r"holds a motion set of frames 6 \(asked for: 8\), seed 0 \(asked for: 3\)"):
        generate(other, root)
    with pytest.raises(ValueError, match="holds a motion set of frames 6"):
        other.manifest(root)

    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(ValueError, match="holds files, but not of a motion set"):
        generate(motion(), tmp_path)
    with pytest.raises(ValueError, match=r"must be a folder, but .*notes\.txt is a file"):
        generate(motion(), tmp_path / "notes.txt")
    assert [path.name for path in tmp_path.iterdir() if path.name != ".lock"] == ["notes.txt"]


@pytest.mark.parametrize(("field", "value"), [("size", 33), ("size", 16), ("frames", 1), ("train_clips", 0)])
def test_sizes_that_cannot_be_drawn_are_refused(field: str, value: int) -> None:
    with pytest.raises(ValueError, match=field):
        motion(**{field: value})


def test_the_set_is_generated_and_decoded_once_below_the_output_folder(tmp_path: Path) -> None:
    config, told = motion(train_clips=1), list[tuple[str, int, int]]()

    folders = [prepare(config, tmp_path, lambda *step: told.append(step)) for _ in range(2)]

    assert folders[0] == folders[1]
    assert folders[0].parent == tmp_path / "cache"
    assert told == [(stage, done, 48) for stage in ("motion", "ingest") for done in range(1, 49)]
    clips = open_clips(folders[0], "val")
    assert clips.labels.tolist() == list(range(16))
    # 32-pixel videos are stored at the size that is asked for.
    assert clips.shapes.tolist() == [[6, 80, 80]] * 16


@pytest.mark.slow
def test_only_a_model_that_sees_order_tells_a_motion_from_its_reverse(tmp_path: Path) -> None:
    def trained(*attention: dict[str, str]) -> np.ndarray:
        """Confusion matrix of a small network on the validation clips, 30 a class."""
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

    blind, shifted = trained(), trained({"kind": "tsm"})

    # Of the clips that were taken for one of the right pair: how many for the right one of it?
    pairs = np.kron(np.eye(8), np.ones((2, 2)))
    clips = (blind * pairs).sum()
    assert blind.trace() / clips <= 0.5 + 2 * 0.5 / clips**0.5
    assert shifted.trace() / (shifted * pairs).sum() > 0.9
    assert shifted.trace() - blind.trace() > 0.4 * blind.sum()
    # Of the 60 clips that turn, most are found, and told from those that turn the other way.
    turns = shifted[6:8, 6:8]
    assert turns.sum() > 40
    assert turns.trace() > 0.8 * turns.sum()

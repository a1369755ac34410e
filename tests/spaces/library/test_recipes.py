"""The recipes: what the papers and their code print, recomputed; and two steps of each on generated clips."""

import math
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch

import spaces
from search.spec.store import too_small
from search.spec.validation import load_config
from tests.spaces.library.generated import classes, write_set
from vattn.config import TrialConfig
from vattn.cost import cost
from vattn.data import prepare
from vattn.data.augment import Region, training_region
from vattn.data.sampling import training_indices
from vattn.training.batches.views import view_frames, view_regions
from vattn.training.fit import fit

FOLDER = Path(spaces.__file__).parent / "library" / "recipes"
RECIPES = sorted(path.stem for path in FOLDER.glob("*.yaml"))


def recipe(name: str, *sets: str) -> TrialConfig:
    return load_config(FOLDER / f"{name}.yaml", sets)


def clips_of(config: TrialConfig, num_frames: int) -> list[list[int]]:
    """Return the frames of each clip that an evaluation takes of a video."""
    clips = range(config.data.views.clips)
    return [view_frames(config.data, config.model, num_frames, clip).tolist() for clip in clips]


def crops_of(config: TrialConfig, height: int, width: int) -> list[tuple[int, ...]]:
    """Return the regions of a stored frame that an evaluation takes."""
    return [
        tuple(region) for region in view_regions(config.data, height, width, config.data.views.crop(config.model.size))
    ]


def test_there_is_a_recipe_of_each_paper() -> None:
    assert {name.split("_")[0] for name in RECIPES} == {"tam", "m2a", "sta", "tcnn", "tsm", "tea", "tdn", "action"}


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_is_valid_without_its_data_set(name: str) -> None:
    config = recipe(name)

    assert config.data.num_classes() == {"k": 400, "s": 174, "u": 101, "h": 51}[config.data.kind[0]]
    assert too_small([config.data], [config.model]) is None
    assert cost(config.model, config.data.num_classes()).macs > 0


@pytest.mark.parametrize("name", RECIPES)
def test_each_value_of_a_recipe_has_its_source(name: str) -> None:
    for line in (FOLDER / f"{name}.yaml").read_text().splitlines():
        if re.match(r"\s*(- )?(?!kind)\w+: *[^ #]", line):
            value, mark, source = line.partition("  # ")
            assert mark or " # " in line, line
            assert source or line.partition(" # ")[2], line
            assert value


#: Rates at the first epoch of each step (epochs from 0), and at the last of all.
STEPS = {
    "tam_kinetics400": {0: 0.01, 49: 0.01, 50: 0.001, 74: 0.001, 75: 1e-4, 89: 1e-4, 90: 1e-5, 99: 1e-5},
    "tam_ssv1": {0: 0.01, 29: 0.01, 30: 0.001, 39: 0.001, 40: 1e-4, 44: 1e-4, 45: 1e-5, 49: 1e-5},
    "tam_ssv2": {0: 0.01, 29: 0.01, 30: 0.001, 39: 0.001, 40: 1e-4, 44: 1e-4, 45: 1e-5, 49: 1e-5},
    "m2a_ssv1": {0: 0.02, 19: 0.02, 20: 0.002, 29: 0.002},
    "tsm_kinetics400": {0: 0.02, 19: 0.02, 20: 0.002, 39: 0.002, 40: 2e-4, 49: 2e-4},
    "tsm_ssv1": {0: 0.01, 19: 0.01, 20: 0.001, 39: 0.001, 40: 1e-4, 49: 1e-4},
    "tsm_ssv2": {0: 0.01, 19: 0.01, 20: 0.001, 39: 0.001, 40: 1e-4, 49: 1e-4},
    "tea_ssv1": {0: 0.02, 29: 0.02, 30: 0.002, 39: 0.002, 40: 2e-4, 44: 2e-4, 45: 2e-5, 49: 2e-5},
    "tdn_kinetics400": {0: 0.02, 49: 0.02, 50: 0.002, 74: 0.002, 75: 2e-4, 89: 2e-4, 90: 2e-5, 99: 2e-5},
    "tdn_ssv1": {0: 0.01, 29: 0.01, 30: 0.001, 44: 0.001, 45: 1e-4, 54: 1e-4, 55: 1e-5, 59: 1e-5},
    "tdn_ssv2": {0: 0.01, 29: 0.01, 30: 0.001, 44: 0.001, 45: 1e-4, 54: 1e-4, 55: 1e-5, 59: 1e-5},
    "action_ssv2": {0: 0.01, 29: 0.01, 30: 0.001, 39: 0.001, 40: 1e-4, 44: 1e-4, 45: 1e-5, 49: 1e-5},
    "sta_ucf101_16f": {0: 1e-4, 399: 1e-4},
    "sta_ucf101_64f": {0: 1e-4, 399: 1e-4},
    "sta_hmdb51_16f": {0: 1e-4, 399: 1e-4},
    "sta_hmdb51_64f": {0: 1e-4, 399: 1e-4},
}


@pytest.mark.parametrize("name", STEPS)
def test_the_rates_by_epoch_are_those_of_the_source(name: str) -> None:
    train = recipe(name).train

    assert train.epochs == max(STEPS[name]) + 1
    assert {epoch: train.lr_at(epoch) for epoch in STEPS[name]} == pytest.approx(STEPS[name])


@pytest.mark.parametrize("name", ["tcnn_ucf101", "tcnn_hmdb51"])
def test_the_rate_of_tcnn_is_a_cosine_from_a_tenth_to_a_ten_thousandth(name: str) -> None:
    train = recipe(name).train

    assert (train.epochs, train.batch, train.weight_decay) == (150, 16, 4e-5)
    for epoch in (0, 1, 50, 75, 149, 150):
        assert train.lr_at(epoch) == pytest.approx(1e-4 + (0.1 - 1e-4) * (1 + math.cos(math.pi * epoch / 150)) / 2)
    assert (train.lr_at(0), train.lr_at(75), train.lr_at(150)) == pytest.approx((0.1, 0.05005, 1e-4))


def test_all_recipes_have_rates() -> None:
    assert {*STEPS, "tcnn_ucf101", "tcnn_hmdb51"} == {*RECIPES}


@pytest.mark.parametrize(
    ("name", "batch", "decay"),
    [
        ("tam_kinetics400", 64, 1e-4), ("tam_ssv1", 64, 1e-3), ("tam_ssv2", 64, 1e-3), ("m2a_ssv1", 4 * 32, 5e-4),
        ("tsm_kinetics400", 128, 1e-4), ("tsm_ssv1", 64, 1e-4), ("tea_ssv1", 64, 5e-4), ("tdn_ssv1", 8 * 8, 5e-4),
        ("tdn_kinetics400", 8 * 16, 1e-4), ("action_ssv2", 64, 5e-4), ("sta_ucf101_64f", 20, 1e-5),
    ],
)  # fmt: skip
def test_batches_and_weight_decays_are_those_of_the_source(name: str, batch: int, decay: float) -> None:
    train = recipe(name).train

    assert (train.batch, train.weight_decay) == (batch, decay)
    assert getattr(train.optimizer, "momentum", None) == 0.9


def test_tam_on_kinetics_takes_8_of_64_frames_and_30_views() -> None:
    config = recipe("tam_kinetics400")

    # 64 successive frames, every eighth.
    training = training_indices("dense", 300, 8, np.random.default_rng(0))
    assert config.data.sampling.kind == "dense"
    assert np.diff(training).tolist() == [8] * 7
    # 10 clips at equal distances over 300 - 64 = 236 frames.
    starts = [236 * k // 9 for k in range(10)]
    assert clips_of(config, 300) == [[start + 8 * i for i in range(8)] for start in starts]
    # 3 crops of 256 x 256 to cover 256 x 340: left, right, centre.
    assert crops_of(config, 256, 340) == [(0, 0, 256, 256), (0, 84, 256, 256), (0, 42, 256, 256)]
    # Table 2: 43 GFLOPs of a view, in the paper's convention 43.07; multiply-accumulates alone are 42.78.
    assert cost(config.model.at(256), 400).gflops == pytest.approx(42.784, abs=0.001)


def test_tam_on_something_something_takes_one_view_of_v1_and_six_of_v2() -> None:
    first, second = recipe("tam_ssv1"), recipe("tam_ssv2")

    assert clips_of(first, 40) == [[2, 7, 12, 17, 22, 27, 32, 37]]
    assert crops_of(first, 256, 340) == [(16, 58, 224, 224)]
    # Segments of 5 frames: the second clip begins at its last frame.
    assert clips_of(second, 40) == [[5 * i for i in range(8)], [4 + 5 * i for i in range(8)]]
    assert crops_of(second, 256, 340) == [(0, 0, 256, 256), (0, 84, 256, 256), (0, 42, 256, 256)]


@pytest.mark.parametrize("name", ["tcnn_ucf101", "tcnn_hmdb51"])
def test_tcnn_takes_16_successive_frames_and_30_views(name: str) -> None:
    config = recipe(name)

    training = training_indices("window", 100, 16, np.random.default_rng(0))
    assert config.data.sampling.kind == "window"
    assert np.diff(training).tolist() == [1] * 15
    # 224 x 224 of a frame of 256 x 342, and the same share of any other.
    assert config.data.augment.crop == "stretched"
    assert training_region("stretched", 256, 342, 224, np.random.default_rng(0))[2:] == (224, 224)
    # Ten clips of 16 frames, from the first frame to the last.
    clips = clips_of(config, 160)
    assert (len(clips), clips[0], clips[9]) == (10, list(range(16)), list(range(144, 160)))
    # The short edge of 256 x 342 is scaled to 224: 224 x 299, of which 0, 37 and 75 begin the crops.
    scale = 256 / 224
    assert crops_of(config, 256, 342) == [(0, left, 256, 256) for left in (0, round(37 * scale), round(75 * scale))]
    # Three networks and what is between them; the paper has 52.3, of which about 5 are unexplained.
    assert cost(config.model, config.data.num_classes()).gflops == pytest.approx(3 * 15.7, rel=0.02)


@pytest.mark.parametrize(("name", "frames"), [("sta_ucf101_16f", 16), ("sta_hmdb51_64f", 64)])
def test_sta_takes_successive_frames_of_112_pixels_in_the_later_layers(name: str, frames: int) -> None:
    config = recipe(name)

    assert (config.model.frames, config.model.size) == (frames, 112)
    assert clips_of(config, 200)[0] == list(range(frames))
    # Scale(112), then the centre: the whole height of the stored frame.
    assert crops_of(config, 128, 170) == [(0, 21, 128, 128)]
    sites = config.model.attention[0].at(config.model.backbone.sites(112))
    assert [(site.stage, site.block) for site in sites] == [(5, 0), (5, 1), (5, 2)]


def test_m2a_has_the_cost_of_table_1() -> None:
    # 14.81 GMACs in the paper's convention; multiply-accumulates alone are 14.73.
    assert cost(recipe("m2a_ssv1").model, 174).gflops == pytest.approx(14.730, abs=0.001)


def test_tdn_reads_five_frames_around_each_place() -> None:
    config = recipe("tdn_ssv1")

    # Segments of (36 - 4) / 8 = 4 frames: offsets 2, 6, ..., and two more to the middle of five.
    assert clips_of(config, 36) == [[4 + 4 * i for i in range(8)]]


@pytest.mark.parametrize("name", ["tsm_ssv1", "tsm_ssv2"])
def test_the_accurate_setting_of_tsm_is_two_clips_of_three_crops(name: str) -> None:
    config = recipe(name)

    assert clips_of(config, 40) == [[2, 7, 12, 17, 22, 27, 32, 37], [0, 5, 10, 15, 20, 25, 30, 35]]
    assert [Region(*crop).left for crop in crops_of(config, 256, 340)] == [0, 84, 42]


#: What makes two steps of any recipe possible with four generated clips, on a machine without weights of ImageNet.
TWO_STEPS = ("train.epochs=1", "train.batch=2", "train.accumulate=1", "model.backbone.weights=none")
#: One view, so that a minute is not spent on 30 of them; of the size of the training.
ONE_VIEW = ("data.views={clips: 1, crops: 1}",)


def two_steps(name: str, folder: Path, sets: Sequence[str]) -> dict[str, float]:
    """Train a recipe for two steps on clips in the layout of its data set; return its metrics."""
    kind = recipe(name).data.kind
    write_set(kind, folder / "set", recipe(name, *ONE_VIEW, *sets).data.store.size)
    faults = ["data.max_faults=2000"] if kind == "kinetics" else []
    sparse = ["model.sparse.alone=0"] if recipe(name).model.sparse != "none" else []
    config = recipe(
        name, f"data.root={folder / 'set'}", f"data.classes={classes(kind)}", *TWO_STEPS, *ONE_VIEW, *faults, *sparse,
        *sets,
    )  # fmt: skip
    config = config.model_copy(update={"data": config.data.each_split()[0]})
    threads = torch.get_num_threads()
    try:
        (result,) = fit(config, prepare(config.data, folder), folder / "out")
    finally:
        torch.set_num_threads(threads)
    return result.metrics


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_trains_two_steps_at_its_frames_and_crop(name: str, tmp_path: Path) -> None:
    metrics = two_steps(name, tmp_path, ())

    assert math.isfinite(metrics["train_loss"])
    assert math.isfinite(metrics["loss"])


#: A recipe of each family of backbones, with what makes its network small.
FAMILIES = {
    "tam_kinetics400": ("model.backbone.weights=none", "model.backbone.depth=14", "model.backbone.width=0.125"),
    "tea_ssv1": ("model.backbone.width=0.25",),
    "tdn_ssv2": ("model.backbone.weights=none", "model.backbone.depth=14", "model.backbone.width=0.25"),
    "sta_hmdb51_16f": ("model.backbone.depth=14", "model.backbone.width=0.25"),
    "tcnn_ucf101": ("model.backbone.widths=[4, 4, 8, 8, 8, 8, 16]",),
}


@pytest.mark.medium
@pytest.mark.parametrize("name", FAMILIES)
def test_a_recipe_of_each_family_trains_two_steps_at_a_reduced_size(name: str, tmp_path: Path) -> None:
    metrics = two_steps(name, tmp_path, ("data.store.size=48", "model.size=32", "model.frames=4", *FAMILIES[name]))

    assert math.isfinite(metrics["train_loss"])

"""Checks of a search that need the list of its clips, and the store that a spec leaves open."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from search.report.tables.data import data_tree, render_data
from search.spec.data import check_data
from search.spec.messages import SpecError
from search.spec.schema import Spec
from search.spec.store import with_chosen_store
from search.spec.validation import load_config, parse, read_config
from tests.search.spec.small import SMALL
from tests.vattn.data.layouts.support import write
from vattn.config import TrialConfig
from vattn.data import listed
from vattn.data.config import StoreConfig

MODEL = SMALL["trial"]["model"]


def spec(data: dict[str, Any], model: dict[str, Any] = MODEL, **changes: Any) -> Spec:
    trial = SMALL["trial"] | {"data": data, "model": model}
    return parse(SMALL | {"trial": trial} | changes, Path("spec.yaml"))


def test_a_store_below_the_crop_is_a_problem_before_anything_is_decoded() -> None:
    with pytest.raises(SpecError) as error:
        spec({"kind": "motion"}, MODEL | {"size": 224})
    assert error.value.lines == (
        "spec.yaml: trial.data.store.size: must be at least model.size, 224, as crops are not enlarged; write 256 or "
        "auto (got 80)",
    )
    # A range counts by its largest value.
    with pytest.raises(SpecError, match=r"must be at least model\.size, 112"):
        spec({"kind": "motion"}, MODEL | {"size": {"choice": [48, 112]}})
    spec({"kind": "motion", "store": {"size": 112}}, MODEL | {"size": {"choice": [48, 112]}})


@pytest.mark.parametrize(
    ("size", "stored"), [(224, 256), (112, 128), (48, 56), ({"choice": [48, 112]}, 128), ({"int": [32, 224]}, 256)]
)
def test_auto_is_the_size_that_the_largest_crop_needs(size: object, stored: int) -> None:
    # 224 of 256 pixels is 7 of 8.
    for store in ({"size": "auto"}, "auto", {"size": "auto", "codec": "jpeg"}):
        found = spec({"kind": "motion", "store": store}, MODEL | {"size": size})
        assert found.data.store.size == stored
        assert found.chooses_store == (store == "auto")
        assert found.tree()["trial"]["data"]["store"]["size"] == stored


def test_a_wrong_size_of_a_model_is_the_only_problem_with_auto() -> None:
    with pytest.raises(SpecError) as error:
        spec({"kind": "motion", "store": "auto"}, MODEL | {"size": "large"})
    (line,) = error.value.lines
    assert line.startswith("spec.yaml: trial.model.size: must be a whole number")


def test_a_config_may_leave_its_store_open_too(tmp_path: Path) -> None:
    text = "model: {frames: 4, size: 112, backbone: {kind: resnet, depth: 10}}\ntrain: {epochs: 1, batch: 4, lr: 0.1}\n"
    for store, chooses in (("auto", True), ("{size: auto}", False), ("{size: 120}", False)):
        (tmp_path / "c.yaml").write_text(f"data: {{kind: motion, store: {store}}}\n{text}")
        config, auto, _ = read_config(tmp_path / "c.yaml")
        assert (config.data.store.size, auto) == (120 if "120" in store else 128, chooses)
        assert load_config(tmp_path / "c.yaml") == config


def test_a_store_is_chosen_for_all_splits_from_one_listing(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    write(tmp_path, {"classInd.txt": "1 A\n2 B\n"})
    for split in "123":
        lists = {"train": [f"{name}/v_{name}_g0{group}_c01.avi" for name in "AB" for group in (1, 2, 3)], "test": []}
        lists["test"] = [f"{name}/v_{name}_g04_c01.avi" for name in "AB"] + ["A/missing.avi"]
        write(tmp_path, {f"{name}list0{split}.txt": "\n".join(lines) for name, lines in lists.items()})
    write(tmp_path, {f"{name}/v_{name}_g0{group}_c01.avi": "" for name in "AB" for group in (1, 2, 3, 4)})
    data = {"kind": "ucf101", "root": str(tmp_path), "split": "all", "store": {"size": 64}, "max_faults": 1}
    model = {"frames": 4, "size": 48, "backbone": {"kind": "resnet", "depth": 10}}
    config = TrialConfig.parse({"data": data, "model": model, "train": {"epochs": 1, "batch": 4, "lr": 0.1}})

    chosen, clips = with_chosen_store(config, tmp_path / "out", test=False)

    assert [each.data.split for each in clips] == [1, 2, 3]
    assert {each.data.store for each in clips} == {chosen.data.store} == {StoreConfig(size=64)}
    assert not any(each.test for each in clips)
    assert len([record for record in caplog.records if "1 missing file" in record.getMessage()]) == 3


def files(root: Path, train: int, val: int) -> dict[str, Any]:
    """Write empty files of two classes; return the data section."""
    counts = {"train": train, "val": val}
    names = (f"{split}/{name}/{i}.mp4" for split in counts for name in "ab" for i in range(counts[split]))
    write(root, dict.fromkeys(names, ""))
    return {"kind": "folders", "root": str(root)}


def checked(spec: Spec, output: Path) -> Any:
    return check_data(spec, listed(spec.data, output, generate=False))


def test_too_few_clips_for_a_step_and_none_to_train_on_are_problems_of_the_spec(tmp_path: Path) -> None:
    few, none = files(tmp_path / "few", 1, 60), files(tmp_path / "none", 0, 60)
    (tmp_path / "none/train/a").mkdir(parents=True)

    with pytest.raises(SpecError, match=r"^spec\.yaml: trial\.data\.root: has no training clips; "):
        checked(spec(none), tmp_path)
    alone = spec(few, resources={"workers": 2})
    with pytest.raises(SpecError, match=r"^spec\.yaml: trial\.train\.batch: each step needs 2 or more clips for each"):
        checked(alone, tmp_path)


def test_a_disk_that_is_too_small_is_a_problem_of_the_spec_or_changes_auto(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    small = {"kind": "motion", "train_clips": 1, "val_clips": 1, "test_clips": 1}
    monkeypatch.setattr("vattn.data.estimate.shutil.disk_usage", lambda folder: SimpleNamespace(free=10_000_000))

    with pytest.raises(
        SpecError, match=r"^spec\.yaml: trial\.data\.store: needs about 22\.1 MB more, and .* 10 MB free"
    ):
        checked(spec(small), tmp_path)  # 48 clips of 24 frames of 80 x 80 pixels
    found, clips, result = checked(spec(small | {"store": "auto"}, MODEL | {"size": 70}), tmp_path)
    assert clips.data.store == result.chosen == found.data.store
    assert result.chosen.codec == "jpeg"
    assert not found.chooses_store
    assert found.tree()["trial"]["data"]["store"] == result.chosen.tree()


def test_the_text_and_the_json_of_a_data_set_by_hand(tmp_path: Path) -> None:
    write(tmp_path, {"train/left/0.mp4": "", "train/right/0.mp4": "", "train/right/1.mp4": ""})
    write(tmp_path, {f"val/{name}/v{i}.mp4": "" for name in ("left", "right") for i in range(4)})
    found = spec({"kind": "folders", "root": str(tmp_path), "augment": {"flip": {"choice": [False, True]}}})

    _, _, result = checked(found, tmp_path)

    text = render_data(result).splitlines()
    assert text[:6] == [
        "data           folders: 2 classes; clips: 3 training, 8 validation, 0 test",
        "clips               train       val",
        "  left                  1         4  the smallest",
        "  right                 2         4",
        # 100 / 8, and 6 clips of 8.
        "validation     one clip is 12.5 percentage points of accuracy; differences between models below 75 points are "
        "not significant",
        "               the most frequent class is right for 50 % of these clips",
    ]
    assert text[6] == "flip           exchanges left and right"
    assert text[-1].startswith("warning        only 8 validation clips: ")
    tree: Any = data_tree(result)
    assert tree["clips_by_class"] == {
        "left": {"train": 1, "val": 4, "test": 0},
        "right": {"train": 2, "val": 4, "test": 0},
    }
    assert tree["cache"]["folder"] == str(tmp_path / "cache")
    assert tree["warnings"] == result.summary.warnings

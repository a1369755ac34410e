"""The commands serve task detection: check, cost, train, test, explain."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml

import vattn as vattn_package
from search.cli import main
from search.spec.messages import SpecError
from search.spec.validation import parse
from tests.vattn.training.tasks.test_detection import trial
from tests.vattn_command import vattn
from vattn.data import prepare
from vattn.errors import UserError
from vattn.trained import write_model
from vattn.training.fit import fit

LIBRARY = Path(__file__).parents[3] / "spaces" / "library"


def spec(**changes: Any) -> dict[str, Any]:
    tree = trial("rc3d").tree()
    tree["model"]["attention"] = {"choice": [[], [{"kind": "sta", "stages": {"choice": [[3], [4]]}}]]}
    whole = {"schema": 1, "name": "detectors", "trial": tree, "objectives": {"map": "max", "gflops": "min"}}
    return whole | {"search": {"budget": {"trials": 3}}} | changes


def test_a_search_for_map_is_a_spec(tmp_path: Path) -> None:
    loaded = parse(spec(objectives={"map_0.5": "max", "params_m": "min"}), tmp_path / "spec.yaml")

    costs = [loaded.cost(loaded.trial_config(tree))["gflops"] for _, tree in loaded.space.enumerate()]

    assert loaded.measured == ["map_0.5"]
    assert len(set(costs)) == 3
    assert min(costs) == costs[0]


@pytest.mark.parametrize(
    ("objectives", "message"),
    [
        ({"top1": "max"}, "objectives: task detection does not measure top1; take map, map_0.1"),
        ({"map": "min"}, "map: must be max"),
    ],
)
def test_objectives_of_another_task_are_refused(objectives: dict, message: str, tmp_path: Path) -> None:
    with pytest.raises(SpecError, match=message):
        parse(spec(objectives=objectives), tmp_path / "spec.yaml")


def test_map_is_no_objective_of_classification(tmp_path: Path) -> None:
    tree = spec()
    tree["trial"] = {
        "data": {"kind": "motion"},
        "model": {"frames": 8, "size": 48, "backbone": {"kind": "resnet", "depth": 10}},
        "train": {"epochs": 1, "batch": 2, "lr": 0.1},
    }

    with pytest.raises(SpecError, match="task classification does not measure map"):
        parse(tree, tmp_path / "spec.yaml")


@pytest.mark.medium
@pytest.mark.parametrize("name", ["detection", "detection_small"])
def test_specs_of_the_library_are_valid(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", str(LIBRARY / f"{name}.yaml")]) == 0
    assert "distinct" in capsys.readouterr().out


@pytest.mark.medium
def test_a_checkpoint_is_scored_by_both_rules_and_drawn(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = trial("rc3d", epochs=1)
    file, out = tmp_path / "detector.yaml", tmp_path / "out"
    file.write_text(yaml.safe_dump(config.tree()))
    (epoch,) = fit(config, prepare(config.data, out), out)
    words = ["--checkpoint", str(out / "model.pt"), "--out", str(out)]

    assert main(["test", str(file), *words[:3], str(out / "new" / "test"), "--split", "val"]) == 0
    printed = capsys.readouterr().out
    video = next((out / "data" / "motion_untrimmed" / "val").glob("*.mp4"))
    assert main(["explain", str(file), *words[:3], str(tmp_path / "pictures"), str(video)]) == 0
    assert main(["cost", str(file)]) == 0

    assert f"mAP by the rule thumos14, at IoU 0.1 {epoch.metrics['map_0.1']:.2%}" in printed
    assert "mAP by the rule activitynet, at IoU" in printed
    found = json.loads((out / "new" / "test" / "detections_val.json").read_text())
    assert set(found["results"]) == {f"val/video_{n:04}.mp4" for n in range(2)}
    assert (tmp_path / "pictures" / "timeline.png").is_file()
    model = tmp_path / "elsewhere" / "model.safetensors"
    write_model(model, config, config.data.labels(), torch.load(out / "model.pt"), {})
    clip = Path(shutil.copy(video, model.with_name("clip.mp4")))
    capsys.readouterr()
    assert main(["predict", str(model), "--json", "--top", "1000", str(clip), str(tmp_path / "gone.mp4")]) == 2
    alone = json.loads(capsys.readouterr().out)
    tested = found["results"][f"val/{video.name}"]
    assert [each["label"] for each in alone["segments"]] == [each["label"] for each in tested]
    ours = np.array([[each[key] for key in ("start", "end", "score")] for each in alone["segments"]])
    np.testing.assert_allclose(ours, [[*each["segment"], each["score"]] for each in tested], rtol=1e-4, atol=1e-5)
    assert main(["predict", str(model), "--top", "1", "--out", str(tmp_path / "films"), str(clip)]) == 0
    films = tmp_path / "films" / "clip"
    assert sorted(file.name for file in films.iterdir()) == ["detections.json", "segments.mp4", "timeline.png"]
    first = tested[0]
    start, end = first["segment"]
    assert capsys.readouterr().out == f"{clip}: {first['label']} {start:.1f}-{end:.1f} s ({first['score']:.2f})\n"
    assert main(["explain", str(model), "--out", str(model.parent), str(clip)]) == 0
    assert main(["predict", str(model), "--views", "2x1", str(clip)]) == 2
    (best,) = vattn_package.load_detector(model)(clip, top=1)
    assert (best.label, best.score) == (first["label"], pytest.approx(first["score"], rel=1e-4))
    with pytest.raises(UserError, match=r"is a detector, .*take vattn\.load_detector"):
        vattn_package.load(model)
    assert main(["test", str(file), *words, "--views", "10x3"]) == 2


@pytest.mark.ray
@pytest.mark.timeout(300)
def test_training_a_detector_on_ray_gives_the_metrics_of_fit(tmp_path: Path) -> None:
    config = trial("rc3d")
    file, output = tmp_path / "detector.yaml", tmp_path / "out"
    file.write_text(yaml.safe_dump(config.tree()))
    alone = list(fit(config, prepare(config.data, output), tmp_path / "alone"))

    done = vattn("train", file, "--out", output)

    assert done.returncode == 0, done.stderr
    metrics = json.loads((output / "metrics.json").read_text())
    assert metrics["map"] == alone[-1].metrics["map"]
    assert metrics["best"]["map"] == max(epoch.metrics["map"] for epoch in alone)
    assert f"mAP {metrics['map']:.2%} on the validation split" in done.stdout
    assert "(thumos14)" in done.stdout

"""Graphs of a trained model give its scores; those that do not are refused."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import vattn
from tests.vattn.trained.test_file import trial, written
from vattn.data.motion import encode, render
from vattn.errors import UserError
from vattn.trained.graph import TOLERANCE, Graph, _checked, example_clips, export_onnx, export_torch
from vattn.trained.model import TrainedModel

needs_onnx = pytest.mark.skipif(
    subprocess.run([sys.executable, "-c", "import onnx, onnxruntime, onnxscript"], check=False).returncode != 0,
    reason="the extra export is not installed",
)


def made(folder: Path, **changes: Any) -> tuple[TrainedModel, torch.Tensor]:
    """Return a model and clips of two videos in three crops."""
    config = trial({"views": {"crops": 3}, "store": {"size": max(36, changes.get("size", 0))}}, **changes)
    written(config, folder / "model.safetensors")
    videos = [folder / f"{n}.mp4" for n in range(2)]
    for n, video in enumerate(videos):
        encode(video, render(n, np.random.default_rng(n), 9, 48))
    model = vattn.load(folder)
    return model, example_clips(model, videos)


def test_clips_of_a_graph_are_the_views_of_an_evaluation(tmp_path: Path) -> None:
    model, clips = made(tmp_path)

    assert (clips.dtype, tuple(clips.shape)) == (torch.uint8, (6, 3, 4, 32, 32))
    with torch.no_grad():
        scores = Graph(model.trained).eval()(clips)
    # The mean over crops of the softmax of the graph is the prediction.
    expected = torch.stack([model.probabilities(tmp_path / f"{n}.mp4") for n in range(2)])
    torch.testing.assert_close(scores.softmax(1).unflatten(0, (2, 3)).mean(1), expected, rtol=1e-5, atol=1e-7)


@pytest.mark.medium
@needs_onnx
def test_both_graphs_of_a_model_give_its_scores(tmp_path: Path) -> None:
    model, clips = made(tmp_path, attention=[{"kind": "tam", "stages": [4]}])

    for export, name in ((export_torch, "m.pt2"), (export_onnx, "m.onnx")):
        assert 0 <= export(model, clips, tmp_path / name) < 1e-3
    import onnx
    import onnxruntime

    session = onnxruntime.InferenceSession(str(tmp_path / "m.onnx"))
    metadata = session.get_modelmeta().custom_metadata_map
    assert '"class 15"' in metadata["labels"]
    # The number of clips is free.
    five = session.run(None, {"clips": clips[:5].numpy()})[0]
    with torch.no_grad():
        torch.testing.assert_close(torch.from_numpy(five), Graph(model.trained)(clips[:5]), rtol=1e-4, atol=1e-4)
    assert onnx.load(str(tmp_path / "m.onnx")).graph.input[0].name == "clips"


@pytest.mark.slow
@needs_onnx
@pytest.mark.parametrize(
    "changes",
    [
        {"sparse": {}}, {"attention": [{"kind": "tsm"}]}, {"attention": [{"kind": "tam"}]},
        {"attention": [{"kind": "m2a"}]},
        {"attention": [{"kind": "action"}]}, {"attention": [{"kind": "cstl"}]}, {"attention": [{"kind": "nonlocal"}]},
        {"attention": [{"kind": "se"}]},
        {"backbone": {"kind": "resnet", "depth": 50, "width": 0.25}, "attention": [{"kind": "i3d"}]},
        {"backbone": {"kind": "resnet3d", "depth": 10, "width": 0.25}, "attention": [{"kind": "sta"}], "frames": 8},
        {"backbone": {"kind": "resnet_tdn", "depth": 18}, "attention": [{"kind": "tdn", "stages": [3, 4]}]},
        {"backbone": {"kind": "mobilenet_v2", "width": 0.25}}, {"backbone": {"kind": "r3d"}},
        {"backbone": {"kind": "slowfast"}, "frames": 32, "size": 64}, {"backbone": {"kind": "c3d", "width": 0.125},
         "frames": 16, "size": 64},
    ],
    ids=str,
)  # fmt: skip
def test_graphs_of_every_kind_of_network_give_its_scores(changes: dict[str, Any], tmp_path: Path) -> None:
    model, clips = made(tmp_path, **changes)

    for export, name in ((export_torch, "m.pt2"), (export_onnx, "m.onnx")):
        export(model, clips, tmp_path / name)
        assert (tmp_path / name).is_file()
    if "sparse" in changes:  # in double precision again, as before
        assert model.trained.net.get_submodule("sparse").precision == torch.float64


@pytest.mark.parametrize("wrong", [2 * TOLERANCE, float("nan")])
def test_a_graph_with_other_scores_is_refused(wrong: float, tmp_path: Path) -> None:
    model, clips = made(tmp_path)
    graph = Graph(model.trained).eval()

    def run(batch: torch.Tensor) -> torch.Tensor:
        scores = graph(batch)
        return scores + wrong * scores.abs().max().clamp(min=1)

    with pytest.raises(UserError, match=r"m\.onnx: gives other scores than the model"):
        _checked(model, clips, run, tmp_path / "m.onnx")


@pytest.mark.medium
def test_without_the_extra_the_package_works_and_names_it(tmp_path: Path) -> None:
    program = (
        "import sys; sys.modules.update(dict.fromkeys(('onnx', 'onnxruntime', 'onnxscript')))\n"
        "import torch, vattn.trained.graph as graph\n"
        "try:\n    graph.export_onnx(None, torch.zeros(1), None)\nexcept ValueError as error:\n    print(error)\n"
    )

    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)

    assert done.stdout.startswith("--onnx: needs onnx, onnxruntime, onnxscript; pip install 'vattn-search[export]'")

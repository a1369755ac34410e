"""Export a trained model as a graph for other programs: torch.export and ONNX, checked against the model itself.

The graph takes pixels as a video has them and returns scores: normalisation is a part of it.

* input ``clips``: uint8 (N, 3, T * F, H, W), RGB frames in order, H and W of the evaluation's crops; F is the number of
  frames that the backbone takes at each place. Optical flow has x, y and a channel that is ignored.
* output ``scores``: float32 (N, classes). Their softmax are probabilities; those of several views are averaged.

ONNX needs the packages of the extra ``export``.
"""

import json
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from copy import deepcopy
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from vattn.errors import UserError
from vattn.files import replacing, writing
from vattn.model import SparseModel
from vattn.trained.model import Trained, TrainedModel, resident_clip
from vattn.training.batches.loader import eval_batches
from vattn.weights.statistics import statistics

#: largest difference from the model's own scores, as a share of the largest of them if that is above 1
TOLERANCE = 1e-4
#: packages of the extra ``export``
PACKAGES = ("onnx", "onnxruntime", "onnxscript")
#: ONNX's version of operators
OPSET = 20
_WAY_OUT = "make room, or name another place"


class Graph(nn.Module):
    """The network behind its normalisation: uint8 clips (N, 3, F, H, W) to scores (N, classes)."""

    mean: Tensor
    std: Tensor

    def __init__(self, trained: Trained) -> None:
        super().__init__()
        self.net = trained.net
        mean, std = statistics(trained.config).levels()
        for name, values in (("mean", mean), ("std", std)):
            self.register_buffer(name, torch.tensor(values).view(-1, 1, 1, 1))

    def forward(self, clips: Tensor) -> Tensor:
        pixels = clips[:, : self.mean.shape[0]].to(torch.float32)
        return self.net((pixels - self.mean) / self.std)


def example_clips(model: TrainedModel, videos: Sequence[Path]) -> Tensor:
    """Return the views that an evaluation takes of videos, uint8 (N, 3, F, H, W); raise as a prediction does."""
    config = model.trained.config
    views = []
    for video in videos:
        clip = resident_clip(config, video, torch.device("cpu"))
        views += [images for images, _ in eval_batches(clip, config.data, config.model, 1)]
    return torch.cat(views).contiguous()


def export_torch(model: TrainedModel, clips: Tensor, file: Path) -> float:
    """Write the model as a program of torch.export, and return its largest difference from the model's own scores.

    Args:
        model: the model, on the CPU.
        clips: real clips, see `example_clips`, on which the written file is compared with the model.
        file: the file, which `torch.export.load` reads.

    Raises:
        UserError: this network has no graph, or the graph gives other scores.
        StorageError: the file cannot be written.
    """
    try:
        program = traced(Graph(model.trained).eval(), clips)
    except Exception as error:  # torch documents no narrower class for what it cannot trace
        raise _no_graph(file, error) from error
    with writing(file, _WAY_OUT):
        file.parent.mkdir(parents=True, exist_ok=True)
        with replacing(file) as part, warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about weights on other devices, which there are not
            torch.export.save(program, part, extra_files={"vattn.json": json.dumps(_about(model))})
            loaded = torch.export.load(part).module()
            return _checked(model, clips, lambda batch: loaded(batch), file)


def export_onnx(model: TrainedModel, clips: Tensor, file: Path) -> float:
    """Write the model as ONNX, and return the largest difference of ONNX Runtime from the model's own scores.

    The arguments and errors are those of `export_torch`. The names of the classes and the config are in the metadata of
    the file.

    Raises:
        UserError: also where the extra ``export`` is not installed.
    """
    if missing := [package for package in PACKAGES if find_spec(package) is None]:
        raise UserError(
            f"needs {', '.join(missing)}", path="--onnx", way_out="pip install 'vattn-search[export]' installs them"
        )
    import onnx
    import onnxruntime

    try:
        with single_precision(model.trained.net):
            proto = onnx_of(Graph(model.trained).eval(), clips)
    except Exception as error:  # torch documents no narrower class for an operator that ONNX lacks
        raise _no_graph(file, error) from error
    with writing(file, _WAY_OUT):
        file.parent.mkdir(parents=True, exist_ok=True)
        with replacing(file) as part:
            for key, text in _about(model).items():
                entry = proto.metadata_props.add()
                entry.key, entry.value = key, text if isinstance(text, str) else json.dumps(text)
            onnx.checker.check_model(proto)
            onnx.save(proto, str(part))
            try:
                session = onnxruntime.InferenceSession(str(part), providers=["CPUExecutionProvider"])
            except Exception as error:  # ONNX Runtime has one class for each status, and no common one
                raise _no_graph(file, error) from error

            def run(batch: Tensor) -> Tensor:
                return torch.from_numpy(session.run(["scores"], {"clips": batch.numpy()})[0])

            return _checked(model, clips, run, file)


@contextmanager
def single_precision(net: nn.Module) -> Iterator[None]:
    """Let sparse attention compute in float32 while a graph is made: ONNX Runtime enlarges no maps of float64."""
    if not isinstance(net, SparseModel):
        yield
        return
    net.sparse.precision = torch.float32
    try:
        yield
    finally:
        del net.sparse.precision


def traced(graph: nn.Module, clips: Tensor) -> Any:
    """Return the program of a network in evaluation mode, for any number of clips; torch raises for what it cannot."""
    # With a batch of one, torch would take 1 for a part of the graph.
    batch = torch.cat([clips, clips])[: max(2, min(len(clips), 4))]
    with torch.no_grad():
        return torch.export.export(graph, (batch,), dynamic_shapes=({0: torch.export.Dim("clips", min=1)},))


def onnx_of(graph: nn.Module, clips: Tensor) -> Any:
    """Return a network in evaluation mode as ONNX, from ``clips`` to ``scores``; torch raises for what it cannot."""
    # What is a view under channels_last is none in the format in which torch rewrites the program for ONNX.
    contiguous = deepcopy(graph).to(memory_format=torch.contiguous_format)
    made = torch.onnx.export(
        traced(contiguous, clips), dynamo=True, opset_version=OPSET, input_names=["clips"], output_names=["scores"],
        verbose=False,
    )  # fmt: skip
    assert made is not None
    return made.model_proto


def _no_graph(file: Path, error: Exception) -> UserError:
    reason = str(error).strip().partition("\n")[0][:300]
    return UserError(f"this network cannot be written as a graph ({type(error).__name__}: {reason})", file=file)


def _checked(model: TrainedModel, clips: Tensor, run: Callable[[Tensor], Tensor], file: Path) -> float:
    """Return the largest difference from the model's scores, of one clip and of all; refuse a large one."""
    graph = Graph(model.trained).eval()
    with torch.no_grad():
        expected = graph(clips)
        found = torch.cat([run(clips[:1]), run(clips)])
    difference = float((found - torch.cat([expected[:1], expected])).abs().max())
    # Not `difference > limit`, which is False for NaN.
    if not difference <= TOLERANCE * max(1.0, float(expected.abs().max())):
        raise UserError(f"gives other scores than the model: they differ by up to {difference:.2g}", file=file)
    return difference


def _about(model: TrainedModel) -> dict[str, Any]:
    """Return what a program needs to know of the graph besides its input and output."""
    config = model.trained.config
    return {
        "labels": list(model.labels),
        "data": {key: config.data.tree()[key] for key in ("sampling", "views", "modality", "store")},
        "frames": config.model.frames * config.model.backbone.frames_per_segment,
        "size": config.data.views.crop(config.model.size),
    }

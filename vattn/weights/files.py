"""Read the state dict in a file of weights, whoever wrote it, without running code from the file."""

import re
import warnings
import zipfile
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.serialization import safe_globals

from vattn.errors import UserError

#: Entries under which trainers save a state dict, in the order in which they are tried.
_ENTRIES = ("state_dict", "model_state", "model_state_dict", "model", "module", "net", "network", "weights")
#: Classes that trainers save beside a state dict. They are read as empty objects: their code is not used.
_BESIDE = re.compile(
    r"(mmengine|mmcv|mmaction|mmdet|omegaconf|yacs|fvcore|easydict|addict|lightning|pytorch_lightning|torchmetrics"
    r"|lightning_fabric|lightning_utilities|transformers|timm|pathlib|datetime|argparse|torch\.optim|torch\.torch_version)\."
)
#: Files that are no state dicts, by their first bytes.
_MAGIC = {
    b"\x89HDF": "an HDF5 file, as Keras writes it",
    b"\x1f\x8b": "a gzip archive; unpack it first",
    b"BZh": "a bzip2 archive; unpack it first",
    b"7z\xbc\xaf": "a 7z archive; unpack it first",
    b"version https://git-lfs": "a pointer of Git LFS to the weights, not the weights; fetch them with git lfs pull",
    b"<!DOCTYPE": "a web page, not weights: the download failed",
    b"<!doctype": "a web page, not weights: the download failed",
    b"<html": "a web page, not weights: the download failed",
}
#: Files of other formats, by their suffix.
_SUFFIXES = {
    ".onnx": "an ONNX graph", ".h5": "a file of Keras", ".keras": "a file of Keras",
    ".index": "a checkpoint of TensorFlow", ".pdparams": "weights of PaddlePaddle",
    ".caffemodel": "weights of Caffe",
    ".npz": "an archive of numpy", ".msgpack": "weights of Flax", ".gguf": "a GGUF file", ".json": "a JSON file",
    ".yaml": "a YAML file", ".yml": "a YAML file", ".tflite": "a TensorFlow Lite model",
}  # fmt: skip
_WAY_OUT = "name a file that torch.save or safetensors wrote"


@dataclass(frozen=True)
class Checkpoint:
    """The state dict in a file, and what the file says besides.

    ``metadata`` are texts that `vattn convert` writes; ``beside`` are the other entries of a trainer's checkpoint.
    """

    file: Path
    state: dict[str, Tensor]
    metadata: dict[str, str] = field(default_factory=dict)
    beside: dict[str, Any] = field(default_factory=dict)


def read_state(file: Path) -> dict[str, Tensor]:
    """Return the state dict in a file. See `read_checkpoint`."""
    return read_checkpoint(file).state


def read_checkpoint(file: Path) -> Checkpoint:
    """Return the state dict in a file of torch or safetensors: the whole content, or an entry such as "state_dict".

    A file of torch is read with ``weights_only``, so that it cannot run code. Numbers of numpy are read too. Objects of
    known trainers beside the state dict are read as empty objects.

    Raises:
        UserError: there is no such file, it could run code while it is read, or it holds no state dict.
    """
    if file.is_dir():
        raise UserError(f"{file} is a folder; name the file of weights in it")
    if not file.is_file():
        raise UserError(f"there is no file {file}")
    with file.open("rb") as opened:
        start = opened.read(64)
    if file.suffix == ".safetensors" or _is_safetensors(start):
        return _of_safetensors(file)
    _refuse_other_formats(file, start)
    content = _loaded(file)
    if not isinstance(content, Mapping):
        raise UserError(f"{file} holds no state dict (names and tensors); found {type(content).__name__}")
    metadata = content.get("metadata")
    for beside, state in _candidates(content):
        tensors = {str(name): value.detach() for name, value in state.items() if isinstance(value, Tensor)}
        # Numbers beside the tensors of a state dict are no weights, but a mapping without tensors is no state dict.
        if tensors and all(isinstance(name, str) for name in state):
            texts = metadata if isinstance(metadata, Mapping) else {}
            return Checkpoint(file, tensors, {k: v for k, v in texts.items() if isinstance(v, str)}, dict(beside))
    raise UserError(f"{file} holds no state dict (names and tensors); found {_kinds(content)}")


def refuse_other_files(file: Path) -> None:
    """Raise UserError if a file is missing, or does not begin as those that torch or safetensors write."""
    if not file.is_file():
        raise UserError(f"there is no file {file}")
    with file.open("rb") as content:
        start = content.read(64)
    # a ZIP archive; a pickle, as torch wrote before version 1.6; the length of safetensors' header, and its bracket
    if not (start.startswith((b"PK\x03\x04", b"\x80\x02")) or _is_safetensors(start)):
        raise UserError(f"{file} is not a file with weights, as torch or safetensors write it")


def _candidates(content: Mapping[str, Any]) -> Iterator[tuple[Mapping[str, Any], Mapping[str, Any]]]:
    """Yield what may be a state dict, each with the entries beside it."""
    for entry in _ENTRIES:
        inner = content.get(entry)
        if isinstance(inner, Mapping):
            beside = {name: value for name, value in content.items() if name != entry}
            # Some trainers save a checkpoint within a checkpoint.
            yield from ((beside | dict(more), state) for more, state in _candidates(inner))
    yield {}, content


def _kinds(content: Mapping[Any, Any]) -> str:
    return f"a mapping with {', '.join(map(str, list(content)[:4])) or 'nothing'}"


def _is_safetensors(start: bytes) -> bool:
    """Return whether a file starts as safetensors do: the length of a JSON text, and that text."""
    return len(start) > 9 and start[8:9] == b"{" and int.from_bytes(start[:8], "little") < 100_000_000


def _of_safetensors(file: Path) -> Checkpoint:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(file, "pt") as opened:
            state = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118  # it is no mapping
            metadata = opened.metadata() or {}
    except (SafetensorError, OSError, ValueError) as error:
        raise UserError(f"{file} is a damaged safetensors file ({error})") from error
    if not state:
        raise UserError(f"{file} holds no state dict (names and tensors); found no tensors")
    return Checkpoint(file, state, dict(metadata))


def _refuse_other_formats(file: Path, start: bytes) -> None:
    """Raise UserError, which says what the file is, if it is of a known format without a state dict of torch."""
    what = next((what for magic, what in _MAGIC.items() if start.startswith(magic)), None)
    if what is None and not zipfile.is_zipfile(file):
        what = _SUFFIXES.get(file.suffix.lower())
    if what is None and start and zipfile.is_zipfile(file):
        try:
            with zipfile.ZipFile(file) as archive:
                names = archive.namelist()
        except (zipfile.BadZipFile, NotImplementedError, UnicodeError) as error:
            raise UserError(f"{file} is a damaged zip archive ({error})") from error
        if any(name.endswith(("/constants.pkl", "/code/")) or "/code/" in name for name in names):
            what = "a program of TorchScript, which is code; save its state_dict() instead"
        elif not any(name.endswith("data.pkl") for name in names):
            what = "a zip archive; unpack it first"
    if what:
        raise UserError(f"{file} is {what}", way_out="" if ";" in what or ":" in what else _WAY_OUT)


class _Ignored:
    """Stands for the class of an object beside a state dict. Such an object is read as an empty mapping."""

    def __new__(cls, *args: Any, **options: Any) -> Any:
        # Torch fills in items and attributes of this type alone.
        return OrderedDict()


@cache
def _numpy_values() -> tuple[Any, ...]:
    """Return what pickles of numpy's numbers and arrays name, under the names of numpy 1 and 2; nothing runs code."""
    from numpy._core.multiarray import _reconstruct, scalar  # pyright: ignore[reportAttributeAccessIssue]

    functions = [
        (function, f"numpy.{core}.multiarray.{name}")
        for core in ("core", "_core") for name, function in (("_reconstruct", _reconstruct), ("scalar", scalar))
    ]  # fmt: skip
    # All but those of objects, which could be anything.
    types = {type(np.dtype(code)) for code in np.typecodes["All"] if code != "O"}
    return (*functions, np.ndarray, np.dtype, *sorted(types, key=str))


def _loaded(file: Path) -> Any:
    """Return the content of a file of torch."""
    allowed = list(_numpy_values())
    named: set[str] = set()
    while True:
        try:
            with safe_globals(allowed), warnings.catch_warnings():
                warnings.simplefilter("ignore")
                return torch.load(file, map_location="cpu", weights_only=True)
        except Exception as error:  # torch.load documents no narrower class for a file without weights
            code = re.search(r"GLOBAL (\S+)", str(error))
            if code and code[1] not in named and _BESIDE.match(code[1]):
                named.add(code[1])
                allowed.append((_Ignored, code[1]))
                continue
            if code:
                raise UserError(
                    f"{file} is not read: it holds more than names, numbers and tensors, and what it names, {code[1]}, "
                    'could run any code while it is read; where you trust it, save its "state_dict" alone and use that'
                ) from error
            # Torch's own message has several lines, and recommends allowing the file to run code.
            raise UserError(_not_torch(file)) from error


def _not_torch(file: Path) -> str:
    """Return what a file is that torch cannot read."""
    if zipfile.is_zipfile(file):
        return (
            f"{file} is not read: it holds objects that cannot be read without code; where you trust it, save its "
            '"state_dict" alone and use that'
        )
    with file.open("rb") as opened:
        start = opened.read(2)
    if start[:1] == b"\x80" and file.suffix.lower() in (".pkl", ".pickle"):
        return (
            f"{file} is a pickle that torch did not write, as Caffe2's weights in PySlowFast's model zoo are; convert "
            "it with PySlowFast, and name what torch.save wrote"
        )
    return f"{file} is not a state dict saved by torch, or it is damaged"

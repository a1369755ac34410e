"""State dicts are found in the files of many trainers, without running their code; other files are named."""

import pickle
import sys
import zipfile
from collections import OrderedDict
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from vattn.errors import UserError
from vattn.weights import read_checkpoint, read_state

STATE = {"conv.weight": torch.ones(2, 3), "conv.bias": torch.zeros(2)}


def saved(content: Any, file: Path, **options: Any) -> Path:
    torch.save(content, file, **options)
    return file


def assert_is_state(file: Path) -> None:
    state = read_state(file)
    assert state.keys() == STATE.keys()
    assert all(state[name].equal(STATE[name]) for name in STATE)


@pytest.mark.parametrize(
    "content",
    [
        STATE,
        OrderedDict(STATE),
        {"state_dict": STATE, "epoch": 3, "arch": "resnet50"},
        {"epoch": 3, "model_state": STATE, "optimizer_state": {"state": {0: {"step": 3}}}, "cfg": "A: 1"},
        {"model_state_dict": STATE, "loss": 0.5},
        {"model": STATE, "optimizer": {}, "args": None},
        {"module": STATE, "dp_world_size": 1},
        {"state_dict": STATE, "hyper_parameters": {"lr": 0.1}, "pytorch-lightning_version": "2.1", "loops": {}},
        {"model": {"state_dict": STATE}},
        STATE | {"epoch": 3, "best": None},
        {name: nn.Parameter(value) for name, value in STATE.items()},
    ],
)
def test_a_state_dict_is_found_wherever_trainers_save_it(content: Any, tmp_path: Path) -> None:
    assert_is_state(saved(content, tmp_path / "a.pth"))


def test_the_format_before_zip_archives_is_read(tmp_path: Path) -> None:
    assert_is_state(saved({"state_dict": STATE}, tmp_path / "a.pth.tar", _use_new_zipfile_serialization=False))


def test_safetensors_are_read_whatever_the_name_of_the_file(tmp_path: Path) -> None:
    for name in ("model.safetensors", "model.pt"):
        save_file(STATE, tmp_path / name, {"note": "text"})
        assert_is_state(tmp_path / name)
        assert read_checkpoint(tmp_path / name).metadata == {"note": "text"}


@pytest.mark.parametrize(
    "value",
    [
        np.float64(47.1), np.float32(47.1), np.int64(3), np.bool_(True), np.array([1.0, 2.0]), np.arange(3),
        np.datetime64("2020-01-01"), [np.float64(1.0), {"a": np.int32(2)}],
    ],
    ids=repr,
)  # fmt: skip
@pytest.mark.parametrize("zipped", [True, False])
def test_numbers_of_numpy_beside_the_tensors_are_read(value: Any, zipped: bool, tmp_path: Path) -> None:
    content = {"state_dict": STATE, "best_prec1": value}
    assert_is_state(saved(content, tmp_path / "a.pth", _use_new_zipfile_serialization=zipped))


def test_names_of_numpy_1_are_those_of_numpy_2(tmp_path: Path) -> None:
    file = saved({"state_dict": STATE, "best_prec1": np.float64(47.1)}, tmp_path / "new.pth")
    with zipfile.ZipFile(file) as new, zipfile.ZipFile(tmp_path / "old.pth", "w") as old:
        for name in new.namelist():
            content = new.read(name)
            old.writestr(
                name, content.replace(b"numpy._core.", b"numpy.core.") if name.endswith("data.pkl") else content
            )
    assert_is_state(tmp_path / "old.pth")


class _Object:
    """Stands for a class of a package that is not installed here."""

    def __init__(self, **values: Any) -> None:
        self.__dict__.update(values)


class _Settings(dict):
    """Stands for a mapping of such a package."""


def as_if_of(cls: type, module: str, monkeypatch: pytest.MonkeyPatch) -> type:
    """Return a class that pickles name as one of ``module``."""
    renamed = type(cls.__name__, (cls,), {"__module__": module})
    package = ModuleType(module)
    setattr(package, cls.__name__, renamed)
    parts = module.split(".")
    for n in range(1, len(parts)):
        monkeypatch.setitem(sys.modules, ".".join(parts[:n]), ModuleType(".".join(parts[:n])))
    monkeypatch.setitem(sys.modules, module, package)
    return renamed


def test_objects_of_trainers_are_read_without_their_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patched:
        buffer = as_if_of(_Object, "mmengine.logging.history_buffer", patched)
        settings = as_if_of(_Settings, "lightning.fabric.utilities.data", patched)
        content = {
            "state_dict": STATE,
            "message_hub": {"log_scalars": OrderedDict(loss=buffer(history=np.array([1.0]), max_length=10))},
            "hyper_parameters": settings(lr=0.1, nested={"a": 1}),
            "path": Path("/a"),
        }
        file = saved(content, tmp_path / "a.pth")
    assert_is_state(file)
    assert "mmengine" not in sys.modules


class _Code:
    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __reduce__(self) -> Any:
        import os

        return os.mkdir, (str(self.folder),)


@pytest.mark.parametrize("name", ["os", "mmengine"])
def test_a_file_that_could_run_code_is_refused_or_read_without_it(name: str, tmp_path: Path) -> None:
    content = {"state_dict": STATE, "hook": _Code(tmp_path / "made")}
    file = saved(content, tmp_path / "a.pth")

    with pytest.raises(UserError, match=r"a\.pth is not read:.*mkdir, could run any code.*\"state_dict\" alone"):
        read_state(file)
    assert not (tmp_path / "made").exists()


def _zip(file: Path) -> None:
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("weights.pth", b"x")


@pytest.mark.parametrize(
    ("name", "write", "message"),
    [
        ("a.pth", lambda f: f.write_bytes(b"<!DOCTYPE html><html>"), r"a\.pth is a web page, not weights"),
        ("a.pth", lambda f: f.write_bytes(b"version https://git-lfs.github.com/spec/v1\n"), "a pointer of Git LFS"),
        ("a.h5", lambda f: f.write_bytes(b"\x89HDF\r\n\x1a\n"), "HDF5"),
        ("a.onnx", lambda f: f.write_bytes(b"\x08\x07\x12\x07pytorch"), r"an ONNX graph; name a file that torch\.save"),
        ("a.tar.gz", lambda f: f.write_bytes(b"\x1f\x8b\x08\x00"), "a gzip archive; unpack it first"),
        ("a.zip", _zip, "a zip archive; unpack it first"),
        ("a.pkl", lambda f: f.write_bytes(pickle.dumps({"blobs": {"conv1_w": np.ones(3)}}, 2)), "Caffe2's weights"),
        ("a.pt", lambda f: torch.jit.script(nn.Linear(2, 2)).save(f), "a program of TorchScript"),
        ("a.pth", lambda f: f.write_bytes(b""), "not a state dict saved by torch, or it is damaged"),
        ("a.safetensors", lambda f: f.write_bytes(b"\xff" * 40), "a damaged safetensors file"),
        ("a.pth", lambda f: torch.save([torch.ones(1)], f), r"holds no state dict.*found list"),
        ("a.pth", lambda f: torch.save({"epoch": 3}, f), r"holds no state dict.*found a mapping with epoch"),
        ("a.pth", lambda f: torch.save({"state_dict": {"a": 1}}, f), r"holds no state dict"),
        ("a.pth", lambda f: f.mkdir(), "is a folder; name the file"),
    ],
)
def test_other_files_are_named_for_what_they_are(name: str, write: Any, message: str, tmp_path: Path) -> None:
    write(tmp_path / name)

    with pytest.raises(UserError, match=message):
        read_state(tmp_path / name)


def test_a_cut_file_is_called_damaged(tmp_path: Path) -> None:
    file = saved(STATE, tmp_path / "a.pth")
    file.write_bytes(file.read_bytes()[:-40])

    with pytest.raises(UserError, match="not a state dict saved by torch, or it is damaged"):
        read_state(file)

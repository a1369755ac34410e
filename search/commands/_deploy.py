"""Deploy a trained model: as a graph, as a folder with a model card, in MLflow's registry."""

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import torch

from search.report.deploy.card import card
from search.spec.validation import load_config
from vattn.config import TrialConfig
from vattn.data import listed
from vattn.errors import UserError
from vattn.files import replacing, write_whole, writing
from vattn.trained import load
from vattn.trained.file import FILE

#: clips of the validation split on which a graph is compared with the model
_CLIPS = 2
_ROOM = "make room, or name another place"


class Forms(NamedTuple):
    """In which forms a model is deployed; None: not in this one."""

    onnx: Path | None = None
    torch_export: Path | None = None
    card: Path | None = None
    register: str | None = None
    tracking: str = "auto"

    def __bool__(self) -> bool:
        return any((self.onnx, self.torch_export, self.card, self.register))


def deploy(
    file: Path, forms: Forms, videos: Sequence[Path], force: bool, config: TrialConfig | None = None,
    output: Path | None = None,
) -> None:  # fmt: skip
    """Write a trained model in other forms, and print what was written and how it was checked.

    Args:
        file: the trained model.
        forms: the forms.
        videos: real videos, on which graphs are compared with the model; none: the first of the validation split.
        force: overwrite files.
        config: its config with the places of the data; None: that beside the file, if there is one.
        output: the folder of its training or search; None: that of the file.

    Raises:
        UserError: nothing is asked for, a file exists, or a form is not possible.
        StorageError: a file cannot be written.
    """
    if not forms:
        raise UserError(
            "has nothing to do", file="vattn export",
            way_out="give --onnx, --torch-export, --card or --register for a trained model",
        )  # fmt: skip
    model = load(file, torch.device("cpu"))
    home = output or file.parent
    for path in (forms.onnx, forms.torch_export, forms.card and forms.card / "README.md"):
        if path and path.exists() and not force:
            raise UserError("exists", file=path, way_out="name another file, or overwrite it with --force")
    if forms.onnx or forms.torch_export or forms.register:
        videos = videos or _videos(config, home)
    if forms.onnx or forms.torch_export:
        # Tracing takes seconds to import.
        from vattn.trained.graph import example_clips, export_onnx, export_torch

        clips = example_clips(model, videos)
        for path, export, checked in (
            (forms.onnx, export_onnx, "ONNX Runtime"), (forms.torch_export, export_torch, "the program")
        ):  # fmt: skip
            if path:
                difference = export(model, clips, path)
                print(f"{path}: scores of {checked} differ by at most {difference:.1g} on {len(clips)} real clips")
    if forms.card:
        folder = forms.card
        with writing(folder, _ROOM):
            folder.mkdir(parents=True, exist_ok=True)
            if not (folder / FILE).exists() or not (folder / FILE).samefile(file):
                with replacing(folder / FILE) as part:
                    shutil.copyfile(file, part)
            write_whole(folder / "README.md", card(model))
        print(f"{folder / 'README.md'}: the model card, beside {FILE}")
    if forms.register:
        from search.report.deploy.registry import register

        uri = f"sqlite:///{(home / 'models.db').resolve()}" if forms.tracking == "auto" else forms.tracking
        version = register(model, forms.register, uri, card(model), videos[0])
        print(f"models:/{forms.register}/{version} in {uri}: it predicts the same as the file")


def _videos(config: TrialConfig | None, home: Path) -> list[Path]:
    """Return the first videos of the validation split of the data set of a training."""
    way_out = "name real videos with --clips VIDEO..., on which the graph is compared with the model"
    try:
        config = config or load_config(home / "config.yaml")
        files = listed(config.data.each_split()[0], home, test=False, generate=False)
        rows = zip(files.manifest["path"].to_pylist(), files.manifest["split"].to_pylist(), strict=True)
        videos = [files.root / path for path, split in rows if split == "val"]
        found = [video for video in dict.fromkeys(videos) if video.exists()]
    except (UserError, OSError) as error:
        rule = f"is missing, and the data of the training cannot be read ({error})"
        raise UserError(rule, path="--clips", way_out=way_out) from None
    if not found:
        raise UserError("is missing, and the videos of the training are gone", path="--clips", way_out=way_out)
    step = max(1, len(found) // _CLIPS)
    return found[::step][:_CLIPS]

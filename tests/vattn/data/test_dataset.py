import subprocess
import sys
from pathlib import Path

import pytest

from tests.vattn.data.support import STORE, Steps, manifest
from vattn.data import DataConfig, open_clips, prepare
from vattn.data.ingest import ingest
from vattn.data.layouts.motion import MotionDataConfig
from vattn.errors import UserError


@pytest.mark.medium
def test_a_generated_set_is_written_and_decoded_once_in_the_output_folder(tmp_path: Path) -> None:
    sizes = {"train_clips": 1, "val_clips": 1, "test_clips": 1, "frames": 6, "size": 32}
    config, steps = MotionDataConfig.parse(sizes), Steps()

    folders = [prepare(config, tmp_path, steps) for _ in range(2)]

    assert folders[0] == folders[1]
    assert folders[0].parent == tmp_path / "cache"
    assert steps == [(stage, done, 48) for stage in ("motion", "ingest") for done in range(1, 49)]
    clips = open_clips(folders[0], "val")
    assert clips.labels.tolist() == list(range(16))
    # Videos of 32 pixels are stored at the default size of 80.
    assert clips.shapes.tolist() == [[6, 80, 80]] * 16


def test_a_missing_data_folder_or_a_file_in_its_place_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"data\.root: .*nowhere does not exist"):
        DataConfig(kind="folders").supply(tmp_path / "nowhere")
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match=r"data\.root: .*file is a file"):
        DataConfig(kind="folders").supply(tmp_path / "file")
    with pytest.raises(UserError, match=r"must be a folder, but .*file is a file"):
        ingest(manifest("a.mp4"), tmp_path, tmp_path / "file", STORE, jobs=1)


def test_importing_the_data_package_imports_neither_torch_nor_the_decoders() -> None:
    code = (
        "import sys, vattn.data, vattn.data.ingest; print([m for m in ('torch', 'av', 'decord') if m in sys.modules])"
    )

    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"

"""Commands on a real file system that is full end with one line and status 1, and go on once there is room."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from tests.search.commands.test_ingest import root
from tests.search.tuner.test_outages import NAMESPACE, has_namespaces

__all__ = ["root"]

ROOT = Path(__file__).parents[3]

pytestmark = pytest.mark.skipif(
    not has_namespaces(), reason="this machine makes no file systems in a namespace of a user"
)


def twice(disk: Path, size: str, command: str, again: str) -> list[subprocess.CompletedProcess[str]]:
    """Run a command on a file system of that size at ``disk``, then another one when it has grown; return both."""
    disk.mkdir()
    script = f"""
mount -t tmpfs -o size={size} tmpfs {disk} || exit 99
{sys.executable} -m search {command} > {disk}.out1 2> {disk}.err1; echo $? > {disk}.status1
mount -o remount,size=500m,nr_inodes=1000 {disk} || exit 99
{sys.executable} -m search {again} > {disk}.out2 2> {disk}.err2; echo $? > {disk}.status2
"""
    subprocess.run([*NAMESPACE, "sh", "-c", script], env=os.environ | {"PYTHONPATH": str(ROOT)}, cwd=ROOT, check=True)

    def text(name: str) -> str:
        return Path(f"{disk}.{name}").read_text()

    return [subprocess.CompletedProcess([], int(text(f"status{n}")), text(f"out{n}"), text(f"err{n}")) for n in (1, 2)]


def is_one_line(done: subprocess.CompletedProcess[str]) -> bool:
    last = done.stderr.splitlines()[-1]
    return done.returncode == 1 and "Traceback" not in done.stderr and "make room" in last


@pytest.mark.medium
@pytest.mark.parametrize("files", [4, *(pytest.param(n, marks=pytest.mark.slow) for n in (2, 6))])
def test_ingest_ends_with_one_line_and_goes_on(files: int, root: Path, tmp_path: Path) -> None:
    # The disk has room for the bytes, which ingest checks before it begins, but only for this many files and folders.
    command = f"ingest folders {root} --out {tmp_path}/disk/cache --size 48 --jobs 1"

    full, again = twice(tmp_path / "disk", f"50m,nr_inodes={files}", command, command)

    assert is_one_line(full), full.stderr
    assert again.returncode == 0, again.stderr


@pytest.mark.ray
@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("size", ["40k", "3m"])
def test_a_training_ends_with_one_line_and_goes_on(size: str, tmp_path: Path) -> None:
    tree = {
        "data": {
            "kind": "motion", "train_clips": 2, "val_clips": 1, "test_clips": 1, "frames": 4, "size": 32,
            "store": {"size": 32}, "root": str(tmp_path / "videos"), "cache": str(tmp_path / "cache"),
        },
        "model": {"frames": 2, "size": 32, "backbone": {"kind": "resnet", "depth": 10, "width": 0.25}},
        "train": {"epochs": 3, "batch": 16, "lr": 0.05},
    }  # fmt: skip
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(tree))
    command = f"train {tmp_path}/config.yaml --out {tmp_path}/disk/run"

    full, again = twice(tmp_path / "disk", size, command, f"{command} --resume")

    assert is_one_line(full), full.stdout + full.stderr
    assert again.returncode == 0, again.stderr
    assert "epoch 3/3" in again.stdout

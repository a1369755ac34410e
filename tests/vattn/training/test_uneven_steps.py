"""A last step with fewer clips on one worker is the step of one worker with all of its clips."""

from pathlib import Path

import numpy as np
import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp

from vattn.config import TrialConfig
from vattn.data.cache import CacheWriter
from vattn.training.fit import fit

#: number of training clips and clips of a step: the last step has 5, 5, 9 and 7 clips for two workers
SIZES = [(5, 6), (11, 6), (9, 10), (15, 8)]


def trial(batch: int) -> TrialConfig:
    """Return a training of C3D, which has no batch normalization: the statistics of a part of a step would differ."""
    return TrialConfig.parse({
        "data": {"kind": "motion"},
        "model": {
            "frames": 16, "size": 16, "backbone": {"kind": "c3d", "width": 1 / 64, "dropout": 0},
            "head": {"dropout": 0},
        },
        "train": {"epochs": 2, "batch": batch, "lr": 1.0},
    })  # fmt: skip


def write_clips(folder: Path, num_train: int) -> Path:
    """Write a cache of clips of random pixels; two are for validation."""
    folder.mkdir()
    random, writer = np.random.default_rng(num_train), CacheWriter(folder)
    for number in range(num_train + 2):
        split = "train" if number < num_train else "val"
        pixels = random.integers(0, 256, (16, 16, 16, 3), dtype=np.uint8)
        writer.add(number, f"{number}.mp4", number % 16, split, pixels)
    writer.finish([])
    return folder


def _worker(rank: int, folder: Path) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=(folder / "meeting").as_uri(), rank=rank, world_size=2)
    for clips, batch in SIZES:
        losses = [
            epoch.metrics["train_loss"] for epoch in fit(trial(batch), folder / f"{clips}", folder / f"2-{clips}")
        ]
        torch.save(losses, folder / f"{clips}-{rank}.pt")
    dist.destroy_process_group()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder in which two workers have trained on each size."""
    folder = tmp_path_factory.mktemp("uneven")
    for clips, _ in SIZES:
        write_clips(folder / f"{clips}", clips)
    mp.spawn(_worker, (folder,), nprocs=2)  # pyright: ignore[reportPrivateImportUsage]
    return folder


@pytest.mark.medium
@pytest.mark.parametrize(("clips", "batch"), SIZES)
def test_two_workers_with_an_uneven_step_train_as_one_does(folder: Path, clips: int, batch: int) -> None:
    losses = [epoch.metrics["train_loss"] for epoch in fit(trial(batch), folder / f"{clips}", folder / f"1-{clips}")]

    one, two = (torch.load(folder / f"{world}-{clips}" / "model.pt", weights_only=True) for world in (1, 2))
    torch.testing.assert_close(two, one, rtol=0, atol=1e-6)
    for rank in (0, 1):
        assert torch.load(folder / f"{clips}-{rank}.pt") == pytest.approx(losses, abs=1e-6)

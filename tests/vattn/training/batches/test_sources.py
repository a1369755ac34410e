"""Where a training reads its clips."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from pydantic import ValidationError

from vattn.config import DataConfig, TrialConfig
from vattn.data.cache import CacheWriter
from vattn.data.layouts.motion import MotionDataConfig
from vattn.training.batches.sources import node_cache
from vattn.training.fit import fit, score_test_split


def data(**keys: Any) -> DataConfig:
    return MotionDataConfig.parse(keys)


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    (folder := tmp_path / "cache").mkdir()
    writer, rng = CacheWriter(folder), np.random.default_rng(0)
    for number, split in enumerate(["train"] * 8 + ["val"] * 4 + ["test"] * 4):
        writer.add(number, f"{number}.mp4", number % 16, split, rng.integers(0, 256, (6, 32, 32, 3), np.uint8))
    writer.finish([])
    return folder


def test_a_training_reads_the_copy_on_its_node_and_is_the_same_training(cache: Path, tmp_path: Path) -> None:
    results = {}
    for local in ("none", str(tmp_path / "node")):
        config = TrialConfig.parse({
            "data": {"kind": "motion", "local": local},
            "model": {"frames": 4, "size": 32, "backbone": {"kind": "resnet", "depth": 10, "width": 0.125}},
            "train": {"epochs": 1, "batch": 4, "lr": 0.05},
        })  # fmt: skip
        folder = tmp_path / f"fit-{len(results)}"
        results[local] = [epoch.metrics for epoch in fit(config, cache, folder)]
        if local != "none":
            (copy,) = (path for path in (tmp_path / "node").iterdir() if path.is_dir())
            # The cache itself is not read any more.
            for shard in cache.glob("shard-*"):
                shard.write_bytes(bytes(shard.stat().st_size))
            assert score_test_split(config, cache, folder).keys() >= {"top1", "loss"}
            assert [file.name for file in copy.glob("shard-*")] == ["shard-00000.arrow"]

    first, second = results.values()
    assert first == second


def test_a_cache_is_read_where_it_is_unless_a_local_folder_is_named(cache: Path, tmp_path: Path) -> None:
    assert node_cache(cache, data()) == cache
    assert node_cache(cache, data(local=str(tmp_path / "node"))).parent == tmp_path / "node"


def test_a_relative_local_folder_is_refused() -> None:
    with pytest.raises(ValidationError, match="must be none or an absolute path, as trainings run in folders"):
        data(local="scratch")
    assert data(local="~/scratch").local == "~/scratch"


def _copy_as_worker(rank: int, cache: Path, folder: Path) -> None:
    dist.init_process_group("gloo", init_method=(folder / "meeting").as_uri(), rank=rank, world_size=2)
    copy = node_cache(cache, data(local=str(folder / "node")))
    # After it returns, the copies of all workers are complete.
    torch.save([str(copy), (copy / "index.arrow").is_file()], folder / f"{rank}.pt")
    dist.destroy_process_group()


@pytest.mark.medium
def test_the_workers_of_a_node_share_a_copy(cache: Path, tmp_path: Path) -> None:
    mp.spawn(_copy_as_worker, (cache, tmp_path), nprocs=2)  # pyright: ignore[reportPrivateImportUsage]

    copies = [torch.load(tmp_path / f"{rank}.pt") for rank in (0, 1)]
    assert copies[0] == copies[1]
    assert copies[0][1]

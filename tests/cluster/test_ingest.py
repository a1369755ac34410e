"""Ingesting a data set on a Ray cluster."""

import os
from collections.abc import Iterator
from pathlib import Path

import av
import numpy as np
import pyarrow as pa
import pytest

from cluster import ingest as cluster_ingest
from cluster.connect import connected
from vattn.data import open_clips, workers
from vattn.data.cache import read_failures
from vattn.data.config import StoreConfig
from vattn.data.ingest import ingest

pytestmark = [pytest.mark.ray, pytest.mark.timeout(300)]


@pytest.fixture(scope="module", autouse=True)
def cluster() -> Iterator[None]:
    with connected("local"):
        yield


def write_video(path: Path, frames: int) -> None:
    pixels = np.random.default_rng(frames).integers(0, 256, (frames, 2, 3, 3), np.uint8).repeat(16, 1).repeat(16, 2)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=12)
        stream.width, stream.height, stream.pix_fmt = 48, 32, "yuv420p"
        for picture in pixels:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode(None))


def test_a_cache_made_on_a_cluster_equals_a_cache_made_locally(tmp_path: Path) -> None:
    names = [f"{frames}.mp4" for frames in range(1, 13)]
    for frames, name in enumerate(names, start=1):
        write_video(tmp_path / name, frames)
    (tmp_path / names[4]).write_bytes(b"garbage")
    table = pa.table({"path": names, "label": pa.array(range(12), pa.int32()), "split": ["train"] * 12})
    store = StoreConfig(size=32)

    cluster_cache = ingest(table, tmp_path, tmp_path / "cluster", store, jobs=2, run=cluster_ingest.run)

    local_cache = ingest(table, tmp_path, tmp_path / "local", store, jobs=1)
    assert read_failures(cluster_cache) == read_failures(local_cache)
    assert [line["path"] for line in read_failures(cluster_cache)] == ["5.mp4"]
    local_clips, cluster_clips = open_clips(local_cache, "train"), open_clips(cluster_cache, "train")
    assert cluster_clips.paths == local_clips.paths
    for i in range(11):
        np.testing.assert_array_equal(cluster_clips.clip(i), local_clips.clip(i))


def test_a_job_whose_process_dies_is_reported_and_the_remaining_jobs_finish() -> None:
    outcomes = dict(cluster_ingest.run(os._exit, [3], processes=2))
    assert outcomes == {3: workers.Failure("its process died, exit status 3")}

    assert dict(cluster_ingest.run(abs, list(range(-20, 0)), processes=2)) == {-n: n for n in range(1, 21)}

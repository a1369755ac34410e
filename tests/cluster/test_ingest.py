import os
from collections.abc import Iterator
from pathlib import Path

import av
import numpy as np
import pyarrow as pa
import pytest

from cluster import ingest as on_cluster
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


def write(path: Path, frames: int) -> None:
    pixels = np.random.default_rng(frames).integers(0, 256, (frames, 2, 3, 3), np.uint8).repeat(16, 1).repeat(16, 2)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=12)
        stream.width, stream.height, stream.pix_fmt = 48, 32, "yuv420p"
        for picture in pixels:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode(None))


def test_a_cache_made_on_a_cluster_is_the_one_made_here(tmp_path: Path) -> None:
    names = [f"{frames}.mp4" for frames in range(1, 13)]
    for frames, name in enumerate(names, start=1):
        write(tmp_path / name, frames)
    (tmp_path / names[4]).write_bytes(b"garbage")
    table = pa.table({"path": names, "label": pa.array(range(12), pa.int32()), "split": ["train"] * 12})
    store = StoreConfig(size=32)

    there = ingest(table, tmp_path, tmp_path / "there", store, jobs=2, run=on_cluster.run)

    here = ingest(table, tmp_path, tmp_path / "here", store, jobs=1)
    assert read_failures(there) == read_failures(here)
    assert [line["path"] for line in read_failures(there)] == ["5.mp4"]
    ours, theirs = open_clips(here, "train"), open_clips(there, "train")
    assert theirs.paths == ours.paths
    for i in range(11):
        np.testing.assert_array_equal(theirs.clip(i), ours.clip(i))


def test_a_job_that_kills_its_process_is_named_and_the_others_go_on() -> None:
    outcomes = dict(on_cluster.run(os._exit, [3], processes=2))
    assert outcomes == {3: workers.Failure("its process died, exit status 3")}

    assert dict(on_cluster.run(abs, list(range(-20, 0)), processes=2)) == {-n: n for n in range(1, 21)}

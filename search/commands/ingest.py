"""`vattn ingest`: print the predicted size of the clip cache, then decode a data set into it."""

import shutil
import sys
from argparse import Namespace
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pyarrow as pa
from pydantic import ValidationError

from search.report.live.progress import progress
from search.spec.messages import SpecError, problems
from search.spec.yaml_reader import Tree, override, parse
from vattn.base import Config
from vattn.config import AnyData, DataConfig
from vattn.data import workers
from vattn.data.cache import CONCEALED, FAILURES, read_failures, read_index
from vattn.data.dataset import Listed
from vattn.data.ingest import predicted_bytes

_UNITS = ("bytes", "kB", "MB", "GB", "TB")


class _Section(Config):
    """The data section of a spec."""

    data: AnyData


def run(arguments: Namespace) -> int:
    """Decode the data set of the command line; return the exit status."""
    store = {"size": arguments.size, "frames": arguments.frames, "codec": arguments.codec}
    return ingest_set(
        arguments.kind, arguments.root, arguments.out, store, arguments.modality, arguments.set,
        arguments.jobs, arguments.time_limit, arguments.address,
    )  # fmt: skip


def ingest_set(
    kind: str, root: str, cache: Path, store: Tree, modality: str, sets: list[str],
    jobs: int | None, time_limit: float, address: str | None,
) -> int:  # fmt: skip
    """Decode a data set into a folder below ``cache``; return the exit status, 1 if a file cannot be written.

    All is decoded before the clips with problems are counted.

    Args:
        kind: kind of the data set, as ``data.kind`` in a spec.
        root: folder of the data set.
        cache: folder of the clip cache.
        store: values of `vattn.data.config.StoreConfig`.
        modality: ``rgb`` or ``flow``.
        sets: further values of the data config, such as ``max_faults=10``.
        jobs: number of files decoded at the same time; None: one per core.
        time_limit: longest time for one file, seconds.
        address: Ray cluster that decodes the files; None: this machine.

    Raises:
        UserError: the input is invalid, or too many clips have problems.
    """
    data = _data_config({"kind": kind, "root": root, "cache": str(cache), "store": store, "modality": modality}, sets)
    # Paths are absolute: other nodes and later commands have other working directories.
    folder, target = Path(data.root).expanduser().absolute(), cache.expanduser().absolute()
    data.supply(folder, progress)
    splits = [Listed(split, folder, target, split.manifest(folder)) for split in data.each_split()]
    needed = predicted_bytes(pa.concat_tables([each.manifest for each in splits]), folder, data.store)
    free, clips = _free_bytes(target), " + ".join(str(len(each.manifest)) for each in splits)
    print(
        f"{clips} clips; about {format_bytes(needed)} in {target}, which has {format_bytes(free)} free", file=sys.stderr
    )
    if needed > free:
        print("this may not fit; lower --size or --frames, or use --codec jpeg", file=sys.stderr)
    options: dict[str, Any] = {"progress": progress, "time_limit": time_limit}
    with nullcontext() if address is None else _connected(address) as cluster:
        if cluster is None:
            options["jobs"] = jobs or workers.cores()
        else:
            from cluster.ingest import run

            options |= {"jobs": jobs or int(cluster.get("CPU", 1)), "run": run}
        # `ingest` takes the clips that a split shares with an earlier one from the earlier cache.
        try:
            caches = [each.ingest(**options) for each in splits]
        except OSError as error:
            print(error, file=sys.stderr)
            return 1
    for each, cache in zip(splits, caches, strict=True):
        print(_summary(cache, each.data))
    for each, cache in zip(splits, caches, strict=True):
        each.check(cache)
    return 0


def format_bytes(count: float) -> str:
    """Return a number of bytes with three digits and its unit, such as 1.5 GB."""
    unit = 0
    while count >= 1000 and unit < len(_UNITS) - 1:
        count, unit = count / 1000, unit + 1
    return f"{count:.3g} {_UNITS[unit]}"


def _data_config(tree: Tree, sets: list[str]) -> DataConfig:
    """Return the config of the command line; raise SpecError if it is invalid."""
    store: dict[str, Any] = tree["store"]
    store["frames"] = parse(str(store["frames"]))
    override(tree, sets)
    try:
        return _Section.parse({"data": tree}).data
    except ValidationError as error:
        raise SpecError([f"vattn ingest: {problem}" for problem in problems(error, _Section, {"data": tree})]) from None


def _connected(address: str) -> Any:
    from cluster.connect import connected

    return connected(address)


def _free_bytes(folder: Path) -> int:
    """Return the free space on the disk of a folder, which need not exist yet."""
    while not folder.exists():
        folder = folder.parent
    return shutil.disk_usage(folder).free


def _summary(cache: Path, data: DataConfig) -> str:
    """Return the lines that report a finished cache, with the data section of a spec that uses it."""
    index = read_index(cache)
    total = format_bytes(sum(file.stat().st_size for file in cache.iterdir()))
    failed, concealed = (len(read_failures(cache, name)) for name in (FAILURES, CONCEALED))
    lines = [f"{len(index)} clips, {total}, in {cache}"]
    lines += [f"{failed} files could not be read: {cache / FAILURES}"] if failed else []
    lines += [f"{concealed} are damaged, and the decoder concealed it: {cache / CONCEALED}"] if concealed else []
    store = ", ".join(f"{key}: {value}" for key, value in data.store.tree().items())
    split = "" if data.split == 1 else f" split: {data.split},"
    lines += [
        f"in a spec: data: {{kind: {data.kind}, root: {data.root},{split} cache: {data.cache}, store: {{{store}}}}}"
    ]
    return "\n".join(lines)

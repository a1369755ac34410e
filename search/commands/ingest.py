"""`vattn ingest`: a data set into the clip cache, with what it will take said before."""

import shutil
import sys
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa
from pydantic import ValidationError

from search.spec.messages import SpecError, problems
from search.spec.yaml_reader import Tree, override, parse
from vattn.base import Config
from vattn.config import AnyData, DataConfig
from vattn.data import workers
from vattn.data.cache import CONCEALED, FAILURES, read_failures, read_index
from vattn.data.ingest import ingest, predicted_bytes

_UNITS = ("bytes", "kB", "MB", "GB", "TB")


class _Asked(Config):
    """A data set as a spec describes it."""

    data: AnyData


def ingest_set(
    kind: str, root: str, cache: Path, store: Tree, modality: str, sets: list[str],
    jobs: int | None, time_limit: float, address: str | None,
) -> int:  # fmt: skip
    """Decode a data set below ``cache``; return the exit status, 1 where it is full.

    ``sets`` are more of the data config, ``max_faults=10``. Raises ValueError where the input is wrong.
    """
    from search.report.progress import progress

    data = _config({"kind": kind, "root": root, "cache": str(cache), "store": store, "modality": modality}, sets)
    # Absolute, as other nodes and later commands have working directories of their own.
    folder, target = Path(data.root).expanduser().absolute(), cache.expanduser().absolute()
    data.supply(folder, progress)
    splits = data.each_split()
    manifests = [split.manifest(folder) for split in splits]
    needed, room = predicted_bytes(pa.concat_tables(manifests), folder, data.store), _room(target)
    clips = " + ".join(str(len(manifest)) for manifest in manifests)
    print(f"{clips} clips; about {size(needed)} in {target}, which has {size(room)} free", file=sys.stderr)
    if needed > room:
        print("this may not fit; lower --size or --frames, or take --codec jpeg", file=sys.stderr)
    with nullcontext() if address is None else _connected(address) as have:
        read = partial(
            ingest, root=folder, cache=target, store=data.store, progress=progress, time_limit=time_limit,
            modality="flow" if data.modality == "flow" else "rgb",
        )  # fmt: skip
        if have is None:
            read = partial(read, jobs=jobs or workers.cores())
        else:
            from cluster.ingest import run

            read = partial(read, jobs=jobs or int(have.get("CPU", 1)), run=run)
        # A later split takes what it has in common with an earlier one from its cache.
        for split, manifest in zip(splits, manifests, strict=True):
            try:
                made = read(manifest)
            except OSError as error:
                print(error, file=sys.stderr)
                return 1
            print(_summary(made, split))
    return 0


def size(count: float) -> str:
    """Return a number of bytes in words: 1.5 GB."""
    unit = 0
    while count >= 1000 and unit < len(_UNITS) - 1:
        count, unit = count / 1000, unit + 1
    return f"{count:.3g} {_UNITS[unit]}"


def _config(tree: Tree, sets: list[str]) -> DataConfig:
    store: dict[str, Any] = tree["store"]
    store["frames"] = parse(str(store["frames"]))
    override(tree, sets)
    try:
        return _Asked.parse({"data": tree}).data
    except ValidationError as error:
        raise SpecError([f"vattn ingest: {problem}" for problem in problems(error, _Asked, {"data": tree})]) from None


def _connected(address: str) -> Any:
    from cluster.connect import connected

    return connected(address)


def _room(folder: Path) -> int:
    while not folder.exists():
        folder = folder.parent
    return shutil.disk_usage(folder).free


def _summary(made: Path, data: DataConfig) -> str:
    index = read_index(made)
    taken = size(sum(file.stat().st_size for file in made.iterdir()))
    failed, concealed = (len(read_failures(made, name)) for name in (FAILURES, CONCEALED))
    lines = [f"{len(index)} clips, {taken}, in {made}"]
    lines += [f"{failed} files could not be read: {made / FAILURES}"] if failed else []
    lines += [f"{concealed} are damaged, which their decoder concealed: {made / CONCEALED}"] if concealed else []
    store = ", ".join(f"{key}: {value}" for key, value in data.store.tree().items())
    split = "" if data.split == 1 else f" split: {data.split},"
    lines += [
        f"in a spec: data: {{kind: {data.kind}, root: {data.root},{split} cache: {data.cache}, store: {{{store}}}}}"
    ]
    return "\n".join(lines)

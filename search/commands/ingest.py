"""`vattn ingest`: print the classes, splits and predicted size of a data set, then decode it into the clip cache.

With ``--flow``, compute its optical flow instead (`search.commands._flow`).
"""

import json
import sys
from argparse import Namespace
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
from pydantic import ValidationError

from cluster.address import resolve
from search.commands._decoding import decoding_on
from search.commands._flow import write_flow
from search.report.live.progress import progress
from search.report.tables.data import cache_lines, cache_tree, summary_lines, warning_lines
from search.spec.messages import SpecError, problems
from search.spec.yaml_reader import Tree, override, parse
from vattn.base import Config
from vattn.config import AnyData, DataConfig
from vattn.data import listed
from vattn.data.cache import CONCEALED, FAILURES, read_failures, read_index
from vattn.data.dataset import Listed
from vattn.data.estimate import format_bytes, written
from vattn.data.flow import Method
from vattn.errors import UserError
from vattn.files import at_home


class _Section(Config):
    """The data section of a spec."""

    data: AnyData


#: Shorter side of what is stored, pixels: of frames, and of images of optical flow.
SIZE, FLOW_SIZE = 128, 256


def run(arguments: Namespace) -> int:
    """Decode the data set of the command line, or compute its optical flow; return the exit status."""
    names = ("size", "frames", "codec", "quality")
    store = {name: getattr(arguments, name) for name in names}
    if arguments.size is None:
        store["size"] = FLOW_SIZE if arguments.flow else SIZE
    if arguments.flow:
        return _flow(arguments, store)
    return ingest_set(
        arguments.kind, arguments.root, arguments.out, store, arguments.modality, arguments.set,
        arguments.jobs, arguments.time_limit, arguments.address, arguments.json,
    )  # fmt: skip


def ingest_set(
    kind: str, root: str, cache: Path, store: Tree, modality: str, sets: list[str],
    jobs: int | None, time_limit: float, address: str | None, machine_output: bool,
) -> int:  # fmt: skip
    """Decode a data set into a folder below ``cache``; return the exit status, 1 if a file cannot be written.

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
        machine_output: whether stdout gets the result as JSON; all text for people then goes to stderr.

    Raises:
        UserError: the input is invalid, the disk cannot hold the cache, or too many clips have problems.
    """
    data = _data_config({"kind": kind, "root": root, "cache": str(cache), "store": store, "modality": modality}, sets)
    if address is not None:
        resolve(address).probe()
    # Paths are absolute: other nodes and later commands have other working directories.
    places = {"root": str(at_home(data.root).absolute()), "cache": str(at_home(cache).absolute())}
    data.supply(Path(places["root"]), progress)
    splits = [listed(split.model_copy(update=places), Path(), progress) for split in data.each_split()]
    screen = sys.stderr if machine_output else sys.stdout
    for split in splits:
        summary = split.summary()
        print("\n".join([*summary_lines(kind, summary), *warning_lines(summary)]), file=screen)
        # Clips without a training or validation split may be there to be scored; wrong classes are never right.
        if summary.wrong_labels:
            summary.refuse()
    together = splits[0]
    if len(splits) > 1:
        # Clips that are in several splits are stored once.
        together = replace(together, manifest=pa.concat_tables([split.manifest for split in splits]))
    print("\n".join(cache_lines(together.estimate, together.cache)), file=screen, flush=True)
    together.refuse_if_full()
    with decoding_on(address, jobs) as where:
        # The clips that a split shares with an earlier one are taken from the earlier cache.
        try:
            caches = [split.ingest(progress=progress, time_limit=time_limit, **where) for split in splits]
        except OSError as error:
            print(error, file=sys.stderr)
            return 1
    for split, folder in zip(splits, caches, strict=True):
        print(_summary(folder, split.data), file=screen)
    for split, folder in zip(splits, caches, strict=True):
        split.check(folder)
    if machine_output:
        sizes = cache_tree(together.estimate, together.cache, data.store)
        print(json.dumps({"splits": [_tree(*pair) for pair in zip(splits, caches, strict=True)]} | sizes, indent=2))
    return 0


def _data_config(tree: Tree, sets: list[str]) -> DataConfig:
    """Return the config of the command line; raise SpecError if it is invalid."""
    store: dict[str, Any] = tree["store"]
    store["frames"] = parse(str(store["frames"]))
    override(tree, sets)
    try:
        return _Section.parse({"data": tree}).data
    except ValidationError as error:
        raise SpecError([f"vattn ingest: {problem}" for problem in problems(error, _Section, {"data": tree})]) from None


def _flow(arguments: Namespace, store: Tree) -> int:
    """Compute the optical flow of the data set of the command line; return the exit status."""
    if arguments.modality != "rgb":
        raise UserError(
            "is computed from frames of colours",
            path="--flow",
            way_out="leave --modality out",
            found=arguments.modality,
        )
    tree = {"kind": arguments.kind, "root": arguments.root, "store": store}
    weights = arguments.flow_weights
    method = Method(arguments.flow, str(weights.absolute()) if weights else "")
    return write_flow(
        _data_config(tree, arguments.set), arguments.out, method, arguments.jobs, arguments.time_limit,
        arguments.address, arguments.json,
    )  # fmt: skip


def _summary(cache: Path, data: DataConfig) -> str:
    """Return the lines that report a finished cache, with the data section of a spec that uses it."""
    index = read_index(cache)
    total = format_bytes(sum(file.stat().st_size for file in cache.iterdir()))
    failed, concealed = (len(read_failures(cache, name)) for name in (FAILURES, CONCEALED))
    lines = [f"{len(index)} clips, {total}, in {cache}"]
    lines += [f"{failed} files could not be read: {cache / FAILURES}"] if failed else []
    lines += [f"{concealed} are damaged or incomplete, and used as they are: {cache / CONCEALED}"] if concealed else []
    split = "" if data.split == 1 else f" split: {data.split},"
    store = written(data.store)
    lines += [f"in a spec: data: {{kind: {data.kind}, root: {data.root},{split} cache: {data.cache}, store: {store}}}"]
    return "\n".join(lines)


def _tree(split: Listed, cache: Path) -> dict[str, Any]:
    """Return what was ingested of one split, for machines."""
    unread, concealed = (read_failures(cache, name) for name in (FAILURES, CONCEALED))
    return {"kind": split.data.kind, "split": split.data.split} | split.summary().tree() | {
        "folder": str(cache), "unreadable": unread, "concealed": concealed,
    }  # fmt: skip

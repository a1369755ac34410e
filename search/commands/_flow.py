"""`vattn ingest --flow`: compute the optical flow of a data set's videos, as folders of images."""

import json
import sys
from pathlib import Path

from search.commands._decoding import decoding_on
from search.report.live.progress import progress
from vattn.data.cache import FAILURES
from vattn.data.config import DataConfig
from vattn.data.flow import FlowFolders, Method
from vattn.data.layouts import LayoutConfig
from vattn.errors import UserError
from vattn.files import at_home

#: Failures that are printed.
_SHOWN = 5


def write_flow(
    data: DataConfig, out: Path, method: Method, jobs: int | None, time_limit: float,
    address: str | None, machine_output: bool,
) -> int:  # fmt: skip
    """Write the flow of a data set below ``out``, with lists for `kind: list`; return the exit status.

    Args:
        data: the data set; size and quality of the images are those of its store.
        out: folder to write to.
        method: how flow is computed.
        jobs: number of videos at the same time; None: one per core.
        time_limit: longest time for one video, seconds.
        address: the Ray cluster that computes the flow; None: this machine.
        machine_output: whether stdout gets the result as JSON; all text for people then goes to stderr.

    Raises:
        UserError: the input is invalid, or no video can be read.
    """
    root, out = at_home(data.root).absolute(), at_home(out).absolute()
    prefix = data.prefix if isinstance(data, LayoutConfig) else "auto"
    folders = FlowFolders(root, out, method, data.store.size, data.store.quality, prefix)
    data.supply(root, progress)
    splits = data.each_split()
    manifests = [split.manifest(root) for split in splits]
    with decoding_on(address, jobs) as where:
        outcome = folders.write(manifests, progress=progress, time_limit=time_limit, **where)
    screen = sys.stderr if machine_output else sys.stdout
    if outcome.failures and not outcome.written + outcome.present:
        path, reason = outcome.failures[0]
        raise UserError(
            f"none of its {len(outcome.failures)} videos could be read",
            file=root,
            way_out=f"the first, {path}: {reason}",
        )
    for path, reason in outcome.failures[:_SHOWN]:
        print(f"{path}: {reason}", file=sys.stderr)
    print(f"flow of {outcome.written + outcome.present} videos in {out}, {outcome.present} of them before", file=screen)
    if outcome.failures:
        print(f"{len(outcome.failures)} could not be read, and are in no list: {out / FAILURES}", file=screen)
    lists = []
    for split, manifest in zip(splits, manifests, strict=True):
        folder = f"split{split.split}" if len(splits) > 1 else ""
        clips = folders.write_lists(manifest, split.labels(), folder)
        lists.append({"folder": str(out / folder), "clips": clips})
        names = {name: f"{folder}/{name}.txt".lstrip("/") if clips[name] else "none" for name in clips}
        keys = ", ".join(f"{name}: {file}" for name, file in names.items())
        names_file = f"{folder}/classes.txt".lstrip("/")
        print(f"in a spec: data: {{kind: list, root: {out}, {keys}, names: {names_file}, modality: flow}}", file=screen)
    if machine_output:
        failed = [{"path": path, "reason": reason} for path, reason in outcome.failures]
        print(json.dumps({"folder": str(out), "written": outcome.written, "present": outcome.present,
                          "unreadable": failed, "lists": lists}, indent=2))  # fmt: skip
    return 0

"""`vattn latency`: the measured time of a forward pass of a config, or of each trial on the front of a search."""

import json
from argparse import Namespace
from collections.abc import Iterator
from typing import Any, NamedTuple

from search.analysis.front import front_of
from search.commands._spec import config_file, data_overrides
from search.ledger.runs import open_run
from search.report.tables.columns import align
from search.report.wording.trials import describe
from search.spec.validation import load_config
from vattn.config import TrialConfig
from vattn.cost import cost
from vattn.errors import UserError
from vattn.files import at_home

HEAD = ("mode", "batch", "p50 ms", "p99 ms", "clips/s", "runs", "")


class Named(NamedTuple):
    """A model, and what it is called."""

    name: str
    config: TrialConfig


def run(arguments: Namespace) -> None:
    """Print the latency of what the command line names."""
    models = list(_models(arguments))
    # torch takes a second to import.
    import torch

    from vattn.latency import ROUNDS, Subject, UnmeasurableError, device_name, device_of

    device = device_of(arguments.device)
    threads = arguments.threads or torch.get_num_threads()
    on = {"device": device.type, "name": device_name(device), "threads": threads, "precision": "float32"}
    batches = sorted({1, arguments.batch})
    if not arguments.json:
        rule = f"median of {ROUNDS} repetitions after a warm-up, clips on the device"
        print(f"{device.type}: {on['name']}, {threads} thread{'s' * (threads > 1)}, float32; {rule}")
    trees = []
    for named in models:
        model, classes = named.config.model, named.config.data.num_classes()
        subject = Subject(model, classes, device, threads)
        rows: list[dict[str, Any]] = []
        for mode in arguments.modes:
            for batch in batches:
                row: dict[str, Any] = {"mode": mode, "batch": batch}
                try:
                    row |= subject.measure(mode, batch)._asdict()
                except UnmeasurableError as error:
                    row["not_measured"] = str(error)
                rows.append(row)
        gflops = cost(model, classes).gflops
        trees.append({"model": named.name, "gflops": gflops, "measured": rows})
        if not arguments.json:
            frames = model.frames * model.backbone.frames_per_segment
            print(f"\n{named.name}: {frames} x {model.size} x {model.size}, {gflops:.4g} GFLOPs")
            print(align([HEAD, *map(_cells, rows)], right=len(HEAD) - 1), flush=True)
    if arguments.json:
        print(json.dumps({**on, "models": trees}, indent=2))


def _cells(row: dict[str, Any]) -> list[str]:
    if "not_measured" in row:
        return [row["mode"], str(row["batch"]), "-", "-", "-", "-", f"not measured: {row['not_measured']}"]
    times = [f"{row[name]:.4g}" for name in ("p50_ms", "p99_ms", "clips_per_second")]
    return [row["mode"], str(row["batch"]), *times, str(row["runs"]), ""]


def _models(arguments: Namespace) -> Iterator[Named]:
    """Yield the models that are measured. Raises UserError for a search without a finished trial, or no such file."""
    file = config_file(at_home(arguments.what))
    if file.is_file() or file.suffix in (".yaml", ".yml", ".safetensors"):
        yield Named(str(arguments.what), load_config(file, data_overrides(arguments)))
        return
    history = open_run(arguments.what)
    front = front_of(history, history.objectives)
    if not front:
        raise UserError("has no finished trial", file=arguments.what, way_out="wait, or name a config")
    if arguments.set or arguments.data is not None:
        raise UserError("changes a config, and this is a search", path="--set", way_out="export a trial, and name that")
    for trial in front:
        config: TrialConfig = TrialConfig.parse(trial.config)
        yield Named(f"trial {trial.number}, {describe(trial)}", config)

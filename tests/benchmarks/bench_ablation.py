"""Ablation of the mechanisms on the motion set, at a size for a CPU.

All networks have the same training config. Each is trained with three seeds, which set the weights and the clips.

    python tests/benchmarks/bench_ablation.py [--seeds 3] [--only NAME ...] [--out runs/ablation]
    python tests/benchmarks/bench_ablation.py --table [--out runs/ablation]

Each finished run is a line of OUT/rows.jsonl. The same command continues after the last finished run. All networks are
trained with the first seed before the second. ``--table`` prints the finished runs as Markdown, and tests whether the
orderings of the papers' tables hold.

Accuracies are measured with the weights of the last epoch on the test split, which no decision depends on. "Within
pairs" is the fraction of clips whose own class has a higher score than its reverse; it is 0.5 for a network that cannot
see the order of frames, whatever its scores for the other classes. Reductions are a quarter of their defaults of 8 and
16, because the widths are a quarter of the papers' widths.
"""

import argparse
import json
import os
import statistics
import tempfile
import time
from collections.abc import Sequence
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple

os.environ.setdefault("OMP_NUM_THREADS", "1")

import torch
from scipy.stats import t as student
from scipy.stats import ttest_ind

from vattn.canonical import trial_id
from vattn.config import TrialConfig
from vattn.cost import cost
from vattn.data import open_clips, prepare
from vattn.model import build_model
from vattn.training.evaluation import score
from vattn.training.fit import fit

DATA = {"kind": "motion", "train_clips": 40, "val_clips": 10, "test_clips": 40}
TRAIN = {"epochs": 10, "batch": 32, "optimizer": "sgd", "lr": 0.1, "schedule": "cosine"}
CLIP = {"frames": 8, "size": 48, "head": {"kind": "average", "dropout": 0.1}}

#: basic blocks
RESNET10 = {"kind": "resnet", "depth": 10, "width": 0.25}
#: bottlenecks, for mechanisms that replace a convolution of a bottleneck
RESNET14 = {"kind": "resnet", "depth": 14, "width": 0.25}
INFLATED = {"kind": "i3d_resnet", "depth": 10, "width": 0.25}
#: dilations in time of the T-CNN's pairs of convolutions, by stage, as in the paper
PAIRS = ((1,), (1,), (1,), (1, 4, 4, 4, 1, 4), (1, 2, 4), (1, 2, 2, 1), (1, 2))
#: channels of the T-CNN's stages, a quarter of the paper's
WIDTHS = (8, 16, 24, 40, 56, 72, 128)

#: backbone and mechanisms by name, in the order of the table
NETWORKS: dict[str, tuple[dict[str, Any], list[dict[str, Any]]]] = {
    "2D": (RESNET10, []),
    "2D + C2D-Pool": (RESNET10, [{"kind": "c2d_pool"}]),
    "2D + non-local": (RESNET10, [{"kind": "nonlocal"}]),
    "2D + C2D-TConv": (RESNET10, [{"kind": "c2d_tconv"}]),
    "2D + TSM": (RESNET10, [{"kind": "tsm"}]),
    "2D + TAM": (RESNET10, [{"kind": "tam"}]),
    "2D + TEA's ME": (RESNET10, [{"kind": "tea", "reduction": 4}]),
    "2D + ACTION": (RESNET10, [{"kind": "action", "reduction": 4}]),
    "2D + TDN": (RESNET10, [{"kind": "tdn", "reduction": 4}]),
    "2D + CSTL": (RESNET10, [{"kind": "cstl"}]),
    "2D + M2A-Attention": (RESNET10, [{"kind": "m2a", "reduction": 2, "motion": "none"}]),
    "2D + M2A-Motion": (RESNET10, [{"kind": "m2a", "reduction": 2, "attention": "none"}]),
    "2D + M2A": (RESNET10, [{"kind": "m2a", "reduction": 2}]),
    "2D + M2A + TSM": (RESNET10, [{"kind": "m2a", "reduction": 2}, {"kind": "tsm"}]),
    "2D bottlenecks": (RESNET14, []),
    "2D bottlenecks + I3D 3x1x1": (RESNET14, [{"kind": "i3d"}]),
    "2D bottlenecks + TEA's MTA": (RESNET14, [{"kind": "mta"}]),
    "2D bottlenecks + TEA": (RESNET14, [{"kind": "tea", "reduction": 4}, {"kind": "mta"}]),
    "I3D": (INFLATED, []),
    "I3D + STA": (INFLATED, [{"kind": "sta"}]),
    "T-CNN, dilations 1": (
        {"kind": "tcnn", "widths": WIDTHS, "dilations": [[1] * len(stage) for stage in PAIRS]}, [],
    ),
    "T-CNN, the paper's dilations": ({"kind": "tcnn", "widths": WIDTHS, "dilations": PAIRS}, []),
    "2D bottlenecks + TAM": (RESNET14, [{"kind": "tam"}]),
    "I3D + TA": (INFLATED, [{"kind": "sta", "weights": "ta"}]),
    "I3D + SA": (INFLATED, [{"kind": "sta", "weights": "sa"}]),
}  # fmt: skip


#: paper and table, then the network with the higher top-1 accuracy there, and the one with the lower
ORDERINGS = (
    ("M2A, I", "2D + M2A-Attention", "2D"),
    ("M2A, I", "2D + M2A-Motion", "2D + M2A-Attention"),
    ("M2A, I", "2D + M2A", "2D + M2A-Motion"),
    ("M2A, V", "2D + M2A + TSM", "2D + TSM"),
    ("M2A, V", "2D + TSM", "2D + M2A"),
    ("M2A, V", "2D + M2A", "2D + TEA's ME"),
    ("M2A, V", "2D + TEA's ME", "2D + TDN"),
    ("M2A, V", "2D + TDN", "2D + TAM"),
    ("TAM, 2", "2D + TAM", "2D"),
    ("TAM, 2", "2D + TAM", "2D + C2D-Pool"),
    ("TAM, 2", "2D + TAM", "2D + C2D-TConv"),
    ("TAM, 2", "2D + TAM", "2D + TSM"),
    ("TAM, 2", "2D + TAM", "2D + non-local"),
    ("TAM, 2", "2D bottlenecks + TAM", "2D bottlenecks + I3D 3x1x1"),
    ("STA, VII", "I3D + STA", "I3D"),
    ("STA, VII", "I3D + STA", "I3D + TA"),
    ("STA, VII", "I3D + STA", "I3D + SA"),
    ("T-CNN, 1 (by search)", "T-CNN, the paper's dilations", "T-CNN, dilations 1"),
)


class Run(NamedTuple):
    """One trained network: its metrics on the test split, and the CPU seconds of each epoch, validation included."""

    name: str
    seed: int
    trial: str
    top1: float
    within_pairs: float
    epochs: list[float]


def config_of(name: str, seed: int) -> TrialConfig:
    """Return the config of a network of the table."""
    backbone, attention = NETWORKS[name]
    model = {**CLIP, "backbone": backbone, "attention": attention}
    return TrialConfig.parse({"data": {**DATA, "seed": seed}, "model": model, "train": {**TRAIN, "seed": seed}})


def train(name: str, seed: int, cache: Path) -> Run:
    """Train one network with one seed, and return its metrics on the test split."""
    config, device, seconds = config_of(name, seed), torch.device("cpu"), []
    with tempfile.TemporaryDirectory() as folder:
        began = time.process_time()
        for _ in fit(config, cache, Path(folder), device):
            seconds.append(time.process_time() - began)
            began = time.process_time()
        net = build_model(config.model, config.data.num_classes())
        net.load_state_dict(torch.load(Path(folder) / "model.pt", weights_only=True))
    batches = score(net, open_clips(cache, "test"), config, device)
    scores, labels = (torch.cat(parts) for parts in zip(*batches, strict=True))
    top1 = (scores[:, 0].argmax(1) == labels).double().mean().item()
    return Run(name, seed, trial_id(config), top1, within_pairs(scores[:, 0], labels), seconds)


def within_pairs(scores: torch.Tensor, labels: torch.Tensor) -> float:
    """Return the fraction of clips whose class scores above its reverse, from scores (N, 16); a tie counts one half."""
    own, reverse = (scores.gather(1, index[:, None]) for index in (labels, labels ^ 1))
    return ((own > reverse).double() + (own == reverse).double() / 2).mean().item()


def finished(rows: Path) -> list[Run]:
    """Return the runs in the file whose config is the current one of their network; the last one of each seed."""
    if not rows.exists():
        return []
    runs = [Run(**json.loads(line)) for line in rows.read_text().splitlines()]
    known = {(run.name, run.seed): run for run in runs if run.name in NETWORKS}
    return [run for run in known.values() if run.trial == trial_id(config_of(run.name, run.seed))]


def table(runs: Sequence[Run]) -> str:
    """Return accuracy and cost of the networks as Markdown: means, and half of a 95 % interval (Student's t).

    For two seeds, the interval would be wider than the range of accuracies, so both values follow the mean instead.
    """
    lines = [
        "| network | seeds | top-1, % | within pairs, % | GFLOPs | parameters, M | CPU s an epoch |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    for name in NETWORKS:
        if network_runs := [run for run in runs if run.name == name]:
            model = config_of(name, 0).model
            model_cost = cost(model, 16)
            blind = model.backbone.folds and all(module.reversal_equivariant for module in model.attention)
            seconds = statistics.median(second for run in network_runs for second in run.epochs)
            lines.append(
                f"| {name}{' =' if blind else ''} | {len(network_runs)} "
                f"| {_interval([run.top1 for run in network_runs])} "
                f"| {_interval([run.within_pairs for run in network_runs])} "
                f"| {model_cost.gflops:.4f} | {model_cost.params_m:.3f} "
                f"| {seconds:.1f} |"
            )
    return "\n".join(lines)


def _interval(rates: Sequence[float]) -> str:
    mean = f"{100 * statistics.mean(rates):.1f}"
    if len(rates) < 3:
        return mean if len(rates) == 1 else f"{mean} ({100 * min(rates):.1f}, {100 * max(rates):.1f})"
    half = student.ppf(0.975, len(rates) - 1) * statistics.stdev(rates) / len(rates) ** 0.5
    return f"{mean} ± {100 * half:.1f}"


def orderings(runs: Sequence[Run]) -> str:
    """Return the papers' orderings as Markdown: difference in top-1, 95 % interval (Welch), whether it holds."""
    lines = [
        "| paper, table | higher in the paper | lower in the paper | difference in this benchmark, points | ordering |",
        "| --- | --- | --- | --- | --- |",
    ]
    for source, better, worse in ORDERINGS:
        higher, lower = ([100 * run.top1 for run in runs if run.name == name] for name in (better, worse))
        if min(len(higher), len(lower)) > 1:
            low, high = ttest_ind(higher, lower, equal_var=False).confidence_interval(0.95)
            verdict = "holds" if low > 0 else "does not hold" if high < 0 else "is undecided"
            difference = statistics.mean(higher) - statistics.mean(lower)
            lines.append(
                f"| {source} | {better} | {worse} | {difference:+.1f} ({low:+.1f} to {high:+.1f}) | {verdict} |"
            )
    return "\n".join(lines)


def main() -> None:
    """Train the runs that are missing, or print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=3, help="runs of each network (default: 3)")
    parser.add_argument(
        "--only", nargs="+", choices=NETWORKS, default=list(NETWORKS), metavar="NAME", help="only these networks"
    )
    parser.add_argument("--out", type=Path, default=Path("runs/ablation"), help="folder of clips and rows.jsonl")
    parser.add_argument("--table", action="store_true", help="train nothing, print the finished runs")
    arguments = parser.parse_args()
    rows = arguments.out / "rows.jsonl"
    runs = finished(rows)
    if arguments.table:
        print(table(runs), orderings(runs), sep="\n\n")
        return
    done = {(run.name, run.seed) for run in runs}
    torch.set_num_threads(1)
    wanted: list[str] = arguments.only
    for seed, name in product(range(arguments.seeds), wanted):
        if (name, seed) not in done:
            cache = prepare(config_of(name, seed).data, arguments.out / f"clips-{seed}")
            run = train(name, seed, cache)
            with rows.open("a") as file:
                file.write(json.dumps(run._asdict()) + "\n")
            print(
                f"seed {seed}  {name:30} top-1 {run.top1:.3f}  within pairs {run.within_pairs:.3f}  "
                f"{statistics.median(run.epochs):.1f} s an epoch",
                flush=True,
            )


if __name__ == "__main__":
    main()

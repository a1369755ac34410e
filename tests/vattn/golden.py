"""Recordings of the authors' code (tests/golden): reads a file and compares a network with it."""

import json
import os
import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

#: The recordings (.npz) that tests read.
FOLDER = Path(os.environ.get("VATTN_GOLDEN", Path(__file__).parents[1] / "golden"))
#: The recordings of MARS's distillation, flow and fusion.
MARS = Path(__file__).parents[1] / "golden" / "mars"

State = Mapping[str, Tensor]


def _call(net: nn.Module, x: Tensor) -> Tensor:
    return net(x)


@dataclass
class Case:
    """The network that reproduces one recording."""

    net: nn.Module
    rename: Callable[[State], Mapping[str, Tensor]]  # from the authors' names to those of ``net``
    run: Callable[..., Tensor] = _call  # (net, input, ...) -> output, in the recorded layout
    taps: str = ""  # prefix of the recorded names of stages in ``net``
    given: tuple[str, ...] = ()  # recorded arrays that ``run`` takes after the input
    x: Tensor | None = None  # the input, where it is not recorded


class Options(Mapping[str, Any]):
    """Options of the recorded module. Counts which were read, so that a test fails if one is ignored."""

    def __init__(self, values: Mapping[str, Any]) -> None:
        self._values, self.unread = values, set(values)

    def __getitem__(self, name: str) -> Any:
        self.unread.discard(name)
        return self._values[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def seen_in_parameters(self, name: str) -> None:
        """Mark as read an option that only affects the parameters, which are recorded."""
        self.unread.discard(name)


class Recording:
    """One file of recorded arrays; tests/golden/README.md describes its keys."""

    def __init__(self, file: Path) -> None:
        self.file = file
        with np.load(file) as arrays:
            self.arrays = {name: arrays[name] for name in arrays.files if name != "meta"}
            self.meta: dict[str, Any] = json.loads(str(arrays["meta"]))

    def case(self, builders: Mapping[str, Callable[[dict[str, Any]], Case]]) -> Case:
        """Return the network for this recording; fail if no builder knows its module or one of its options."""
        module, options = self.meta["module"], Options(self.meta["config"])
        assert module in builders, f"{self.file}: no builder for the module {module!r}"
        stored = {name.removeprefix("param/"): a.shape for name, a in self.arrays.items() if name.startswith("param/")}
        case = builders[module](self.meta | {"config": options, "shapes": stored})
        assert not options.unread, f"{self.file}: the builder ignores the options {options.unread}"
        return case

    def tensor(self, name: str) -> Tensor:
        return torch.from_numpy(self.arrays[name])

    def group(self, group: str) -> dict[str, Tensor]:
        names = [name for name in self.arrays if name.startswith(group + "/")]
        return {name.removeprefix(group + "/"): self.tensor(name) for name in names}

    def params(self) -> dict[str, Tensor]:
        if "param_recipe" not in self.meta:
            return self.group("param")
        shapes = [(name, tuple(shape)) for name, shape in self.meta["param_names"]]
        return {name: self._generated(name, shape) for name, shape in shapes}

    def _generated(self, name: str, shape: tuple[int, ...]) -> Tensor:
        rng = np.random.default_rng([self.meta["param_seed"], zlib.crc32(name.encode())])
        if name.endswith("running_var") or (len(shape) == 1 and name.endswith(".weight")):
            values = rng.uniform(0.5, 1.5, shape)
        elif len(shape) == 1:
            values = 0.1 * rng.standard_normal(shape)
        else:
            gain = self.meta.get("param_gain", 1.5)
            values = np.sqrt(gain / np.prod(shape[1:])) * rng.standard_normal(shape)
        return torch.from_numpy(np.asarray(values, dtype=np.float32))

    def check(self, case: Case) -> None:
        """Assert that ``case`` reproduces the recording."""
        training = self.meta["mode"] == "train"
        net = case.net.train(training)
        missing, unknown = net.load_state_dict(case.rename(self.params()), strict=False)
        assert not unknown
        assert all(name.endswith("num_batches_tracked") for name in missing), missing
        stages = self.group("tap")
        outputs = {name: _Output(net.get_submodule(case.taps + name)) for name in stages}
        x = (self.tensor("input") if case.x is None else case.x).requires_grad_()

        y = case.run(net, x, *map(self.tensor, case.given))

        self._close("output", y, self.tensor("output"), "output")
        if "cotangent" in self.arrays:
            y.backward(self.tensor("cotangent"))
            self._close("grad_input", x.grad, self.tensor("grad_input"), "input gradient")
        own = dict(net.named_parameters())
        for name, gradient in case.rename(self.group("grad_param")).items():
            self._close("grad_param", own[name].grad, gradient, f"gradient of {name}")
        state = net.state_dict()
        for name, value in case.rename(self.group("after")).items():
            self._close("output", state[name], value, f"{name} after the forward pass")
        for name, expected in stages.items():
            out = outputs[name].value.double()
            statistics = torch.stack([out.mean(), out.std(), out.abs().max()])
            torch.testing.assert_close(
                statistics, expected.double(), rtol=1e-4, atol=1e-5, msg=partial("{}: {}".format, name)
            )

    def _close(self, kind: str, actual: Tensor | None, expected: Tensor, name: str) -> None:
        assert actual is not None, name
        tolerance = self.meta["tolerance"][kind]
        torch.testing.assert_close(actual, expected, **tolerance, msg=partial("{}: {}".format, name))


class _Output:
    """Keeps the last output of a module."""

    def __init__(self, module: nn.Module) -> None:
        module.register_forward_hook(self._keep)

    def _keep(self, module: nn.Module, args: object, output: Tensor) -> None:
        self.value = output.detach()

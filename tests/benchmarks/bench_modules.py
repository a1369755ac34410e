"""Speed of the mechanisms, against the reference implementations of their formulas and as a part of a training step.

One part counts the operations of a step, and the last one times the closed-form cost. Runs all parts, or those that
are named:

    python tests/benchmarks/bench_modules.py [tam] [modules] [training] [kernels] [cost]

Times are milliseconds of a forward and a backward pass at the sites of ResNet-50, for clips of 8 x 224 x 224 pixels, in
one CPU thread. Implementations that are compared run alternately in one process, and a ratio is the median over these
rounds, so that the load of the machine affects all of them equally. On a CPU, times are CPU times of the process; the
wall time follows in brackets where it is more than 10 % longer.
"""

import argparse
import copy
import statistics
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from itertools import product
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from tests.benchmarks.tables import row, table
from tests.vattn.counting import model_macs, use_reference_forms
from vattn import cost as closed_form
from vattn.config import ModelConfig
from vattn.insert import Folded
from vattn.model import build_model
from vattn.modules import Layer, ModuleConfig, Site
from vattn.modules.tam import TAM, TAMConfig, aggregate

#: frames of a clip
FRAMES = 8
#: pixels, side of a frame
SIZE = 224
CLASSES = 174
#: memory formats of the features, in a network of single images
ORDERS = {"N T C H W": torch.contiguous_format, "N T H W C": torch.channels_last}
#: memory format of the features in a training
TRAINING_ORDER = "N T H W C"


#: rounds of a comparison, also if they take longer than its time
MIN_ROUNDS = 3


@dataclass(frozen=True)
class Setting:
    """The device and the settings of the measurement.

    ``seconds`` is the time for each comparison. ``peak`` is the memory bandwidth of the device in GB/s, 0 if unknown.
    """

    device: torch.device
    dtype: torch.dtype
    compiled: bool
    seconds: float
    clips: int
    stages: tuple[int, ...]
    kinds: tuple[str, ...]
    peak: float

    def autocast(self) -> torch.autocast:
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.dtype != torch.float32)

    def wait(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)


class Times:
    """Runs functions alternately, and keeps the seconds of each call by the name of the function."""

    def __init__(self, runs: Mapping[str, Callable[[], object]], on: Setting) -> None:
        self.cpu: dict[str, list[float]] = {name: [] for name in runs}
        self.wall: dict[str, list[float]] = {name: [] for name in runs}
        for run in runs.values():
            # Warm-up: the first call compiles, the second one has its memory allocated.
            run()
            run()
        end, rounds = time.perf_counter() + on.seconds, 0
        while rounds < MIN_ROUNDS or time.perf_counter() < end:
            # Every second round is in reverse order, so that no function always follows the same one.
            for name in list(runs)[:: -1 if rounds % 2 else 1]:
                on.wait()
                wall, cpu = time.perf_counter(), time.process_time()
                runs[name]()
                on.wait()
                self.wall[name].append(time.perf_counter() - wall)
                self.cpu[name].append(time.process_time() - cpu if on.device.type == "cpu" else self.wall[name][-1])
            rounds += 1

    def ms(self, name: str) -> float:
        return 1e3 * statistics.median(self.cpu[name])

    def show(self, name: str) -> str:
        cpu, wall = self.ms(name), 1e3 * statistics.median(self.wall[name])
        return f"{cpu:.1f}" if wall < 1.1 * cpu else f"{cpu:.1f} ({wall:.1f})"

    def ratio(self, name: str, to: str) -> str:
        return f"{statistics.median(a / b for a, b in zip(self.cpu[name], self.cpu[to], strict=True)):.1f}"


def resnet50(*attention: ModuleConfig) -> ModelConfig:
    modules = [module.tree() for module in attention]
    backbone = {"kind": "resnet", "depth": 50}
    return ModelConfig.parse({"frames": FRAMES, "size": SIZE, "backbone": backbone, "attention": modules})


def sites(module: ModuleConfig, stages: tuple[int, ...]) -> list[Site]:
    """Return the default sites of a mechanism that are in these stages."""
    return [site for site in module.at(resnet50().backbone.sites(SIZE)) if site.stage in stages]


def images(channels: int, site: Site, order: str, on: Setting) -> Tensor:
    x = torch.randn(on.clips * FRAMES, channels, site.height, site.width, device=on.device, dtype=on.dtype)
    return x.contiguous(memory_format=ORDERS[order])


def step(net: Callable[[Tensor], Tensor], site: Site, order: str, on: Setting) -> Callable[[], None]:
    """Return a function that does a forward and a backward pass; input and output have the same memory format."""
    x, memory = images(site.channels, site, order, on).requires_grad_(), ORDERS[order]
    run = torch.compile(net, dynamic=False) if on.compiled else net
    with torch.no_grad(), on.autocast():
        cotangent = torch.randn_like(net(x).contiguous(memory_format=memory))

    def forward_backward() -> None:
        x.grad = None
        with on.autocast():
            y = run(x)
        y.contiguous(memory_format=memory).backward(cotangent)

    return forward_backward


def module_and_reference(module: ModuleConfig, site: Site, on: Setting) -> tuple[Folded, Folded]:
    """Return the module as this project implements it, and a copy in the reference implementation."""
    optimised = Folded(module.build(site, FRAMES), FRAMES).to(on.device)
    reference = copy.deepcopy(optimised)
    use_reference_forms(reference)
    return optimised, reference


def authors_tam(tam: TAM, images: Tensor) -> Tensor:
    """Return TAM's output by its authors' implementation: copies to clips and back, one convolution of N * C groups."""
    assert tam.kernel is not None
    assert tam.gate is not None
    x = images.unflatten(0, (-1, FRAMES)).transpose(1, 2).contiguous()
    n, c, t, h, w = x.shape
    mean = F.adaptive_avg_pool2d(x.view(n * c, t, h, w), 1).view(n, c, t)
    taps = tam.kernel(mean.view(n * c, t)).view(n * c, 1, -1, 1)
    gated = (x * tam.gate(mean).view(n, c, t, 1, 1)).view(1, n * c, t, h * w)
    y = F.conv2d(gated, taps, padding=(taps.shape[2] // 2, 0), groups=n * c)
    return y.view(n, c, t, h, w).transpose(1, 2).contiguous().view(n * t, c, h, w)


def tam_part(on: Setting) -> None:
    columns = [
        "stage", "memory", "authors' implementation", "reference", "vattn", "authors' / vattn", "reference / vattn",
    ]  # fmt: skip
    table(*columns, *["of copy speed", *["of peak bandwidth"] * bool(on.peak)])
    for stage, order in product(on.stages, ORDERS):
        torch.compiler.reset()
        site = sites(TAMConfig(), (stage,))[-1]
        optimised, reference = module_and_reference(TAMConfig(), site, on)
        assert isinstance(optimised.module, TAM)
        nets = {"authors": partial(authors_tam, optimised.module), "reference": reference, "vattn": optimised}
        times = Times({name: step(net, site, order, on) for name, net in nets.items()}, on)
        shown = [times.show(name) for name in nets]
        ratios = [times.ratio(name, "vattn") for name in ("authors", "reference")]
        row(f"res{stage}", order, *shown, *ratios, *aggregation(site, order, on))


def aggregation(site: Site, order: str, on: Setting) -> Iterator[str]:
    """Yield the speed of the aggregation's forward pass relative to a copy: both must read x and write y once."""
    x = images(site.channels, site, order, on).unflatten(0, (-1, FRAMES)).transpose(1, 2)
    weights, y = torch.rand(*x.shape[:3], 3, device=on.device, dtype=on.dtype), torch.empty_like(x)
    run = torch.compile(aggregate, dynamic=False) if on.compiled else aggregate
    with torch.no_grad():
        times = Times({"copy": lambda: y.copy_(x), "aggregate": lambda: run(x, weights)}, on)
    yield f"{times.ms('copy') / times.ms('aggregate'):.0%}"
    if on.peak:
        yield f"{2 * x.nbytes / 1e6 / times.ms('aggregate') / on.peak:.0%}"


def modules_part(on: Setting) -> None:
    table("mechanism", "memory", *(f"res{stage}: reference, vattn, ratio" for stage in on.stages))
    for kind, order in product(on.kinds, ORDERS):
        module = ModuleConfig.kinds[kind]()
        assert isinstance(module, ModuleConfig)
        cells = []
        for stage in on.stages:
            torch.compiler.reset()
            if stage_sites := sites(module, (stage,)):
                site = stage_sites[-1]
                optimised, reference = module_and_reference(module, site, on)
                nets = {"reference": reference, "vattn": optimised}
                times = Times({name: step(net, site, order, on) for name, net in nets.items()}, on)
                cells.append(f"{times.show('reference')}, {times.show('vattn')}, {times.ratio('reference', 'vattn')}")
            else:
                cells.append("-")
        row(kind, order, *cells)


def training_part(on: Setting) -> None:
    """Print the fraction of a training step of ResNet-50 that a mechanism at all its sites takes, each timed alone."""
    torch.compiler.reset()
    plain = build_model(resnet50(), CLASSES).to(on.device).to(memory_format=torch.channels_last)
    clip = torch.randn(on.clips, FRAMES, SIZE, SIZE, 3, device=on.device, dtype=on.dtype).movedim(-1, 1)
    run = torch.compile(plain, dynamic=False) if on.compiled else plain

    def train() -> None:
        with on.autocast():
            scores = run(clip)
        scores.sum().backward()

    whole = Times({"step": train}, on).ms("step")
    print(
        f"\nA step of ResNet-50 alone: {whole:.0f} ms, "
        f"{closed_form.cost(resnet50(), CLASSES).gflops:.2f} GFLOPs per clip"
    )
    table("mechanism", "ms at all sites", "of the step", "of the GFLOPs")
    for kind in on.kinds:
        module = ModuleConfig.kinds[kind]()
        assert isinstance(module, ModuleConfig)
        shape_counts = Counter((s.stage, s.channels, s.height, type(s)) for s in sites(module, on.stages))
        added = 0.0
        for shape, count in shape_counts.items():
            torch.compiler.reset()
            site = next(s for s in sites(module, on.stages) if (s.stage, s.channels, s.height, type(s)) == shape)
            runs: dict[str, nn.Module] = {"vattn": module_and_reference(module, site, on)[0]}
            if isinstance(site, Layer):
                runs["layer"] = plain.backbone.layer(site)  # the layer that the mechanism replaces
            times = Times({name: step(net, site, TRAINING_ORDER, on) for name, net in runs.items()}, on)
            added += count * (times.ms("vattn") - (times.ms("layer") if "layer" in runs else 0))
        macs = sum(r.macs for r in closed_form.cost(resnet50(module), CLASSES).rows if r.what == kind)
        total = closed_form.cost(resnet50(module), CLASSES).macs
        row(kind, f"{added:.0f}", f"{added / (whole + added):.1%}", f"{macs / total:.1%}")


class Operations(TorchDispatchMode):
    """Counts the operations that compute something: views and allocations are none. Most are one kernel of a GPU."""

    ALLOCATIONS = frozenset({"detach", "_unsafe_view", "empty", "empty_like", "empty_strided", "new_empty"})

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        schema = func._schema
        is_view = any(a.alias_info is not None and not a.alias_info.is_write for a in schema.arguments)
        self.count += not is_view and schema.name.removeprefix("aten::") not in self.ALLOCATIONS
        return func(*args, **(kwargs or {}))


def kernels_part(on: Setting) -> None:
    """Print the numbers of operations of a training step of ResNet-50 with each mechanism, on the meta device."""
    table("mechanism", "operations of the forward pass", "of the backward pass")
    modules = {"none": (), **{kind: (ModuleConfig.kinds[kind](),) for kind in on.kinds}}
    for name, attention in modules.items():
        with torch.device("meta"):
            net = build_model(resnet50(*attention), CLASSES).train()  # pyright: ignore[reportArgumentType]
            clips = torch.empty(on.clips, FRAMES, SIZE, SIZE, 3).movedim(-1, 1)
        with Operations() as forward:
            total = net(clips).sum()
        with Operations() as backward:
            total.backward()
        row(name, forward.count, backward.count)


def cost_part(on: Setting) -> None:
    """Print the speed of the closed-form cost on distinct configs, and of counting multiply-adds on the meta device."""
    options = product((1, 2, 4), (2, 4, 8), (3, 5, 7), (4, 8, 16), ("a", "b", "c", "d"), range(1, 16))
    networks = []
    for alpha, beta, kernel_size, frames, position, bits in options:
        stages = tuple(stage for stage in (2, 3, 4, 5) if bits >> stage - 2 & 1)
        tam = TAMConfig(alpha=alpha, beta=beta, kernel_size=kernel_size, position=position, stages=stages)
        networks.append(resnet50(tam).model_copy(update={"frames": frames}))

    def seconds_each(count: Callable[[ModelConfig], object], configs: list[ModelConfig]) -> float:
        start = time.process_time()
        for network in configs:
            count(network)
        return (time.process_time() - start) / len(configs)

    count = partial(closed_form.cost, classes=CLASSES)
    first, again = seconds_each(count, networks), seconds_each(count, networks)
    meta = seconds_each(partial(model_macs, classes=CLASSES), networks[:: len(networks) // 5])
    table("method", "networks per second", "speed relative to the meta device")
    row(f"closed form, {len(networks)} distinct networks", f"{1 / first:,.0f}", f"{meta / first:,.0f}")
    row("closed form, the same networks again", f"{1 / again:,.0f}", f"{meta / again:,.0f}")
    row("on the meta device", f"{1 / meta:.2f}", 1)


PARTS = {
    "tam": tam_part,
    "modules": modules_part,
    "training": training_part,
    "kernels": kernels_part,
    "cost": cost_part,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"{', '.join(PARTS)}; default: all")
    parser.add_argument("--device", type=torch.device, default=torch.device("cpu"), help="cpu or cuda")
    parser.add_argument("--dtype", choices=("float32", "bfloat16"), default="float32", help="bfloat16: with autocast")
    parser.add_argument("--compile", action="store_true", help="compile every implementation with torch.compile")
    parser.add_argument("--seconds", type=float, default=1.0, help="time for each comparison, at least 3 rounds")
    parser.add_argument("--clips", type=int, default=2, help="batch size")
    parser.add_argument("--stages", type=int, nargs="+", default=[2, 3, 4, 5], metavar="STAGE")
    parser.add_argument("--kinds", nargs="+", choices=ModuleConfig.kinds, default=[*ModuleConfig.kinds], metavar="KIND")
    parser.add_argument("--peak", type=float, default=0, help="memory bandwidth of the device, GB/s")
    args = parser.parse_args()
    if unknown := set(args.parts) - set(PARTS):
        parser.error(f"no such part: {', '.join(unknown)}; there are {', '.join(PARTS)}")
    torch.set_num_threads(1)
    torch.manual_seed(0)
    on = Setting(
        args.device, getattr(torch, args.dtype), args.compile, args.seconds, args.clips, tuple(args.stages),
        tuple(args.kinds), args.peak,
    )  # fmt: skip
    for part in args.parts or PARTS:
        PARTS[part](on)


if __name__ == "__main__":
    main()

"""Correctness, speed and memory of trainings on a GPU, as Markdown. Needs torch and this project, but no Ray.

Runs all parts, or those that are named, until ``--minutes`` are over; a part without time left says so:

    python tests/benchmarks/bench_gpu.py [PART ...] > gpu.md

``--small``, the default on a CPU, takes tiny networks and few steps; what only a GPU can show is then "-". A rate is
the median over rounds. The exit status is 1 if a part found something wrong; the end of the report says what.
"""

import argparse
import copy
import multiprocessing
import statistics
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Generator
from contextlib import closing
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, cast

import torch
import torchvision
from pydantic import ValidationError
from torch import Tensor, nn
from torch.profiler import ProfilerActivity, profile

from tests.benchmarks.tables import row, table
from vattn.config import ModelConfig, TrainConfig, TrialConfig
from vattn.data import open_clips, prepare
from vattn.data.cache import Clips
from vattn.data.layouts.motion import MotionDataConfig
from vattn.model import build_model
from vattn.modules import ModuleConfig
from vattn.modules.tam import aggregate
from vattn.training.batches.feed import feed
from vattn.training.batches.loader import train_batches
from vattn.training.batches.pixels import normalise
from vattn.training.checkpoint import Epoch
from vattn.training.device import autocast, compile_network, set_up
from vattn.training.fit import fit
from vattn.training.memory import CONTEXT, step_peak, training_memory
from vattn.training.optimization import ScaledOptimizer
from vattn.training.step import train_step

CLASSES = 174
#: least rate that is aimed at, as a share of the images/s of torchvision's compiled ResNet-50 in bf16
AIMS = {"TSM-50": 0.9, "TANet-50": 0.8}
#: largest relative error of outputs and gradients that is no mistake, by precision
TOLERANCES = {"fp32": 1e-3, "bf16": 0.1}
#: clips of a step at full size, and in ``--small``
BATCHES = {False: 32, True: 4}
#: trainings that run at once on one GPU
PACKED = (4, 12)
#: names of kernels that change the memory format of features
CONVERSIONS = ("nchwToNhwc", "nhwcToNchw", "nchw_to_nhwc", "nhwc_to_nchw")


@dataclass
class Setting:
    """The device, the size of what runs on it, and what was found wrong."""

    device: torch.device
    small: bool
    seconds: float
    problems: list[str] = field(default_factory=list)

    @property
    def cuda(self) -> bool:
        return self.device.type == "cuda"

    def wait(self) -> None:
        if self.cuda:
            torch.cuda.synchronize(self.device)

    def rate(self, step: Callable[[], object], amount: float) -> float:
        """Return the median of ``amount`` per second over rounds of steps, after three steps that are not counted."""
        for _ in range(1 if self.small else 3):
            step()
        self.wait()
        rates, end = [], time.perf_counter() + self.seconds
        while not rates or time.perf_counter() < end:
            steps, began = 1 if self.small else 5, time.perf_counter()
            for _ in range(steps):
                step()
            self.wait()
            rates.append(steps * amount / (time.perf_counter() - began))
        return statistics.median(rates)


def model(kind: str, options: dict[str, Any], *attention: str, frames: int = 8, size: int = 224) -> ModelConfig:
    modules = [{"kind": name} for name in attention]
    backbone = {"kind": kind, **options}
    return ModelConfig.parse({"frames": frames, "size": size, "backbone": backbone, "attention": modules})


def networks(on: Setting) -> dict[str, ModelConfig]:
    """Return the networks whose speed is measured, or small ones of the same kinds."""
    if on.small:
        images: dict[str, Any] = {"depth": 10, "width": 0.125}
        return {
            "TSM-50": model("resnet", images, "tsm", frames=2, size=32),
            "TANet-50": model("resnet", images, "tam", frames=2, size=32),
            "TDN-50": model("resnet_tdn", {"depth": 18, "width": 0.125}, "tdn", frames=2, size=64),
        }
    return {
        "TSM-50": model("resnet", {"depth": 50}, "tsm"),
        "TANet-50": model("resnet", {"depth": 50}, "tam"),
        "TDN-50": model("resnet_tdn", {"depth": 50}, "tdn"),
        "STA on 3D ResNeXt-101": model("resnext3d", {"depth": 101}, "sta", frames=16, size=112),
        "SlowFast-50": model("slowfast", {"depth": 50}, frames=32),
    }


def with_mechanism(kind: str) -> ModelConfig:
    """Return a small network with this mechanism."""
    backbones: list[tuple[str, dict[str, Any]]] = [
        ("resnet_tdn", {"depth": 18, "width": 0.25}),
        ("resnet", {"depth": 50, "width": 0.25}),
        ("i3d_resnet", {"depth": 50, "width": 0.25}),
    ]
    for backbone, options in backbones if kind == "tdn" else backbones[1:]:
        try:
            network = model(backbone, options, kind, size=64)
        except ValidationError:
            continue
        if network.attention[0].at(network.backbone.sites(network.size)):
            return network
    raise ValueError(f"no network of the benchmark has a place for {kind}")


class Trainer:
    """A network with what a training step needs, and clips to train on."""

    def __init__(self, network: ModelConfig, on: Setting, batch: int, **train: Any) -> None:
        self.train = TrainConfig.parse({"epochs": 1, "batch": batch, "lr": 0.001} | train)
        self.device = on.device
        set_up(on.device, self.train)
        torch.manual_seed(0)
        self.net = build_model(network, CLASSES).to(on.device)
        compile_network(self.net, self.train)
        self.optimizer = ScaledOptimizer(self.net, self.train, on.device)
        frames = network.frames * network.backbone.frames_per_segment
        pixels = torch.randint(256, (batch, frames, network.size, network.size, 3), dtype=torch.uint8)
        self.images = pixels.to(on.device).movedim(-1, 1)
        self.labels = (torch.arange(batch) % CLASSES).to(on.device)
        self.net.train()

    def step(self, images: Tensor | None = None, labels: Tensor | None = None) -> None:
        images, labels = (self.images, self.labels) if images is None or labels is None else (images, labels)
        train_step(self.net, self.net, self.optimizer, self.train, images, labels, len(labels), 1, self.train.lr)

    def evaluate(self) -> None:
        self.net.eval()
        with torch.inference_mode(), autocast(self.train, self.device):
            self.net.scores(normalise(self.images, self.device))
        self.net.train()


def correctness(on: Setting) -> None:
    """Print the relative errors of each mechanism on the device, against float32 on the CPU.

    Its gradients are those of its parameters and of its input together.
    """
    table("mechanism", *(f"{precision}: {what}" for precision in TOLERANCES for what in ("output", "gradients")))
    if on.cuda:
        torch.backends.cuda.matmul.fp32_precision = torch.backends.cudnn.fp32_precision = "ieee"
    for kind in ModuleConfig.kinds:
        network = with_mechanism(kind)
        sites = network.attention[0].at(network.backbone.sites(network.size))
        site = sites[len(sites) // 2]
        torch.manual_seed(0)
        own = network.attention[0].build(site, network.frames)
        x = torch.randn(2, network.frames, site.height, site.width, site.channels).movedim(-1, 1)
        expected = _output_and_gradients(copy.deepcopy(own), x, bf16=False)
        cells = []
        for precision, tolerance in TOLERANCES.items():
            got = _output_and_gradients(copy.deepcopy(own).to(on.device), x.to(on.device), precision == "bf16")
            errors = [float((a.cpu() - b).norm() / b.norm()) for a, b in zip(got, expected, strict=True)]
            cells += [f"{error:.1e}" for error in errors]
            if not max(errors) <= tolerance:
                on.problems.append(f"{kind} in {precision}: relative error {max(errors):.1e}, more than {tolerance:g}")
        row(kind, *cells)


def _output_and_gradients(module: nn.Module, x: Tensor, bf16: bool) -> tuple[Tensor, Tensor]:
    x = x.detach().requires_grad_()
    with torch.autocast(x.device.type, torch.bfloat16, enabled=bf16):
        y = module(x).float()
    y.backward(torch.linspace(-1, 1, y.numel(), device=x.device).view_as(y))
    gradients = [tensor.grad.float().flatten() for tensor in (x, *module.parameters()) if tensor.grad is not None]
    return y.detach(), torch.cat(gradients)


def syncs(on: Setting) -> None:
    """Print whether five training steps wait for the GPU, by torch's sync debug mode."""
    table("network", "five steps without waiting for the GPU")
    if not on.cuda:
        row("all", "-")
        return
    trained = {kind: with_mechanism(kind) for kind in ModuleConfig.kinds}
    sparse = model("resnet", {"depth": 18}, size=64)
    trained["sparse attention"] = ModelConfig.parse(sparse.tree() | {"sparse": {}})
    for name, network in trained.items():
        for changes in ({}, {"amp": "fp16", "optimizer": "adamw"}):
            trainer, result = Trainer(network, on, 4, **changes), "yes"
            trainer.step()
            torch.cuda.set_sync_debug_mode("error")
            try:
                for _ in range(5):
                    trainer.step()
            except RuntimeError as error:
                result = f"no: {str(error).splitlines()[0]}"
                on.problems.append(f"{name}, {changes}: {result}")
            finally:
                torch.cuda.set_sync_debug_mode("default")
            row(", ".join([name, *changes.values()]), result)


def speed(on: Setting) -> None:
    """Print clips/s of training and evaluation, and the images/s as a share of those of a compiled ResNet-50."""
    batch = BATCHES[on.small]
    baseline = _resnet50_rate(on)
    print(f"\ntorchvision's ResNet-50, bf16, compiled, channels_last: {baseline:,.1f} images/s in training")
    table("network", "precision", "form", "training, clips/s", "evaluation, clips/s", "images/s of ResNet-50's")
    settings = [("fp32", "none")] + ([("tf32", "none"), ("bf16", "none"), ("bf16", "default")] if on.cuda else [])
    for name, network in networks(on).items():
        for precision, form in settings:
            torch.compiler.reset()
            amp = "bf16" if precision == "bf16" else "none"
            trainer = Trainer(network, on, batch, amp=amp, compile=form)
            if precision == "fp32" and on.cuda:
                torch.backends.cuda.matmul.fp32_precision = torch.backends.cudnn.fp32_precision = "ieee"
            trained, evaluated = on.rate(trainer.step, batch), on.rate(trainer.evaluate, batch)
            images = network.frames * network.backbone.frames_per_segment
            share = trained * images / baseline
            row(name, precision, form, f"{trained:.1f}", f"{evaluated:.1f}", f"{share:.2f}")
            if on.cuda and form == "default" and share < AIMS.get(name, 0):
                on.problems.append(f"{name}: {share:.2f} of ResNet-50's images/s; the aim is {AIMS[name]}")
            del trainer
    print(f"\nResNet-50 once more: {_resnet50_rate(on):,.1f} images/s")


def _resnet50_rate(on: Setting) -> float:
    size, count = (32, 8) if on.small else (224, 8 * BATCHES[False])
    build = torchvision.models.resnet18 if on.small else torchvision.models.resnet50
    net: Any = build(num_classes=CLASSES)
    net = net.to(on.device, memory_format=torch.channels_last)
    images = torch.randn(count, 3, size, size, device=on.device).contiguous(memory_format=torch.channels_last)
    labels = torch.arange(count, device=on.device) % CLASSES
    optimizer = torch.optim.SGD(net.parameters(), 0.001, momentum=0.9, fused=on.cuda or None)
    torch.compiler.reset()
    run = torch.compile(net) if on.cuda else net

    def step() -> None:
        with torch.autocast(on.device.type, torch.bfloat16, enabled=on.cuda):
            loss = nn.functional.cross_entropy(run(images), labels)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()

    return on.rate(step, count)


def kernels(on: Setting) -> None:
    """Print the share of time in which the GPU has nothing to do, and the kernels that change the memory format."""
    table("network", "form", "GPU idle", "kernels a step", "changes of memory format a step")
    if not on.cuda:
        row("all", "-", "-", "-", "-")
        return
    for name, network in networks(on).items():
        for form in ("none", "default", "reduce-overhead"):
            torch.compiler.reset()
            trainer = Trainer(network, on, BATCHES[on.small], amp="bf16", compile=form)
            for _ in range(4):
                trainer.step()
            on.wait()
            steps = 5
            with profile(activities=[ProfilerActivity.CPU, ProfilerActivity.CUDA]) as profiled:
                began = time.perf_counter()
                for _ in range(steps):
                    trainer.step()
                on.wait()
                wall = time.perf_counter() - began
            on_gpu = [event for event in profiled.events() or [] if event.device_type.name == "CUDA"]
            busy = _covered([(event.time_range.start, event.time_range.end) for event in on_gpu]) / 1e6
            changes = sum(any(word in event.name for word in CONVERSIONS) for event in on_gpu)
            row(name, form, f"{1 - busy / wall:.1%}", len(on_gpu) // steps, changes / steps)


def _covered(spans: list[tuple[float, float]]) -> float:
    """Return the length of the union of spans."""
    total, end = 0.0, float("-inf")
    for start, stop in sorted(spans):
        total += max(stop - max(start, end), 0)
        end = max(end, stop)
    return total


def memory(on: Setting) -> None:
    """Print the predicted and the measured memory of training."""
    tried: dict[str, tuple[ModelConfig, dict[str, Any]]] = {name: (net, {}) for name, net in networks(on).items()}
    if on.small:
        tried["TAM, bf16"] = tried["TANet-50"][0], {"amp": "bf16"}
    else:
        tsm = tried["TSM-50"][0]
        tried |= {
            "TSM-50, bf16": (tsm, {"amp": "bf16"}),
            "TSM-50, AdamW": (tsm, {"optimizer": "adamw"}),
            "TSM-50, recompute": (tsm, {"recompute": "blocks"}),
            "non-local, bf16": (model("resnet", {"depth": 50}, "nonlocal"), {"amp": "bf16"}),
            "C3D": (model("c3d", {}, frames=16, size=112), {}),
        }
    table("network", "predicted, GB", "measured, GB", "predicted / measured")
    context = 0
    data = MotionDataConfig.parse({"kind": "motion"})
    for name, (network, changes) in tried.items():
        batch = BATCHES[on.small]
        train = TrainConfig.parse({"epochs": 1, "batch": batch, "lr": 0.001} | changes)
        predicted = training_memory(TrialConfig(data=data, model=network, train=train), CLASSES)
        if on.cuda:
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats(on.device)
            trainer = Trainer(network, on, batch, **changes)
            for _ in range(3):
                trainer.step()
            trainer.evaluate()
            on.wait()
            # CUDA's own memory is outside of torch's account: the device's use, less what torch has reserved.
            free, total = torch.cuda.mem_get_info(on.device)
            context = total - free - torch.cuda.memory_reserved(on.device)
            measured = torch.cuda.max_memory_reserved(on.device) + context
            expected = predicted.total
            del trainer
        else:
            # A CPU has the activations alone, counted by the operators that make them.
            measured = step_peak(build_model(network, CLASSES), network, batch, train.amp, device="cpu")
            expected = predicted.activations
        ratio = expected / measured
        row(name, f"{expected / 1e9:.3f}", f"{measured / 1e9:.3f}", f"{ratio:.2f}")
        if on.cuda and not 0.9 <= ratio <= 1.1:
            on.problems.append(f"{name}: predicted {ratio:.2f} of the measured memory")
    if on.cuda:
        print(f"\nCUDA's own memory: assumed {CONTEXT / 1e9:.2f} GB, measured {context / 1e9:.2f} GB")


def trial(on: Setting, **changes: Any) -> TrialConfig:
    """Return a training of the size of the quickstart's."""
    train, val = (2, 1) if on.small else (60, 30)
    small = {"frames": 8, "size": 32} if on.small else {"frames": 16, "size": 64}
    size = 32 if on.small else 48
    return TrialConfig.parse(
        {
            "data": {
                "kind": "motion", "train_clips": train, "val_clips": val, "test_clips": 1, **small,
                "store": {"size": small["size"]},
            },
            "model": {
                "frames": 4, "size": size, "backbone": {"kind": "resnet", "depth": 10, "width": 0.25},
                "attention": [{"kind": "tsm"}],
            },
            "train": {"epochs": 1 if on.small else 9, "batch": 32, "lr": 0.1} | changes,
        }
    )  # fmt: skip


def packing(on: Setting) -> None:
    """Print the rate of small trainings, several at once in processes of their own against one after the other."""
    with tempfile.TemporaryDirectory() as folder:
        config = trial(on)
        cache = prepare(config.data, Path(folder))
        table("trainings at once", "trainings an hour", "against one after the other")
        alone = 0.0
        for count in (1, *(PACKED if on.cuda else (2,))):
            rounds = 1 if count > 1 or on.small else 2
            seconds = _train_at_once(config, cache, Path(folder) / f"{count}", on.device, count, rounds)
            rate = count * rounds * 3600 / seconds
            alone = alone or rate
            row(count, f"{rate:,.0f}", f"{rate / alone:.1f}")


def _train_at_once(
    config: TrialConfig, cache: Path, folder: Path, device: torch.device, count: int, rounds: int
) -> float:
    """Return the seconds in which ``count`` processes train ``rounds`` times each, without their start."""
    processes = multiprocessing.get_context("spawn")
    barrier, threads = processes.Barrier(count + 1), max(torch.get_num_threads() // count, 1)
    words = (str(config.tree()), str(cache), str(folder), str(device), rounds, threads, barrier)
    running = [processes.Process(target=_train, args=(number, *words)) for number in range(count)]
    for process in running:
        process.start()
    barrier.wait()
    began = time.perf_counter()
    for process in running:
        process.join()
    if any(process.exitcode for process in running):
        raise RuntimeError("a training failed")
    return time.perf_counter() - began


def _train(
    number: int, tree: str, cache: str, folder: str, device: str, rounds: int, threads: int, barrier: Any
) -> None:
    import ast

    torch.set_num_threads(threads)
    config = TrialConfig.parse(ast.literal_eval(tree))
    if device != "cpu":
        torch.zeros(1, device=device)
    barrier.wait()
    for again in range(rounds):
        for _ in fit(config, Path(cache), Path(folder) / f"{number}-{again}", torch.device(device)):
            pass


def out_of_memory(on: Setting) -> None:
    """Print whether a process trains on after it ran out of memory."""
    table("step", "result")
    if not on.cuda:
        row("-", "needs a GPU")
        return
    network, limit = networks(on)["TSM-50"], 0.1
    torch.cuda.set_per_process_memory_fraction(limit, on.device)
    try:
        for batch, expected in ((BATCHES[False] * 32, "out of memory"), (2, "trained")):
            try:
                trainer = Trainer(network, on, batch)
                trainer.step()
                on.wait()
                result = "trained"
            except torch.OutOfMemoryError:
                result = "out of memory"
            trainer = None
            torch.cuda.empty_cache()
            row(f"{batch} clips, {limit:.0%} of the memory", result)
            if result != expected:
                on.problems.append(f"{batch} clips: {result}, where {expected} was expected")
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0, on.device)


def resume(on: Setting) -> None:
    """Print how far a training by AdamW that was interrupted and resumed is from one that was not."""
    table("precision", "largest difference of a weight", "of the weights' norm")
    with tempfile.TemporaryDirectory() as folder:
        for amp in ("none", "bf16", "fp16") if on.cuda else ("none",):
            config = trial(on, optimizer="adamw", lr=0.001, epochs=2, amp=amp)
            cache = prepare(config.data, Path(folder))
            whole, parted = Path(folder) / f"{amp}-whole", Path(folder) / f"{amp}-parted"
            for _ in fit(config, cache, whole, on.device):
                pass
            with closing(cast(Generator[Epoch], fit(config, cache, parted, on.device))) as interrupted:
                next(interrupted)
            for _ in fit(config, cache, parted, on.device):
                pass
            a, b = (
                torch.cat([value.flatten().double() for value in torch.load(path / "model.pt").values()])
                for path in (whole, parted)
            )
            difference = float((a - b).abs().max())
            row(amp, f"{difference:.1e}", f"{float((a - b).norm() / a.norm()):.1e}")
            if not on.cuda and difference:
                on.problems.append(f"{amp}: a resumed training on a CPU has other weights")


def bandwidth(on: Setting) -> None:
    """Print the speed of TAM's aggregation as a share of a copy's, which also reads and writes all values once."""
    table("site", "form", "of the speed of a copy")
    sites = {"res2": (256, 56), "res3": (512, 28), "res4": (1024, 14), "res5": (2048, 7)}
    for stage, (channels, size) in list(sites.items())[:: 3 if on.small else 1]:
        clips, dtype = (1, torch.float32) if on.small else (BATCHES[False], torch.bfloat16)
        x = torch.randn(clips, 8, size, size, channels, device=on.device, dtype=dtype).movedim(-1, 1)
        weights, y = torch.rand(clips, channels, 8, 3, device=on.device, dtype=dtype), torch.empty_like(x)
        for form in ("eager",) if on.small else ("eager", "compiled"):
            torch.compiler.reset()
            run = torch.compile(aggregate, dynamic=False) if form == "compiled" else aggregate
            with torch.no_grad():
                copied, aggregated = on.rate(partial(y.copy_, x), 1), on.rate(partial(run, x, weights), 1)
            row(stage, form, f"{aggregated / copied:.0%}")


def input_rates(on: Setting) -> None:
    """Print the rate of a training that reads JPEG frames, against one whose clips are on the device already."""
    network, batch = networks(on)["TSM-50"], BATCHES[on.small]
    side = 40 if on.small else 256
    tree = {
        "kind": "motion", "train_clips": 2 if on.small else 16, "val_clips": 1, "test_clips": 1, "frames": 8,
        "size": side, "augment": {"crop": "resized", "color": 0.4},
    }  # fmt: skip
    table("frames", "only read, clips/s", "read and trained, clips/s", "trained alone, clips/s", "input waits")
    with tempfile.TemporaryDirectory() as folder:
        for codec in ("raw", "jpeg"):
            data = MotionDataConfig.parse(tree | {"store": {"size": side, "codec": codec}})
            clips = open_clips(prepare(data, Path(folder)), "train")
            trainer = Trainer(network, on, batch, amp="bf16" if on.cuda else "none")

            only = _rate_of_reading(on, clips, data, network, trainer, lambda images, labels: None)
            both = _rate_of_reading(on, clips, data, network, trainer, trainer.step)
            alone = on.rate(trainer.step, batch)
            waits = max(1 - both / alone, 0)
            row(codec, f"{only:.0f}", f"{both:.1f}", f"{alone:.1f}", f"{waits:.1%}")
            if on.cuda and codec == "raw" and waits > 0.03:
                on.problems.append(f"input waits take {waits:.1%} of a training on {codec} frames; the aim is 3 %")


def _rate_of_reading(
    on: Setting, clips: Clips, data: MotionDataConfig, network: ModelConfig, trainer: Trainer,
    use: Callable[[Tensor, Tensor], object],
) -> float:  # fmt: skip
    count, began = 0, time.perf_counter()
    for epoch in range(1 if on.small else 3):
        for images, labels in feed(
            train_batches(clips, data, network, trainer.train, epoch, device=on.device), on.device
        ):
            use(images, labels)
            count += len(labels)
    on.wait()
    return count / (time.perf_counter() - began)


PARTS: dict[str, Callable[[Setting], None]] = {
    "correctness": correctness, "syncs": syncs, "speed": speed, "memory": memory, "kernels": kernels,
    "packing": packing, "out_of_memory": out_of_memory, "resume": resume, "bandwidth": bandwidth, "input": input_rates,
}  # fmt: skip


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"{', '.join(PARTS)}; default: all")
    default = "cuda" if torch.cuda.is_available() else "cpu"
    parser.add_argument("--device", type=torch.device, default=torch.device(default), help="cpu or cuda")
    parser.add_argument("--small", action="store_true", help="tiny networks and few steps; the default on a CPU")
    parser.add_argument("--minutes", type=float, default=8.0, help="no part begins later")
    parser.add_argument("--seconds", type=float, default=2.0, help="time of each rate")
    args = parser.parse_args(arguments)
    if unknown := set(args.parts) - set(PARTS):
        parser.error(f"no such part: {', '.join(unknown)}; there are {', '.join(PARTS)}")
    small = args.small or args.device.type == "cpu"
    on = Setting(args.device, small, 0.1 if small else args.seconds)
    name = torch.cuda.get_device_name(on.device) if on.cuda else f"CPU, {torch.get_num_threads()} threads"
    print(f"# {name}, torch {torch.__version__}{', tiny networks' if small else ''}")
    end = time.monotonic() + 60 * args.minutes
    for part in args.parts or PARTS:
        print(f"\n## {part}\n\n{(PARTS[part].__doc__ or '').strip()}")
        began = time.monotonic()
        if began > end:
            print("\nLeft out: no time left.")
            continue
        try:
            PARTS[part](on)
        except Exception as error:
            on.problems.append(f"{part}: {type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}")
            print(f"\n```\n{traceback.format_exc()}```")
        print(f"\n{time.monotonic() - began:.0f} s")
    print("\n## What is wrong\n")
    print("\n".join(f"* {problem}" for problem in on.problems) or "Nothing.")
    return 1 if on.problems else 0


if __name__ == "__main__":
    sys.exit(main())

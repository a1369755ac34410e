"""Compares checkpoints written by a thread with those that a training waits for, in one run.

    python tests/benchmarks/bench_checkpoint.py [--epochs 12] [--seconds 0.5] [--folder FOLDER]

The state is that of ResNet-50 with SGD: weights and momentum. An "epoch" computes products of matrices, as many as
take about the given time alone. Three ways take turns, epoch by epoch: no checkpoint at all; one that the epoch waits
for, as in earlier versions; one by a thread after each epoch, the most that it can do. Printed as Markdown: the time
that the training stops, the seconds of an epoch in units of those without a checkpoint, and the bytes that 100 epochs
write, after each of them and with the default of `train.checkpoint_seconds`.
"""

import argparse
import io
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

import torch

from vattn.config import TrialConfig
from vattn.model import build_model
from vattn.training.checkpoint import FILE, Epoch, state_of
from vattn.training.saver import Saver

CONFIG = TrialConfig.parse({
    "data": {"kind": "motion"},
    "model": {"frames": 8, "size": 224, "backbone": {"kind": "resnet", "depth": 50}},
    "train": {"epochs": 1, "batch": 8, "lr": 0.1},
})  # fmt: skip
CLASSES = 400


def compute(products: int) -> None:
    """Compute a number of products of matrices."""
    matrix = torch.randn(256, 256)
    for _ in range(products):
        torch.mm(matrix, matrix)


def products_in(seconds: float) -> int:
    """Return how many products take about this time."""
    began = time.perf_counter()
    compute(200)
    return max(1, round(200 * seconds / (time.perf_counter() - began)))


def main() -> None:
    """Measure, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--epochs", type=int, default=12)
    parser.add_argument("--seconds", type=float, default=0.5, help="of an epoch")
    parser.add_argument("--folder", type=Path, help="on the disk that is measured (default: a temporary one)")
    arguments = parser.parse_args()
    net = build_model(CONFIG.model, CLASSES)
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1, momentum=0.9)
    for parameter in net.parameters():
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    with tempfile.TemporaryDirectory(dir=arguments.folder) as name:
        folder = Path(name)
        saver = Saver(folder, CONFIG)
        done = [Epoch(1, {"top1": 0.5}, 1.0)]

        def waiting() -> None:
            # As it was: the whole file in memory, then on the disk.
            content = io.BytesIO()
            torch.save(state_of(CONFIG, net, optimizer, done, []), content)
            part = folder / "part"
            part.write_bytes(content.getbuffer())
            part.replace(folder / FILE)

        ways: dict[str, Callable[[], None]] = {
            "none": lambda: None,
            "waited for": waiting,
            "by a thread": lambda: saver.save(net, optimizer, done, []),
        }
        stops: dict[str, list[float]] = {way: [] for way in ways}
        epochs: dict[str, list[float]] = {way: [] for way in ways}
        products = products_in(arguments.seconds)
        for write in ways.values():
            write()  # files and copies exist
            saver.wait()
        for _ in range(arguments.epochs):
            for way, write in ways.items():
                began = time.perf_counter()
                write()
                stops[way].append(time.perf_counter() - began)
                compute(products)
                epochs[way].append(time.perf_counter() - began)
                saver.wait()
        size = (folder / FILE).stat().st_size
    print(f"state: {size / 1e6:.0f} MB; epochs of {arguments.seconds:g} s; torch threads: {torch.get_num_threads()}\n")
    print("| checkpoint | training stops, ms | seconds of an epoch, of those without one |")
    print("| --- | --- | --- |")
    for way in ways:
        ratio = median(own / none for own, none in zip(epochs[way], epochs["none"], strict=True))
        print(f"| {way} | {1000 * median(stops[way]):.0f} | {ratio:.2f} |")
    seconds, count = CONFIG.train.checkpoint_seconds, 100
    length = count * arguments.seconds
    print(
        f"\n{count} epochs of {arguments.seconds:g} s wrote {count * size / 1e9:.1f} GB; at most every {seconds:g} s "
        f"they write {(2 + int(length // seconds)) * size / 1e9:.1f} GB"
    )


if __name__ == "__main__":
    main()

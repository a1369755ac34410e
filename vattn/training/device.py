"""The device of a training, and the precision of its arithmetic."""

import os
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch
from torch import nn

from vattn.config import TrainConfig

#: Type of the operations that autocast runs in lower precision, by the value of ``train.amp``.
_AUTOCAST = {"bf16": torch.bfloat16, "fp16": torch.float16}


def default_device() -> torch.device:
    """Return the process's GPU if it has one, otherwise the CPU. Ray makes a worker's GPU its device 0."""
    return torch.device("cuda", 0) if torch.cuda.is_available() else torch.device("cpu")


def set_up(device: torch.device, train: TrainConfig) -> None:
    """Set torch's options of the process for computing on ``device``; those of CPUs stay as they are.

    On a GPU, float32 products and convolutions use TF32, which rounds their inputs to 10 bits of mantissa. cuDNN times
    its algorithms for each new shape and takes the fastest. ``train.deterministic`` takes reproducible algorithms
    instead; where torch has none, it warns.
    """
    if device.type != "cuda":
        return
    use_tf32()
    torch.backends.cudnn.benchmark = not train.deterministic
    torch.backends.cudnn.deterministic = train.deterministic
    if train.deterministic:
        # Read by cuBLAS when the process uses it first.
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.use_deterministic_algorithms(train.deterministic, warn_only=True)


def use_tf32() -> None:
    """Let float32 on a GPU compute in TF32."""
    torch.backends.cuda.matmul.fp32_precision = "tf32"
    torch.backends.cudnn.fp32_precision = "tf32"


def autocast(train: TrainConfig, device: torch.device) -> AbstractContextManager[Any]:
    """Return the context of a forward pass in the precision of ``train.amp``."""
    return nullcontext() if train.amp == "none" else torch.autocast(device.type, dtype=_AUTOCAST[train.amp])


@contextmanager
def backward_pass(train: TrainConfig, device: torch.device) -> Iterator[None]:
    """Enter the context of a backward pass in the precision of ``train.amp``.

    On a CPU in bf16 it computes without oneDNN. On CPUs with instructions for bf16, oneDNN of torch 2.15 leaves the
    gradient of the weights of a 3D convolution over two frames uninitialised.
    """
    if device.type != "cpu" or train.amp != "bf16":
        yield
        return
    before = torch.backends.mkldnn.enabled
    torch.backends.mkldnn.enabled = False
    try:
        yield
    finally:
        torch.backends.mkldnn.enabled = before


def compile_network(net: nn.Module, train: TrainConfig) -> None:
    """Compile ``net`` in place as ``train.compile`` asks for, when it is called first.

    The forward pass of each mechanism is one graph. Torch compiles it once for the first batch and once for batches of
    any other size, for training and for evaluation each. Blocks that are computed again cannot be compiled: where
    ``train.recompute`` was set after the check of the config, to save memory, nothing is.
    """
    if train.compile != "none" and train.recompute == "none":
        # A process that trains several networks would else reach torch's limit of graphs, and go on without them.
        torch.compiler.reset()
        net.compile(mode=train.compile)

"""Activation checkpointing: blocks compute their activations again in the backward pass instead of keeping them.

Source: Chen, Xu, Zhang and Guestrin, "Training Deep Nets with Sublinear Memory Cost", 2016 (arXiv:1604.06174).
"""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial

from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.checkpoint import checkpoint

from vattn.backbones.c3d import C3D


def recompute_blocks(net: nn.Module) -> None:
    """Let each block in ``net`` keep only its input in training. Values and gradients stay the same."""
    wrap_blocks(net, lambda module, forward: partial(_checkpointed, module, forward))


def wrap_blocks(net: nn.Module, wrap: Callable[[nn.Module, Callable[..., Tensor]], Callable[..., Tensor]]) -> None:
    """Replace how each block of ``net`` computes by what ``wrap`` returns of the block's module and that."""
    for module in _blocks_of(net):
        method = "run_stage" if isinstance(module, C3D) else "forward"
        setattr(module, method, wrap(module, getattr(module, method)))


def _blocks_of(net: nn.Module) -> list[nn.Module]:
    """Return the modules with blocks: residual blocks, which have slots for mechanisms, and C3D for its stages."""
    return [
        module
        for module in net.modules()
        if isinstance(module, C3D) or (hasattr(module, "at") and not hasattr(module, "channels"))
    ]


def _checkpointed(block: nn.Module, forward: Callable[..., Tensor], x: Tensor, *numbers: int) -> Tensor:
    if not block.training:
        return forward(x, *numbers)
    return checkpoint(forward, x, *numbers, use_reentrant=False, context_fn=partial(_contexts, block))


def _contexts(block: nn.Module) -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
    return nullcontext(), _unchanged_statistics(block)


@contextmanager
def _unchanged_statistics(block: nn.Module) -> Iterator[None]:
    """Keep running statistics unchanged: the first pass has already updated them for this batch."""
    norms = [module for module in block.modules() if isinstance(module, _BatchNorm)]
    before = [(norm.momentum, norm.get_buffer("num_batches_tracked").clone()) for norm in norms]
    for norm in norms:
        norm.momentum = 0.0
    try:
        yield
    finally:
        for norm, (momentum, count) in zip(norms, before, strict=True):
            norm.momentum = momentum
            norm.get_buffer("num_batches_tracked").copy_(count)

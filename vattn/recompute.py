"""Memory for time: what a block computes on its way is computed again in the backward pass, not kept."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial

from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.checkpoint import checkpoint


def recompute_blocks(net: nn.Module) -> None:
    """Let each residual block in ``net`` keep its input only, while it trains; values and gradients stay the same.

    A block is what has sites of its own; C3D, which has none, keeps all.
    """
    blocks = [module for module in net.modules() if hasattr(module, "at") and not hasattr(module, "channels")]
    for block in blocks:
        block.forward = partial(_again, block, block.forward)


def _again(block: nn.Module, forward: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    if not block.training:
        return forward(x)
    return checkpoint(forward, x, use_reentrant=False, context_fn=partial(_contexts, block))


def _contexts(block: nn.Module) -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
    return nullcontext(), _statistics_counted(block)


@contextmanager
def _statistics_counted(block: nn.Module) -> Iterator[None]:
    """Leave running statistics as they are: the first pass has counted the batch."""
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

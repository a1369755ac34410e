"""Batch norms that do not train or are synchronised (``train.norm``), and frozen stages (``train.freeze``)."""

from collections.abc import Sequence
from functools import partial

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from vattn.backbones import Backbone
from vattn.video_model import VideoModel


def prepare(net: VideoModel, norm: str, freeze: Sequence[int], workers: int) -> None:
    """Change ``net`` in place as ``train.norm`` and ``train.freeze`` ask for, on its device.

    It comes before an optimizer is made of the parameters, and before they are distributed. A parameter that does not
    train has no gradient. Modules that keep their statistics are in evaluation mode throughout: `VideoModel.still`.

    Norms of mechanisms are new, and have no statistics to keep. So only those of the backbone are frozen, as in TSN's
    code (``partialbn``), which ``norm: partial`` is. ``frozen`` keeps the statistics but trains scales and shifts, as
    PySlowFast does (``BN.FREEZE``).
    """
    for backbone in net.backbones():
        _prepare(net, backbone, norm, freeze)
    if norm == "sync" and workers > 1:
        synchronise(net)


def _prepare(net: VideoModel, backbone: Backbone, norm: str, freeze: Sequence[int]) -> None:
    new = {inner for mechanism in backbone.mechanisms for inner in mechanism.modules()}
    own = [module for module in backbone.modules() if isinstance(module, _BatchNorm) and module not in new]
    if norm == "frozen":
        net.still += own
    elif norm == "partial":
        net.still += own[1:]
        for module in own[1:]:
            module.requires_grad_(False)
    if freeze:
        net.still += [m for name, m in backbone.named_modules() if name and backbone.stage_of(name) in freeze]
        for name, parameter in backbone.named_parameters():
            if backbone.stage_of(name) in freeze:
                parameter.requires_grad_(False)


def synchronise(net: nn.Module) -> None:
    """Let all batch norms of ``net`` normalise by the statistics of the clips of all workers.

    On GPUs torch does it. It has nothing for CPUs.
    """
    if next(net.parameters()).is_cuda:
        nn.SyncBatchNorm.convert_sync_batchnorm(net)
        return
    for module in net.modules():
        if isinstance(module, _BatchNorm):
            setattr(module, "forward", partial(_normalised_together, module))  # noqa: B010


def _normalised_together(norm: _BatchNorm, x: Tensor) -> Tensor:
    """Return what ``norm`` returns for ``x`` and the inputs of the other workers as one batch."""
    if not norm.training:
        return type(norm).forward(norm, x)
    values, places = x.float(), [0, *range(2, x.dim())]
    shape = [1, -1] + [1] * (x.dim() - 2)
    own = torch.cat([values.sum(places), values.new_tensor([x.numel() / x.shape[1]])])
    total = _summed(own)
    mean, count = total[:-1] / total[-1], total[-1].detach()
    centred = values - mean.view(shape)
    variance = _summed(centred.square().sum(places)) / count
    mean_kept, variance_kept = norm.get_buffer("running_mean"), norm.get_buffer("running_var")
    with torch.no_grad():
        norm.get_buffer("num_batches_tracked").add_(1)
        assert norm.momentum is not None
        mean_kept.lerp_(mean, norm.momentum)
        variance_kept.lerp_(variance * count / (count - 1), norm.momentum)
    y = centred * torch.rsqrt(variance + norm.eps).view(shape)
    return (y * norm.weight.view(shape) + norm.bias.view(shape)).to(x.dtype)


def _summed(x: Tensor) -> Tensor:
    return _Sum.apply(x)


class _Sum(torch.autograd.Function):
    """The sum of a tensor over all workers. The gradient of its input is the sum of all workers' gradients."""

    @staticmethod
    def forward(x: Tensor) -> Tensor:
        total = x.clone()
        dist.all_reduce(total)
        return total

    @staticmethod
    def setup_context(ctx: object, inputs: tuple[Tensor], output: Tensor) -> None:
        pass

    @staticmethod
    def backward(ctx: object, *grads: Tensor) -> Tensor:
        total = grads[0].clone()
        dist.all_reduce(total)
        return total

"""Counts costs on the meta device, the oracle for the closed forms in vattn/cost.py."""

import importlib
from collections import Counter
from collections.abc import Callable
from functools import cache, partial
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks
from torch.utils.flop_counter import FlopCounterMode

from vattn.config import ModelConfig
from vattn.model import VideoModel, build_model
from vattn.modules import ModuleConfig


@cache
def reference_forms() -> dict[type[nn.Module], Callable[..., Tensor]]:
    """Return for each class of a mechanism the function of (module, x) that computes its formula (``FORMS``)."""
    forms = {}
    for kind in ModuleConfig.kinds.values():
        name = kind.__module__.rpartition(".")[2]
        forms |= importlib.import_module(f"tests.vattn.reference.{name}").FORMS
    return forms


def use_reference_forms(net: nn.Module) -> None:
    """Make every mechanism in ``net`` compute its formula as plainly as possible (tests/vattn/reference)."""
    for module in net.modules():
        if form := reference_forms().get(type(module)):
            module.forward = partial(form, module)


def on_meta(model: ModelConfig, classes: int) -> VideoModel:
    with torch.device("meta"):
        return build_model(model, classes)


def clips(model: ModelConfig, num: int = 1) -> Tensor:
    frames = model.frames * model.backbone.frames_per_segment
    return torch.empty(num, model.backbone.input_channels, frames, model.size, model.size, device="meta")


def count_macs(net: nn.Module, x: Tensor) -> int:
    """Return the multiply-accumulates of convolutions, linear layers and attention products."""
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        net.eval()(x)
    return counter.get_total_flops() // 2


def model_macs(model: ModelConfig, classes: int) -> int:
    net = on_meta(model, classes)
    use_reference_forms(net)
    return count_macs(net, clips(model))


def kept_values(net: nn.Module, x: Tensor) -> int:
    """Return the number of values that autograd keeps in training, each storage once."""
    storages = {}

    def keep(tensor: Tensor) -> Tensor:
        # The reference prevents a later storage from getting the same address.
        storages[tensor.untyped_storage()._cdata] = tensor
        return tensor

    with saved_tensors_hooks(keep, lambda tensor: tensor):
        y = net.train()(x)
        total = sum(t.untyped_storage().nbytes() // t.element_size() for t in storages.values())
    del y
    return total


def kept_per_clip(net: nn.Module, x: Tensor) -> int:
    """Return the number of kept values for one more clip, so without weights and statistics of norms."""
    three, two = (x.expand(n, *x.shape[1:]).clone(memory_format=torch.contiguous_format) for n in (3, 2))
    return kept_values(net, three) - kept_values(net, two)


def model_activations(model: ModelConfig, classes: int) -> int:
    return kept_per_clip(on_meta(model, classes), clips(model))


class Elements(NamedTuple):
    """Counts that papers sum in different ways; all but ``macs`` are numbers of values."""

    macs: int
    bias: int
    norm: int
    relu: int
    max_pool_in: int
    max_pool_out: int
    avg_pool_in: int

    def m2a_paper(self) -> int:
        """Return the sum that the counter of the M2A and TANet papers reports."""
        return self.stated() + self.relu + self.max_pool_in + self.avg_pool_in

    def stated(self) -> int:
        """Return multiply-accumulates, plus biases of convolutions, plus two for each value of a batch norm."""
        return self.macs + self.bias + 2 * self.norm


def count_elements(net: nn.Module, x: Tensor) -> Elements:
    counts: Counter[str] = Counter()

    def count_output(layer: nn.Module, args: tuple[Tensor, ...], y: Tensor) -> None:
        match type(layer).__name__.rstrip("123d"):
            case "Conv" | "ConvTranspose" if layer.bias is not None:
                counts["bias"] += y.numel()
            case "BatchNorm":
                counts["norm"] += y.numel()
            case "ReLU" | "ReLU6":
                counts["relu"] += y.numel()
            case "MaxPool":
                counts["max_pool_in"] += args[0].numel()
                counts["max_pool_out"] += y.numel()
            case "AvgPool" | "AdaptiveAvgPool":
                counts["avg_pool_in"] += args[0].numel()

    hooks = [layer.register_forward_hook(count_output) for layer in net.modules()]
    macs = count_macs(net, x)
    for hook in hooks:
        hook.remove()
    return Elements(macs, *(counts[name] for name in Elements._fields[1:]))

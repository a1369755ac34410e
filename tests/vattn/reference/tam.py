"""Reference of TAM, the oracle for values, gradients and counts, and its recordings."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests.vattn.golden import Case
from tests.vattn.support import model, site
from vattn.backbones.resnet import Block
from vattn.convert import convert_model, convert_module
from vattn.insert import Folded, fold, unfold
from vattn.model import build_model
from vattn.modules.tam import TAM, TAMConfig
from vattn.weights import rename


def convolve_over_time(x: Tensor, taps: Tensor) -> Tensor:
    """Return y_t = sum_k taps_k x_{t + k - K // 2}, zero padded: one kernel per clip and channel, as the authors do."""
    n, c, t, h, w = x.shape
    k = taps.shape[-1]
    rows = x.reshape(1, n * c, t, h * w)
    y = F.conv2d(rows, taps.reshape(n * c, 1, k, 1), padding=(k // 2, 0), groups=n * c)
    return y.view(n, c, t, h, w)


def tam(module: TAM, x: Tensor) -> Tensor:
    n, c, t, h, w = x.shape
    mean = x.sum(dim=(-2, -1)) / (h * w)
    gate = torch.ones(n, c, t, dtype=x.dtype, device=x.device)
    if module.gate is not None:
        gate = module.gate(mean).expand(n, c, t)
    if module.kernel is None:
        return x * gate.view(n, c, t, 1, 1)
    taps = module.kernel(mean.reshape(n * c, t))
    if module.gate_last:
        return gate.view(n, c, t, 1, 1) * convolve_over_time(x, taps)
    return convolve_over_time(x * gate.view(n, c, t, 1, 1), taps)


FORMS = {TAM: tam}
CONFIGS = [
    TAMConfig(),
    TAMConfig(alpha=1, beta=8, kernel_size=5, local_kernel_size=1),
    TAMConfig(batch_norm=False, order="global_first"),
    TAMConfig(branches="global", kernel_size=5),
    TAMConfig(kernel_size=1),
    TAMConfig(branches="local", alpha=3, kernel_size=7, local_kernel_size=5, order="global_first"),
    TAMConfig(branches="global_se", local_kernel_size=5, order="global_first"),
]


def without_gradient(config: TAMConfig) -> set[str]:
    """Return the parameters without a gradient: a softmax over one tap is always 1."""
    one_tap = config.has_kernel and config.kernel_size == 1
    norm = {"kernel.1.weight", "kernel.1.bias"} if config.batch_norm else set()
    return {"kernel.0.weight", f"kernel.{2 + config.batch_norm}.weight"} | norm if one_tap else set()


def _config(meta: dict[str, Any]) -> TAMConfig:
    c = meta["config"]
    assert c.get("padding", c["kernel_size"] // 2) == c["kernel_size"] // 2
    return TAMConfig(alpha=c.get("alpha", 2), beta=c.get("beta", 4), kernel_size=c["kernel_size"])


def _alone(meta: dict[str, Any]) -> Case:
    c, config = meta["config"], _config(meta)
    assert c.get("stride", 1) == 1, "a stride over time, which the authors' code does not support"
    net = config.build(site(c["in_channels"]), c["n_segment"])
    frames = c["n_segment"]
    return Case(net, lambda state: convert_module(state, config), lambda net, x: fold(net(unfold(x, frames))))


def _block(meta: dict[str, Any]) -> Case:
    c, config = meta["config"], _config(meta)
    net = Block(c["inplanes"], c["planes"], 4 * c["planes"], c["stride"], bottleneck=True)
    net.at["b"] = nn.Sequential(Folded(config.build(site(c["planes"]), c["n_segment"]), c["n_segment"]))
    return Case(net, lambda state: rename(state, (*config.authors_network, *config.authors_names)))


def _network(meta: dict[str, Any]) -> Case:
    c = meta["config"]
    config = model({"kind": "tam"}, depth=50, width=1.0, frames=c["n_segment"], size=c["pixels"])
    net = build_model(config, c["num_classes"])
    return Case(net, lambda state: convert_model(state, config), lambda net, x: net.fc(net.backbone(x)), "backbone.")


GOLDEN = {
    "TAM": _alone,
    "TA-Block style b (ResNet bottleneck + TAM after conv1-bn1-relu)": _block,
    "TANet-50 full 2D backbone, per-frame logits before consensus": _network,
}

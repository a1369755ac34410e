"""Reference of ACTION, path by path and frame by frame, and its recordings."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests.vattn.golden import Case, State
from tests.vattn.support import model, site
from vattn.convert import convert_model
from vattn.insert import Folded
from vattn.model import build_model
from vattn.modules._fold import fold, unfold
from vattn.modules._temporal import LearnableShift
from vattn.modules.action import Action, ActionConfig, ChannelExcitation
from vattn.modules.tea import MotionExcitation
from vattn.weights import rename


def shift(module: LearnableShift, x: Tensor) -> Tensor:
    """Convolve each channel over the frames of every pixel."""
    return F.conv3d(x, module.weight[..., None, None], padding=(1, 0, 0), groups=x.shape[1])


def spatio_temporal(layer: nn.Conv3d, x: Tensor) -> Tensor:
    return F.conv3d(x.sum(1, keepdim=True) / x.shape[1], layer.weight, padding=1)


def channel(module: ChannelExcitation, x: Tensor) -> Tensor:
    t = x.shape[2]
    squeezed = unfold(module.squeeze(F.adaptive_avg_pool2d(fold(x), 1)), t)[..., 0, 0]
    mixed = F.conv1d(squeezed, module.mix.weight, padding=1).relu()
    return unfold(module.expand(fold(mixed[..., None, None])), t)


def motion(module: MotionExcitation, x: Tensor) -> Tensor:
    reduced = module.bn1(module.conv1(fold(x)))
    now, after = unfold(reduced, x.shape[2]).unbind(2), unfold(module.conv2(reduced), x.shape[2]).unbind(2)
    differences = [b - a for a, b in zip(now[:-1], after[1:], strict=True)] + [torch.zeros_like(now[-1])]
    mean = torch.stack(differences, dim=2).mean(dim=(-2, -1), keepdim=True)
    return unfold(module.conv3(fold(mean)), x.shape[2])


def action(module: Action, x: Tensor) -> Tensor:
    z = shift(module.shift, x)
    y = torch.zeros_like(z)
    if module.ste is not None:
        y = y + (z * spatio_temporal(module.ste, z).sigmoid() + z)
    if module.ce is not None:
        y = y + (z * channel(module.ce, z).sigmoid() + z)
    if module.me is not None:
        y = y + (z * motion(module.me, z).sigmoid() + z)
    return y


FORMS = {Action: action}
CONFIGS = [
    ActionConfig(),
    ActionConfig(paths=("ste",), reduction=4, div=2),
    ActionConfig(paths=("me", "ce"), reduction=8, div=3),
    ActionConfig(paths=("ste", "me")),
]


def _path(*paths: str):
    """Return the builder for one path, or for all paths with the convolution that follows them in the authors' code."""

    def build(meta: dict[str, Any]) -> Case:
        c = meta["config"]
        c.seen_in_parameters("shift_weights")
        channels, frames = c["in_channels"], c["n_segment"]
        config = ActionConfig.parse(
            {"paths": paths, "reduction": channels // c["reduced_channels"], "div": c["shift_div"]}
        )  # fmt: skip
        net = nn.Sequential(Folded(config.build(site(channels), frames), frames))
        if len(paths) == 3:
            # The layer that the authors' module wraps, whatever its size.
            outputs, _, kernel, _ = meta["shapes"]["net.weight"]
            net.append(nn.Conv2d(channels, outputs, kernel, padding=kernel // 2, bias=False))
        rules = [(r"^net\.", "1."), (r"^action_", "0.module.action_"), *config.authors_names]

        def without_other_paths(state: State) -> State:
            return {name: value for name, value in rename(state, rules).items() if name in net.state_dict()}

        def as_recorded(net: Any, x: Tensor) -> Tensor:
            # One path was recorded as all three with two gates at 0, minus twice the input. In the recording the shift
            # is the identity, so subtracting x or shift(x) differs only in the gradient of the shift's weights.
            z = net[0].module.shift(unfold(x, frames))
            return net(x) + (3 - len(paths)) * (fold(z) - x)

        if len(paths) == 3:
            return Case(net, lambda state: rename(state, rules))
        return Case(net, without_other_paths, as_recorded)

    return build


def _network(meta: dict[str, Any]) -> Case:
    c = meta["config"]
    action = {"kind": "action", "div": c["shift_div"]}
    config = model(action, depth=50, width=1.0, frames=c["n_segment"], size=meta["input_shape"][-1])
    net = build_model(config, c["num_classes"])
    return Case(net, lambda state: convert_model(state, config), lambda net, x: net.fc(net.backbone(x)), "backbone.")


GOLDEN = {
    "ACTION-Net-50 full backbone": _network,
    "ACTION (shift -> STE+CE+ME sum -> net)": _path("ste", "ce", "me"),
    "ACTION STE path only": _path("ste"),
    "ACTION CE path only": _path("ce"),
    "ACTION ME path only": _path("me"),
}

"""Reference of M2A, token by token, and its recordings."""

from typing import Any

import torch
from torch import Tensor, nn

from tests.vattn.golden import Case
from tests.vattn.reference.tdn import direction, per_frame
from tests.vattn.support import model, site
from vattn.convert import convert_model, convert_module
from vattn.insert import fold, unfold
from vattn.model import build_model
from vattn.modules._m2a.attention import FrameAttention
from vattn.modules._m2a.motion import Difference, TDNMotion, TEAMotion
from vattn.modules._m2a.patches import PatchAttention
from vattn.modules.m2a import M2A, M2AConfig
from vattn.modules.tsm import TSMConfig


def self_attention(tokens: Tensor) -> Tensor:
    """Return softmax(X X^T / sqrt d) X for each matrix X of a batch (B, tokens, d)."""
    weights = torch.softmax(torch.bmm(tokens, tokens.transpose(1, 2)) / tokens.shape[2] ** 0.5, dim=2)
    return torch.bmm(weights, tokens)


def layer_norm(x: Tensor, dims: tuple[int, ...]) -> Tensor:
    centred = x - x.mean(dims, keepdim=True)
    return centred / (centred.square().mean(dims, keepdim=True) + 1e-5).sqrt()


def differences(items: tuple[Tensor, ...], circular: bool) -> list[Tensor]:
    successors = [*items[1:], items[0] if circular else torch.zeros_like(items[0])]
    return [after - now for now, after in zip(items, successors, strict=True)]


def tea_motion(module: TEAMotion, x: Tensor) -> Tensor:
    reduced = module.bn1(module.conv1(fold(x)))
    now, after = (unfold(y, x.shape[2]).unbind(2) for y in (reduced, module.conv2(reduced)))
    moved = [b - a for a, b in zip(now[:-1], after[1:], strict=True)] + [torch.zeros_like(now[0])]
    return unfold(module.bn3(module.conv3(fold(torch.stack(moved, dim=2)))), x.shape[2])


def tdn_motion(module: TDNMotion, x: Tensor) -> Tensor:
    if module.authors_code:
        return TDNMotion.forward(module, x)  # only the recordings test this defect
    now = per_frame(module.reduce, x)
    smooth = per_frame(module.smooth, now)
    return (direction(module, now, smooth, 1) + direction(module, now, smooth, -1) - 1) / 2


def motion(module: nn.Module, x: Tensor) -> Tensor:
    if isinstance(module, Difference):
        return torch.stack(differences(x.unbind(2), module.circular), dim=2)
    return module(x)


def among_frames(x: Tensor) -> Tensor:
    n, c, t, h, w = x.shape
    return self_attention(x.transpose(1, 2).reshape(n, t, c * h * w)).view(n, t, c, h, w).transpose(1, 2)


def among_patches(module: PatchAttention, x: Tensor, move: nn.Module) -> Tensor:
    n, c, t, h, w = x.shape
    s = module.size
    if h % s or w % s:
        normalised = layer_norm(x, (1,))
        if module.authors_code and isinstance(move, Difference):
            rows = torch.stack(differences(normalised.flatten(2).unbind(2), move.circular), dim=1)
        else:
            rows = motion(move, normalised).flatten(2).transpose(1, 2)
        return x + self_attention(rows).transpose(1, 2).view(x.shape)
    p = (h // s) * (w // s)
    moved = cut(motion(move, placed(layer_norm(cut(x, s), (2, 4, 5)), x)), s)
    rows = moved.transpose(2, 3).reshape(n * p, t, c * s * s)
    patches = cut(x, s) + self_attention(rows).view(n, p, t, c, s, s).transpose(2, 3)
    rows = layer_norm(patches, (2, 4, 5)).permute(0, 3, 1, 2, 4, 5).reshape(n * t, p, c * s * s)
    return placed(patches + self_attention(rows).view(n, t, p, c, s, s).permute(0, 2, 3, 1, 4, 5), x)


def cut(x: Tensor, s: int) -> Tensor:
    """(N, C, T, H, W) -> (N, patches, C, T, s, s)."""
    corners = [(i, j) for i in range(0, x.shape[3], s) for j in range(0, x.shape[4], s)]
    return torch.stack([x[..., i : i + s, j : j + s] for i, j in corners], dim=1)


def placed(patches: Tensor, x: Tensor) -> Tensor:
    """Return the frames of the shape of x from which `cut` cut the patches."""
    per_row = x.shape[4] // patches.shape[5]
    rows = [torch.cat(row, dim=4) for row in zip(*[iter(patches.unbind(1))] * per_row, strict=True)]
    return torch.cat(rows, dim=3)


def m2a(module: M2A, x: Tensor) -> Tensor:
    z = unfold(module.down(fold(x)), x.shape[2])
    if isinstance(module.attention, PatchAttention):
        a = among_patches(module.attention, z, module.motion)
    elif isinstance(module.attention, FrameAttention):
        a = z + among_frames(motion(module.motion, layer_norm(z, (1, 3, 4))))
    elif isinstance(module.attention, nn.Identity):
        a = motion(module.motion, z)
    elif isinstance(module.motion, nn.Identity):
        a = module.attention(z)
    else:
        a = z + module.attention(motion(module.motion, layer_norm(z, (1, 3, 4))))
    return x * unfold(module.up(fold(a)), x.shape[2]).sigmoid() + x


FORMS = {M2A: m2a, TDNMotion: tdn_motion, TEAMotion: tea_motion}
CONFIGS = (
    M2AConfig(),
    M2AConfig(fill="first", reduction=4, patch_size=2, authors_code=True),
    M2AConfig(attention="none"),
    M2AConfig(attention="none", fill="first"),
    M2AConfig(attention="tam"),
    M2AConfig(attention="patch", patch_size=1),
    M2AConfig(attention="patch", patch_size=2, fill="first", authors_code=True),
    M2AConfig(motion="none", fill="first"),
    M2AConfig(motion="none", attention="none"),
    M2AConfig(motion="none", attention="tam"),
    M2AConfig(motion="none", attention="patch", patch_size=2),
    M2AConfig(motion="tea", attention="none", reduction=2),
    M2AConfig(motion="tea", attention="tam"),
    M2AConfig(motion="tdn"),
    M2AConfig(motion="tdn", attention="none"),
    M2AConfig(motion="tdn", attention="patch", authors_code=True),
)


def without_gradient(config: M2AConfig) -> set[str]:
    """Return the parameters without a gradient.

    The difference of two frames cancels the bias of the convolution before it, unless one frame is the zeros of
    ``fill``.
    """
    stuck = set()
    if config.attention == "none" and (
        config.motion in ("tea", "tdn") or (config.motion, config.fill) == ("m2a", "first")
    ):
        stuck.add("down.bias")
    if config.motion == "tdn":
        # As in TDN. With the defect, another convolution follows the norm of one branch.
        stuck |= {"motion.coarse_norm.bias"} | (set() if config.authors_code else {"motion.fine_norm.bias"})
    return stuck


#: Options by the authors' name of a part.
_PARTS = {
    "motion": {"motion": "m2a"},
    "tea": {"motion": "tea"},
    "tdn": {"motion": "tdn"},
    "attn": {"attention": "m2a"},
    "tam": {"attention": "tam"},
}


def _config(meta: dict[str, Any]) -> M2AConfig:
    c = meta["config"]
    module_name = c.get("temporal_module", "motion+attn")
    patch_size = c.get("patch_size")
    if module_name == "patch_mattn":
        return M2AConfig(attention="patch", patch_size=patch_size, reduction=c["n_div"], authors_code=True)
    parts = {"motion": "none", "attention": "none"}
    for part in module_name.split("+"):
        parts |= _PARTS[part]
    return M2AConfig.parse(parts | {"reduction": c["n_div"], "authors_code": True})


def _alone(meta: dict[str, Any]) -> Case:
    c, config = meta["config"], _config(meta)
    frames, place = c["n_segment"], site(c["in_channels"])
    net = config.build(place, frames)
    if "shift_div" in c:
        net = nn.Sequential(net, TSMConfig(div=c["shift_div"]).build(place, frames))
    return Case(net, lambda state: convert_module(state, config), lambda net, x: fold(net(unfold(x, frames))))


def _network(meta: dict[str, Any]) -> Case:
    c = meta["config"]
    attention = [_config(meta).tree()] + [{"kind": "tsm"}] * c.get("use_tsm", False)
    config = model(*attention, depth=18, width=1.0, frames=c["n_segment"], size=c["pixels"])
    net = build_model(config, c["num_classes"])
    return Case(net, lambda state: convert_model(state, config), lambda net, x: net.fc(net.backbone(x)), "backbone.")


GOLDEN = {
    "M2A": _alone,
    "M2A+TSM": _alone,
    "ResNet18 + M2A (code placement: before conv1 of every BasicBlock), per-frame logits before consensus": _network,
}

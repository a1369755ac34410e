"""The config of a network, inferred from the names and shapes of its published weights (`vattn convert`).

What a state dict does not show is chosen as its authors have it, and listed with it.
"""

import re
from collections.abc import Callable
from typing import Any, NamedTuple

from vattn.errors import UserError
from vattn.weights.families import Recognised
from vattn.weights.state import State, first_of

Tree = dict[str, Any]
#: Number of layers of a residual network, by the blocks of its stages and whether they are bottlenecks.
_DEPTHS: dict[tuple[tuple[int, ...], bool], int] = {
    ((1, 1, 1, 1), False): 10, ((2, 2, 2, 2), False): 18, ((3, 4, 6, 3), False): 34,
    ((1, 1, 1, 1), True): 14, ((3, 4, 6, 3), True): 50, ((3, 4, 23, 3), True): 101, ((3, 8, 36, 3), True): 152,
}  # fmt: skip
#: Layers of P3D, whose blocks have more convolutions, by those of the ResNet that it is built like.
_P3D_DEPTHS = {14: 17, 50: 63, 101: 131, 152: 199}


class Inferred(NamedTuple):
    """The tree of a model config, the number of classes, and what of it the weights do not show."""

    model: Tree
    classes: int
    assumed: tuple[str, ...]


class _Names:
    """The names of a state dict, and what they say of a residual network."""

    def __init__(self, recognised: Recognised) -> None:
        self.state: State = recognised.state()
        #: Names with the wrappers of blocks, which the family's rules remove.
        self.raw = tuple(recognised.checkpoint.state)

    def has(self, pattern: str) -> bool:
        return any(re.search(pattern, name) for name in self.raw)

    def shape(self, pattern: str) -> tuple[int, ...]:
        """Return the shape of the first tensor whose name matches; () if there is none."""
        return next((tuple(value.shape) for name, value in self.state.items() if re.search(pattern, name)), ())

    def blocks(self, stages: str) -> tuple[int, ...]:
        """Return the number of blocks of each stage; ``stages`` is a pattern with groups for stage and block."""
        found: dict[int, set[int]] = {}
        for name in self.state:
            if match := re.search(stages, name):
                found.setdefault(int(match[1]), set()).add(int(match[2]))
        return tuple(len(found[stage]) for stage in sorted(found))

    def depth(self, stages: str = r"^layer(\d)(?:_bak)?\.(\d+)\.", bottleneck: bool | None = None) -> int:
        blocks = self.blocks(stages)
        is_bottleneck = self.has(r"layer\d(?:_bak)?\.\d+\.(?:\w+\.)*?conv3\.") if bottleneck is None else bottleneck
        if (blocks, is_bottleneck) not in _DEPTHS:
            known = sorted(set(_DEPTHS.values()))
            raise UserError(
                f"has stages of {', '.join(map(str, blocks)) or 'no'} blocks, which is no depth that is known here",
                way_out=f"name weights of one of the depths {', '.join(map(str, known))}",
            )
        return _DEPTHS[blocks, is_bottleneck]


def infer(recognised: Recognised) -> Inferred:
    """Return the config of the network that a checkpoint has the weights of.

    Raises:
        UserError: it is not the whole of a network that is known here.
    """
    names = _Names(recognised)
    head = names.shape(r"^(?:fc|new_fc|fc8|classifier(?:\.1)?)\.weight$")
    file = recognised.checkpoint.file
    build = next((build for pattern, build in _BUILDERS.items() if re.search(pattern, recognised.family.name)), None)
    if build is None or recognised.family.own:
        raise UserError(
            f"{file} is not converted: its names are those of {recognised.family.name}",
            way_out="use it as it is" if recognised.family.own else "name published weights of a network here",
        )
    if len(head) != 2:
        raise UserError(f"{file} has no classifier, so it is not the whole of a network", found=first_of(names.raw))
    try:
        tree, assumed = build(names)
    except UserError as error:
        raise UserError(f"{file}: {error}") from None
    return Inferred(tree, head[0], assumed)


def _of_frames(names: _Names) -> Tree:
    """Return the config of a 2D network of frames with its mechanisms."""
    tree: Tree = {"frames": 8, "size": 224, "attention": []}
    if names.has(r"features\.18\."):
        width = names.shape(r"features\.18\.0\.weight")
        if width[0] != 1280:
            raise UserError("is a MobileNetV2 of another width than 1, which is not read here")
        tree["backbone"] = {"kind": "mobilenet_v2"}
    else:
        tree["backbone"] = _resnet(names)
    return tree


def _resnet(names: _Names) -> Tree:
    depth = names.depth()
    kernel = names.shape(r"^layer1\.0\.conv2\.weight")
    if len(kernel) == 4 and kernel[0] != kernel[1] and names.depth() in (50, 101):
        groups = kernel[0] // kernel[1]
        return {"kind": "resnext", "depth": depth, "cardinality": groups, "width_per_group": kernel[1]}
    return {"kind": "resnet", "depth": depth}


_T = "model.frames, 8, and model.size, 224"


def _plain(names: _Names) -> tuple[Tree, tuple[str, ...]]:
    return _of_frames(names), (_T,)


def _tanet(names: _Names) -> tuple[Tree, tuple[str, ...]]:
    tree = _of_frames(names)
    hidden, frames = names.shape(r"tam\.G\.0\.weight$")
    taps = names.shape(r"tam\.G\.3\.weight$")[0]
    reduced, channels, local = names.shape(r"tam\.L\.0\.weight$")
    tam = {"kind": "tam", "alpha": hidden // frames, "beta": channels // reduced, "kernel_size": taps}
    tree |= {"frames": frames, "attention": [tam | ({} if local == taps else {"local_kernel_size": local})]}
    return tree, ("model.size, 224",)


def _tsm(names: _Names) -> tuple[Tree, tuple[str, ...]]:
    tree, assumed = _of_frames(names), (_T, "div of tsm, 8")
    every, position = 1, "a"
    if names.has(r"layer\d\.\d+\.(?:block\.)?net\."):
        position = "block"
    elif tree["backbone"].get("depth", 50) == 101:
        # TSM's code shifts in every second block of networks with 23 blocks or more in a stage.
        every = 2
    tree["attention"] = [{"kind": "tsm", "position": position, "every": every}]
    if names.has(r"\.(?:nl|non_local_block)\."):
        scale = False
        stages = sorted(
            {int(m[1]) + 1 for n in names.raw if (m := re.search(r"layer(\d)\.\d+\.(?:nl|non_local_block)\.", n))}
        )
        sampled = names.has(r"\.(?:nl|non_local_block)\.phi\.0\.")
        tree["attention"].append({
            "kind": "nonlocal", "stages": stages, "position": "block", "first": 1, "every": 2, "scale": scale,
            "subsample": sampled, "maxima": "embeddings" if sampled else "features",
        })  # fmt: skip
        assumed += ("scale of nonlocal, false",)
    return tree, assumed


def _tea(names: _Names) -> tuple[Tree, tuple[str, ...]]:
    tree = {"frames": 8, "size": 224, "attention": [{"kind": "tea"}, {"kind": "mta"}]}
    width = names.shape(r"^layer1\.0\.convs\.0\.weight")[0]
    tree["backbone"] = {"kind": "resnext", "depth": names.depth(), "cardinality": 4, "width_per_group": width}
    return tree, (_T,)


def _tdn(names: _Names) -> tuple[Tree, tuple[str, ...]]:
    tree = {"frames": 8, "size": 224, "backbone": {"kind": "resnet_tdn", "depth": names.depth()}}
    return tree | {"attention": [{"kind": "tdn", "stages": [3, 4, 5]}]}, (_T, "keep of resnet_tdn, 0.5")


def _action(names: _Names) -> tuple[Tree, tuple[str, ...]]:
    tree = _of_frames(names)
    reduced, channels = names.shape(r"action_p2_squeeze\.weight$")[:2]
    tree["attention"] = [{"kind": "action", "reduction": channels // reduced}]
    return tree, (_T, "div of action, 8")


def _m2a(names: _Names) -> tuple[Tree, tuple[str, ...]]:
    tree = _of_frames(names)
    reduced, channels = names.shape(r"conv_down\.weight$")[:2]
    tree["attention"] = [{"kind": "m2a", "reduction": channels // reduced}]
    return tree, (_T, "the parts of m2a")


def _hara(names: _Names) -> tuple[Tree, tuple[str, ...]]:
    depth, stem = names.depth(), names.shape(r"^conv1\.weight$")
    tree: Tree = {"frames": 16, "size": 112}
    grouped = names.shape(r"^layer1\.0\.conv2\.weight$")
    outputs = names.shape(r"^layer1\.0\.conv3\.weight$")
    if outputs and outputs[0] == 256 and grouped[0] != grouped[1]:
        backbone: Tree = {"kind": "resnext3d", "depth": depth, "cardinality": grouped[0] // grouped[1]}
    else:
        backbone = {"kind": "resnet3d", "depth": depth}
    # Shortcuts of type A have no weights.
    if not names.has(r"layer2\.0\.downsample\."):
        backbone["shortcut"] = "A"
    if len(stem) == 5 and stem[2] != 7:
        raise UserError(f"has a stem of {stem[2]} frames, and that of {backbone['kind']} has 7")
    if len(stem) == 5 and stem[1] == 2:
        backbone["inputs"] = 2
    return tree | {"backbone": backbone}, ("model.frames, 16, and model.size, 112",)


def _hara_factorized(names: _Names) -> tuple[Tree, tuple[str, ...]]:
    backbone: Tree = {"kind": "resnet2plus1d", "depth": names.depth(bottleneck=names.has(r"layer1\.0\.conv3\."))}
    if not names.has(r"layer2\.0\.downsample\."):
        backbone["shortcut"] = "A"
    return {"frames": 16, "size": 112, "backbone": backbone}, ("model.frames, 16, and model.size, 112",)


def _torchvision(names: _Names) -> tuple[Tree, tuple[str, ...]]:
    stem, later = names.shape(r"^stem\.0\.weight$"), names.shape(r"^layer2\.0\.conv1\.0\.(?:0\.)?weight$")
    kind = "r2plus1d" if names.has(r"layer1\.0\.conv1\.0\.0\.") or stem[2] == 1 else "mc3" if later[2] == 1 else "r3d"
    depth = names.depth(bottleneck=False)
    return {"frames": 16, "size": 112, "backbone": {"kind": kind, "depth": depth}}, ("model.frames, 16",)


def _p3d(names: _Names) -> tuple[Tree, tuple[str, ...]]:
    depth = names.depth(bottleneck=True)
    backbone: Tree = {"kind": "p3d", "depth": _P3D_DEPTHS[depth]}
    if names.shape(r"^conv1_custom\.weight$")[1:2] == (2,):
        backbone["inputs"] = 2
    return {"frames": 16, "size": 160, "backbone": backbone}, ("model.frames, 16, and model.size, 160",)


def _c3d(names: _Names) -> tuple[Tree, tuple[str, ...]]:
    width = names.shape(r"^conv1\.weight$")[0] / 64
    return {"frames": 16, "size": 112, "backbone": {"kind": "c3d", "width": width}}, ()


def _slowfast(names: _Names) -> tuple[Tree, tuple[str, ...]]:
    taps = names.shape(r"^lateral\.0\.0\.weight$")[2]
    depth = names.depth(r"^slow\.(\d)\.(\d+)\.", bottleneck=True)
    alpha = 4 if taps == 7 else 8
    backbone: Tree = {"kind": "slowfast", "depth": depth, "alpha": alpha, "lateral_frames": taps}
    if names.has(r"pathway0"):
        backbone["slow_frames"] = "spread"
    return {"frames": 32, "size": 224, "backbone": backbone}, ("model.frames, 32", f"alpha of slowfast, {alpha}")


def _inflated(names: _Names) -> tuple[Tree, tuple[str, ...]]:
    stem = names.shape(r"^conv1\.weight$")
    depth = names.depth(bottleneck=True)
    early, late = (names.shape(rf"^layer{layer}\.0\.conv1\.weight$")[2] for layer in (1, 3))
    mmaction = names.has(r"^(?:module\.)*backbone\.")
    if early == 3:
        stride = 2 if mmaction else 1
        backbone: Tree = {
            "kind": "inflated", "depth": depth, "temporal": "i3d", "stem_frames": stem[2], "stem_stride": stride,
            "pool_stride": stride, "pool_frames": True,
        }  # fmt: skip
        return {"frames": 32, "size": 224, "backbone": backbone}, ("model.frames, 32", f"the strides, {stride}")
    temporal, pools = ("slow", False) if late == 3 else ("none", True)
    backbone = {
        "kind": "inflated", "depth": depth, "temporal": temporal, "stem_frames": stem[2], "stem_stride": 1,
        "pool_stride": 1, "pool_frames": pools,
    }  # fmt: skip
    return {"frames": 8, "size": 224, "backbone": backbone}, ("model.frames, 8", "the strides")


_Build = Callable[[_Names], tuple[Tree, tuple[str, ...]]]
#: By the family's name.
_BUILDERS: dict[str, _Build] = {
    r"SlowFast's I3D": _inflated, r"SlowFast$": _slowfast, r"C3D$": _c3d, r"P3D": _p3d, r"I3D$": _inflated,
    r"TANet$": _tanet, r"TSM": _tsm, r"TSN$": _plain, r"R\(2\+1\)D$": _hara_factorized, r"Hara or MARS": _hara,
    r"torchvision": _torchvision, r"^TDN$": _tdn, r"^TEA$": _tea, r"^ACTION": _action, r"^M2A$": _m2a,
    r"^plain": _plain,
}  # fmt: skip

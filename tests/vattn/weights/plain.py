"""Published networks, written as plain functions that create their weights, by the published names, at first use.

A network is a function of (weights, clips). Formulas are those of the papers, in the plainest writing.
"""

from collections.abc import Callable
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor

Network = Callable[["Plain", Tensor], Tensor]
CLASSES = 5


class Plain:
    """Weights by name, drawn when they are first asked for."""

    def __init__(self, seed: int = 0) -> None:
        self.state: dict[str, Tensor] = {}
        self._generator = torch.Generator().manual_seed(seed)

    def _get(self, name: str, shape: tuple[int, ...], gain: float = 0.0) -> Tensor:
        if name not in self.state:
            if gain:
                fan = torch.Size(shape[1:]).numel()
                self.state[name] = torch.randn(shape, generator=self._generator) * (gain / fan) ** 0.5
            else:
                self.state[name] = 0.5 + torch.rand(shape, generator=self._generator)
        assert self.state[name].shape == shape, name
        return self.state[name]

    def conv(
        self, name: str, x: Tensor, outputs: int, kernel: int | tuple[int, ...], stride: int | tuple[int, ...] = 1,
        groups: int = 1, bias: bool = False, padding: tuple[int, ...] | None = None, flat: bool = False,
    ) -> Tensor:  # fmt: skip
        """Convolve, padded with zeros to keep the size; ``flat``: the weights are those of frame by frame."""
        dims = x.ndim - 2
        sizes = (kernel,) * dims if isinstance(kernel, int) else kernel
        strides = (stride,) * dims if isinstance(stride, int) else stride
        shape = (outputs, x.shape[1] // groups, *sizes)
        weight = self._get(name + ".weight", (*shape[:2], *shape[3:]) if flat else shape, gain=0.5).view(shape)
        offset = self._get(name + ".bias", (outputs,)) if bias else None
        apply = {1: F.conv1d, 2: F.conv2d, 3: F.conv3d}[dims]
        return apply(x, weight, offset, strides, padding or tuple(k // 2 for k in sizes), groups=groups)

    def bn(self, name: str, x: Tensor) -> Tensor:
        c = x.shape[1]
        weight, bias, mean, var = (
            self._get(f"{name}.{part}", (c,)) for part in ("weight", "bias", "running_mean", "running_var")
        )
        self.state.setdefault(name + ".num_batches_tracked", torch.tensor(7))
        return F.batch_norm(x, mean, var, weight, bias)

    def linear(self, name: str, x: Tensor, outputs: int, bias: bool = True) -> Tensor:
        weight = self._get(name + ".weight", (outputs, x.shape[1]), gain=1.0)
        return F.linear(x, weight, self._get(name + ".bias", (outputs,)) if bias else None)


class Names:
    """How a trainer names the convolutions and norms of a residual block."""

    def __init__(self, conv: str = "{b}.conv{i}", norm: str = "{b}.bn{i}", down: tuple[str, str] = ("0", "1")) -> None:
        self._conv, self._norm, self._down = conv, norm, down

    def conv(self, block: str, i: int) -> str:
        return self._conv.format(b=block, i=i, a="_abc"[i])

    def norm(self, block: str, i: int) -> str:
        return self._norm.format(b=block, i=i, a="_abc"[i])

    def down(self, block: str) -> tuple[str, str]:
        if self._down[0].startswith("branch"):
            return f"{block}.{self._down[0]}", f"{block}.{self._down[1]}"
        return f"{block}.downsample.{self._down[0]}", f"{block}.downsample.{self._down[1]}"


TORCH = Names()
MMACTION = Names("{b}.conv{i}.conv", "{b}.conv{i}.bn", ("conv", "bn"))
PYSLOWFAST = Names("{b}.branch2.{a}", "{b}.branch2.{a}_bn", ("branch1", "branch1_bn"))


def fold(x: Tensor) -> Tensor:
    return x.transpose(1, 2).flatten(0, 1)


def unfold(x: Tensor, t: int) -> Tensor:
    return x.unflatten(0, (-1, t)).transpose(1, 2)


def shift(x: Tensor, t: int, div: int = 8) -> Tensor:
    """TSM: the first eighth of the channels from the next frame, the second from the one before."""
    clips, f = unfold(x, t), x.shape[1] // div
    y = torch.zeros_like(clips)
    y[:, :f, :-1], y[:, f : 2 * f, 1:], y[:, 2 * f :] = clips[:, :f, 1:], clips[:, f : 2 * f, :-1], clips[:, 2 * f :]
    return fold(y)


def bottleneck(
    p: Plain, block: str, x: Tensor, planes: int, stride: int, names: Names = TORCH, first: str = "",
    before: Callable[[Tensor], Tensor] = lambda x: x, between: Callable[[Tensor], Tensor] = lambda x: x,
    bias: bool = False,
) -> Tensor:  # fmt: skip
    """A 2D bottleneck; ``before`` and ``between`` work before and after its first convolution."""
    y = p.conv(first or names.conv(block, 1), before(x), planes, 1, bias=bias)
    y = between(p.bn(names.norm(block, 1), y).relu())
    y = p.bn(names.norm(block, 2), p.conv(names.conv(block, 2), y, planes, 3, stride, bias=bias)).relu()
    y = p.bn(names.norm(block, 3), p.conv(names.conv(block, 3), y, 4 * planes, 1, bias=bias))
    if stride > 1 or x.shape[1] != 4 * planes:
        conv, norm = names.down(block)
        x = p.bn(norm, p.conv(conv, x, 4 * planes, 1, stride, bias=bias))
    return (x + y).relu()


Block = Callable[[Plain, str, Tensor, int, int], Tensor]


def resnet(
    p: Plain, x: Tensor, block: Block, blocks: tuple[int, ...] = (1, 1, 1, 1), stem: tuple[str, str] = ("conv1", "bn1"),
    prefix: str = "", head: str = "fc",
) -> Tensor:  # fmt: skip
    """A ResNet on frames, whose scores are averaged over the frames of a clip."""
    y = p.bn(prefix + stem[1], p.conv(prefix + stem[0], fold(x), 64, 7, 2)).relu()
    y = F.max_pool2d(y, 3, 2, 1)
    for stage, number in enumerate(blocks):
        for i in range(number):
            stride = 2 if i == 0 and stage else 1
            y = block(p, f"{prefix}layer{stage + 1}.{i}", y, 64 * 2**stage, stride)
    return p.linear(head, y.mean((2, 3)), CLASSES).unflatten(0, (-1, x.shape[2])).mean(1)


def tsn(p: Plain, x: Tensor) -> Tensor:
    return resnet(p, x, bottleneck, head="new_fc")


def tsm(p: Plain, x: Tensor, blocks: tuple[int, ...] = (1, 1, 1, 1), nonlocal_: bool = False) -> Tensor:
    t = x.shape[2]

    def block(p: Plain, name: str, y: Tensor, planes: int, stride: int) -> Tensor:
        wrapped = nonlocal_ and planes in (128, 256) and int(name[-1]) % 2 == 0
        inner = name + ".block" if wrapped else name
        y = bottleneck(p, inner, y, planes, stride, first=inner + ".conv1.net", before=lambda z: shift(z, t))
        return non_local(p, name + ".nl", y, t) if wrapped else y

    return resnet(p, x, block, blocks, head="new_fc")


def non_local(p: Plain, name: str, x: Tensor, t: int, mmaction: bool = False) -> Tensor:
    """Embedded Gaussian without scale, over maxima of embeddings, as in TSM's code."""
    clips = unfold(x, t)
    c = clips.shape[1] // 2
    names = ("theta", "phi.0", "g.0", "W.0", "W.1")
    if mmaction:
        names = ("theta.conv", "phi.0.conv", "g.0.conv", "conv_out.conv", "conv_out.bn")
    theta, phi, g = (p.conv(f"{name}.{part}", clips, c, (1, 1, 1), bias=True) for part in names[:3])
    phi, g = (F.max_pool3d(z, (1, 2, 2)).flatten(2) for z in (phi, g))
    weights = (theta.flatten(2).transpose(1, 2) @ phi).softmax(2)
    y = (g @ weights.transpose(1, 2)).view(theta.shape)
    y = p.bn(f"{name}.{names[4]}", p.conv(f"{name}.{names[3]}", y, 2 * c, (1, 1, 1), bias=not mmaction))
    return fold(clips + y)


def tsm_of_blocks(p: Plain, x: Tensor) -> Tensor:
    def block(p: Plain, name: str, y: Tensor, planes: int, stride: int) -> Tensor:
        return bottleneck(p, name + ".net", shift(y, x.shape[2]), planes, stride)

    return resnet(p, x, block, head="new_fc")


def tam(p: Plain, name: str, x: Tensor, t: int) -> Tensor:
    clips = unfold(x, t)
    n, c = clips.shape[:2]
    mean = clips.mean((3, 4))
    taps = p.linear(f"{name}.G.0", mean.reshape(n * c, t), 2 * t, bias=False)
    taps = p.linear(f"{name}.G.3", p.bn(f"{name}.G.1", taps).relu(), 3, bias=False).softmax(1).view(n, c, 3)
    gate = p.bn(f"{name}.L.1", p.conv(f"{name}.L.0", mean, c // 4, 3)).relu()
    gated = clips * p.conv(f"{name}.L.3", gate, c, 1).sigmoid()[..., None, None]
    padded = F.pad(gated, (0, 0, 0, 0, 1, 1))
    return fold(sum(taps[:, :, k, None, None, None] * padded[:, :, k : k + t] for k in range(3)))  # pyright: ignore


def tanet(p: Plain, x: Tensor) -> Tensor:
    t = x.shape[2]

    def block(p: Plain, name: str, y: Tensor, planes: int, stride: int) -> Tensor:
        return bottleneck(p, name + ".net", y, planes, stride, between=lambda z: tam(p, name + ".tam", z, t))

    return resnet(p, x, block, head="new_fc")


def _difference(p: Plain, conv: str, b: Tensor, t: int) -> Tensor:
    """Return the depthwise convolution of the next frame minus this frame; 0 for the last frame."""
    after = unfold(p.conv(conv, b, b.shape[1], 3, groups=b.shape[1]), t)[:, :, 1:] - unfold(b, t)[:, :, :-1]
    return fold(F.pad(after, (0, 0, 0, 0, 0, 1)))


def _temporal(p: Plain, name: str, x: Tensor, t: int) -> Tensor:
    """Convolve each channel over frames."""
    n, c, h, w = x.shape
    rows = unfold(x, t).permute(0, 3, 4, 1, 2).flatten(0, 2)
    y = p.conv(name, rows, c, 3, groups=c)
    return fold(y.view(n // t, h, w, c, t).permute(0, 3, 4, 1, 2))


def tea(p: Plain, x: Tensor) -> Tensor:
    t = x.shape[2]

    def block(p: Plain, name: str, y: Tensor, planes: int, stride: int) -> Tensor:
        width, first = planes * 26 // 64, name.endswith(".0")
        z = p.bn(f"{name}.bn1", p.conv(f"{name}.conv1", y, 4 * width, 1)).relu()
        b = p.bn(f"{name}.me.bn1", p.conv(f"{name}.me.conv1", z, 4 * width // 16, 1))
        mean = _difference(p, f"{name}.me.conv2", b, t).mean((2, 3), keepdim=True)
        gate = p.bn(f"{name}.me.bn3", p.conv(f"{name}.me.conv3", mean, 4 * width, 1)).sigmoid() - 0.5
        splits = (z + z * gate).chunk(4, 1)
        outputs: list[Tensor] = []
        for i in range(3):
            joined = splits[i] + outputs[-1] if i and not first else splits[i]
            s = _temporal(p, f"{name}.shifts.{i}.conv", joined, t)
            outputs.append(p.bn(f"{name}.bns.{i}", p.conv(f"{name}.convs.{i}", s, width, 3, stride)).relu())
        last = _temporal(p, f"{name}.shifts.3.conv", splits[3], t)
        outputs.append(F.avg_pool2d(last, 3, stride, 1) if first else last)
        z = p.bn(f"{name}.bn3", p.conv(f"{name}.conv3", torch.cat(outputs, 1), 4 * planes, 1))
        if first:
            y = p.bn(f"{name}.downsample.1", p.conv(f"{name}.downsample.0", y, 4 * planes, 1, stride))
        return (z + y).relu()

    return resnet(p, x, block, (3, 4, 6, 3), head="new_fc")


def action(p: Plain, x: Tensor) -> Tensor:
    t = x.shape[2]

    def excite(name: str, y: Tensor) -> Tensor:
        c, a = y.shape[1], f"{name}.conv1.action_"
        s = _temporal(p, a + "shift", y, t)
        pixels = unfold(s, t).mean(1, keepdim=True)
        ste = fold(p.conv(a + "p1_conv1", pixels, 1, 3)).sigmoid()
        mean = s.mean((2, 3), keepdim=True)
        squeezed = p.conv(a + "p2_squeeze", mean, c // 16, 1)
        mixed = p.conv(a + "p2_conv1", unfold(squeezed, t)[..., 0, 0], c // 16, 3).relu()
        ce = p.conv(a + "p2_expand", fold(mixed[..., None, None]), c, 1).sigmoid()
        b = p.bn(a + "p3_bn1", p.conv(a + "p3_squeeze", s, c // 16, 1))
        motion = _difference(p, a + "p3_conv1", b, t).mean((2, 3), keepdim=True)
        me = p.conv(a + "p3_expand", motion, c, 1).sigmoid()
        return 3 * s + s * (ste + ce + me)

    def block(p: Plain, name: str, y: Tensor, planes: int, stride: int) -> Tensor:
        first = name + ".conv1.net"
        return bottleneck(p, name, y, planes, stride, first=first, before=lambda z: excite(name, z))

    return resnet(p, x, block, head="new_fc")


def m2a(p: Plain, x: Tensor) -> Tensor:
    t = x.shape[2]

    def attend(name: str, y: Tensor) -> Tensor:
        c = y.shape[1] // 8
        down = p.conv(f"{name}.conv1.0.conv_down", y, c, 1, bias=True)
        u = F.layer_norm(down, down.shape[1:])
        clips = unfold(u, t)
        moved = fold(torch.cat([clips[:, :, 1:], torch.zeros_like(clips[:, :, :1])], 2)) - u
        tokens = moved.flatten(1).unflatten(0, (-1, t))
        weights = (tokens @ tokens.transpose(1, 2) / tokens.shape[2] ** 0.5).softmax(2)
        z = (weights @ tokens).flatten(0, 1).view(down.shape) + down
        return y * p.conv(f"{name}.conv1.0.conv_up", z, 8 * c, 1, bias=True).sigmoid() + y

    def block(p: Plain, name: str, y: Tensor, planes: int, stride: int) -> Tensor:
        return bottleneck(p, name, y, planes, stride, first=name + ".conv1.1", before=lambda z: attend(name, z))

    return resnet(p, x, block, head="new_fc")


def tdn(p: Plain, x: Tensor) -> Tensor:
    """TDN on T x 5 frames, for 8 segments: both paths have weight 1/2."""
    t = x.shape[2] // 5
    frames = fold(x).unflatten(0, (-1, 5))
    differences = F.avg_pool2d((frames[:, 1:] - frames[:, :-1]).flatten(1, 2), 2)
    short = F.max_pool2d(p.bn("conv1_5.1", p.conv("conv1_5.0", differences, 64, 7, 2)).relu(), 3, 2, 1)
    y = F.max_pool2d(p.bn("bn1", p.conv("conv1", frames[:, 2], 64, 7, 2, bias=True)).relu(), 3, 2, 1)
    y = 0.5 * y + 0.5 * F.interpolate(short, y.shape[2:])
    y = bottleneck(p, "layer1_bak.0", y, 64, 1, bias=True)
    y = 0.5 * y + 0.5 * F.interpolate(bottleneck(p, "resnext_layer1.0", short, 64, 1, bias=True), y.shape[2:])
    for stage in (2, 3, 4):
        name = f"layer{stage}_bak.0"

        def long_term(z: Tensor, name: str = name) -> Tensor:
            c, m = z.shape[1], f"{name}.mse"
            b = p.bn(f"{m}.bn1", p.conv(f"{m}.conv1", z, c // 16, 1))
            smooth, clips = unfold(p.conv(f"{m}.conv2", b, c // 16, 3, groups=c // 16), t), unfold(b, t)
            forward = fold(F.pad(smooth[:, :, 1:] - clips[:, :, :-1], (0, 0, 0, 0, 0, 1)))
            backward = fold(F.pad(smooth[:, :, :-1] - clips[:, :, 1:], (0, 0, 0, 0, 1, 0)))

            def gate(d: Tensor) -> Tensor:
                coarse = p.bn(f"{m}.bn3_smallscale2", p.conv(f"{m}.conv3_smallscale2", F.avg_pool2d(d, 2), c // 16, 3))
                fine = p.bn(f"{m}.bn3_smallscale4", p.conv(f"{m}.conv3_smallscale4", d, c // 16, 3))
                mean = (d + F.interpolate(coarse, d.shape[2:]) + fine) / 3
                return p.bn(f"{m}.bn3", p.conv(f"{m}.conv3", mean, c, 1)).sigmoid() - 0.5

            z = z + z * (gate(forward) + gate(backward)) / 2
            return _temporal(p, f"{name}.shift.conv", z, t)

        y = bottleneck(p, name, y, 64 * 2 ** (stage - 1), 2, between=long_term, bias=True)
    # Entries that the authors' network has and does not use.
    p.conv("conv1_temp", frames[:, 0], 64, 7, 2, bias=True)
    return p.linear("new_fc", y.mean((2, 3)), CLASSES).unflatten(0, (-1, t)).mean(1)


def basic3d(p: Plain, name: str, x: Tensor, planes: int, stride: int, shortcut: str = "B") -> Tensor:
    y = p.bn(f"{name}.bn1", p.conv(f"{name}.conv1", x, planes, 3, stride)).relu()
    y = p.bn(f"{name}.bn2", p.conv(f"{name}.conv2", y, planes, 3))
    return (y + shortcut3d(p, name, x, planes, stride, shortcut)).relu()


def shortcut3d(p: Plain, name: str, x: Tensor, outputs: int, stride: int, kind: str = "B") -> Tensor:
    if stride == 1 and x.shape[1] == outputs:
        return x
    if kind == "B":
        return p.bn(f"{name}.downsample.1", p.conv(f"{name}.downsample.0", x, outputs, 1, stride))
    y = F.avg_pool3d(x, 1, stride)
    return torch.cat([y, torch.zeros(len(y), outputs - y.shape[1], *y.shape[2:])], 1)


def bottleneck3d(p: Plain, name: str, x: Tensor, planes: int, stride: int, groups: int = 1) -> Tensor:
    """Hara's bottleneck, or with groups his ResNeXt's, whose planes are twice as many and its expansion half."""
    inner, outputs = (groups * 2 * planes // 32 if groups > 1 else planes), 4 * planes
    y = p.bn(f"{name}.bn1", p.conv(f"{name}.conv1", x, inner, 1)).relu()
    y = p.bn(f"{name}.bn2", p.conv(f"{name}.conv2", y, inner, 3, stride, groups=groups)).relu()
    y = p.bn(f"{name}.bn3", p.conv(f"{name}.conv3", y, outputs, 1))
    return (y + shortcut3d(p, name, x, outputs, stride)).relu()


def factorized(p: Plain, name: str, i: int, x: Tensor, outputs: int, stride: int) -> Tensor:
    inputs = x.shape[1]
    middle = 27 * inputs * outputs // (9 * inputs + 3 * outputs)
    y = p.conv(f"{name}.conv{i}_s", x, middle, (1, 3, 3), (1, stride, stride))
    y = p.bn(f"{name}.bn{i}_s", y).relu()
    return p.bn(f"{name}.bn{i}_t", p.conv(f"{name}.conv{i}_t", y, outputs, (3, 1, 1), (stride, 1, 1)))


def basic2p1d(p: Plain, name: str, x: Tensor, planes: int, stride: int) -> Tensor:
    y = factorized(p, name, 2, factorized(p, name, 1, x, planes, stride).relu(), planes, 1)
    return (y + shortcut3d(p, name, x, planes, stride)).relu()


def bottleneck2p1d(p: Plain, name: str, x: Tensor, planes: int, stride: int) -> Tensor:
    y = p.bn(f"{name}.bn1", p.conv(f"{name}.conv1", x, planes, 1)).relu()
    y = factorized(p, name, 2, y, planes, stride).relu()
    y = p.bn(f"{name}.bn3", p.conv(f"{name}.conv3", y, 4 * planes, 1))
    return (y + shortcut3d(p, name, x, 4 * planes, stride)).relu()


def hara(p: Plain, x: Tensor, block: Block = bottleneck3d, blocks: tuple[int, ...] = (1, 1, 1, 1)) -> Tensor:
    if block in (basic2p1d, bottleneck2p1d):
        y = p.bn("bn1_s", p.conv("conv1_s", x, 110, (1, 7, 7), (1, 2, 2))).relu()
        y = p.bn("bn1_t", p.conv("conv1_t", y, 64, (7, 1, 1))).relu()
    else:
        y = p.bn("bn1", p.conv("conv1", x, 64, 7, (1, 2, 2))).relu()
    y = F.max_pool3d(y, 3, 2, 1)
    for stage, number in enumerate(blocks):
        for i in range(number):
            y = block(p, f"layer{stage + 1}.{i}", y, 64 * 2**stage, 2 if i == 0 and stage else 1)
    return p.linear("fc", y.mean((2, 3, 4)), CLASSES)


def p3d(p: Plain, x: Tensor) -> Tensor:
    y = p.bn("bn1", p.conv("conv1_custom", x, 64, (1, 7, 7), (1, 2, 2))).relu()
    y = F.max_pool3d(y, (2, 3, 3), 2, (0, 1, 1))
    for stage, kind in enumerate("ABC2"):
        name, planes, s = f"layer{stage + 1}.0", 64 * 2**stage, 2 if stage else 1
        flat = kind == "2"
        z = p.bn(f"{name}.bn1", p.conv(f"{name}.conv1", y, planes, (1, 1, 1), (1, s, s), flat=flat)).relu()
        conv, norm = ("conv_normal", "bn_normal") if flat else ("conv2", "bn2")
        spatial = p.bn(f"{name}.{norm}", p.conv(f"{name}.{conv}", z, planes, (1, 3, 3), flat=flat)).relu()
        if flat:
            z = spatial
        else:
            temporal = p.conv(f"{name}.conv3", z if kind == "B" else spatial, planes, (3, 1, 1))
            temporal = p.bn(f"{name}.bn3", temporal).relu()
            z = temporal if kind == "A" else spatial + temporal
        z = p.bn(f"{name}.bn4", p.conv(f"{name}.conv4", z, 4 * planes, (1, 1, 1), flat=flat))
        down = p.conv(f"{name}.downsample.0", y, 4 * planes, (1, 1, 1), (1, s, s), flat=flat)
        y = (z + p.bn(f"{name}.downsample.1", down)).relu()
        if stage < 3:
            y = F.max_pool3d(y, (2, 1, 1), (2, 1, 1))
    return p.linear("fc", y.mean((2, 3, 4)), CLASSES)


def c3d(p: Plain, x: Tensor, mmaction: bool = False, width: int = 8) -> Tensor:
    """C3D, narrower than the authors' by 64 / ``width``."""
    y = x
    for stage, layers in enumerate((("1",), ("2",), ("3a", "3b"), ("4a", "4b"), ("5a", "5b"))):
        for n in layers:
            layer = n if mmaction is False or len(n) == 2 else n + "a"
            name = f"backbone.conv{layer}.conv" if mmaction else f"conv{layer}"
            y = p.conv(name, y, min(8, 2**stage) * width, 3, bias=True).relu()
        kernel = (1, 2, 2) if stage == 0 else 2
        y = F.max_pool3d(y, kernel, kernel, (0, 1, 1) if stage == 4 else 0)
    prefix, head = ("backbone.", "cls_head.fc_cls") if mmaction else ("", "fc8")
    y = p.linear(prefix + "fc6", y.flatten(1), 64 * width).relu()
    return p.linear(head, p.linear(prefix + "fc7", y, 64 * width).relu(), CLASSES)


def pathway_block(p: Plain, block: str, x: Tensor, planes: int, stride: int, taps: int, names: Names) -> Tensor:
    y = p.bn(names.norm(block, 1), p.conv(names.conv(block, 1), x, planes, (taps, 1, 1))).relu()
    y = p.conv(names.conv(block, 2), y, planes, (1, 3, 3), (1, stride, stride))
    y = p.bn(names.norm(block, 2), y).relu()
    y = p.bn(names.norm(block, 3), p.conv(names.conv(block, 3), y, 4 * planes, 1))
    if stride > 1 or x.shape[1] != 4 * planes:
        conv, norm = names.down(block)
        x = p.bn(norm, p.conv(conv, x, 4 * planes, 1, (1, stride, stride)))
    return (x + y).relu()


def slowfast(p: Plain, x: Tensor, alpha: int = 8, taps: int = 5, mmaction: bool = False) -> Tensor:
    """SlowFast with one block a stage; PySlowFast's loader spreads the frames of the slow pathway."""
    few = x.shape[2] // alpha
    spread = torch.linspace(0, x.shape[2] - 1, few).long()
    paths = [x[:, :, ::alpha] if mmaction else x[:, :, spread], x]
    names = MMACTION if mmaction else PYSLOWFAST

    def lateral(stage: int, slow: Tensor, fast: Tensor) -> Tensor:
        conv, norm = f"s{stage}_fuse.conv_f2s", f"s{stage}_fuse.bn"
        if mmaction:
            at = "backbone.slow_path." + ("conv1_lateral" if stage == 1 else f"layer{stage - 1}_lateral")
            conv, norm = at + ".conv", at + ".bn"
        y = p.conv(conv, fast, 2 * fast.shape[1], (taps, 1, 1), (alpha, 1, 1))
        return torch.cat([slow, p.bn(norm, y).relu()], 1)

    for i, width in enumerate((64, 8)):
        stem = (f"s1.pathway{i}_stem.conv", f"s1.pathway{i}_stem.bn")
        if mmaction:
            stem = tuple(f"backbone.{('slow', 'fast')[i]}_path.conv1.{part}" for part in ("conv", "bn"))
        y = p.bn(stem[1], p.conv(stem[0], paths[i], width, ((1, 5)[i], 7, 7), (1, 2, 2))).relu()
        paths[i] = F.max_pool3d(y, (1, 3, 3), (1, 2, 2), (0, 1, 1))
    paths[0] = lateral(1, *paths)
    for stage in (2, 3, 4, 5):
        for i, width in enumerate((64, 8)):
            name = f"s{stage}.pathway{i}_res0"
            if mmaction:
                name = f"backbone.{('slow', 'fast')[i]}_path.layer{stage - 1}.0"
            first = 3 if i == 1 or stage > 3 else 1
            stride = 2 if stage > 2 else 1
            paths[i] = pathway_block(p, name, paths[i], width * 2 ** (stage - 2), stride, first, names)
        if stage < 5:
            paths[0] = lateral(stage, *paths)
    features = torch.cat([y.mean((2, 3, 4)) for y in paths], 1)
    return p.linear("cls_head.fc_cls" if mmaction else "head.projection", features, CLASSES)


def inflated(p: Plain, x: Tensor, mmaction: bool = True, slow: bool = False) -> Tensor:
    """I3D or Slow, of depth 50."""
    names, strides = (MMACTION, 2) if mmaction else (PYSLOWFAST, 1)
    stem = (
        ("backbone.conv1.conv", "backbone.conv1.bn") if mmaction else ("s1.pathway0_stem.conv", "s1.pathway0_stem.bn")
    )
    taps = 1 if slow else 5
    y = p.bn(stem[1], p.conv(stem[0], x, 64, (taps, 7, 7), (strides, 2, 2))).relu()
    y = F.max_pool3d(y, (1, 3, 3), (strides, 2, 2), (0, 1, 1))
    for stage, number in enumerate((3, 4, 6, 3)):
        for i in range(number):
            name = f"backbone.layer{stage + 1}.{i}" if mmaction else f"s{stage + 2}.pathway0_res{i}"
            inflates = stage > 1 if slow else (stage == 0 or (i % 2 == 1 if stage == 3 else i % 2 == 0))
            stride = 2 if i == 0 and stage else 1
            y = pathway_block(p, name, y, 64 * 2**stage, stride, 3 if inflates else 1, names)
        if stage == 0 and not slow:
            y = F.max_pool3d(y, (2, 1, 1), (2, 1, 1))
    return p.linear("cls_head.fc_cls" if mmaction else "head.projection", y.mean((2, 3, 4)), CLASSES)


def mmaction(p: Plain, x: Tensor, network: str) -> Tensor:
    """TSN, TSM, its variants, or TANet of MMAction2."""
    t = x.shape[2]

    def block(p: Plain, name: str, y: Tensor, planes: int, stride: int) -> Tensor:
        run = partial(bottleneck, p, x=y, planes=planes, stride=stride, names=MMACTION)
        if network == "tanet":
            return run(block=name + ".block", between=lambda z: tam(p, name + ".tam", z, t))
        if network == "tsm block":
            return bottleneck(p, name + ".net", shift(y, t), planes, stride, MMACTION)
        if network == "tsn":
            return run(block=name)
        wrapped = network == "tsm non-local" and planes in (128, 256) and int(name[-1]) % 2 == 0
        inner = name + ".block" if wrapped else name
        y = run(block=inner, first=inner + ".conv1.conv.net", before=lambda z: shift(z, t))
        return non_local(p, name + ".non_local_block", y, t, mmaction=True) if wrapped else y

    blocks = (3, 4, 6, 3) if network == "tsm non-local" else (1, 1, 1, 1)
    return resnet(p, x, block, blocks, ("conv1.conv", "conv1.bn"), "backbone.", "cls_head.fc_cls")

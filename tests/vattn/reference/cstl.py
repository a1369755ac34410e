"""Reference of CSTL's two temporal scales, frame by frame, and their recordings."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from tests.vattn.golden import Case
from tests.vattn.support import site
from vattn.convert import convert_module
from vattn.modules.cstl import CSTLConfig, LongTerm, ShortTerm


def convolve(conv: nn.Module, x: Tensor) -> Tensor:
    """Convolve each pixel separately over time, as the authors convolve each part of a body."""
    assert isinstance(conv, nn.Conv1d)
    n, c, t, h, w = x.shape
    rows = x.permute(0, 3, 4, 1, 2).reshape(n * h * w, c, t)
    y = nn.functional.conv1d(rows, conv.weight, padding=conv.kernel_size[0] // 2, groups=conv.groups)
    return y.view(n, h, w, -1, t).permute(0, 3, 4, 1, 2)


def short_term(module: ShortTerm, x: Tensor) -> Tensor:
    (conv1, norm1), (conv2, norm2) = module.first, module.second
    first = norm1(convolve(conv1, x))
    return first + norm2(convolve(conv2, first))


def long_term(module: LongTerm, x: Tensor) -> Tensor:
    reduce, norm, _, restore, _ = module.score
    hidden = nn.functional.leaky_relu(norm(convolve(reduce, x)), 0.01)
    score = torch.sigmoid(convolve(restore, hidden))
    weighted, total = torch.zeros_like(x[:, :, 0]), torch.zeros_like(x[:, :, 0])
    for t in range(x.shape[2]):
        weighted = weighted + x[:, :, t] * score[:, :, t]
        total = total + score[:, :, t]
    return torch.stack([weighted / total] * x.shape[2], dim=2)


FORMS = {ShortTerm: short_term, LongTerm: long_term}
CONFIGS = [
    CSTLConfig(),
    CSTLConfig(groups=4),
    CSTLConfig(term="long"),
    CSTLConfig(term="long", groups=2, reduction=4),
]


def _run_on_parts(net: nn.Module, x: Tensor) -> Tensor:
    """Run on (N, T, C, parts), as one pixel whose channels are those of all parts side by side."""
    n, t, c, parts = x.shape
    y = net(x.permute(0, 3, 2, 1).reshape(n, parts * c, t, 1, 1))
    return y.view(n, parts, c, t).permute(0, 3, 2, 1)


def _case(config: CSTLConfig, prefix: str, meta: dict[str, Any]) -> Case:
    c = meta["config"]
    assert c["out_planes"] == c["in_planes"]
    parts = config.model_copy(update={"groups": c["part_num"]})
    net = parts.build(site(c["in_planes"] * c["part_num"], size=1), meta["input_shape"][1])

    def rename(state: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        # The recorded module has both scales.
        return convert_module({name: value for name, value in state.items() if name.startswith(prefix)}, parts)

    return Case(net, rename, _run_on_parts)


GOLDEN = {
    "CSTL short-term (MSTE.get_short_term)": lambda meta: _case(CSTLConfig(), "short_term.", meta),
    "CSTL long-term (MSTE.get_long_term)": lambda meta: _case(CSTLConfig(term="long"), "score.", meta),
}

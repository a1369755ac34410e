"""M2A: parts give values that are computed by hand, and costs that the paper prints."""

import math
from itertools import product
from typing import Any, get_args

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from tests.vattn.counting import clips, count_elements, on_meta, use_reference_forms
from tests.vattn.reference.m2a import m2a
from tests.vattn.support import model, site
from vattn.convert import convert_module
from vattn.cost import cost
from vattn.modules._m2a.attention import FrameAttention
from vattn.modules.m2a import M2A, M2AConfig


def ramp() -> Tensor:
    return torch.tensor([1.0, 2.0, 4.0]).view(1, 1, 3, 1, 1).expand(1, 1, 3, 2, 2)


def plain(config: M2AConfig, up: float) -> M2A:
    """Return an M2A of one channel without reduction, whose gate has the logits ``up`` * A."""
    module = config.build(site(channels=1, size=2), 3).eval()
    values = {"down.weight": 1.0, "down.bias": 0.0, "up.weight": up, "up.bias": 0.0}
    for name, parameter in module.named_parameters():
        torch.nn.init.constant_(parameter, values[name])
    return module


def changed_frames(config: M2AConfig, frame: int) -> list[int]:
    """Return the frames of the output, of 6, that change if one frame of the input changes."""
    torch.manual_seed(0)
    module = config.build(site(channels=16, size=4), 6).double().eval()
    x = torch.randn(1, 16, 6, 4, 4, dtype=torch.double)
    changed_x = x.clone()
    changed_x[:, :, frame] = torch.randn(16, 4, 4, dtype=torch.double)
    difference = (module(changed_x) - module(x)).abs().amax(dim=(0, 1, 3, 4))
    return (difference > 1e-12).nonzero().flatten().tolist()


@pytest.mark.parametrize(("fill", "last"), [("zero", 83 / 82), ("first", 29 / 28)])
def test_motion_gates_by_the_difference_to_the_next_frame(fill: str, last: float) -> None:
    # Frames 1, 2, 4 have the differences 1, 2 and -4 (to zero) or -3 (to the first frame).
    # sigmoid(m ln 3) = 3^m / (3^m + 1): 3/4, 9/10, and 1/82 or 1/28.
    module = plain(M2AConfig.parse({"reduction": 1, "attention": "none", "fill": fill}), up=math.log(3))

    y = module(ramp())

    expected = torch.tensor([1 * 1.75, 2 * 1.9, 4 * last]).view(1, 1, 3, 1, 1)
    torch.testing.assert_close(y, expected.expand(1, 1, 3, 2, 2))


def test_frame_attention_weighs_frames_by_their_similarity() -> None:
    # Rows (1, 1, 1, 1) and 0: scores 4 / sqrt(4) = 2 and 0 for the first frame, 0 and 0 for the second.
    x = torch.tensor([1.0, 0.0]).view(1, 1, 2, 1, 1).expand(1, 1, 2, 2, 2)

    y = FrameAttention()(x)

    expected = torch.tensor([math.e**2 / (math.e**2 + 1), 0.5]).view(1, 1, 2, 1, 1)
    torch.testing.assert_close(y, expected.expand(1, 1, 2, 2, 2))


def test_attention_is_added_to_the_features_before_the_norm() -> None:
    # A frame of equal values is 0 after the norm, so 0 is added: gates sigmoid(x ln 3) = 3/4, 9/10, 81/82.
    module = plain(M2AConfig(reduction=1), up=math.log(3))

    y = module(ramp())

    expected = torch.tensor([1.75, 2 * 1.9, 4 * (1 + 81 / 82)]).view(1, 1, 3, 1, 1)
    torch.testing.assert_close(y, expected.expand(1, 1, 3, 2, 2))


@pytest.mark.parametrize(
    ("options", "frame", "expected"),
    [
        ({"motion": "none", "attention": "none"}, 2, [2]),
        ({"attention": "none"}, 2, [1, 2]),
        ({"attention": "none"}, 0, [0]),
        ({"attention": "none", "fill": "first"}, 0, [0, 5]),
        ({"motion": "tea", "attention": "none"}, 2, [1, 2]),
        ({"motion": "tdn", "attention": "none"}, 2, [1, 2, 3]),
        ({"motion": "tdn", "attention": "none", "authors_code": True}, 2, [1, 2, 3]),
        ({}, 2, [0, 1, 2, 3, 4, 5]),
        ({"motion": "none"}, 2, [0, 1, 2, 3, 4, 5]),
        ({"motion": "none", "attention": "patch"}, 2, [0, 1, 2, 3, 4, 5]),
    ],
)
def test_frame_affects_exactly_the_frames_whose_parts_depend_on_it(
    options: dict[str, Any], frame: int, expected: list[int]
) -> None:
    assert changed_frames(M2AConfig.parse(options), frame) == expected


@pytest.mark.parametrize("motion", ["m2a", "none", "tea", "tdn"])
def test_patch_attention_equals_the_reference_where_patches_divide_a_frame(motion: str) -> None:
    torch.manual_seed(0)
    config = M2AConfig.parse({"attention": "patch", "patch_size": 2, "motion": motion})
    module = config.build(site(channels=32, size=6, width=4), 3).double()
    x = torch.randn(2, 32, 3, 6, 4, dtype=torch.double)

    torch.testing.assert_close(module(x), m2a(module, x))


def test_patch_of_the_whole_frame_is_frame_attention_plus_its_norm() -> None:
    # With one patch, the weight over space is 1, so the second attention adds the norm of the first one's result.
    torch.manual_seed(0)
    z = torch.randn(1, 2, 3, 4, 4, dtype=torch.double)
    patch, frames = (
        M2AConfig.parse({"reduction": 1, "motion": "none", "attention": kind})
        .build(site(channels=2, size=4), 3)
        .double()
        for kind in ("patch", "m2a")
    )
    among_frames = frames.attend(z).transpose(1, 2).flatten(2)

    y = patch.attend(z).transpose(1, 2).flatten(2)

    mean, variance = among_frames.mean(-1, keepdim=True), among_frames.var(-1, correction=0, keepdim=True)
    torch.testing.assert_close(y, among_frames + (among_frames - mean) / (variance + 1e-5).sqrt())


@given(order=st.permutations(range(5)))
def test_attention_without_motion_does_not_depend_on_the_order_of_frames(order: list[int]) -> None:
    module = M2AConfig(motion="none").build(site(channels=8, size=3), 5).double()
    x = torch.randn(1, 8, 5, 3, 3, dtype=torch.double)

    torch.testing.assert_close(module(x[:, :, order]), module(x)[:, :, order])


def test_constant_clip_is_gated_by_the_bias_only() -> None:
    module = M2AConfig(attention="none", fill="first").build(site(channels=8, size=3), 4)
    x = torch.randn(1, 8, 1, 3, 3).expand(1, 8, 4, 3, 3)

    gate = module.get_parameter("up.bias").sigmoid().view(1, 8, 1, 1, 1)
    torch.testing.assert_close(module(x), x + x * gate)


def test_parameters_are_those_of_two_1x1_convolutions_and_of_the_parts() -> None:
    place = site(channels=64)
    # 64 -> 8 -> 64 with biases; the parts have 8 channels.
    convs = 64 * 8 + 8 + 8 * 64 + 64
    tea = 8 * 8 + 9 * 8 + 8 * 8 + 2 * 2 * 8
    tdn = tea + 2 * (9 * 8 * 8 + 2 * 8)
    tam = (8 * 16 + 2 * 16 + 16 * 3) + (8 * 8 * 3 + 2 * 8 + 8 * 8)

    def params(**options: Any) -> int:
        return M2AConfig.parse(options).params(place, 8)

    assert params() == params(motion="none") == params(attention="none") == params(attention="patch") == convs
    assert params(motion="tea") == convs + tea
    assert params(motion="tdn", attention="tam") == convs + tdn + tam


#: Layers of the parts in the authors' code.
TEA_LAYERS = ("conv1", "bn1", "conv2", "conv3", "bn3")
TDN_LAYERS = (*TEA_LAYERS, "conv3_smallscale2", "bn3_smallscale2", "conv3_smallscale4", "bn3_smallscale4")
TAM_LAYERS = ("G.0", "G.1", "G.3", "L.0", "L.1", "L.3")


@pytest.mark.parametrize(
    ("options", "layers"),
    [
        ({"motion": "tea", "attention": "none"}, TEA_LAYERS),
        ({"motion": "tdn", "attention": "none"}, TDN_LAYERS),
        ({"motion": "none", "attention": "tam"}, TAM_LAYERS),
        (
            {"motion": "tea", "attention": "tam"},
            [f"motion_mod.{n}" for n in TEA_LAYERS] + [f"attn.{n}" for n in TAM_LAYERS],
        ),
        (
            {"motion": "tdn", "attention": "tam"},
            [f"motion_mod.{n}" for n in TDN_LAYERS] + [f"attn.{n}" for n in TAM_LAYERS],
        ),
    ],
)
def test_authors_layers_convert_to_the_names_of_the_module(options: dict[str, Any], layers: list[str]) -> None:
    config = M2AConfig.parse(options)
    weights = [f"modules_list.0.{layer}.weight" for layer in layers] + ["conv_down.weight", "conv_up.weight"]

    renamed = convert_module(dict.fromkeys(weights, torch.zeros(())), config)

    own = config.build(site(channels=32), 4).state_dict()
    assert set(renamed) == {name for name in own if name.endswith(".weight")}


@pytest.mark.parametrize(
    ("network", "message"),
    [
        (model, r"attention\[0\].reduction: must not exceed.*stage 2 has 16.*got 17"),
        (lambda module: model(module | {"motion": "tdn", "reduction": 1}, size=16), r"2 x 2 pixels.*got 1 x 1"),
        (lambda module: model(module | {"patch_size": 0}), "patch_size"),
        (lambda module: model(module | {"init": "identity"}), "only in the limit.*use default"),
    ],
)
def test_invalid_options_are_refused_with_the_reason(network: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        network({"kind": "m2a", "reduction": 17})


def test_any_motion_combines_with_any_attention() -> None:
    motions, attentions = (get_args(M2AConfig.model_fields[part].annotation) for part in ("motion", "attention"))
    place, x = site(channels=16, size=4), torch.randn(1, 16, 3, 4, 4)

    for motion, attention in product(motions, attentions):
        module = M2AConfig.parse({"motion": motion, "attention": attention}).build(place, 3)
        assert module(x).shape == x.shape


def test_options_of_unused_parts_have_no_effect() -> None:
    assert M2AConfig(patch_size=8, authors_code=True).canonical() == M2AConfig()
    assert M2AConfig(motion="tea", fill="first").canonical() == M2AConfig(motion="tea")
    assert M2AConfig(motion="tdn", authors_code=True).canonical().authors_code
    assert M2AConfig(attention="patch", authors_code=True).canonical().authors_code


@pytest.mark.parametrize(
    ("attention", "extra", "printed", "gmacs", "params_m"),
    [
        # `extra` is the difference between the paper's count and this library's, per value of the T C/R H W reduced
        # features. The paper counts the products of attention (2 T) only in the full M2A, 4 for the norm there, no
        # product of TAM (K = 3), and both poolings of TDN.
        ([{"motion": "none"}], -2 * 8, 14.788, 14.730, 11.377),
        ([{"attention": "none"}], 0, 14.788, 14.715, 11.377),
        ([{}], 4, 14.807, 14.730, 11.377),
        ([{}, {"kind": "tsm"}], 4, 14.807, 14.730, 11.377),
        ([{"motion": "tea", "attention": "none"}], 0, 14.826, 14.749, 11.393),
        ([{"motion": "tdn", "attention": "none"}], 2, 15.134, 15.049, 11.517),
        ([{"motion": "none", "attention": "tam"}], -3, 14.788, 14.718, 11.406),
    ],
)
def test_cost_around_resnet18_is_what_the_paper_prints(
    attention: list[dict[str, Any]], extra: int, printed: float, gmacs: float, params_m: float
) -> None:
    network = model(*({"kind": "m2a"} | module for module in attention), depth=18, width=1.0, size=224, frames=8)
    net = on_meta(network, 174)
    use_reference_forms(net)

    total, counted = cost(network, 174), count_elements(net, clips(network)).m2a_paper()

    sites = network.attention[0].at(network.backbone.sites(224))
    reduced = sum(8 * (site.channels // 8) * site.height * site.width for site in sites)
    assert (counted + extra * reduced) / 1e9 == pytest.approx(printed, abs=0.0006)
    assert total.gflops == pytest.approx(gmacs, abs=0.0006)
    assert total.params_m == pytest.approx(params_m, abs=0.0006)

"""ACTION: its three paths give values that are computed by hand."""

import math

import pytest
import torch
from torch import Tensor, nn

from tests.vattn.support import model, site
from vattn.convert import convert_model
from vattn.model import build_model
from vattn.modules.action import Action, ActionConfig

LN3 = math.log(3)


def action(*paths: str, channels: int = 16, frames: int = 4, reduction: int = 2) -> Action:
    """Return these paths after a shift that is the identity."""
    config = ActionConfig.parse({"paths": paths, "reduction": reduction, "div": channels if channels > 1 else 2})
    module = config.build(site(channels), frames).eval()
    module.shift.init_identity()
    return module


def single(*frames: float) -> Tensor:
    """Return frames of one channel and one pixel."""
    return torch.tensor(frames).view(1, 1, -1, 1, 1)


def test_spatio_temporal_excitation_gates_each_pixel_by_its_neighbourhood() -> None:
    # The last tap of the kernel takes the next frame: ln 3, ln 3, and 0 after the end. Gates 3/4, 3/4, 1/2.
    module = action("ste", channels=1, reduction=1)
    assert module.ste is not None
    nn.init.zeros_(module.ste.weight)
    module.ste.weight.data[0, 0, 2, 1, 1] = 1

    y = module(single(LN3, LN3, LN3))

    torch.testing.assert_close(y, single(1.75 * LN3, 1.75 * LN3, 1.5 * LN3))


def test_channel_excitation_gates_by_channels_of_neighbouring_frames() -> None:
    # The first tap takes the previous frame: 0, ln 3, and -ln 3, which ReLU sets to 0. Gates 1/2, 3/4, 1/2.
    module = action("ce", channels=1, reduction=1)
    assert module.ce is not None
    for conv in module.ce.squeeze, module.ce.expand:
        nn.init.ones_(conv.weight)
    nn.init.zeros_(module.ce.mix.weight)
    module.ce.mix.weight.data[0, 0, 0] = 1

    y = module(single(LN3, -LN3, 2.0))

    torch.testing.assert_close(y, single(1.5 * LN3, -1.75 * LN3, 3.0))


def test_motion_excitation_gates_by_the_difference_to_the_next_frame() -> None:
    # Differences ln 3, -ln 3, and 0 for the last frame. Gates are their sigmoids: 3/4, 1/4, 1/2.
    module = action("me", channels=1, reduction=1)
    assert module.me is not None
    module.me.bn1 = nn.Identity()  # type: ignore[assignment]
    for conv in module.me.conv1, module.me.conv2, module.me.conv3:
        nn.init.ones_(conv.weight)

    y = module(single(1.0, 1 + LN3, 1.0))

    torch.testing.assert_close(y, single(1.75, 1.25 * (1 + LN3), 1.5))


def test_output_is_the_sum_of_the_paths() -> None:
    module, x = action("ste", "ce", "me"), torch.randn(2, 16, 4, 5, 6)
    alone = [action(path) for path in ("ste", "ce", "me")]
    for path in alone:
        path.load_state_dict(module.state_dict(), strict=False)

    torch.testing.assert_close(module(x), alone[0](x) + alone[1](x) + alone[2](x))


@pytest.mark.parametrize(
    ("path", "reached"),
    [
        ("ste", [2, 3, 4]),  # gates depend on both neighbours
        ("ce", [2, 3, 4]),
        ("me", [2, 3]),  # gates depend on the next frame
    ],
)
def test_frame_affects_the_frames_whose_gates_depend_on_it(path: str, reached: list[int]) -> None:
    module = action(path, channels=8, frames=6)
    for parameter in module.parameters():
        nn.init.uniform_(parameter, 0.1, 0.2)  # so that ReLU passes all of channel excitation
    module.shift.init_identity()
    x = torch.rand(1, 8, 6, 4, 4)
    changed = x.clone()
    changed[:, :, 3] += torch.rand(8, 4, 4)

    differs = (module(changed) != module(x)).amax((0, 1, 3, 4))

    assert differs.nonzero().flatten().tolist() == reached


def test_shift_starts_as_the_shift_of_tsm() -> None:
    # Of 8 channels with div 4, two take the next frame, two the previous frame, four are unchanged.
    module = ActionConfig(div=4, reduction=2).build(site(8), frames=3)
    x = torch.tensor([1.0, 2.0, 3.0]).view(1, 1, 3, 1, 1).expand(1, 8, 3, 1, 1)

    assert module.shift(x).view(8, 3).tolist() == [[2, 3, 0]] * 2 + [[0, 1, 2]] * 2 + [[1, 2, 3]] * 4


def test_parameters_at_64_channels() -> None:
    # Shift: 64 x 3. STE: 3x3x3. CE: 64 -> 4, 3 taps 4 -> 4, 4 -> 64. ME: 64 -> 4, norm, depthwise 3x3, 4 -> 64.
    module = ActionConfig().build(site(channels=64), frames=8)

    parameters = 192 + 27 + (256 + 48 + 256) + (256 + 8 + 36 + 256)
    assert sum(p.numel() for p in module.parameters()) == parameters


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"reduction": 17}, r"attention\[0\].reduction: must not exceed.*stage 2 has 16.*got 17"),
        ({"div": 17}, r"attention\[0\].div: must not exceed.*stage 2 has 16.*got 17"),
        ({"paths": []}, r"paths\n.*at least 1"),
        ({"paths": ["me", "me"]}, r"paths\n.*name each once"),
        ({"paths": ["se"]}, r"paths.0\n.*'ste', 'ce' or 'me'"),
    ],
)
def test_options_that_leave_no_channel_or_path_are_refused(options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        model({"kind": "action"} | options)


def test_order_of_paths_has_no_effect_and_ste_alone_ignores_reduction() -> None:
    assert ActionConfig(paths=("me", "ste")) == ActionConfig(paths=("ste", "me"))
    assert ActionConfig(paths=("ste",), reduction=4).canonical() == ActionConfig(paths=("ste",)).canonical()
    model({"kind": "action", "paths": ["ste"], "reduction": 17})


def test_authors_checkpoint_converts_to_the_names_of_the_network() -> None:
    network = model({"kind": "action"}, depth=50, width=1.0)
    with torch.device("meta"):
        net = build_model(network, 5).state_dict()
    authors = {name: value for name, value in net.items() if ".at." not in name and not name.endswith("conv1.weight")}
    authors = {
        name.replace("backbone.", "module.base_model.").replace("fc.", "module.new_fc."): authors[name]
        for name in authors
    }
    authors["module.base_model.conv1.weight"] = net["backbone.conv1.weight"]
    for stage, blocks in enumerate((3, 4, 6, 3), start=1):
        for number in range(blocks):
            place = f"layer{stage}.{number}"
            wrapped = f"module.base_model.{place}.conv1"
            authors[f"{wrapped}.net.weight"] = net[f"backbone.{place}.conv1.weight"]
            channels = net[f"backbone.{place}.conv1.weight"].shape[1]
            reduced = channels // 16
            shapes = {
                "shift.weight": (channels, 1, 3), "p1_conv1.weight": (1, 1, 3, 3, 3),
                "p2_squeeze.weight": (reduced, channels, 1, 1), "p2_conv1.weight": (reduced, reduced, 3),
                "p2_expand.weight": (channels, reduced, 1, 1), "p3_squeeze.weight": (reduced, channels, 1, 1),
                "p3_bn1.weight": (reduced,), "p3_bn1.bias": (reduced,), "p3_bn1.running_mean": (reduced,),
                "p3_bn1.running_var": (reduced,), "p3_bn1.num_batches_tracked": (),
                "p3_conv1.weight": (reduced, 1, 3, 3), "p3_expand.weight": (channels, reduced, 1, 1),
            }  # fmt: skip
            authors |= {f"{wrapped}.action_{name}": torch.empty(shape) for name, shape in shapes.items()}

    converted = convert_model(authors, network)

    assert {n: v.shape for n, v in converted.items()} == {n: v.shape for n, v in net.items()}

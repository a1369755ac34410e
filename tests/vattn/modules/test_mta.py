"""MTA: values that are computed by hand, and the whole network of TEA."""

import pytest
import torch
from torch import Tensor, nn

from tests.vattn.counting import model_activations, model_macs, on_meta
from tests.vattn.support import model, site
from vattn.config import ModelConfig
from vattn.convert import convert_model
from vattn.cost import cost
from vattn.model import build_model
from vattn.modules.mta import MTA, MTAConfig

ME, MTA_ = {"kind": "tea"}, {"kind": "mta"}


def plain(splits: int, width: int, *, block: int, size: int = 1, stride: int = 1) -> MTA:
    """Return an MTA whose 3x3 convolutions are the identity, without norms."""
    place = site(channels=splits * width, size=size, position="conv2", block=block, stride=stride)
    module = MTAConfig(splits=splits).build(place, frames=3)
    for conv in module.convs:
        nn.init.dirac_(conv.get_parameter("weight"))
    module.bns = nn.ModuleList(nn.Identity() for _ in module.bns)
    return module


@pytest.mark.parametrize(
    ("block", "second", "share"),
    [
        # The second split adds the output of the first: -1 + 2, 2 + 0, -3 + 3; and 4 + 0, -5 + 5, 6 + 0.
        (1, [[1.0, 2.0, 0.0], [4.0, 0.0, 6.0]], 1),
        # The first block of a stage adds nothing, and averages the last split over 3 x 3 pixels, 8 of them padding.
        (0, [[0.0, 2.0, 0.0], [4.0, 0.0, 6.0]], 9),
    ],
)
def test_each_split_adds_the_one_before_and_the_last_is_shifted_in_both_directions(
    block: int, second: list[list[float]], share: int
) -> None:
    x = torch.tensor([[2.0, -2, 3], [-4, 5, -6], [-1, 2, -3], [4, -5, 6], [7, 8, 9], [10, 11, 12]])

    y = plain(3, 2, block=block)(x.view(1, 6, 3, 1, 1)).view(6, 3)

    last = [[8.0, 9.0, 0.0], [0.0, 10.0, 11.0]]
    expected = [[2.0, 0.0, 3.0], [0.0, 5.0, 0.0], *second, *([value / share for value in row] for row in last)]
    torch.testing.assert_close(y, torch.tensor(expected))


def test_stride_halves_the_size_of_each_split() -> None:
    # 3 x 3 pixels to 2 x 2. The convolutions take rows and columns 0 and 2. The average of ones is the fraction of the
    # 9 pixels that is not padding: 4 / 9 at each corner. The shift leaves zeros in the last frame and in the first.
    x = torch.arange(9.0).view(1, 1, 1, 3, 3).expand(1, 2, 3, 3, 3)
    y = plain(2, 2, block=0, size=3, stride=2)(torch.cat([x, torch.ones_like(x)], dim=1))

    torch.testing.assert_close(y[0, :2], torch.tensor([[0.0, 2.0], [6.0, 8.0]]).expand(2, 3, 2, 2))
    in_frames = torch.tensor([[1.0, 1, 0], [0, 1, 1]]) * 4 / 9
    torch.testing.assert_close(y[0, 2:], in_frames[..., None, None].expand(2, 3, 2, 2))


def test_each_split_sees_one_more_frame_in_each_direction_than_the_one_before() -> None:
    module = plain(4, 2, block=1)
    for parameter in module.parameters():
        nn.init.constant_(parameter, 1.0)
    x = torch.ones(1, 8, 9, 1, 1)
    changed = x.clone()
    changed[:, :, 4] += 1

    differs = (module(changed) != module(x)).view(4, 2, 9).any(1)

    # The last split has only its own temporal convolution.
    assert [row.nonzero().flatten().tolist() for row in differs] == [
        [3, 4, 5], [2, 3, 4, 5, 6], [1, 2, 3, 4, 5, 6, 7], [3, 4, 5],
    ]  # fmt: skip


def test_parameters_of_4_splits_of_26_channels() -> None:
    # Four temporal convolutions with 3 taps per channel; three 3x3 convolutions 26 -> 26, each with a norm.
    module = MTAConfig().build(site(channels=104, position="conv2"), frames=8)

    assert sum(p.numel() for p in module.parameters()) == 4 * 3 * 26 + 3 * (26 * 26 * 9 + 2 * 26)


@pytest.mark.parametrize(
    ("attention", "changes", "message"),
    [
        (
            [MTA_ | {"splits": 3}],
            {"depth": 50},
            r"attention\[0\].splits: must divide.*stage 2 has 16.*try 2, 4, 8, 16 ",
        ),
        ([MTA_ | {"position": "b"}], {"depth": 50}, r"position\n.*can be put at conv2; take"),
        ([ME | {"position": "conv2"}], {"depth": 50}, r"position\n.*can be put at block, a, b, c, d; take"),
        ([MTA_], {"depth": 18}, r"attention\[0\].position: .*offers block, a, b, d; leave mta out"),
        ([MTA_, MTA_ | {"stages": [3], "splits": 2}], {"depth": 50}, r"attention\[1\].stages: .* replaced already"),
    ],
)
def test_invalid_replacements_of_convolutions_are_refused(attention: list[dict], changes: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        model(*attention, **changes)


def tea50() -> ModelConfig:
    backbone = {"kind": "resnext", "depth": 50, "cardinality": 4, "width_per_group": 26}
    return model(ME, MTA_, backbone=backbone, frames=8, size=224)


@pytest.mark.medium
def test_cost_of_tea_equals_the_counted_cost() -> None:
    network = tea50().model_copy(update={"size": 48})

    total = cost(network, 174)

    assert (total.macs, total.activations) == (model_macs(network, 174), model_activations(network, 174))
    assert total.params == sum(p.numel() for p in on_meta(network, 174).parameters())


def authors_tea50(classes: int) -> dict[str, Tensor]:
    """Return names and shapes of the authors' network: Res2Net-50, 26w x 4s, with motion excitation and shifts."""
    state: dict[str, Tensor] = {}

    def conv(name: str, *shape: int) -> None:
        state[f"{name}.weight"] = torch.empty(shape)

    def norm(name: str, channels: int) -> None:
        for entry in ("weight", "bias", "running_mean", "running_var"):
            state[f"{name}.{entry}"] = torch.empty(channels)
        state[f"{name}.num_batches_tracked"] = torch.empty(())

    conv("base_model.conv1", 64, 3, 7, 7)
    norm("base_model.bn1", 64)
    inputs = 64
    for stage, blocks in enumerate((3, 4, 6, 3)):
        width, outputs = 26 * 2**stage, 256 * 2**stage
        middle, motion = 4 * width, 4 * width // 16
        for number in range(blocks):
            block = f"base_model.layer{stage + 1}.{number}"
            conv(f"{block}.conv1", middle, inputs, 1, 1)
            norm(f"{block}.bn1", middle)
            conv(f"{block}.me.conv1", motion, middle, 1, 1)
            norm(f"{block}.me.bn1", motion)
            conv(f"{block}.me.conv2", motion, 1, 3, 3)
            conv(f"{block}.me.conv3", middle, motion, 1, 1)
            norm(f"{block}.me.bn3", middle)
            for split in range(3):
                conv(f"{block}.convs.{split}", width, width, 3, 3)
                norm(f"{block}.bns.{split}", width)
            for split in range(4):
                conv(f"{block}.shifts.{split}.conv", width, 1, 3)
            conv(f"{block}.conv3", outputs, middle, 1, 1)
            norm(f"{block}.bn3", outputs)
            if number == 0:
                conv(f"{block}.downsample.0", outputs, inputs, 1, 1)
                norm(f"{block}.downsample.1", outputs)
            inputs = outputs
    conv("new_fc", classes, 2048)
    state["new_fc.bias"] = torch.empty(classes)
    return {f"module.{name}": value for name, value in state.items()}


def test_authors_checkpoint_converts_to_the_names_and_shapes_of_the_network() -> None:
    with torch.device("meta"):
        own, authors = build_model(tea50(), 174).state_dict(), authors_tea50(174)

    converted = convert_model(authors, tea50())

    assert {n: v.shape for n, v in converted.items()} == {n: v.shape for n, v in own.items()}

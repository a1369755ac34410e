"""Mechanisms are inserted at the sites of their configs and process clips."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from tests.vattn.support import model, site
from vattn.config import ModelConfig
from vattn.insert import Folded, fold, unfold
from vattn.model import build_model

TAM, TSM = {"kind": "tam"}, {"kind": "tsm"}


@given(n=st.integers(1, 3), t=st.integers(1, 4))
def test_frame_t_of_clip_n_is_image_n_times_num_frames_plus_t(n: int, t: int) -> None:
    clips = torch.randn(n, 3, t, 4, 5)

    images = fold(clips)

    assert all(images[i * t + j].equal(clips[i, :, j]) for i in range(n) for j in range(t))
    assert unfold(images, t).equal(clips)


def test_folding_copies_nothing_under_channels_last() -> None:
    images = torch.randn(8, 3, 4, 5).to(memory_format=torch.channels_last)

    clips = unfold(images, 4)

    assert clips.is_contiguous(memory_format=torch.channels_last_3d)
    assert fold(clips).data_ptr() == clips.data_ptr() == images.data_ptr()


def test_mechanism_processes_clips_in_a_network_of_images() -> None:
    class Reverse(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x.flip(2)

    images = torch.arange(6.0).view(6, 1, 1, 1)

    assert Folded(Reverse(), frames=3)(images).flatten().tolist() == [2, 1, 0, 5, 4, 3]


def inserted(network: ModelConfig) -> list[tuple[str, str]]:
    """Return place and class of each mechanism in the network."""
    net = build_model(network, 5)
    return [(name, type(m.module).__name__) for name, m in net.named_modules() if isinstance(m, Folded)]


def test_every_second_block_of_the_stages_gets_the_mechanism() -> None:
    mechanisms = inserted(model(TAM | {"stages": [2, 4], "every": 2, "position": "c"}, depth=50))

    # Stage 2 has 3 blocks, stage 4 has 6.
    places = ["layer1.0", "layer1.2", "layer3.0", "layer3.2", "layer3.4"]
    assert mechanisms == [(f"backbone.{place}.at.c.0", "TAM") for place in places]


def test_mechanisms_at_one_site_are_in_the_order_of_the_list() -> None:
    mechanisms = inserted(model(TSM | {"position": "b"}, TAM, depth=10))

    assert mechanisms[:2] == [("backbone.layer1.0.at.b.0", "TSM"), ("backbone.layer1.0.at.b.1", "TAM")]


@pytest.mark.parametrize(
    ("attention", "message"),
    [
        (TAM | {"position": "c"}, r"attention\[0\].position: .*offers block, a, b, d; .*got c"),
        (TAM | {"stages": [1, 2, 6]}, r"attention\[0\].stages: .*has stages 2, 3, 4, 5; leave out 1, 6"),
    ],
)
def test_positions_and_stages_that_the_backbone_lacks_are_refused(attention: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        model(attention, depth=18)


def test_equal_networks_get_equal_weights_from_a_seed() -> None:
    def weights(*attention: dict) -> list[torch.Tensor]:
        torch.manual_seed(3)
        return list(build_model(model(*attention), 5).state_dict().values())

    early_first = weights(TAM | {"stages": [2, 3]}, TAM | {"stages": [4, 5]})
    late_first = weights(TAM | {"stages": [4, 5]}, TAM | {"stages": [2, 3]})

    assert all(a.equal(b) for a, b in zip(early_first, late_first, strict=True))


def test_scores_of_frames_are_averaged() -> None:
    net = build_model(model(), 5).eval()
    clips = torch.randn(2, 3, 4, 32, 32)

    frames = torch.stack([net(clips[:, :, [t]]) for t in range(4)])

    torch.testing.assert_close(net(clips), frames.mean(0))


def test_positions_are_those_of_the_paper_s_figure() -> None:
    class Constant(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.zeros_like(x)

    network = model(depth=50)
    x = torch.rand(2, 64, 8, 8)
    results = {}
    for position in ("block", "a", "d"):
        torch.manual_seed(0)
        backbone = network.backbone.build().eval()
        backbone.insert(site(stage=2, block=1, position=position), Constant())
        results[position] = backbone.get_submodule("layer1.1")(x)

    # Fresh norms map 0 to 0. So only the shortcut is left, or nothing if the zeros are before the whole block.
    assert not results["block"].any()
    assert results["a"].equal(x)
    assert results["d"].equal(x)

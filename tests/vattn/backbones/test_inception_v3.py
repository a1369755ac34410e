"""Inception v3: sites, smallest image, and the range of values that its published weights expect."""

from collections import Counter
from pathlib import Path

import pytest
import torch
import torchvision
from torch import nn

from tests.vattn.support import model
from vattn.backbones.inception_v3 import InceptionV3Config
from vattn.modules import Site


def test_sites_are_in_the_branch_with_the_most_convolutions() -> None:
    sites = InceptionV3Config().sites(299)
    at = {(s.stage, s.block, s.position): s for s in sites}

    # Table 1: the inputs of the groups of 3, 5 and 2 blocks are 35 x 35 x 288, 17 x 17 x 768 and 8 x 8 x 1280. A
    # reduction counts as the first block of the stage after it.
    assert Counter(s.stage for s in sites if s.position == "b") == {3: 3, 4: 5, 5: 3}
    assert at[4, 1, "block"] == Site(4, 1, "block", 768, 17, 17)
    assert at[5, 1, "block"] == Site(5, 1, "block", 1280, 8, 8)
    assert [at[4, 0, p] for p in "abcd"] == [
        Site(4, 0, "a", 288, 35, 35), Site(4, 0, "b", 64, 35, 35),
        Site(4, 0, "c", 96, 35, 35), Site(4, 0, "d", 96, 17, 17),
    ]  # fmt: skip
    # The branch of the last block ends in two parallel convolutions with 384 channels each.
    assert at[5, 2, "d"] == Site(5, 2, "d", 768, 8, 8)


def test_cost_is_that_of_the_paper() -> None:
    # Section 4: 5e9 multiply-adds. Torchvision reports 5.713e9 at 299 pixels, and 27161264 parameters with both heads.
    parts = InceptionV3Config().parts(299, 1)
    auxiliary = 768 * 128 + 2 * 128 + 128 * 768 * 25 + 2 * 768 + 769 * 1000

    assert (sum(p.macs for p in parts) + 2048 * 1000) / 1e9 == pytest.approx(5.713, abs=0.0005)
    assert sum(p.params for p in parts) + auxiliary + 2049 * 1000 == 27161264


def test_images_too_small_for_the_reductions_are_refused() -> None:
    with pytest.raises(ValueError, match=r"size: inception_v3 takes images of 75 pixels a side or more.*\(got 74\)"):
        model(backbone={"kind": "inception_v3"}, size=74)

    assert model(backbone={"kind": "inception_v3"}, size=75).size == 75


def test_default_weights_convert_images_as_torchvision_does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    published = torchvision.models.Inception_V3_Weights.DEFAULT
    cached = tmp_path / "hub" / "checkpoints" / Path(published.url).name
    cached.parent.mkdir(parents=True)
    torch.manual_seed(0)
    random = torchvision.models.inception_v3(weights=None, init_weights=False)
    torch.save(random.state_dict(), cached)
    reference = torchvision.models.inception_v3(weights=published).eval()
    setattr(reference, "fc", nn.Identity())  # noqa: B010 - its type allows only a linear layer
    net = InceptionV3Config(weights="default").build().eval()
    images = torch.randn(1, 3, 75, 75)

    with torch.no_grad():
        torch.testing.assert_close(net(images), reference(images), rtol=1e-4, atol=1e-7)

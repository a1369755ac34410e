"""R3D and R(2+1)D are torchvision's networks."""

from pathlib import Path

import pytest
import torch
import torchvision
from torch import nn

from tests.vattn.backbones.support import with_random_norms
from tests.vattn.support import model


@pytest.mark.medium
@pytest.mark.parametrize("kind", ["r3d", "r2plus1d"])
def test_torchvision_weights_give_torchvision_features(kind: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    reference = with_random_norms(getattr(torchvision.models.video, f"{kind}_18")())
    torch.save(reference.state_dict(), tmp_path / "weights.pth")
    net = model(backbone={"kind": kind, "weights": str(tmp_path / "weights.pth")}).backbone.build().eval()
    reference.fc = nn.Identity()
    x = torch.randn(1, 3, 5, 24, 24)

    with torch.no_grad():
        torch.testing.assert_close(net(x), reference(x))

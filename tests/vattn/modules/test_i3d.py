"""I3D: initialisation from the convolution that it replaces."""

import torch

from tests.vattn.support import model
from vattn.model import build_model


def test_inflation_divides_the_replaced_weights_among_the_taps() -> None:
    backbone = {"kind": "resnet", "depth": 50, "width": 0.25}
    i3d = {"kind": "i3d", "stages": [3], "every": 2}
    torch.manual_seed(0)
    flat = build_model(model(backbone=backbone), 5).state_dict()
    torch.manual_seed(0)
    deep = build_model(model(i3d, backbone=backbone), 5).state_dict()

    before, after = "backbone.layer2.2.conv1.weight", "backbone.layer2.2.conv1.module.weight"
    torch.testing.assert_close(deep[after].sum(-1), flat[before].flatten(1))
    torch.testing.assert_close(deep[after][..., 0], deep[after][..., 2])
    assert "backbone.layer2.1.conv1.weight" in deep


def test_inflation_with_init_identity_keeps_the_outputs_of_the_network() -> None:
    backbone, x = {"kind": "resnet", "depth": 50, "width": 0.25}, torch.randn(2, 3, 4, 32, 32)
    torch.manual_seed(0)
    flat = build_model(model(backbone=backbone), 5).eval()
    torch.manual_seed(0)
    deep = build_model(model({"kind": "i3d", "init": "identity"}, backbone=backbone), 5).eval()
    deep.fc.load_state_dict(flat.fc.state_dict())

    torch.testing.assert_close(deep(x), flat(x))

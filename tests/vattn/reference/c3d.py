"""Builder for the recording of C3D."""

from typing import Any

import numpy as np
import torch

from tests.vattn.golden import Case
from tests.vattn.support import model
from vattn.convert import convert_model
from vattn.model import build_model


def _network(meta: dict[str, Any]) -> Case:
    # The recording states this rule for the input instead of storing it.
    assert "default_rng(1012).integers(-4,5,(1,3,16,112,112))/2 float32" in meta["input_recipe"]
    x = np.random.default_rng(1012).integers(-4, 5, (1, 3, 16, 112, 112)) / 2
    network = model(backbone={"kind": "c3d"}, frames=16, size=112)
    net = build_model(network, meta["config"]["num_classes"])
    assert sum(p.numel() for p in net.parameters()) == meta["n_params"]
    return Case(net, lambda state: convert_model(state, network), x=torch.from_numpy(x.astype(np.float32)))


GOLDEN = {"C3D": _network}

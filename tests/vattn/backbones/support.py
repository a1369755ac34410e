"""Helpers that the tests of backbones share."""

from typing import Any

from torch import Tensor, nn

from tests.vattn.counting import Elements, clips, count_elements, on_meta, use_reference_forms
from tests.vattn.support import model
from vattn.config import ModelConfig
from vattn.cost import Cost, cost


class ShapeRecorder(nn.Module):
    """Returns its input and records its shape without the batch dimension."""

    def forward(self, x: Tensor) -> Tensor:
        self.shape = tuple(x.shape[1:])
        return x


def with_random_norms(net: nn.Module) -> nn.Module:
    """Randomise the batch norms of ``net``, which are the identity when fresh; return it in evaluation mode."""
    for norm in (m for m in net.modules() if isinstance(m, nn.BatchNorm2d | nn.BatchNorm3d)):
        nn.init.uniform_(norm.weight, 0.5, 1.5)
        nn.init.normal_(norm.bias)
    return net.eval()


def counted(*attention: dict[str, Any], classes: int, **changes: Any) -> tuple[ModelConfig, Cost, Elements]:
    """Return a network, its cost in closed form, and the elements counted on the meta device."""
    network = model(*attention, **changes)
    net = on_meta(network, classes)
    use_reference_forms(net)
    return network, cost(network, classes), count_elements(net, clips(network))

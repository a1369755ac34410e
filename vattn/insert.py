"""Inserts mechanisms into a backbone. Only this file folds time into the batch."""

from jaxtyping import Float
from torch import Tensor, nn

from vattn.backbones import Backbone
from vattn.config import ModelConfig
from vattn.modules import Layer
from vattn.modules._fold import fold, unfold


class Folded(nn.Module):
    """Apply a mechanism, which processes clips, within a network that processes single images.

    Shape: (N*T, C, H, W) -> (N*T, C, H, W); if the mechanism replaces a layer, the output has the layer's output shape.
    """

    def __init__(self, module: nn.Module, frames: int) -> None:
        super().__init__()
        self.module = module
        self.frames = frames

    def forward(self, images: Float[Tensor, "nt c h w"]) -> Float[Tensor, "nt d i j"]:
        return fold(self.module(unfold(images, self.frames)))


def insert(backbone: Backbone, model: ModelConfig) -> None:
    """Build the mechanisms of ``model`` and insert them into its ``backbone``.

    Mechanisms are built in the order of data flow. So equal networks get equal weights from a seed, even if their
    configs list the mechanisms in different orders.
    """
    sites = model.backbone.sites(model.size)
    sites_of = [(module, frozenset(module.at(sites))) for module in model.attention]
    for site in sites:
        frames = model.backbone.frames_at(site, model.frames)
        for module, own_sites in sites_of:
            if site in own_sites:
                built = module.build(site, frames)
                if isinstance(site, Layer):
                    module.inherit_weights(built, backbone.layer(site))
                backbone.mechanisms.append(built)
                backbone.insert(site, Folded(built, frames) if model.backbone.folds else built)

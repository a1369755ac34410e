"""Puts mechanisms at the sites of a backbone; the only place where time is folded into the batch."""

from jaxtyping import Float
from torch import Tensor, nn

from vattn.backbones import Backbone
from vattn.config import ModelConfig
from vattn.modules import Layer
from vattn.modules._fold import fold, unfold


class Folded(nn.Module):
    """A mechanism on clips, in a network of single images.

    Shape: (N*T, C, H, W) -> (N*T, C, H, W); where it takes the place of a layer, to the shape that the layer gave.
    """

    def __init__(self, module: nn.Module, frames: int) -> None:
        super().__init__()
        self.module = module
        self.frames = frames

    def forward(self, images: Float[Tensor, "nt c h w"]) -> Float[Tensor, "nt d i j"]:
        return fold(self.module(unfold(images, self.frames)))


def insert(backbone: Backbone, model: ModelConfig) -> None:
    """Build the mechanisms of ``model`` and put them into its ``backbone``.

    They are built in the order in which data meets them, so that equal networks get equal weights from a seed however
    their mechanisms are listed.
    """
    sites = model.backbone.sites(model.size)
    chosen = [(module, frozenset(module.at(sites))) for module in model.attention]
    for site in sites:
        frames = model.backbone.frames_at(site, model.frames)
        for module, its_sites in chosen:
            if site in its_sites:
                built = module.build(site, frames)
                if isinstance(site, Layer):
                    module.inherit_weights(built, backbone.layer(site))
                backbone.insert(site, Folded(built, frames) if model.backbone.folds else built)

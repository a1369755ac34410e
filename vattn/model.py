"""From a recipe to a network: backbone, mechanisms, head."""

from jaxtyping import Float
from torch import Tensor, nn

from vattn.config import ModelConfig
from vattn.insert import fold, insert


def build_model(model: ModelConfig, classes: int) -> "VideoModel":
    """Return the network that ``model`` describes, for ``classes`` labels.

    Its weights follow from torch's seed, and from ``backbone.weights``; raises ValueError where those cannot be had.
    """
    return VideoModel(model, classes)


class VideoModel(nn.Module):
    """Scores of every frame, averaged (TSN, Wang et al., ECCV 2016).

    In the state dict the backbone and the mechanisms in it stand under ``backbone.``, the classifier under ``fc.``.

    Shape: (N, 3, T, H, W) -> logits (N, classes).
    """

    def __init__(self, model: ModelConfig, classes: int) -> None:
        super().__init__()
        self.backbone = model.backbone.build()
        insert(self.backbone, model)
        self.dropout = nn.Dropout(model.head.dropout)
        self.fc = nn.Linear(self.backbone.channels, classes)
        nn.init.normal_(self.fc.weight, std=0.001)
        nn.init.zeros_(self.fc.bias)
        self.folds = model.backbone.folds

    def forward(self, clips: Float[Tensor, "n 3 t h w"]) -> Float[Tensor, "n classes"]:
        features = self.backbone(fold(clips) if self.folds else clips)
        # One row a frame from a network of images, one a clip from one of 3D convolutions.
        return self.fc(self.dropout(features)).unflatten(0, (clips.shape[0], -1)).mean(1)

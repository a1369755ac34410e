"""From a recipe to a network: backbone, mechanisms, head, and branches around it."""

from pathlib import Path

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from vattn.config import ModelConfig
from vattn.insert import fold, insert
from vattn.sparse import SparseAttention, class_maps
from vattn.weights import Fit, read_state


def build_model(model: ModelConfig, classes: int) -> "VideoModel":
    """Return the network that ``model`` describes, for ``classes`` labels.

    Its weights follow from torch's seed, and from ``backbone.weights``; raises ValueError where those cannot be had.
    """
    net = VideoModel(model, classes) if model.sparse == "none" else SparseModel(model, classes)
    _lay_out(net)
    return net


class VideoModel(nn.Module):
    """Scores of every frame, averaged (TSN, Wang et al., ECCV 2016).

    In the state dict the backbone and the mechanisms in it stand under ``backbone.``, the classifier under ``fc.``.

    Shape: (N, 3, T, H, W) -> logits (N, classes).
    """

    #: Names of scores that are given beside the answer.
    branches: tuple[str, ...] = ()

    def __init__(self, model: ModelConfig, classes: int) -> None:
        super().__init__()
        self.backbone = model.backbone.build()
        insert(self.backbone, model)
        self.dropout = nn.Dropout(model.head.dropout)
        self.fc = _classifier(self.backbone.channels, classes)
        self.folds = model.backbone.folds

    def forward(self, clips: Float[Tensor, "n 3 t h w"]) -> Float[Tensor, "n classes"]:
        return self._classify(self.features(clips))

    def features(self, clips: Float[Tensor, "n 3 t h w"]) -> Float[Tensor, "n rows c"]:
        """Return one row a frame from a network of images, one a clip from one of 3D convolutions."""
        rows = self.backbone(fold(clips) if self.folds else clips)
        return rows.unflatten(0, (clips.shape[0], -1))

    def class_maps(
        self, clips: Float[Tensor, "n 3 f h w"]
    ) -> tuple[Float[Tensor, "n rows c"], Float[Tensor, "n t classes i j"]]:
        """Return the features of clips, and where in each frame each class responds."""
        seen: list[Tensor] = []
        hook = self.backbone.avgpool.register_forward_pre_hook(lambda _, args: seen.append(args[0]))
        try:
            features = self.features(clips)
        finally:
            hook.remove()
        images = seen[0] if self.folds else fold(seen[0])
        return features, class_maps(images, self.fc.weight, self.fc.bias).unflatten(0, (clips.shape[0], -1))

    def _classify(self, features: Float[Tensor, "n rows c"]) -> Float[Tensor, "n classes"]:
        return self.fc(self.dropout(features.flatten(0, 1))).unflatten(0, features.shape[:2]).mean(1)

    def begin(self, epoch: int, epochs: int) -> None:
        """Prepare for training ``epoch``, counted from 1, of ``epochs``."""

    def loss(self, scores: Tensor, labels: Int64[Tensor, " n"]) -> Float[Tensor, ""]:
        """Return what training lessens, from what `forward` gave in training."""
        return cross_entropy(scores, labels)

    def scores(self, clips: Float[Tensor, "n 3 t h w"]) -> Float[Tensor, "n b classes"]:
        """Return the answer, and behind it the scores of each of ``branches``."""
        return self(clips).unsqueeze(1)


class SparseModel(VideoModel):
    r"""One network that sees a clip up to three times: as it is, its discriminative, its complementary regions.

    Each branch is classified by the network's own head, and the branches' features together by one more layer, whose
    scores are the answer. The loss is eq. 8 of Zhou et al. (2022), over the branches b that there are:

    .. math:: L = \sum_b L_{cls}(F_b, F^*) + L_{cls}(F_{total}, F^*)

    While the network first learns alone (`begin`), its own scores are all there is. A model that was never told an
    epoch has learnt. In evaluation the highest peak is discriminative and the lowest complementary, as in the public
    code: nothing is drawn by chance.

    Shape: (N, 3, T, H, W) -> logits (N, classes); in training as of `scores`, (N, 1 + branches, classes).
    """

    def __init__(self, model: ModelConfig, classes: int) -> None:
        super().__init__(model, classes)
        assert model.sparse != "none"
        self.sparse = SparseAttention(model.sparse)
        self.branches = model.sparse.branches
        self.total = _classifier(self.backbone.channels * len(self.branches), classes)
        self._stage = "random"

    def begin(self, epoch: int, epochs: int) -> None:
        self._stage = self.sparse.config.stage(epoch, epochs)

    def forward(self, clips: Float[Tensor, "n 3 t h w"]) -> Tensor:
        scores = self.scores(clips)
        return scores if self.training else scores[:, 0]

    def loss(self, scores: Float[Tensor, "n b classes"], labels: Int64[Tensor, " n"]) -> Float[Tensor, ""]:
        branches = scores.shape[1]
        return branches * cross_entropy(scores.flatten(0, 1), labels.repeat_interleave(branches))

    def scores(self, clips: Float[Tensor, "n 3 t h w"]) -> Float[Tensor, "n b classes"]:
        if self._stage == "alone":
            alone = self._classify(self.features(clips))
            # Nothing but the network itself is there yet: in evaluation each branch is what it says.
            return torch.stack([alone] * (1 if self.training else 1 + len(self.branches)), 1)
        own, maps = self.class_maps(clips)
        split = "extreme" if not self.training else "all" if self._stage == "all" else "random"
        clips_of = self.sparse(clips, maps, split)
        features = {"original": own} | {branch: self.features(new) for branch, new in clips_of.items()}
        together = torch.cat([features[branch].mean(1) for branch in self.branches], 1)
        scores = [self._classify(features[branch]) for branch in self.branches]
        return torch.stack([self.total(self.dropout(together)), *scores], 1)


def load_model(model: ModelConfig, classes: int, checkpoint: Path) -> VideoModel:
    """Return a network with the weights that it was trained to; raises ValueError where they are of another config."""
    # What the backbone began with is overwritten, so it is not looked for.
    backbone = model.backbone.model_copy(update={"weights": "none"})
    net, state = build_model(model.model_copy(update={"backbone": backbone}), classes), read_state(checkpoint)
    if not (fit := Fit.of(state, net.state_dict())):
        raise ValueError(f"{checkpoint}: is not of this config: {fit}; name the weights that were trained by it")
    net.load_state_dict(state, strict=False)
    return net


def _lay_out(net: nn.Module) -> None:
    """Lay weights out for features whose channels lie together, as those of our clips do."""
    # Not net.to(memory_format=...), which refuses a network with both 2D and 3D convolutions.
    formats = {4: torch.channels_last, 5: torch.channels_last_3d}
    for parameter in net.parameters():
        if parameter.dim() in formats:
            parameter.data = parameter.data.contiguous(memory_format=formats[parameter.dim()])


def _classifier(channels: int, classes: int) -> nn.Linear:
    layer = nn.Linear(channels, classes)
    nn.init.normal_(layer.weight, std=0.001)
    nn.init.zeros_(layer.bias)
    return layer

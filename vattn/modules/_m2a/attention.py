"""The attention parts of M2A: among whole frames, among patches, and TAM."""

from collections.abc import Iterator
from functools import partial

from jaxtyping import Float
from torch import Tensor, nn

from vattn.modules._base import Site
from vattn.modules._m2a.frames import by_frame, normalised
from vattn.modules._m2a.part import Part, num_values
from vattn.modules._m2a.patches import PatchAttention, divides
from vattn.modules.tam import TAM, TAMConfig

#: TAM on the reduced channels.
_TAM = TAMConfig(beta=1)

Features = Float[Tensor, "n r t h w"]


class AttentionPart(Part):
    """A part that attends to the features after motion. This base class is ``attention: none``."""

    def combine(self, z: Features, motion: nn.Module, attention: nn.Module) -> Features:
        """Return A, the features that M2A's gate is computed from: here motion alone."""
        return motion(z)


def _residual(z: Features, motion: nn.Module, attention: nn.Module) -> Features:
    return z + attention(motion(by_frame(z, partial(normalised, dims=3))))


class FramePart(AttentionPart):
    """``attention: m2a``: self-attention among whole frames."""

    def build(self, site: Site, frames: int) -> nn.Module:
        """Return the attention."""
        return FrameAttention()

    def combine(self, z: Features, motion: nn.Module, attention: nn.Module) -> Features:
        """Return Z + attention(motion(LN(Z)))."""
        return _residual(z, motion, attention)

    def macs(self, site: Site, frames: int) -> int:
        """Return the multiply-accumulates of one clip: two products for each pair of frames."""
        return 2 * frames * num_values(site, frames)

    def activations(self, site: Site, frames: int) -> int:
        """Return the kept values: statistics of the norm, attention weights, input, result."""
        return 2 * frames + frames * frames + 2 * num_values(site, frames)


class FrameAttention(nn.Module):
    r"""Attend among frames: :math:`\mathrm{softmax}(X X^T / \sqrt d) X`; a row of X holds the d values of a frame.

    Shape: (N, C, T, H, W) -> (N, C, T, H, W).
    """

    def forward(self, x: Float[Tensor, "n c t h w"]) -> Float[Tensor, "n c t h w"]:
        return by_frame(x, _attend_to_frames)


def _attend_to_frames(frames: Float[Tensor, "n t *rest"]) -> Float[Tensor, "n t *rest"]:
    rows = frames.flatten(2)
    # Plain products: fused kernels are not made for a small T and a large d.
    scores = rows @ rows.mT * rows.shape[-1] ** -0.5
    return (scores.softmax(-1) @ rows).view(frames.shape)


class TAMPart(AttentionPart):
    """``attention: tam``: TAM; without motion, it has no norm and no sum around it."""

    reversal_equivariant = False

    def __init__(self, with_motion: bool) -> None:
        self.with_motion = with_motion

    def build(self, site: Site, frames: int) -> nn.Module:
        """Return the TAM."""
        return TAM(site.channels, frames, _TAM)

    def combine(self, z: Features, motion: nn.Module, attention: nn.Module) -> Features:
        """Return Z + TAM(motion(LN(Z))); without motion, TAM(Z)."""
        return _residual(z, motion, attention) if self.with_motion else attention(z)

    def macs(self, site: Site, frames: int) -> int:
        """Return the multiply-accumulates of one clip."""
        return _TAM.macs(site, frames)

    def params(self, site: Site, frames: int) -> int:
        """Return the number of learnable parameters."""
        return _TAM.params(site, frames)

    def activations(self, site: Site, frames: int) -> int:
        """Return the kept values: those of TAM; with motion, also the statistics of the norm and TAM's input."""
        norm = 2 * frames + num_values(site, frames) if self.with_motion else 0
        return _TAM.activations(site, frames) + norm


class PatchPart(AttentionPart):
    """``attention: patch``: self-attention among patches over time, then within each frame."""

    def __init__(self, patch_size: int, authors_code: bool, *, frame_difference: bool) -> None:
        self.patch_size = patch_size
        self.authors_code = authors_code
        self.frame_difference = frame_difference

    @property
    def options(self) -> frozenset[str]:  # pyright: ignore[reportIncompatibleVariableOverride]
        """Options of M2A that affect the part; the authors' defect concerns the frame difference only."""
        return frozenset({"patch_size", "authors_code"} if self.frame_difference else {"patch_size"})

    def build(self, site: Site, frames: int) -> nn.Module:
        """Return the attention."""
        return PatchAttention(self.patch_size, self.authors_code)

    def combine(self, z: Features, motion: nn.Module, attention: nn.Module) -> Features:
        """Return the attention among patches, which applies norms, motion and sums itself."""
        return attention(z, motion)

    def macs(self, site: Site, frames: int) -> int:
        """Return the multiply-accumulates of one clip: two products for each pair of tokens."""
        return 2 * site.channels * sum(pairs * pixels for pairs, pixels in self._steps(site, frames))

    def activations(self, site: Site, frames: int) -> int:
        """Return the kept values of each step: tokens, statistics of the norm, queries, keys, values, weights.

        Where torch has a fused kernel for the attention, it keeps fewer values.
        """
        values = num_values(site, frames)
        tokens = [frames * site.height * site.width // pixels for _, pixels in self._steps(site, frames)]
        pairs = sum(pairs for pairs, _ in self._steps(site, frames))
        return 4 * values * len(tokens) + 2 * sum(tokens) + pairs

    def _steps(self, site: Site, frames: int) -> Iterator[tuple[int, int]]:
        """Yield for each attention the number of pairs of tokens and the pixels of a token."""
        pixels, s = site.height * site.width, self.patch_size
        if divides(s, site.height, site.width):
            patches = pixels // s**2
            yield patches * frames * frames, s * s
            yield frames * patches * patches, s * s
        else:
            yield (frames * pixels) ** 2, 1

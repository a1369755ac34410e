"""Whose weights a state dict holds, recognised by its names, and what these expect of pixels.

One row of `FAMILIES` is one way in which published networks are saved. Its rules give the names of the network's
authors, from which each mechanism's and backbone's own rules (``authors_names``, ``authors_network``) lead to the names
of this package. docs/weights.md is the table for users.
"""

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from pydantic import ValidationError

from vattn.errors import UserError
from vattn.normalization import FLOW, IMAGENET, KINETICS, Statistics
from vattn.weights.files import Checkpoint
from vattn.weights.state import Rules, State, first_of, rename

#: Prefixes that wrappers of a network put before its names, the last of them TSN's; and what profilers leave behind.
PREFIXES: Rules = ((r"^(?:(?:module|model|net|network|_orig_mod|base_model)\.)+", ""), (r".*total_(?:ops|params)$", ""))
#: Names of the classifier.
HEADS: Rules = ((r"^(?:new_fc|classifier(?:\.\d+)?|fc8)\.", "fc."), (r"^AuxLogits\..*", ""))
#: TSM's wrappers: of the first convolution of a block, or of the whole block.
_SHIFT: Rules = ((r"\.conv1\.net\.", ".conv1."), (r"(layer\d\.\d+)\.net\.", r"\1."))

#: Activity-Net's mean in the code of Hara's first networks and of MARS, which do not divide.
HARA_2018 = Statistics(mean=(114.7748, 107.7354, 99.475), std=(1.0, 1.0, 1.0), scale=255)
#: Kinetics' statistics in the code of Hara's networks of 2020.
HARA_2020 = Statistics(mean=(0.4345, 0.4051, 0.3775), std=(0.2768, 0.2713, 0.2737))
MARS_FLOW = Statistics(mean=(127.5, 127.5), std=(1.0, 1.0), scale=255)
SLOWFAST = Statistics(mean=(0.45, 0.45, 0.45), std=(0.225, 0.225, 0.225))
#: The mean of Sports-1M, red first.
C3D = Statistics(mean=(102.0, 98.0, 90.0), std=(1.0, 1.0, 1.0), scale=255)
C3D_MMACTION = Statistics(mean=(104.0, 117.0, 128.0), std=(1.0, 1.0, 1.0), scale=255)


@dataclass(frozen=True)
class Family:
    """One way in which networks are saved.

    ``matches`` decides by the names without `PREFIXES`, ``rules`` give the authors' names. ``statistics`` may depend on
    the checkpoint; None: they follow from the config. ``refused`` is why networks of the family cannot be used.
    """

    name: str
    matches: Callable[[State], bool]
    statistics: Statistics | Callable[[Checkpoint], Statistics] | None = None
    rules: Rules = ()
    own: bool = False
    refused: str = ""
    #: its networks see blue first, and their first convolution is turned round
    bgr: bool = False


@dataclass(frozen=True)
class Recognised:
    """A checkpoint whose family is known; ``names`` maps names as the authors have them to the names in the file."""

    checkpoint: Checkpoint
    family: Family
    names: dict[str, str]

    def state(self) -> State:
        """Return the tensors under the authors' names."""
        return {new: self.checkpoint.state[old] for new, old in self.names.items()}

    @property
    def statistics(self) -> Statistics | None:
        """What the weights expect of pixels; None if they do not say."""
        if text := self.checkpoint.metadata.get("normalize"):
            try:
                return Statistics.model_validate_json(text)
            except ValidationError:
                raise UserError(
                    "must be the mean and std of pixels", file=self.checkpoint.file, path="metadata normalize",
                    way_out="convert the weights again",
                ) from None  # fmt: skip
        given = self.family.statistics
        return given(self.checkpoint) if callable(given) else given


def recognise(checkpoint: Checkpoint) -> Recognised:
    """Return whose weights a checkpoint holds.

    Raises:
        UserError: they are those of a network that this package does not have, or two entries get one name.
    """
    names = rename({name: name for name in checkpoint.state}, PREFIXES)
    state = {new: checkpoint.state[old] for new, old in names.items()}
    family = next(family for family in FAMILIES if family.matches(state))
    if family.refused:
        raise UserError(
            f"{checkpoint.file} holds weights of {family.name}, {family.refused}",
            way_out="name weights of a network in docs/weights.md",
            found=first_of(names),
        )
    return Recognised(checkpoint, family, rename(names, family.rules))


def _has(*patterns: str) -> Callable[[State], bool]:
    """Return whether each of the patterns is in a name."""
    compiled = [re.compile(pattern) for pattern in patterns]
    return lambda state: all(any(pattern.search(name) for name in state) for pattern in compiled)


def _all(*conditions: Callable[[State], bool]) -> Callable[[State], bool]:
    return lambda state: all(condition(state) for condition in conditions)


def _cubes(pattern: str) -> Callable[[State], bool]:
    """Return whether a kernel whose name matches is one of a 3D convolution."""
    compiled = re.compile(pattern)
    return lambda state: any(value.ndim == 5 and compiled.search(name) for name, value in state.items())


#: The outermost parts of this package's networks beside the backbone.
BESIDE_BACKBONE = ("fc", "sparse", "total", "rpn", "offset", "proposal", "proposal_fc", "prior")


def _is_ours(state: State) -> bool:
    parts = {name.partition(".")[0] for name in state}
    return "backbone" in parts and parts <= {"backbone", *BESIDE_BACKBONE} and not _is_mmaction(state)


_is_mmaction = _has(
    r"^cls_head\.|^backbone\.(?:.*\.)?(?:conv\d\w?|downsample)\.(?:conv|bn)\.|^backbone\.(?:slow|fast)_path\."
)


def _by_stem(colours: Statistics, flow: Statistics) -> Callable[[Checkpoint], Statistics]:
    """Return statistics by the number of input channels: 2 are those of optical flow."""
    return lambda checkpoint: flow if _input_channels(checkpoint) == 2 else colours


def _input_channels(checkpoint: Checkpoint) -> int:
    """Return the number of channels that the first convolution takes."""
    return next((v.shape[1] for n, v in checkpoint.state.items() if re.search(r"conv1\w*\.(\d\.)?weight$", n)), 3)


def _of_hara(checkpoint: Checkpoint) -> Statistics:
    """Return the statistics of one of Hara's networks, or of MARS.

    The networks of 2018, and MARS, were saved as wrapped by DataParallel. The code of 2020 removes its prefix.
    """
    if _input_channels(checkpoint) == 2:
        return MARS_FLOW
    return HARA_2018 if any(name.startswith("module.") for name in checkpoint.state) else HARA_2020


#: Convolution, norm and activation of MMAction2 are one module.
_MMACTION: Rules = (
    (r"^cls_head\.fc_cls\.", "fc."), (r"^backbone\.", ""), (r"(layer\d\.\d+)\.block\.", r"\1."),
    (r"(^|\.)conv(\d)\.conv\.", r"\1conv\2."), (r"(^|\.)conv(\d)\.bn\.", r"\1bn\2."),
    (r"\.downsample\.conv\.", ".downsample.0."), (r"\.downsample\.bn\.", ".downsample.1."),
    (r"\.non_local_block\.", ".nl."), (r"\.nl\.(g|phi)(\.0)?\.conv\.", r".nl.\1.0."),
    (r"\.nl\.theta\.conv\.", ".nl.theta."),
    (r"\.nl\.conv_out\.conv\.", ".nl.W.0."), (r"\.nl\.conv_out\.bn\.", ".nl.W.1."),
)  # fmt: skip
_MMACTION_C3D: Rules = (
    (r"^cls_head\.fc_cls\.", "fc8."), (r"^backbone\.conv([12])a\.conv\.", r"conv\1."),
    (r"^backbone\.(conv\d[ab])\.conv\.", r"\1."), (r"^backbone\.", ""),
)  # fmt: skip
_PATHWAYS = (("slow", 0), ("fast", 1))
#: To the names of the backbone ``slowfast``.
_MMACTION_SLOWFAST: Rules = (
    *_MMACTION,
    (r"^slow_path\.conv1_lateral\.conv\.", "lateral.0.0."), (r"^slow_path\.conv1_lateral\.bn\.", "lateral.0.1."),
    *(
        (rf"^slow_path\.layer{i}_lateral\.{part}\.", f"lateral.{i}.{n}.")
        for i in (1, 2, 3) for n, part in enumerate(("conv", "bn"))
    ),
    *(
        (rf"^{path}_path\.{part}1\.", f"{path}_stem.{n}.")
        for path, _ in _PATHWAYS for n, part in enumerate(("conv", "bn"))
    ),
    *((rf"^{path}_path\.layer{i}\.", f"{path}.{i - 1}.") for path, _ in _PATHWAYS for i in (1, 2, 3, 4)),
)  # fmt: skip


def _pyslowfast_blocks(pathway: str, stage: Callable[[int], str], number: int) -> Rules:
    """Return the rules for the blocks of one pathway; ``stage`` gives the place of a stage's blocks."""
    return tuple((rf"^s{s}\.pathway{number}_res(\d+)\.", rf"{pathway}{stage(s)}.\1.") for s in (2, 3, 4, 5))


_PYSLOWFAST_LAYERS: Rules = (
    (r"\.branch1\.", ".downsample.0."), (r"\.branch1_bn\.", ".downsample.1."),
    *((rf"\.branch2\.{letter}\.", f".conv{n}.") for n, letter in enumerate("abc", 1)),
    *((rf"\.branch2\.{letter}_bn\.", f".bn{n}.") for n, letter in enumerate("abc", 1)),
    (r"^head\.projection\.", "fc."),
)  # fmt: skip
_PYSLOWFAST_SLOWFAST: Rules = (
    *(
        (rf"^s1\.pathway{p}_stem\.{part}\.", f"{path}_stem.{n}.")
        for path, p in _PATHWAYS for n, part in enumerate(("conv", "bn"))
    ),
    *(
        (rf"^s{s}_fuse\.{part}\.", f"lateral.{s - 1}.{n}.")
        for s in (1, 2, 3, 4) for n, part in enumerate(("conv_f2s", "bn"))
    ),
    *(rule for path, p in _PATHWAYS for rule in _pyslowfast_blocks(f"{path}.", lambda s: str(s - 2), p)),
    *_PYSLOWFAST_LAYERS,
)  # fmt: skip
_PYSLOWFAST_ONE: Rules = (
    (r"^s1\.pathway0_stem\.conv\.", "conv1."), (r"^s1\.pathway0_stem\.bn\.", "bn1."),
    *_pyslowfast_blocks("layer", lambda s: str(s - 1), 0), *_PYSLOWFAST_LAYERS,
)  # fmt: skip

_NOT_OURS = "which is not one of the networks here"
_REFUSED: Iterable[tuple[str, Callable[[State], bool]]] = (
    ("a Hugging Face VideoMAE", _has(r"^videomae\.")),
    ("a Hugging Face TimeSformer", _has(r"^timesformer\.")),
    ("a Hugging Face ViViT", _has(r"^vivit\.")),
    ("a Hugging Face ResNet", _has(r"^(?:resnet\.)?encoder\.stages\.0\.layers\.")),
    ("a Hugging Face transformer", _has(r"^(?:\w+\.)?encoder\.layer\.0\.attention\.")),
    ("CLIP", _has(r"visual\.transformer\.resblocks\.")),
    ("a TimeSformer", _has(r"blocks\.\d+\.temporal_attn\.")),
    ("an MViT", _has(r"blocks\.\d+\.attn\.(?:pool_[qkv]|norm_[qkv]|rel_pos_t|rel_pos_h)|^pos_encoding\.")),
    ("a Video Swin transformer", _has(r"(?:layers\.\d+\.blocks|features\.\d+)\.\d+\.attn\.(?:qkv|relative_position)")),
    ("a vision transformer, such as VideoMAE or one of timm", _has(r"blocks\.\d+\.attn\.(?:qkv|q_proj|in_proj)")),
    ("a UniFormer", _has(r"blocks[1-4]\.\d+\.(?:pos_embed|attn)")),
    ("an X3D", _has(r"^head\.lin_5\.|^blocks\.\d+\.proj\.|_res\d+\.branch2\.se\.")),
    ("an S3D of torchvision", _all(_has(r"^features\.\d+\.(?:0\.0|branch0\.)"), _cubes(r"^features\.0\."))),
    ("an Inception I3D", _has(r"^Conv3d_1a_7x7\.|Mixed_3b\.b0")),
    ("a BN-Inception", _has(r"^(?:conv1_7x7_s2|inception_3a_1x1)\b")),
    ("a network of PyTorchVideo", _has(r"^blocks\.0\.(?:conv|multipathway_blocks)")),
    ("a ConvNeXt", _has(r"^stages\.\d+\.blocks\.\d+\.conv_dw")),
)  # fmt: skip

#: In the order in which they are tried. The last one takes any names: those of a network's own state dict.
FAMILIES: tuple[Family, ...] = (
    *(Family(name, matches, refused=_NOT_OURS) for name, matches in _REFUSED),
    Family("this package", _is_ours, own=True),
    Family("MMAction2's C3D", _has(r"^backbone\.conv1a\.conv\."), C3D_MMACTION, _MMACTION_C3D),
    Family("MMAction2's SlowFast", _has(r"^backbone\.slow_path\."), IMAGENET, _MMACTION_SLOWFAST),
    Family("MMAction2's TANet", _all(_is_mmaction, _has(r"\.tam\.")), IMAGENET, _MMACTION),
    Family("MMAction2's TSM", _all(_is_mmaction, _has(r"\.net\.")), IMAGENET, (*_MMACTION, *_SHIFT)),
    Family("MMAction2's I3D", _all(_is_mmaction, _cubes(r"conv1\.conv\.")), IMAGENET, _MMACTION),
    Family("MMAction2's TSN", _is_mmaction, IMAGENET, _MMACTION),
    Family("PySlowFast's SlowFast", _has(r"^s\d\.pathway1_"), SLOWFAST, _PYSLOWFAST_SLOWFAST),
    Family("PySlowFast's I3D, Slow or C2D", _has(r"^s\d\.pathway0_"), SLOWFAST, _PYSLOWFAST_ONE),
    Family("torchvision's video networks", _cubes(r"^stem\.0\."), KINETICS),
    Family("Hara's R(2+1)D", _has(r"(?:^|\.)conv\d_[st]\."), HARA_2020),
    Family("P3D", _has(r"^conv1_custom\."), _by_stem(IMAGENET, FLOW)),
    Family("R-C3D", _has(r"^RCNN_rpn\.", r"^RCNN_base\."), C3D, bgr=True),
    Family("C3D", _has(r"^conv[345][ab]\.", r"^fc[678]\."), C3D),
    Family(
        "3D ResNets of Hara or MARS", _all(_has(r"^layer\d\.\d"), _cubes(r"^layer\d\.\d+\.conv\d\.weight$")), _of_hara
    ),
    Family("TDN", _has(r"^layer\d_bak\.|^conv1_5\."), IMAGENET),
    Family("TEA", _has(r"\.shifts\.\d\.conv\."), IMAGENET),
    Family("ACTION-Net", _has(r"\.action_(?:shift|p\d)"), IMAGENET),
    Family("M2A", _has(r"\.conv_(?:down|up)\."), IMAGENET),
    Family("TANet", _has(r"\.tam\.[GL]\."), IMAGENET),
    Family("TSM with non-local blocks", _has(r"\.nl\.(?:theta|phi|g|W)\."), IMAGENET, _SHIFT),
    Family("TSM", _has(r"(?:^|\.)net\."), IMAGENET, _SHIFT),
    Family("plain names", lambda state: True),
)

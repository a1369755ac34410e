"""How pixels are normalised: the statistics that known weights expect."""

from typing import Annotated, Literal, Self

from pydantic import Field, Tag, model_validator

from vattn.base import WORD_OR_CONFIG, Config

Channels = tuple[float, ...]


class Statistics(Config):
    """Mean and standard deviation by channel: a network sees (pixel * scale / 255 - mean) / std, pixel 0 to 255.

    With ``scale`` 1, mean and std are shares of the largest pixel; with 255 they are levels of a pixel.
    """

    mean: Channels = Field(description="mean of each channel: 3 of colours, red first, or 2 of optical flow, x first")
    std: Channels = Field(description="standard deviation of each channel")
    scale: float = Field(1.0, gt=0, description="largest pixel, in the unit of mean and std: 1 or 255")

    @model_validator(mode="after")
    def _one_of_each(self) -> Self:
        if len(self.mean) not in (2, 3) or len(self.mean) != len(self.std):
            raise ValueError(
                f"mean and std: must have one number for each of 3 colours, or 2 directions of flow (got "
                f"{len(self.mean)} and {len(self.std)})"
            )
        if min(self.std) <= 0:
            raise ValueError(f"std: must be above 0, as it divides (got {min(self.std):g})")
        return self

    def levels(self) -> tuple[Channels, Channels]:
        """Return mean and standard deviation in units of a uint8 value."""
        unit = 255 / self.scale
        return tuple(m * unit for m in self.mean), tuple(s * unit for s in self.std)

    def same(self, other: "Statistics") -> bool:
        """Return whether both give the same numbers, up to the rounding of printed statistics in other units."""
        (mean, std), (others_mean, others_std) = self.levels(), other.levels()
        return len(mean) == len(others_mean) and all(
            abs(a - b) < 1e-6 * max(1.0, abs(b)) for a, b in zip(mean + std, others_mean + others_std, strict=True)
        )

    def __str__(self) -> str:
        mean, std = (", ".join(f"{value:g}" for value in values) for values in (self.mean, self.std))
        return f"mean {mean}, std {std}, of pixels up to {self.scale:g}"


#: Torchvision's image models, and all that train from them; in levels, as the code of MMAction2 has them.
IMAGENET = Statistics(mean=(123.675, 116.28, 103.53), std=(58.395, 57.12, 57.375), scale=255)
#: Torchvision's video models r3d_18, mc3_18 and r2plus1d_18.
KINETICS = Statistics(mean=(0.43216, 0.394666, 0.37645), std=(0.22803, 0.22145, 0.216989))
#: From -1 to 1.
HALF = Statistics(mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))
#: TSN's of optical flow: the middle, and the mean of ImageNet's deviations.
FLOW = Statistics(mean=(0.5, 0.5), std=(0.226, 0.226))

Word = Literal["imagenet", "kinetics", "half"]
WORDS: dict[Word, Statistics] = {"imagenet": IMAGENET, "kinetics": KINETICS, "half": HALF}


#: A word or statistics.
Normalize = Annotated[
    Annotated[Literal["auto", Word], Tag("word")] | Annotated[Statistics, Tag("config")], WORD_OR_CONFIG
]


def named(statistics: Statistics) -> Word | Statistics:
    """Return the word for some statistics if there is one, else the statistics in levels of a pixel."""
    for word, known in WORDS.items():
        if known.same(statistics):
            return word
    mean, std = (tuple(round(value, 4) for value in values) for values in statistics.levels())
    return Statistics(mean=mean, std=std, scale=255)

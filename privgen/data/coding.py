"""What JPEG rounds away of a tile: the steps of its 64 frequencies, and whether colour is halved.

Two tiles of one `Coding` lost the same kind of detail, whichever program wrote them. Steps are in
row order (not in JPEG's zigzag), 1 to 255.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal, Self, get_args

import numpy as np

Sampling = Literal["4:4:4", "4:2:2", "4:2:0"]
SAMPLINGS: tuple[Sampling, ...] = get_args(Sampling)
"""Of the two colour channels, finest first: whole, halved across, halved both ways."""

QUALITIES = range(1, 101)

_LUMA = (
    *(16, 11, 10, 16, 24, 40, 51, 61),
    *(12, 12, 14, 19, 26, 58, 60, 55),
    *(14, 13, 16, 24, 40, 57, 69, 56),
    *(14, 17, 22, 29, 51, 87, 80, 62),
    *(18, 22, 37, 56, 68, 109, 103, 77),
    *(24, 35, 55, 64, 81, 104, 113, 92),
    *(49, 64, 78, 87, 103, 121, 120, 101),
    *(72, 92, 95, 98, 112, 100, 103, 99),
)
_CHROMA = (
    *(17, 18, 24, 47, 99, 99, 99, 99),
    *(18, 21, 26, 66, 99, 99, 99, 99),
    *(24, 26, 56, 99, 99, 99, 99, 99),
    *(47, 66, 99, 99, 99, 99, 99, 99),
    *(99,) * 32,
)


@dataclass(frozen=True, kw_only=True)
class Coding:
    """One way to write a JPEG.

    Attributes:
      luma, chroma: steps of the 64 frequencies of brightness and of colour, row by row.
      sampling: of the colour channels.
    """

    luma: tuple[int, ...]
    chroma: tuple[int, ...]
    sampling: Sampling

    @classmethod
    def standard(cls, quality: int, sampling: Sampling) -> Self:
        """The tables of the standard's Annex K scaled to `quality`, 1 to 100, as libjpeg does."""
        return cls(
            luma=_scaled(_LUMA, quality), chroma=_scaled(_CHROMA, quality), sampling=sampling
        )

    @cached_property
    def quality(self) -> int:
        """The libjpeg quality whose brightness steps are nearest: its own for standard tables."""
        own = np.log(self.luma)
        distance = [
            float(np.abs(own - np.log(_scaled(_LUMA, quality))).sum()) for quality in QUALITIES
        ]
        return QUALITIES[int(np.argmin(distance))]

    @property
    def coarseness(self) -> float:
        """Mean step of brightness: the larger, the less is left."""
        return float(np.mean(self.luma))

    def joined(self, other: "Coding") -> "Coding":
        """The coarser step of each frequency and the coarser sampling."""
        return Coding(
            luma=_larger(self.luma, other.luma),
            chroma=_larger(self.chroma, other.chroma),
            sampling=max(self.sampling, other.sampling, key=SAMPLINGS.index),
        )


def _scaled(table: Sequence[int], quality: int) -> tuple[int, ...]:
    percent = 5000 // quality if quality < 50 else 200 - 2 * quality
    return tuple(min(max((step * percent + 50) // 100, 1), 255) for step in table)


def _larger(ours: Sequence[int], theirs: Sequence[int]) -> tuple[int, ...]:
    return tuple(max(pair) for pair in zip(ours, theirs, strict=True))

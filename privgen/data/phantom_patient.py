"""The patients of the phantom: what all tiles of one person share.

Laboratory (stain strength and hue, section thickness, lamp, focus) and biology (size, texture and
number of nuclei, waviness of fibres, size and filling of crypts, grade of the tumour, size of fat
cells). The spread is that of several hospitals: the stain differs more between two patients than
between many pairs of tissues, so colour alone is a poor guide to the tissue.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from privgen.data.stain import turned_stains

_PATIENT, _TILE = 0, 1  # first word of the key of each random stream

MEAN_STAINS: NDArray[np.float64] = np.array([[0.65, 0.70, 0.29], [0.12, 0.96, 0.24]])
"""Haematoxylin of Ruifrok & Johnston 2001; eosin a little warmer than theirs, as in colon."""


@dataclass(frozen=True)
class Patient:
    """Traits of one patient; factors are relative to 1, lengths are micrometres.

    Attributes:
      stains: haematoxylin and eosin directions in optical density, rows, shape (2, 3).
      lamp: optical density of the empty slide in R, G, B, shape (3,).
      haematoxylin, eosin: stain strength.
      thickness: of the section.
      blur: standard deviation of the focus.
      nucleus: size of nuclei.
      chromatin: contrast of the texture inside nuclei.
      grain: size of the chromatin clumps.
      spacing: distance between cells (low is cellular).
      wave: how much fibres bend.
      crypt: size of crypts.
      goblet: share of crypt cells filled with mucin.
      grade: disorder of the tumour, 0 (forms glands) to 1 (solid).
      fat: size of fat cells.
      mucin: density of mucus.
    """

    stains: NDArray[np.float64]
    lamp: NDArray[np.float64]
    haematoxylin: float
    eosin: float
    thickness: float
    blur: float
    nucleus: float
    chromatin: float
    grain: float
    spacing: float
    wave: float
    crypt: float
    goblet: float
    grade: float
    fat: float
    mucin: float


def draw_patient(seed: int, patient: int) -> Patient:
    """The traits of patient number `patient` in the phantom `seed`: a pure function of both."""
    rng = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(_PATIENT, patient)))

    def factor(spread: float) -> float:
        return bounded_factor(rng, spread)

    return Patient(
        stains=turned_stains(MEAN_STAINS, rng, degrees=3.5),
        lamp=rng.uniform(0.0, 0.06) + rng.uniform(0.0, 0.04, 3),
        haematoxylin=factor(0.20),
        eosin=factor(0.22),
        thickness=factor(0.12),
        blur=0.35 * factor(0.4),
        nucleus=factor(0.09),
        chromatin=factor(0.4),
        grain=1.3 * factor(0.25),
        spacing=factor(0.10),
        wave=factor(0.35),
        crypt=factor(0.14),
        goblet=float(rng.uniform(0.45, 0.95)),
        grade=float(rng.uniform(0.0, 1.0)),
        fat=factor(0.15),
        mucin=factor(0.3),
    )


def bounded_factor(rng: np.random.Generator, spread: float) -> float:
    """A factor around 1, log-normal of about `spread` with its tails drawn in to 2.5 of it."""
    return float(np.exp(2.5 * spread * np.tanh(rng.standard_normal() / 2.5)))


def tile_rng(seed: int, patient: int, kind: int, index: int) -> np.random.Generator:
    """The random stream of one tile: never shared with another tile or patient."""
    key = (_TILE, patient, kind, index)
    return np.random.default_rng(np.random.SeedSequence(seed, spawn_key=key))

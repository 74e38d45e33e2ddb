"""Stain normalisation: every tile in the colours of one target tile. An option, never the default.

- `macenko` finds the two stain directions of a tile in optical density and replaces them, and the
  strength of each stain, by the target's (Macenko et al. 2009, "A method for normalizing histology
  slides for quantitative analysis", ISBI). What the two stains do not explain is lost.
- `reinhard` gives each channel of CIELAB the target's mean and standard deviation (Reinhard et al.
  2001, "Color transfer between images", IEEE CG&A 21(5)). It moves all pixels: the white of a tile
  half full of glass is tinted.

The work is done by torchstain's NumPy normalisers (optional extra `stain`), which import no torch.
A tile comes back from its own pixels and the target's alone, whatever else was normalised before.

Both methods divide by a spread that a tile of glass, of one colour or of one ink does not have, and
then turn noise into colour. Such tiles are told beforehand, returned as they are, and counted.
"""

import threading
from contextlib import suppress
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from privgen.data.images import read_tile
from privgen.errors import ConfigError, TileError

Method = Literal["macenko", "reinhard"]

_LIGHT = 240.0
"""Grey level of glass, as torchstain's Macenko takes it."""

_STAINED = 0.15
"""Optical density of a stained pixel: Macenko et al.'s beta."""

_LEAST_STAINED = 0.02
"""Share of stained pixels. Macenko scales by a 99th percentile over all pixels of a tile; with less
than 1 % stained that is the glass's own density, near zero or negative. Twice that is asked."""

_LEAST_SPREAD = 1e-4
"""Second eigenvalue of the stained pixels' covariance: a standard deviation of .01 in density,
about one grey level. H&E tiles of real slides have .009 and more."""


class Normaliser:
    """Moves tiles into a target's stain colours; made by `load_normaliser`, shared by threads.

    Attributes:
      method: "macenko" or "reinhard".
      failed: tiles returned unchanged so far because the method cannot work on them.
    """

    def __init__(self, method: Method, backend: Any) -> None:
        """Args:
        method: which rule tells the tiles that `backend` cannot handle.
        backend: a torchstain normaliser, fitted to the target.
        """
        self.method: Method = method
        self.failed = 0
        self._backend = backend
        self._counting = threading.Lock()

    def __call__(self, tile: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """The tile in the target's colours, or itself where the method fails.

        Args:
          tile: uint8 RGB, shape (h, w, 3).

        Returns:
          uint8 RGB, shape (h, w, 3).
        """
        if _has_stains(tile, self.method):
            with suppress(FloatingPointError, np.linalg.LinAlgError):
                return self._normalised(tile)
        with self._counting:
            self.failed += 1
        return tile

    def _normalised(self, tile: NDArray[np.uint8]) -> NDArray[np.uint8]:
        with np.errstate(divide="raise", over="raise", invalid="raise"):
            if self.method == "macenko":
                return np.asarray(self._backend.normalize(tile, stains=False)[0], dtype=np.uint8)
            return np.asarray(self._backend.normalize(tile), dtype=np.uint8)


def load_normaliser(method: Method, target: Path) -> Normaliser:
    """Fit a method to a target tile.

    Args:
      method: "macenko" or "reinhard".
      target: an image file: a tile full of well-stained tissue, of any size.

    Raises:
      ConfigError: the method is unknown, or torchstain is not installed.
      TileError: the file is no tile, or the method cannot find stains in it.
    """
    if method not in get_args(Method):
        raise ConfigError(
            f"stain normalisation must be one of {', '.join(get_args(Method))}: got {method!r}. "
            "Give one of them, or none."
        )
    try:
        from torchstain.numpy.normalizers import NumpyMacenkoNormalizer, NumpyReinhardNormalizer
    except ImportError as error:
        raise ConfigError(
            "stain normalisation needs torchstain, which is not installed. "
            "Install privgen[stain], or leave the option out."
        ) from error
    tile = read_tile(target)
    if not _has_stains(tile, method):
        raise TileError(
            str(target),
            "shows too little stained tissue to normalise to. Give a tile full of tissue.",
        )
    backend = NumpyMacenkoNormalizer() if method == "macenko" else NumpyReinhardNormalizer()
    with np.errstate(divide="raise", over="raise", invalid="raise"):
        backend.fit(tile)
    return Normaliser(method, backend)


def _has_stains(tile: NDArray[np.uint8], method: Method) -> bool:
    """Enough stained pixels, of more than one colour.

    Macenko looks only at pixels that are dark in every channel; for Reinhard one channel will do,
    so that pale eosin, which lets red light pass, counts.
    """
    density = -np.log((tile.reshape(-1, 3) + 1.0) / _LIGHT)
    dark = density >= _STAINED
    stained = density[dark.all(axis=1) if method == "macenko" else dark.any(axis=1)]
    if len(stained) < max(3, _LEAST_STAINED * len(density)):
        return False
    spread = np.linalg.eigvalsh(np.cov(stained.T))
    return bool(spread[1] >= _LEAST_SPREAD)

"""What the pixels of a tile tell of the files it has been through.

- *Coding*: a JPEG leaves the frequencies of its 8 x 8 blocks near multiples of its steps, whatever
  the tile is kept in now. The steps of every quality are tried; that multiples are met by chance
  has a known law, so no threshold was fitted to tissue. The grid may begin anywhere.
- *Spectrum*: scaling, blur and sharpening show in how much power is left at high frequencies.
- *Blocks* and *colour detail*: what remains of codings with steps of their own.

Conventions: tiles are uint8 RGB, shape (h, w, 3); frequencies are fractions of the highest a tile
can hold.

Source: Fan & de Queiroz 2003, "Identification of bitmap compression history: JPEG detection and
quantizer estimation", doi:10.1109/TIP.2002.807361.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache

import numpy as np
from numpy.typing import NDArray
from scipy import fft

from privgen.data.coding import Coding
from privgen.data.images import recode

Floats = NDArray[np.float64]

BANDS = 16
"""Equal bands of frequency in a spectrum."""

MEASURES = ("medium detail", "fine detail", "finest detail", "colour detail", "blocks")
"""What `measures` gives, in its order."""

_LUMA = np.array([0.299, 0.587, 0.114])
_BLOCK = 8
_MACROBLOCK = 16
_MOST_BLOCKS = 160
_LOW = 5
_FAINTEST = 0.5
_WHOLE_COLOUR = 0.25
_TRIED = range(5, 97)
_CERTAIN = 5.0
_FITS = 0.4
_FEWEST_BLOCKS = 12
_FEWEST_VALUES = 30
_ROUNDED_TO_ZERO = 0.4


@dataclass(frozen=True, kw_only=True)
class Trace:
    """A coding found in the pixels of one tile.

    Attributes:
      measurable: whether there was enough tissue, neither white nor black, to find one.
      coding: the coarsest found; None where there is none.
      top, left: where its grid of 16 pixels begins.
    """

    measurable: bool
    coding: Coding | None = None
    top: int = 0
    left: int = 0


def trace(tile: NDArray[np.uint8], known: Sequence[Coding] = ()) -> Trace:
    """The coding a tile went through before it was kept as it is.

    Standard tables of quality 5 to 96 are tried and those that are `known`. Of a grid that does not
    begin in the corner, the place is read from the blocks' edges, which fine codings hardly show.

    Args:
      tile: at the size it is kept in; scaling wipes the trace out.
      known: codings with tables of their own, from the headers of other files.
    """
    grey = tile @ _LUMA - 128
    clipped = ((tile == 0) | (tile == 255)).any(axis=2)
    measurable = False
    for top, left in dict.fromkeys(((0, 0), _edges(grey))):
        blocks = _blocks(grey[top:, left:], clipped[top:, left:])
        if len(blocks) < _FEWEST_BLOCKS:
            continue
        measurable = True
        coding = _coding(blocks, known)
        if coding is not None:
            found = Trace(measurable=True, coding=coding, top=top, left=left)
            return _with_colour(tile, found)
    return Trace(measurable=measurable)


def recode_at(tile: NDArray[np.uint8], coding: Coding, top: int, left: int) -> NDArray[np.uint8]:
    """`images.recode` on a grid that begins at row `top` and column `left`, each 0 to 15."""
    above, before = -top % _MACROBLOCK, -left % _MACROBLOCK
    if above == before == 0:
        return recode(tile, coding)
    padded = np.pad(tile, ((above, 0), (before, 0), (0, 0)), mode="edge")
    return recode(padded, coding)[above:, before:]


def spectrum(tile: NDArray[np.uint8]) -> Floats:
    """Power of brightness in `BANDS` bands, dB, shape (BANDS,); 0 dB is noise of 1 grey level.

    A band is a square ring (the larger of a frequency's two parts), as scaling cuts. Noise of half
    a grey level is added to all, so that what is fainter, rounding above all, makes no difference.
    """
    return _bands(tile @ _LUMA)


def measures(tile: NDArray[np.uint8]) -> Floats:
    """What a tile's pipeline shows in, shape (len(MEASURES),); each a log ratio.

    The three details are powers of brightness in the bands above a quarter, a half and three
    quarters of the highest frequency over that in the bands below a quarter; colour detail is the
    power of colour over that of brightness above a quarter; blocks are the steps of brightness
    across the most conspicuous of 8 possible grids over those elsewhere.
    """
    grey = tile @ _LUMA
    bright = _bands(grey)
    coarse = bright[1:4].mean()
    parts = [bright[low : low + 4].mean() - coarse for low in (4, 8, 12)]
    colour = _bands(tile[..., 0] - grey)[4:].mean() - bright[4:].mean()
    return np.array([*parts, colour, _blockiness(grey)])


def _bands(plane: Floats) -> Floats:
    height, width = plane.shape
    window = np.hanning(height)[:, None] * np.hanning(width)
    power = np.abs(fft.rfft2((plane - plane.mean()) * window)) ** 2 / (window**2).sum()
    band = _band_of(height, width)
    total = np.bincount(band, weights=power.ravel(), minlength=BANDS)
    found: Floats = total / np.maximum(np.bincount(band, minlength=BANDS), 1)
    found = 10 * np.log10(found + _FAINTEST**2)
    return found


@cache
def _band_of(height: int, width: int) -> NDArray[np.intp]:
    down, across = np.abs(fft.fftfreq(height))[:, None], fft.rfftfreq(width)
    band = np.maximum(down, across) * 2 * BANDS
    numbers: NDArray[np.intp] = np.minimum(band, BANDS - 1).astype(np.intp).ravel()
    return numbers


def _blocks(grey: Floats, clipped: NDArray[np.bool_]) -> Floats:
    """Frequencies of whole blocks without a clipped pixel, shape (n, 25): the lowest 5 x 5.

    No more than `_MOST_BLOCKS`, evenly from the tile.
    """
    height, width = (size // _BLOCK for size in grey.shape)

    def cut(plane: NDArray[np.generic]) -> NDArray[np.generic]:
        whole = plane[: height * _BLOCK, : width * _BLOCK]
        parts = whole.reshape(height, _BLOCK, width, _BLOCK).swapaxes(1, 2)
        return parts.reshape(-1, _BLOCK, _BLOCK)

    kept = np.flatnonzero(~cut(clipped).any(axis=(1, 2)))
    kept = kept[:: -(-len(kept) // _MOST_BLOCKS) or 1]
    found: Floats = fft.dctn(cut(grey)[kept], axes=(1, 2), norm="ortho")
    return found[:, :_LOW, :_LOW].reshape(-1, _LOW**2)


def _coding(frequencies: Floats, known: Sequence[Coding]) -> Coding | None:
    """The coding whose steps the values are multiples of, its colour not yet looked at.

    Values that a step rounds to 0 are multiples of anything, so only larger ones are asked, and the
    mean brightness always. Of values that were never rounded the phases are even, and uneven
    against the step where there are few large ones: the mean cosine is 0 or less. Of a coding's own
    values it is .65 (quality 95) to 1 (50 and less); of values rounded by other steps it is small,
    though it may be certain.
    """
    codings, steps = _tried(tuple(known))
    used = np.abs(frequencies)[None] > _ROUNDED_TO_ZERO * steps[:, None]
    used[:, :, 0] = True
    used &= (steps > 1)[:, None]
    count = used.sum(axis=(1, 2))
    cosine = np.cos(2 * np.pi * frequencies[None] / steps[:, None]).sum(axis=(1, 2), where=used)
    fits = (count >= _FEWEST_VALUES) & (cosine > _FITS * count)
    deviations = np.where(fits, cosine * np.sqrt(2 / np.maximum(count, 1)), 0)
    best = int(deviations.argmax())
    return codings[best] if deviations[best] > _CERTAIN else None


@cache
def _tried(known: tuple[Coding, ...]) -> tuple[tuple[Coding, ...], Floats]:
    codings = (*known, *(Coding.standard(quality, "4:2:0") for quality in _TRIED))
    tables = np.array([coding.luma for coding in codings], dtype=np.float64)
    lowest = tables.reshape(-1, _BLOCK, _BLOCK)[:, :_LOW, :_LOW].reshape(-1, _LOW**2)
    return codings, lowest


def _with_colour(tile: NDArray[np.uint8], found: Trace) -> Trace:
    """The same with the sampling of its colour, and where its grid of 16 begins.

    Coded once more in the same way a tile hardly changes. Colour that was kept whole then changes a
    twentieth as much as when it is halved (the most on 40 tiles, qualities 75 to 95), colour that
    was halved two thirds as much or more.
    """
    assert found.coding is not None
    whole = replace(found.coding, sampling="4:4:4")
    halved = replace(found.coding, sampling="4:2:0")
    rows = (found.top, found.top + _BLOCK) if found.top else (0,)
    columns = (found.left, found.left + _BLOCK) if found.left else (0,)
    tries = [
        (_change(tile, recode_at(tile, halved, top, left)), top, left)
        for top in rows
        for left in columns
    ]
    least, top, left = min(tries)
    if _change(tile, recode_at(tile, whole, top, left)) < _WHOLE_COLOUR * least:
        return replace(found, coding=whole, top=top, left=left)
    return replace(found, coding=halved, top=top, left=left)


def _change(tile: NDArray[np.uint8], again: NDArray[np.uint8]) -> float:
    """Mean change of the red colour difference, grey levels."""
    change = again.astype(np.float64) - tile
    return float(np.abs(change[..., 0] - change @ _LUMA).mean())


def _steps(grey: Floats, axis: int) -> Floats:
    """Mean step from each row (or column) to the next beyond that of its neighbours."""
    step = np.abs(np.diff(grey, axis=axis)).mean(axis=1 - axis)
    beyond: Floats = step[1:-1] - (step[:-2] + step[2:]) / 2
    return beyond


def _by_phase(grey: Floats, axis: int) -> Floats:
    """The mean of those steps for each of the 8 grids they may belong to, shape (8,)."""
    beyond = _steps(grey, axis)
    # Step i leads to row i + 1, and the first one is left out: entry 0 leads to row 2.
    phase = (np.arange(len(beyond)) + 2) % _BLOCK
    total = np.bincount(phase, weights=beyond, minlength=_BLOCK)
    mean: Floats = total / np.maximum(np.bincount(phase, minlength=_BLOCK), 1)
    return mean


def _edges(grey: Floats) -> tuple[int, int]:
    """Row and column, 0 to 7, of the grid with the most conspicuous edges."""
    if min(grey.shape) < 2 * _BLOCK:
        return 0, 0
    return int(_by_phase(grey, 0).argmax()), int(_by_phase(grey, 1).argmax())


def _blockiness(grey: Floats) -> float:
    if min(grey.shape) < 2 * _BLOCK:
        return 0.0
    contrasts = []
    for axis in (0, 1):
        phases = np.sort(_by_phase(grey, axis))
        spread = np.abs(np.diff(grey, axis=axis)).mean()
        contrasts.append((phases[-1] - phases[:-1].mean()) / max(float(spread), 1e-3))
    return float(np.mean(contrasts))

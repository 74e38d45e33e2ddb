"""Splitting tiles by patient, and refusing roles that overlap.

A patient (or the nearest thing the data have: `TileSet.groups`) stands in one role only. Patients
whose tiles share a digest or pixels are kept together, so that no split can part a picture from
its copy. Siblings are tiles of training slides held back from training, drawn uniformly at random
within each slide: train against siblings is then a randomised experiment whose null distribution
is known exactly, slide by slide (METHODS.md 2.4).

Two tiles share pixels when they lie on the same slide (or source image) and their rectangles
`[x, x + width) x [y, y + height)` intersect; where both scales are known, in micrometres.
"""

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, fields
from itertools import combinations

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from scipy.spatial import cKDTree

from privgen.data.tileset import TileSet
from privgen.errors import ConfigError, SplitError

Indices = NDArray[np.intp]

_RESTARTS = 32
_MANY_UNITS = 2000
"""From here on one greedy pass balances the roles to a tile or two; searching on buys nothing."""


@dataclass(frozen=True, eq=False)
class Split:
    """Which tile plays which role: sorted indices into the TileSet, every tile exactly once.

    Attributes:
      train: members.
      siblings: non-members from slides of training patients; may be empty.
      holdout: non-members of patients the training never saw.
      reference: the same, kept for calibration; empty unless asked for.
    """

    train: Indices
    siblings: Indices
    holdout: Indices
    reference: Indices

    def roles(self) -> dict[str, Indices]:
        """Role name to indices, in a fixed order, empty roles included."""
        return {role.name: getattr(self, role.name) for role in fields(self)}


def split_by_patient(
    tiles: TileSet,
    *,
    holdout: float = 0.35,
    reference: float = 0.0,
    siblings: float = 0.1,
    seed: int,
) -> Split:
    """Split so that no patient is on two sides and every role looks like the whole.

    Of many random starts, each improved patient by patient, the assignment wins whose tile counts a
    class come nearest to the shares asked for. A class that two patients have is put on
    both sides, train and holdout, wherever that is possible at all.

    Args:
      tiles: the set; `tiles.groups` are its patients.
      holdout, reference: share of the tiles for each; the rest goes to train and siblings.
      siblings: share of the training patients' tiles to hold back; a slide keeps at least one tile
        in train, and a tile that shares its digest or pixels with another stays in train.
      seed: the same seed gives the same split.

    Raises:
      ConfigError: a share is out of range.
      SplitError: there are fewer patients than roles.

    Source: METHODS.md 2.2, 2.4 and 9.
    """
    if not (holdout > 0 and reference >= 0 and holdout + reference < 1 and 0 <= siblings < 1):
        raise ConfigError(
            "shares must leave tiles for train: 0 < holdout, 0 <= reference, holdout + reference "
            f"< 1, 0 <= siblings < 1; got holdout {holdout}, reference {reference}, siblings "
            f"{siblings}. Give smaller shares."
        )
    rng = np.random.default_rng(seed)
    shares = np.array([1 - holdout - reference, holdout, reference][: 3 if reference else 2])
    tied = _tied_tiles(tiles)
    units = _units(tiles, tied)
    unit_count = int(units.max(initial=-1)) + 1
    if unit_count < len(shares):
        groups = len(set(tiles.groups))
        glued = f" ({groups} share digests or pixels and count once)" if groups > unit_count else ""
        raise SplitError(
            f"train, holdout{' and reference' if reference else ''} need a {tiles.group_unit} "
            f"each, {len(shares)} in all: got {unit_count}{glued}. Add patients, or correct the "
            "manifest's grouping."
        )
    classes, class_of = np.unique(tiles.labels, return_inverse=True)
    counts = np.zeros((unit_count, len(classes)), dtype=np.int64)
    np.add.at(counts, (units, class_of), 1)
    role = _assign(counts, shares, rng)[units]
    held_back = np.zeros(len(tiles), dtype=bool)
    held_back[_draw_siblings(tiles, np.flatnonzero(role == 0), tied, siblings, rng)] = True
    split = Split(
        train=np.flatnonzero((role == 0) & ~held_back),
        siblings=np.flatnonzero(held_back),
        holdout=np.flatnonzero(role == 1),
        reference=np.flatnonzero(role == 2),
    )
    covered = np.sort(np.concatenate(list(split.roles().values())))
    assert np.array_equal(covered, np.arange(len(tiles))), "every tile has one role"
    return split


def tied_tiles(tiles: TileSet) -> NDArray[np.bool_]:
    """Which tiles share their digest or pixels with another tile of the set, shape (n,).

    `split_by_patient` never draws one as a sibling, so an exact test of train against siblings
    leaves them out of train too.
    """
    tied = np.zeros(len(tiles), dtype=bool)
    tied[_tied_pairs(tiles).ravel()] = True
    return tied

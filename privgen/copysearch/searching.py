"""The fingerprint search: does a synthetic tile show the tissue of a train tile?

Candidates come from local-descriptor votes, from the embedding and from whole pictures, because
each misses what another finds: a cropped or turned copy is for the votes, an even blend for the
pictures. Alignment then decides (`alignment.py`), and `audits.proof` says how good an alignment
chance could have made, from real tiles searched the same way among *other* patients.

Source: docs/methods.md#alignment, docs/methods.md#proof-by-alignment.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from audits import Aligned, Alignment, Estimate
from privgen.copysearch.alignment import Alignments, best_alignments
from privgen.copysearch.descriptors import Descriptors, concatenate
from privgen.copysearch.marks import Marks
from privgen.copysearch.poses import BaseMarks
from privgen.copysearch.structure import correlations, structure, whole
from privgen.copysearch.votes import shortlist
from privgen.data.balance import spread
from privgen.phases import phase

VOTED, EMBEDDED, PICTURED = 5, 2, 2
"""Candidates from votes, embedding and pictures."""

NULL_TILES = 400
"""Most real tiles searched for the null."""

_BLOCK = 256

Embeddings = NDArray[np.float32]


@dataclass(frozen=True, kw_only=True)
class Searched:
    """Tiles that were described and embedded, ready to be searched or searched in.

    Attributes:
      descriptors: n tiles.
      embeddings: whitened, shape (n, d); a row of zeros proposes no candidate.
      groups: patient of each tile, shape (n,); None where unknown (synthetic tiles).
      marks: real tiles in which marks of these tiles may recur, where these are searched in; None
        sets no marks aside.
    """

    descriptors: Descriptors
    embeddings: Embeddings
    groups: NDArray[np.str_] | None = None
    marks: Marks | None = None

    def __len__(self) -> int:
        return len(self.descriptors)

    def subset(self, rows: NDArray[np.intp]) -> "Searched":
        """The tiles at these positions."""
        groups = None if self.groups is None else self.groups[rows]
        return Searched(
            descriptors=self.descriptors.subset(rows),
            embeddings=self.embeddings[rows],
            groups=groups,
            marks=self.marks,
        )


def join(parts: Sequence[Searched]) -> Searched:
    """Several sets with known groups as one, in order."""
    groups = [part.groups for part in parts]
    return Searched(
        descriptors=concatenate([part.descriptors for part in parts]),
        embeddings=np.concatenate([part.embeddings for part in parts]),
        groups=np.concatenate([names for names in groups if names is not None]),
    )


class Search(Protocol):
    """A way to search; see `search`."""

    def __call__(
        self, queries: Searched, base: Searched, *, other_groups: bool = False
    ) -> Alignments: ...


def search(
    queries: Searched, base: Searched, *, other_groups: bool = False, approximate: bool = False
) -> Alignments:
    """Best alignment of each query tile with a base tile.

    Args:
      queries: n tiles.
      base: tiles searched in.
      other_groups: leave tiles of the query's own group out, as for the null.
      approximate: let votes look in an inverted file; its measured recall is `Alignments.recall`.
    """
    listed = candidates(queries, base, other_groups=other_groups, approximate=approximate)
    found = best_alignments(
        queries.descriptors, base.descriptors, listed.tiles, marks=base_marks(base)
    )
    return replace(found, recall=listed.recall)


def base_marks(base: Searched) -> BaseMarks | None:
    """What is to be set aside of the tiles searched in; None where nothing is known of marks."""
    if base.marks is None or base.groups is None:
        return None
    return BaseMarks(base.descriptors, base.groups, base.marks)


@dataclass(frozen=True)
class Candidates:
    """Base tiles to align each query tile with.

    Attributes:
      tiles: positions in the base, -1 for none, shape (n, 9): the first 5 by votes, the next 2 by
        embedding, the last 2 by picture.
      recall: of the votes, when they were approximate.
    """

    tiles: NDArray[np.intp]
    recall: Estimate | None


def candidates(
    queries: Searched, base: Searched, *, other_groups: bool = False, approximate: bool = False
) -> Candidates:
    """The shortlist: what `search` aligns. Arguments as there."""
    own = queries.groups if other_groups else None
    theirs = base.groups if other_groups else None
    voted = shortlist(
        queries.descriptors,
        base.descriptors,
        top=VOTED,
        query_groups=own,
        base_groups=theirs,
        approximate=approximate,
    )
    pictures, embedded = structure(base.descriptors.patches), whole(base.embeddings)
    nearest = np.empty((len(queries), EMBEDDED), dtype=np.intp)
    alike = np.empty((len(queries), PICTURED), dtype=np.intp)
    for start in range(0, len(queries), _BLOCK):
        rows = slice(start, start + _BLOCK)
        likeness = whole(queries.embeddings[rows]) @ embedded.T
        likeness[~queries.embeddings[rows].any(axis=1)] = -np.inf  # not embedded at all
        correlation = correlations(queries.descriptors.patches[rows], pictures)
        if own is not None and theirs is not None:
            barred = own[rows, None] == theirs
            likeness[barred] = correlation[barred] = -np.inf
        nearest[rows], alike[rows] = _highest(likeness, EMBEDDED), _highest(correlation, PICTURED)
    return Candidates(np.concatenate([voted.tiles, nearest, alike], axis=1), voted.recall)


def _highest(scores: NDArray[np.float32], top: int) -> NDArray[np.intp]:
    """Columns of the `top` highest scores of each row, -1 where none is left, shape (n, top)."""
    kept = min(top, scores.shape[1])
    best = np.argpartition(-scores, kept - 1, axis=1)[:, :kept]
    allowed = np.isfinite(np.take_along_axis(scores, best, axis=1))
    return np.pad(np.where(allowed, best, -1), ((0, 0), (0, top - kept)), constant_values=-1)


def verify(
    *,
    synthetic: Searched,
    train: Searched,
    real: Searched,
    real_fingerprints: NDArray[np.str_],
    rng: np.random.Generator,
    search: Search = search,
) -> Alignment:
    """Align the synthetic tiles with the train tiles, and real tiles with those of other patients.

    Args:
      synthetic: tiles to be judged.
      train: tiles they may show.
      real: all real tiles with their patients, for the null; a tile takes part only where tiles of
        other patients are at least half as many as train tiles.
      real_fingerprints: of `real`, shape (n,); a tile whose fingerprint another patient has too
        is a known duplicate.
      rng: which real tiles make up the null.
      search: how; by one process unless told otherwise.
    """
    real = replace(real, marks=train.marks)
    assert real.groups is not None
    # Searched among far fewer tiles than a synthetic one is, a null tile would look too innocent.
    _, owner, sizes = np.unique(real.groups, return_inverse=True, return_counts=True)
    others = len(real) - sizes[owner]
    usable = np.flatnonzero(others * 2 >= len(train))
    rows = spread(real.groups, usable, NULL_TILES, rng)
    with phase("synthetic tiles against train tiles"):
        ours = search(synthetic, train)
    with phase("real tiles against those of other patients"):
        null = search(real.subset(rows), real, other_groups=True)
    return Alignment(
        synthetic=as_aligned(ours),
        null=as_aligned(null),
        null_duplicates=_shared(real_fingerprints, real.groups)[rows],
        recall=ours.recall,
    )


def as_aligned(found: Alignments) -> Aligned:
    """What the judge needs of the alignments."""
    return Aligned(
        inliers=found.inliers,
        strength=found.strengths,
        marked=found.marked,
        featureless=found.featureless,
    )


def _shared(fingerprints: NDArray[np.str_], groups: NDArray[np.str_]) -> NDArray[np.bool_]:
    """Tiles whose pixels another group has too."""
    owners: dict[str, set[str]] = {}
    for mark, group in zip(fingerprints, groups, strict=True):
        if mark:
            owners.setdefault(mark, set()).add(group)
    return np.array([len(owners.get(mark, ())) > 1 for mark in fingerprints], dtype=np.bool_)

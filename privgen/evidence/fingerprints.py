"""The fingerprint search: does a synthetic tile show the tissue of a train tile?

Candidates come from the embedding and from local-descriptor votes side by side, because each misses
what the other finds; alignment then decides (`alignment.py`), and `audits.proof` says how good an
alignment chance could have made, from real tiles searched the same way among *other* patients.

Source: METHODS.md 1.3, 1.8.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from audits import Aligned, Alignment
from privgen import console
from privgen.evidence.alignment import Alignments, best_alignments
from privgen.evidence.descriptors import Descriptors, concatenate
from privgen.evidence.votes import shortlist

CANDIDATES = 10
"""Candidates of each source, the embedding and the votes."""

NULL_TILES = 400
"""Most real tiles searched for the null."""

_BLOCK = 256

Embeddings = NDArray[np.float32]


@dataclass(frozen=True, kw_only=True)
class Searched:
    """Tiles that were described and embedded, ready to be searched or searched in.

    Attributes:
      descriptors: n tiles.
      embeddings: whitened, shape (n, d).
      groups: patient of each tile, shape (n,); None where unknown (synthetic tiles).
    """

    descriptors: Descriptors
    embeddings: Embeddings
    groups: NDArray[np.str_] | None = None

    def subset(self, rows: NDArray[np.intp]) -> "Searched":
        """The tiles at these positions."""
        groups = None if self.groups is None else self.groups[rows]
        return Searched(
            descriptors=self.descriptors.subset(rows),
            embeddings=self.embeddings[rows],
            groups=groups,
        )


def join(parts: Sequence[Searched]) -> Searched:
    """Several sets with known groups as one, in order."""
    groups = [part.groups for part in parts]
    return Searched(
        descriptors=concatenate([part.descriptors for part in parts]),
        embeddings=np.concatenate([part.embeddings for part in parts]),
        groups=np.concatenate([names for names in groups if names is not None]),
    )


def search(queries: Searched, base: Searched, *, other_groups: bool = False) -> Alignments:
    """Best alignment of each query tile with a base tile.

    Args:
      queries: n tiles.
      base: tiles searched in.
      other_groups: leave tiles of the query's own group out, as for the null.
    """
    own = queries.groups if other_groups else None
    theirs = base.groups if other_groups else None
    voted = shortlist(
        queries.descriptors,
        base.descriptors,
        top=CANDIDATES,
        query_groups=own,
        base_groups=theirs,
    ).tiles
    embedded = _nearest_tiles(queries.embeddings, base.embeddings, own, theirs)
    return best_alignments(
        queries.descriptors, base.descriptors, np.concatenate([voted, embedded], axis=1)
    )


def _nearest_tiles(
    queries: Embeddings,
    base: Embeddings,
    own: NDArray[np.str_] | None,
    theirs: NDArray[np.str_] | None,
) -> NDArray[np.intp]:
    """Nearest base tiles by embedding, -1 where none is allowed, shape (n, top)."""
    top = min(CANDIDATES, len(base))
    found = np.empty((len(queries), top), dtype=np.intp)
    lengths = np.einsum("ij,ij->i", base, base)
    for start in range(0, len(queries), _BLOCK):
        rows = slice(start, start + _BLOCK)
        squared = lengths - 2 * queries[rows] @ base.T
        if own is not None and theirs is not None:
            squared[own[rows, None] == theirs] = np.inf
        nearest = np.argpartition(squared, top - 1, axis=1)[:, :top]
        allowed = np.isfinite(np.take_along_axis(squared, nearest, axis=1))
        found[rows] = np.where(allowed, nearest, -1)
    return found


def verify(
    *,
    synthetic: Searched,
    train: Searched,
    real: Searched,
    real_fingerprints: NDArray[np.str_],
    rng: np.random.Generator,
) -> Alignment:
    """Align the synthetic tiles with the train tiles, and real tiles with those of other patients.

    Args:
      synthetic: tiles to be judged.
      train: tiles they may show.
      real: all real tiles with their patients, for the null.
      real_fingerprints: of `real`, shape (n,); a tile whose fingerprint another patient has too
        is a known duplicate.
      rng: which real tiles make up the null.
    """
    assert real.groups is not None
    rows = np.sort(_spread(real.groups, rng))
    with console.progress() as bars:
        task = bars.add_task("aligning tiles", total=2)
        ours = search(synthetic, train)
        bars.advance(task, 1)
        null = search(real.subset(rows), real, other_groups=True)
        bars.advance(task, 1)
    return Alignment(
        synthetic=as_aligned(ours),
        null=as_aligned(null),
        null_duplicates=_shared(real_fingerprints, real.groups)[rows],
    )


def as_aligned(found: Alignments) -> Aligned:
    """What the judge needs of the alignments."""
    return Aligned(inliers=found.inliers, agreement=found.agreements, featureless=found.featureless)


def _spread(groups: NDArray[np.str_], rng: np.random.Generator) -> NDArray[np.intp]:
    """Rows of the null: as evenly over the patients as they allow."""
    order = rng.permutation(len(groups))
    turn = np.empty(len(groups), dtype=np.intp)
    seen: dict[str, int] = {}
    for position, row in enumerate(order):
        turn[position] = seen[groups[row]] = seen.get(groups[row], -1) + 1
    return order[np.argsort(turn, kind="stable")][:NULL_TILES]


def _shared(fingerprints: NDArray[np.str_], groups: NDArray[np.str_]) -> NDArray[np.bool_]:
    """Tiles whose pixels another group has too."""
    owners: dict[str, set[str]] = {}
    for mark, group in zip(fingerprints, groups, strict=True):
        if mark:
            owners.setdefault(mark, set()).add(group)
    return np.array([len(owners.get(mark, ())) > 1 for mark in fingerprints], dtype=np.bool_)

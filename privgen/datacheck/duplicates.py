"""Near-duplicates in one set of tiles: which of them show the same tissue?

Every tile is searched among all others, just as the audit searches synthetic tiles among train
tiles: votes, embedding and pictures propose, alignment decides. A pair of tiles shows the same
tissue when enough key points agree on one transform *and* the tissue between them agrees too.
Where half or more of one tile stands in the other they are near-duplicates: turned, re-stained or
cropped versions of one picture. Where less does they are overlapping fields, neighbours on one
slide.

Chance has been looked for and not met: of 15,207 candidate pairs of GlaS the unrelated ones reach 5
inliers (6 at 28 px), and the one that passes is a true overlap of two images; so are the weakest of
the 100 pairs of LC25000 that cross its source images.

Tiles tied by a chain of such pairs are then aligned with one another as well, so that a pair of a
large family is listed by its own inliers.

Sources: docs/methods.md#alignment, docs/methods.md#proof-by-alignment.
"""

from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from audits import Estimate
from privgen.copysearch.alignment import Alignments, align_pairs
from privgen.copysearch.descriptors import Descriptors, concatenate, describe
from privgen.copysearch.searching import Searched, candidates
from privgen.data.blocks import in_blocks, native_side
from privgen.data.tileset import TileSet
from privgen.encoders.loading import Encoder
from privgen.encoders.orbit import Whitening, embed_orbit
from privgen.phases import phase

SAME_PICTURE = 0.5
"""Share of the smaller field that the other tile shows too, from which a pair is a near-duplicate.

Of the pairs of one source image of LC25000, 19 in 20 share .87 or more; anything from .3 to .8
recovers its groups with recall and precision above .975.
"""

LARGEST_FAMILY = 50
"""Most tiles tied to one another of which every pair is aligned; in larger families only the pairs
that the search proposed are, so that many equal tiles cannot cost their number squared."""

_PAIRS_A_TURN = 256

Ints = NDArray[np.intp]
Floats = NDArray[np.float64]


MIN_INLIERS, MIN_AGREEMENT = 10, 0.3
"""Key points, and correlation of the overlap, from which two tiles show the same tissue."""


@dataclass(frozen=True, kw_only=True)
class Duplicates:
    """Pairs of tiles that show the same tissue; row j speaks of pair j.

    Attributes:
      pairs: positions of the two tiles, the smaller first, in order, shape (m, 2).
      inliers: distinct key points that agree on one transform, shape (m,).
      agreements: correlation of the local structure where they overlap, shape (m,).
      shared: share of the smaller of the two fields that stands in the other, 0 to 1, shape (m,).
      near: near-duplicates (`SAME_PICTURE`); the others are overlapping fields, shape (m,).
      mirrored, rotations, scales: how the first lies on the second, as `Alignments`, shape (m,).
      pictures: number of the picture each of the n tiles shows, from 0, shape (n,): tiles joined by
        a chain of near-duplicates; overlapping fields join nothing.
      featureless: tiles without key points, which cannot be compared, shape (n,).
      recall: of the search's first votes, where it was approximate.
    """

    pairs: Ints
    inliers: Ints
    agreements: Floats
    shared: Floats
    near: NDArray[np.bool_]
    mirrored: NDArray[np.bool_]
    rotations: Floats
    scales: Floats
    pictures: Ints
    featureless: NDArray[np.bool_]
    recall: Estimate | None = None

    def __len__(self) -> int:
        return len(self.pairs)


def look_at(tiles: TileSet, *, encoder: Encoder) -> Searched:
    """Describe and embed a set, ready to be searched among itself.

    Tiles are read in blocks: memory holds their key points (at most 81 kB a tile) and embeddings,
    never all pixels.

    Args:
      tiles: at least 2 that differ; tiles of several sizes are brought to the smallest.
      encoder: embeds every tile.

    Raises:
      InputError: fewer tiles, or all equal.
      TileError: a file changed since the set was opened.
    """
    mean = np.empty((len(tiles), encoder.width), dtype=np.float32)
    parts: list[Descriptors] = []

    def keep(rows: slice, pixels: NDArray[np.uint8]) -> None:
        mean[rows] = embed_orbit(encoder, pixels).mean
        parts.append(describe(pixels))

    in_blocks(tiles, native_side(tiles), "looking at tiles", keep)
    return Searched(
        descriptors=concatenate(parts),
        embeddings=Whitening.fit(mean).apply(mean),
        groups=np.arange(len(tiles)).astype(np.str_),
    )


def near_duplicates(searched: Searched, *, approximate: bool = False) -> Duplicates:
    """Find the pairs of tiles that show the same tissue. Nobody's groups are looked at.

    Args:
      searched: from `look_at`; its groups are the tiles' own numbers, so that a tile is searched
        among the others.
      approximate: let votes look in an inverted file, for tens of thousands of tiles; its measured
        recall is `Duplicates.recall`.

    Source: docs/methods.md#alignment, docs/methods.md#proof-by-alignment.
    """
    n = len(searched)
    listed = candidates(searched, searched, other_groups=True, approximate=approximate)
    query = np.repeat(np.arange(n), listed.tiles.shape[1])
    other = listed.tiles.ravel()
    proposed = np.unique(np.sort(np.stack([query, other], axis=1)[other >= 0], axis=1), axis=0)
    found = align_all(searched, proposed, title="aligning candidates")
    implied = pairs_within(_joined(proposed[_proven(found)], n), but=proposed)
    closed = _concatenated([found, align_all(searched, implied, title="aligning families")])
    pairs = np.concatenate([proposed, implied])
    rows = np.flatnonzero(_proven(closed))
    rows = rows[np.lexsort((pairs[rows, 1], pairs[rows, 0]))]
    shared = shared_field(closed)[rows]
    near = shared >= SAME_PICTURE
    return Duplicates(
        pairs=pairs[rows],
        inliers=closed.inliers[rows],
        agreements=closed.agreements[rows],
        shared=shared,
        near=near,
        mirrored=closed.mirrored[rows],
        rotations=closed.rotations[rows],
        scales=closed.scales[rows],
        pictures=_joined(pairs[rows][near], n),
        featureless=searched.descriptors.featureless,
        recall=listed.recall,
    )


def align_all(searched: Searched, pairs: Ints, *, title: str) -> Alignments:
    """Align pairs of tiles of one set, shape (m, 2), with a progress bar; row j is pair j."""
    parts = []
    with phase(title, total=len(pairs)) as aligning:
        for start in range(0, max(len(pairs), 1), _PAIRS_A_TURN):
            some = pairs[start : start + _PAIRS_A_TURN]
            parts.append(align_pairs(searched.descriptors, searched.descriptors, some))
            aligning.advance(len(some))
    return _concatenated(parts)


def shared_field(found: Alignments) -> Floats:
    """Share of the smaller of two fields that stands in the other, for tiles of one side.

    Args:
      found: m pairs.

    Returns:
      0 to 1, shape (m,); 0 without an alignment.
    """
    aligned = found.inliers > 0
    area = np.ones(len(found))
    area[aligned] = np.abs(np.linalg.det(found.transforms[aligned, :, :2]))
    return np.minimum(1.0, found.overlaps * area / np.minimum(1.0, area))


def _proven(found: Alignments) -> NDArray[np.bool_]:
    return (found.inliers >= MIN_INLIERS) & (found.agreements > MIN_AGREEMENT)


def _joined(pairs: Ints, n: int) -> Ints:
    """Number of the connected component of each of n tiles, shape (n,)."""
    graph = coo_array((np.ones(len(pairs)), (pairs[:, 0], pairs[:, 1])), shape=(n, n))
    numbers: Ints = connected_components(graph, directed=False)[1].astype(np.intp)
    return numbers


def pairs_within(family: Ints, *, but: Ints) -> Ints:
    """Pairs of tiles of one family, where it has at most `LARGEST_FAMILY` tiles.

    Args:
      family: number of each tile's family, from 0, shape (n,).
      but: pairs to leave out, the smaller position first, shape (k, 2).

    Returns:
      Positions, the smaller first, shape (m, 2).
    """
    order = np.argsort(family, kind="stable")
    families = np.split(order, np.cumsum(np.bincount(family))[:-1])
    every = [
        rows[np.stack(np.triu_indices(len(rows), 1), axis=1)]
        for rows in families
        if len(rows) <= LARGEST_FAMILY
    ]
    pairs = np.concatenate([np.empty((0, 2), dtype=np.intp), *every])
    key = np.array([len(family), 1])
    return pairs[~np.isin(pairs @ key, but @ key)]


def _concatenated(parts: list[Alignments]) -> Alignments:
    names = [each.name for each in fields(Alignments) if each.name != "recall"]
    columns: dict[str, Any] = {
        name: np.concatenate([getattr(part, name) for part in parts]) for name in names
    }
    return Alignments(**columns)

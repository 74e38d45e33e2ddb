"""Votes: whom the key points of a tile point to, so that few pairs need be aligned.

Some key points from every part of a query tile look up the base key points most like them and vote
for their tiles. A vote weighs as much as the match beats the background: the distance of the
farthest of the k matches less its own, squared. Texture that stands everywhere votes for nobody,
since its matches are all equally near. A key point has one vote per tile, and a tile counts only
the votes that agree on a pose: mirrored or not, a turn within 60 degrees, a scale within an octave.

The search compares 32 low frequencies of each vector, folded so that a key point and its mirror
image are one and the same; the k matches are then measured in full, plain and mirrored. The basis
is fixed and nothing is fitted, so no role can bend it. All of it is whole numbers with exact sums,
and matches tied with the farthest are left out: neither threads nor the order of tiles changes a
vote.

Memory: the search holds 132 bytes per key point of the base, as much as its vectors take.

Sources: McCann & Lowe 2012 (local naive Bayes nearest neighbours, the weights); Jegou, Douze &
Schmid 2008 (weak geometric consistency); docs/methods.md#alignment.
"""

import hashlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any

import faiss
import numpy as np
from numpy.typing import NDArray
from scipy import fft

from audits.intervals import clopper_pearson
from audits.results import Estimate
from privgen.compute.cores import cores
from privgen.copysearch.descriptors import MIRROR, Descriptors, one_thread_each
from privgen.copysearch.flat import FlatIndex
from privgen.errors import InputError
from privgen.phases import phase

Ints = NDArray[np.intp]
Floats = NDArray[np.float64]

VOTERS = 96
"""Key points of a query tile that vote: the strongest of each part of it, then the strongest left.

Only even blends need many: on GlaS at 64 px their source is among the first 10 in 78 % with 64
voters, 82 % with 96 and 88 % with 256; the time grows in proportion.
"""

PARTS = 4
"""Parts a side from each of which as many key points vote, so that a small piece is heard too.

A train tile pasted in at half its side, on GlaS at 64 px, is on the shortlist in 100 % of cases (79
% when the strongest of the whole tile vote), a piece of 1/16 of the area in 62 % (42 %).
"""

CERTIFIED = 32
"""Query tiles that are searched exactly as well, to measure what an approximate search misses."""

NEIGHBORS = 32
"""k: matches looked up for each voter."""

_DIMS = 32
_TURNS = 12
_SIZES = 16
_POSES = 2 * _TURNS * _SIZES
_SLACKS = (8, 96, 480, 2016)
_CROWD = 0.05
_ADDED = 2**18
_BLOCK = 16
_PROBES = 16
_TRAINING = 64
_POINTS_A_CELL = 39  # FAISS warns below it


@dataclass(frozen=True)
class Shortlist:
    """Base tiles worth aligning with each query tile, most votes first.

    Attributes:
      tiles: positions in the base, -1 where there are no more candidates, shape (n, top).
      votes: shape (n, top), 0 where there is no candidate.
      recall: how often the approximate list held the first candidate of the exact one, over a
        sample of query tiles; None when the search was exact.
    """

    tiles: NDArray[np.intp]
    votes: NDArray[np.float64]
    recall: Estimate | None = None


def shortlist(
    queries: Descriptors,
    base: Descriptors,
    *,
    top: int,
    query_groups: NDArray[np.str_] | None = None,
    base_groups: NDArray[np.str_] | None = None,
    approximate: bool = False,
    certified: int = CERTIFIED,
) -> Shortlist:
    """The base tiles that most key points of each query tile vote for.

    Exact unless asked otherwise: every voter is compared with every key point of the base, so the
    cost grows with queries times base. Blocks of query tiles are searched by a few threads.

    Args:
      queries: n tiles.
      base: the tiles searched.
      top: candidates a query tile.
      query_groups, base_groups: groups of the tiles, shapes (n,) and (len(base),); tiles of the
        query's own group are no candidates, as if they were not there. Both or none. Patients for a
        null of cross-patient pairs, row numbers to leave out the tile itself.
      approximate: search an inverted file instead (FAISS, 16 probes) and measure its recall on a
        sample. For bases of tens of thousands of tiles.
      certified: query tiles in that sample; each costs an exact search.

    Raises:
      InputError: `top` below 1, or groups that do not fit.

    Source: docs/methods.md#alignment.
    """
    if top < 1:
        raise InputError(f"a shortlist needs at least 1 candidate per tile: got top={top}.")
    if (query_groups is None) != (base_groups is None) or (
        query_groups is not None
        and base_groups is not None
        and (len(query_groups), len(base_groups)) != (len(queries), len(base))
    ):
        raise InputError(
            "groups must be given for queries and base alike, one per tile: got "
            f"{'none' if query_groups is None else len(query_groups)} for {len(queries)} query "
            f"tiles and {'none' if base_groups is None else len(base_groups)} for {len(base)}."
        )
    distinct = _distinct(base, base_groups)
    if len(distinct) < len(base):
        # Equal tiles would take each other's places among the matches, and then nobody gets a vote.
        alone = shortlist(
            queries,
            base.subset(distinct),
            top=top,
            query_groups=query_groups,
            base_groups=None if base_groups is None else base_groups[distinct],
            approximate=approximate,
            certified=certified,
        )
        return replace(alone, tiles=np.where(alone.tiles < 0, -1, distinct[alone.tiles]))
    own, barred = _group_numbers(query_groups, base_groups, len(queries), len(base))
    tiles = np.full((len(queries), top), -1, dtype=np.intp)
    votes = np.zeros((len(queries), top))
    crowded = _kin(own, barred) > _CROWD * len(base)
    waiting, apart = np.flatnonzero(~crowded), np.flatnonzero(crowded)
    with one_thread_each(), phase("looking key points up", total=len(queries)) as looking:
        index = _Index(base, approximate=approximate)
        cells = index.cells
        # Kin take the places of others among the matches: look deeper until they hide nobody.
        for slack in _SLACKS if query_groups is not None else (0,):
            certain = np.ones(len(waiting), dtype=np.bool_)
            for rows, found, sure in _voted(queries, waiting, index, own, barred, slack=slack):
                tiles[waiting[rows]], votes[waiting[rows]] = _ranked(found, top)
                certain[rows] = sure
                looking.advance(int(sure.sum()))
            waiting = waiting[~certain]
        del index
        apart = np.concatenate([apart, waiting])
        for group in np.unique(own[apart]):
            left, alike = np.flatnonzero(barred != group), apart[own[apart] == group]
            index = _Index(base.subset(left), approximate=approximate, cells=cells)
            nobody = np.full(len(left), -2)
            for rows, found, _ in _voted(queries, alike, index, own, nobody, slack=0):
                places, votes[alike[rows]] = _ranked(found, top)
                tiles[alike[rows]] = np.where(places < 0, -1, left[places]) if len(left) else -1
                looking.advance(len(places))
    recall = None
    if approximate and certified:
        sample = np.arange(0, len(queries), -(-len(queries) // certified) or 1)
        exact = shortlist(
            queries.subset(sample),
            base,
            top=1,
            query_groups=None if query_groups is None else query_groups[sample],
            base_groups=base_groups,
        )
        recall = _recall(exact.tiles, tiles[sample])
    return Shortlist(tiles, votes, recall)


def _distinct(base: Descriptors, groups: NDArray[np.str_] | None) -> Ints:
    """The first of the base tiles with equal key points in one group; the others add nothing."""
    seen: dict[tuple[str, bytes], int] = {}
    for tile in range(len(base)):
        rows = base.rows(tile)
        digest = hashlib.sha256(base.vectors[rows].tobytes() + base.points[rows].tobytes()).digest()
        seen.setdefault(("" if groups is None else str(groups[tile]), digest), tile)
    return np.array(list(seen.values()), dtype=np.intp)


class _Index:
    """The key points of a base by their low frequencies."""

    def __init__(
        self, base: Descriptors, *, approximate: bool, cells: faiss.Index | None = None
    ) -> None:
        self.base = base
        self.tiles = len(base)
        self.size = len(base.vectors)
        self.owner = np.repeat(np.arange(len(base)), base.counts)
        self.cells = cells
        if approximate and self.size:
            self.cells = cells or self._trained()
            self._found: Any = faiss.IndexIVFFlat(self.cells, _DIMS, self.cells.ntotal)
            self._found.nprobe = _PROBES
            for start in range(0, self.size, _ADDED):
                self._found.add(_folded(base.vectors[start : start + _ADDED]))
        else:
            self._found = FlatIndex(_folded(base.vectors))

    def search(self, voters: NDArray[np.float32], k: int) -> tuple[NDArray[Any], Ints]:
        """Squared distances and rows of the `k` nearest key points, shapes (v, k), nearest first.

        An inverted file may find fewer: their rows are -1.
        """
        squared, rows = self._found.search(voters, k)
        return squared, rows

    def _trained(self) -> faiss.Index:
        """Centres of an inverted file, from a sample of the key points."""
        cells = max(1, min(int(np.sqrt(self.size)), self.size // _POINTS_A_CELL))
        quantizer = faiss.IndexFlatL2(_DIMS)
        index = faiss.IndexIVFFlat(quantizer, _DIMS, cells)
        index.train(_folded(self.base.vectors[:: max(1, self.size // (_TRAINING * cells))]))
        return quantizer


def _voted(
    queries: Descriptors, tiles: Ints, index: _Index, own: Ints, barred: Ints, *, slack: int
) -> Iterator[tuple[slice, Floats, NDArray[np.bool_]]]:
    """`_votes` of many tiles, block by block: positions in `tiles`, votes, certain."""
    blocks = [slice(start, start + _BLOCK) for start in range(0, len(tiles), _BLOCK)]

    def of(rows: slice) -> tuple[slice, Floats, NDArray[np.bool_]]:
        return rows, *_votes(queries, tiles[rows], index, own, barred, slack=slack)

    # FAISS keeps a number of threads for each thread that calls it.
    with ThreadPoolExecutor(cores(), initializer=faiss.omp_set_num_threads, initargs=(1,)) as pool:
        yield from pool.map(of, blocks)


def _votes(
    queries: Descriptors,
    tiles: Ints,
    index: _Index,
    own: Ints,
    barred: Ints,
    *,
    slack: int,
) -> tuple[Floats, NDArray[np.bool_]]:
    """Votes of some query tiles for every base tile.

    Args:
      queries, tiles: which query tiles vote, b of them.
      index: the base.
      own, barred: group of each query and each base tile; equal groups get no votes.
      slack: matches looked up beyond k, since some may be barred.

    Returns:
      Votes, shape (b, index.tiles); and whether they are what they would be without the barred
      tiles in the index, shape (b,): barred tiles may have taken the places of others.
    """
    chosen = [_voters(queries, int(tile)) for tile in tiles]
    counts = np.array([len(each) for each in chosen], dtype=np.intp)
    certain = np.ones(len(tiles), dtype=np.bool_)
    if index.size == 0 or counts.sum() == 0:
        return np.zeros((len(tiles), index.tiles)), certain
    voters = np.concatenate(chosen)
    voter = np.repeat(np.arange(len(tiles)), counts)
    wanted = NEIGHBORS + slack
    squared, hits = index.search(_folded(queries.vectors[voters]), min(wanted, index.size))
    allowed = hits >= 0
    unwanted = allowed & (barred[index.owner[hits]] == own[tiles][voter][:, None])
    allowed &= ~unwanted
    allowed &= np.cumsum(allowed, axis=1) <= NEIGHBORS
    certain[voter[unwanted.sum(axis=1) > slack]] = False
    # Which of several equally far matches came last is chance: none of them counts.
    allowed &= squared < np.where(allowed, squared, -1).max(axis=1, keepdims=True)
    line, column = np.nonzero(allowed)
    place = hits[line, column]
    distance, mirrored = _distances(queries.vectors[voters[line]], index.base.vectors[place])
    background = np.zeros(len(voters))
    np.maximum.at(background, line, distance)
    pair = line * index.tiles + index.owner[place]
    order = np.lexsort((place, distance, pair))
    order = order[np.flatnonzero(np.diff(pair[order], prepend=-1))]  # the nearest of each pair
    line, place, mirrored = line[order], place[order], mirrored[order]
    weight = (background[line] - distance[order]) ** 2
    poses = _poses(queries.points[voters[line]], index.base.points[place], mirrored)
    ballot = voter[line] * index.tiles + index.owner[place]
    distinct, where = np.unique(ballot[:, None] * _POSES + poses, return_inverse=True)
    sums = np.bincount(where.ravel(), weights=np.repeat(weight, poses.shape[1]))
    votes = np.zeros(len(tiles) * index.tiles)
    np.maximum.at(votes, distinct // _POSES, sums)
    return votes.reshape(len(tiles), index.tiles), certain


def _voters(queries: Descriptors, tile: int) -> Ints:
    """Rows of the key points of a tile that vote, at most `VOTERS`, strongest first."""
    rows = queries.rows(tile)
    count = rows.stop - rows.start
    if count <= VOTERS:
        return np.arange(rows.start, rows.stop)
    cell = (queries.points[rows, :2] + 0.5) * (PARTS / queries.side)
    cell = np.clip(np.floor(cell), 0, PARTS - 1).astype(np.intp)
    part = cell[:, 0] * PARTS + cell[:, 1]
    order = np.argsort(part, kind="stable")
    first = np.searchsorted(part[order], np.arange(PARTS**2))
    rank = np.empty(count, dtype=np.intp)
    rank[order] = np.arange(count) - first[part[order]]
    invited = np.sort(np.argsort(rank >= VOTERS // PARTS**2, kind="stable")[:VOTERS])
    chosen: Ints = invited + rows.start
    return chosen


def _distances(
    ours: NDArray[np.uint8], theirs: NDArray[np.uint8]
) -> tuple[Floats, NDArray[np.bool_]]:
    """Distance of each pair of vectors, plain or mirrored, whichever is less; and which."""
    a, b = ours.astype(np.float32), theirs.astype(np.float32)
    lengths = np.einsum("ij,ij->i", a, a) + np.einsum("ij,ij->i", b, b)
    plain = np.einsum("ij,ij->i", a, b)
    turned = np.einsum("ij,ij->i", a[:, MIRROR], b)
    squared = lengths.astype(np.float64) - 2 * np.maximum(plain, turned)
    return np.sqrt(np.maximum(squared, 0)), turned > plain


def _poses(
    ours: NDArray[np.float32], theirs: NDArray[np.float32], mirrored: NDArray[np.bool_]
) -> Ints:
    """The four overlapping cells of (mirrored, turn, scale) each match falls into, shape (m, 4)."""
    angle = np.where(mirrored, np.pi - ours[:, 3], ours[:, 3])
    turn = np.floor((theirs[:, 3] - angle) * (_TURNS / (2 * np.pi))).astype(np.intp)
    octave = np.log2(theirs[:, 2] / ours[:, 2])
    size = np.floor(2 * octave).astype(np.intp) + _SIZES // 2
    cells = [
        (mirrored * _TURNS + (turn + next_turn) % _TURNS) * _SIZES
        + np.clip(size + next_size, 0, _SIZES - 1)
        for next_turn in (0, 1)
        for next_size in (0, 1)
    ]
    return np.stack(cells, axis=1)


def _ranked(votes: NDArray[np.float64], top: int) -> tuple[NDArray[np.intp], NDArray[np.float64]]:
    """The `top` base tiles with most votes, earlier ones first among equals; -1 without votes."""
    order = np.argsort(-votes, axis=1, kind="stable")[:, :top]
    most = np.take_along_axis(votes, order, axis=1)
    missing = ((0, 0), (0, top - order.shape[1]))
    return (
        np.pad(np.where(most > 0, order, -1), missing, constant_values=-1),
        np.pad(most, missing),
    )


def _recall(exact: NDArray[np.intp], approximate: NDArray[np.intp]) -> Estimate | None:
    """Share of first exact candidates, shape (n, 1), among the approximate ones."""
    some = exact[:, 0] >= 0
    n = int(some.sum())
    if n == 0:
        return None
    hits = int((approximate[some] == exact[some]).any(axis=1).sum())
    low, high = clopper_pearson(hits, n)
    return Estimate(value=hits / n, low=low, high=high, n=n, unit="tile")


def _basis() -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """The 32 lowest of the 128 frequencies of 4 x 4 cells with 8 directions, in steps of 1/1024.

    Returns:
      Shape (128, 32), and which of them change sign in the mirror, shape (32,).
    """
    cells = fft.dct(np.eye(4), norm="ortho", axis=0)
    number = np.array([0, 1, 1, 2, 2, 3, 3, 4])
    odd = np.array([0, 0, 1, 0, 1, 0, 1, 0], dtype=np.bool_)
    turns = 2 * np.pi * np.outer(number, np.arange(8)) / 8
    waves = np.where(odd[:, None], np.sin(turns), np.cos(turns))
    waves /= np.linalg.norm(waves, axis=1, keepdims=True)
    every = np.einsum("ia,jb,kc->ijkabc", cells, cells, waves).reshape(128, 128)
    i, j, k = (axis.ravel() for axis in np.meshgrid(*map(np.arange, (4, 4, 8)), indexing="ij"))
    lowest = np.argsort(i**2 + j**2 + number[k] ** 2, kind="stable")[:_DIMS]
    return np.rint(1024 * every[lowest].T), (i % 2 == 1)[lowest] ^ odd[k[lowest]]


_BASIS, _ODD = _basis()


def _folded(vectors: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Low frequencies that are the same for the mirror image: whole numbers, shape (m, 32).

    Sums of whole numbers are exact in float64, so they are the same in any order.
    """
    low = np.empty((len(vectors), _DIMS), dtype=np.float32)
    for start in range(0, len(vectors), 2**16):
        rows = slice(start, start + 2**16)
        low[rows] = np.rint(vectors[rows].astype(np.float64) @ _BASIS / 1024)
    low[:, _ODD] = np.abs(low[:, _ODD])
    return low


def _group_numbers(
    query: NDArray[np.str_] | None, base: NDArray[np.str_] | None, queries: int, tiles: int
) -> tuple[Ints, Ints]:
    """Groups as numbers, the same for the same name; without groups, never the same."""
    if query is None or base is None:
        return np.full(queries, -1), np.full(tiles, -2)
    _, numbers = np.unique(np.concatenate([query, base]), return_inverse=True)
    return numbers[: len(query)], numbers[len(query) :]


def _kin(own: Ints, barred: Ints) -> Ints:
    """Base tiles of each query's own group, shape (n,)."""
    groups, place = np.unique(own, return_inverse=True)
    sizes = np.array([np.count_nonzero(barred == group) for group in groups], dtype=np.intp)
    return sizes[place]

"""Membership attacks: how much a tile looks as if the generator had seen it.

`full_black_box`, `calibrated`, `density_ratio` and `monte_carlo` need no more than embeddings;
`OutsideScores` brings in, by tile id, the scores of attacks that need the generator, its
discriminator or retrained generators (`OUTSIDE_ATTACKS`); `shadow` turns the scores under retrained
generators into one.

Conventions: higher score = more likely a member; scores float64, shape (n,), each tile's own
whatever tiles stand beside it (but for the default radius of `monte_carlo`); distances Euclidean.
Candidates must not stand in the reference set. Ranks are what counts: scales differ by attack.
Source: docs/methods.md#membership-attacks.
"""

import difflib
import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import linalg, special

from audits.errors import AuditInputError
from audits.inputs import Floats, Strings
from audits.neighbors import nearest

OUTSIDE_ATTACKS = ("discriminator", "partial_black_box", "shadow", "white_box")
"""Attacks whose scores are made elsewhere, because they need a generator to run."""

POOLED_BELOW = 64
"""With fewer shadow generators per tile's own variance is too uncertain: tiles share one."""

_SINGLE = float(np.finfo(np.float32).eps)
_DOUBLE = float(np.finfo(np.float64).eps)
_FLOOR = 8 * _SINGLE
_FARTHEST = 1e30
_TIE = 1e-12
_ROWS = 4096
_QUERIES = 512
_CELLS = 2**22


def full_black_box(tiles: NDArray[np.float32], synthetic: NDArray[np.float32]) -> Floats:
    """`-min_s d(x, s)`, kept linear because an exponential underflows.

    Args:
      tiles: embeddings of the candidates, shape (n, d).
      synthetic: embeddings, shape (s, d).

    Returns:
      Scores, shape (n,), embedding units; higher = more likely a member.

    Raises:
      AuditInputError: no rows, different widths, or a value that is not finite.

    Source: Chen et al. 2020, arXiv:1909.03935; docs/methods.md#membership-attacks.
    """
    _check({"tiles": tiles, "synthetic": synthetic})
    return -nearest(tiles, synthetic, k=1).distances[:, 0]


def calibrated(
    tiles: NDArray[np.float32], synthetic: NDArray[np.float32], reference: NDArray[np.float32]
) -> Floats:
    """`-(L_victim - L_reference)`: how much nearer the synthetic tiles come than a stranger's do.

    L is the distance to the nearest tile. A tile in a crowded region lies near to anything, member
    or not; the difference takes that away.

    Args:
      tiles: embeddings of the candidates, shape (n, d).
      synthetic: tiles of the generator under audit, shape (s, d).
      reference: tiles of a reference generator, or real tiles disjoint from the candidates, shape
        (r, d). Give as many as `synthetic`: fewer lie farther away, most so in thin regions, and
        the density shows again (members crowded, no leak: AUROC .80 uncalibrated, .50 with as
        many, .41 with half, .69 with five times as many).

    Returns:
      Scores, shape (n,), embedding units; higher = more likely a member.

    Raises:
      AuditInputError: no rows, different widths, or a value that is not finite.

    Source: Chen et al. 2020, arXiv:1909.03935; docs/methods.md#membership-attacks.
    """
    _check({"tiles": tiles, "synthetic": synthetic, "reference": reference})
    return full_black_box(tiles, synthetic) - full_black_box(tiles, reference)


def density_ratio(
    tiles: NDArray[np.float32],
    synthetic: NDArray[np.float32],
    reference: NDArray[np.float32],
    *,
    k: int = 5,
    dims: int = 32,
) -> Floats:
    """DOMIAS: log of the synthetic over the reference density, both by k nearest neighbours.

    `D (log r_k^R - log r_k^S) + log(|R| / |S|)` in the D <= `dims` leading principal components of
    R and S with equal weight, whatever their sizes; never of the candidates. Radii below 8 float32
    units of the typical length are rounding and count as that much: among duplicates of synthetic
    tiles the score stays finite, and highest, and the reference still orders them.

    Args:
      tiles: embeddings of the candidates, shape (n, d).
      synthetic: embeddings, shape (s, d), s >= k.
      reference: real tiles disjoint from the candidates, shape (r, d), r >= k.
      k: neighbours.
      dims: most components kept; fewer where the data span fewer.

    Returns:
      Scores, shape (n,), log density ratio; higher = more likely a member.

    Raises:
      AuditInputError: `k` or `dims` below 1, fewer than `k` tiles, reference and synthetic all one
        point, no rows, different widths, or a value that is not finite.

    Source: van Breugel et al. 2023, arXiv:2302.12580; docs/methods.md#membership-attacks.
    """
    _check({"tiles": tiles, "synthetic": synthetic, "reference": reference})
    if k < 1 or dims < 1:
        raise AuditInputError(f"k and dims must be at least 1: got k={k}, dims={dims}.")
    centre, axes = _components(synthetic, reference, dims)
    queries = _project(tiles, centre, axes)
    log_radius = [
        np.log(
            np.maximum(nearest(queries, _project(rows, centre, axes), k=k).distances[:, -1], _FLOOR)
        )
        for rows in (reference, synthetic)
    ]
    width = axes.shape[1]
    sizes = math.log(len(reference) / len(synthetic))
    scores: Floats = width * (log_radius[0] - log_radius[1]) + sizes
    return scores


def median_epsilon(tiles: NDArray[np.float32], synthetic: NDArray[np.float32]) -> float:
    """Median distance of the candidates to their nearest synthetic tile, embedding units.

    Args:
      tiles: candidates of all groups together, members and others alike, shape (n, d).
      synthetic: embeddings, shape (s, d).

    Raises:
      AuditInputError: no rows, different widths, or a value that is not finite.

    Source: Hilprecht et al. 2019, median heuristic; docs/methods.md#membership-attacks.
    """
    return float(np.median(-full_black_box(tiles, synthetic)))


def monte_carlo(
    tiles: NDArray[np.float32], synthetic: NDArray[np.float32], *, epsilon: float | None = None
) -> Floats:
    """Share of synthetic tiles within `epsilon` of each candidate, counted exactly.

    Distances that equal `epsilon` to float64 rounding (1e-12) are within. Memory is bounded
    whatever the sizes; the result does not depend on the blocks.

    Args:
      tiles: embeddings of the candidates, shape (n, d).
      synthetic: embeddings, shape (s, d).
      epsilon: radius, embedding units; None for `median_epsilon` of these very tiles, which is
        right only where they are all groups together.

    Returns:
      Scores in [0, 1], shape (n,); higher = more likely a member.

    Raises:
      AuditInputError: `epsilon` negative or not finite, no rows, different widths, or a value that
        is not finite.

    Source: Hilprecht, Haerterich & Bernau 2019, PoPETs 2019(4); docs/methods.md#membership-attacks.
    """
    _check({"tiles": tiles, "synthetic": synthetic})
    if epsilon is None:
        epsilon = median_epsilon(tiles, synthetic)
    if not (math.isfinite(epsilon) and epsilon >= 0):
        raise AuditInputError(f"epsilon must be a distance, 0 or more: got {epsilon}.")
    centre = synthetic.mean(axis=0, dtype=np.float64)
    counts = np.zeros(len(tiles), dtype=np.int64)
    for start in range(0, len(synthetic), _ROWS):
        base = synthetic[start : start + _ROWS]
        for first in range(0, len(tiles), _QUERIES):
            block = tiles[first : first + _QUERIES]
            counts[first : first + _QUERIES] += _within(block, base, centre, epsilon * (1 + _TIE))
    return counts / len(synthetic)


def shadow(observed: Floats, out_scores: Floats) -> Floats:
    """`Phi((phi - mu_out) / sd_out)`: how unusual a tile's score is for a tile left out.

    Phi rounds to 1 from 8.3 standard deviations on; beyond, tiles tie.

    Args:
      observed: score phi of each tile under the generator under audit, shape (n,).
      out_scores: the same under generators retrained without the tile's patient, shape
        (n, shadows), shadows >= 2. Below 64 shadows the variance is the mean over tiles.

    Returns:
      Scores in [0, 1], shape (n,); higher = more likely a member.

    Raises:
      AuditInputError: wrong shapes, fewer than 2 shadows, a value that is not finite, or scores
        that do not vary over the shadows.

    Source: Carlini et al. 2022, arXiv:2112.03570 (LiRA, offline);
      docs/methods.md#membership-attacks.
    """
    shape = np.shape(out_scores)
    if np.ndim(observed) != 1 or len(shape) != 2 or shape[0] != len(observed) or shape[0] == 0:
        raise AuditInputError(
            "shadow scores must have shapes (tiles,) and (tiles, shadows), the same tiles in both: "
            f"got {np.shape(observed)} and {shape}."
        )
    if shape[1] < 2:
        raise AuditInputError(f"shadow needs 2 retrained generators per tile: got {shape[1]}.")
    if not (np.isfinite(observed).all() and np.isfinite(out_scores).all()):
        raise AuditInputError(
            "shadow scores must be finite: got NaN or infinity. Give every tile the same number of "
            "generators that never saw its patient."
        )
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
        mean = np.mean(out_scores, axis=1, dtype=np.float64)
        variance = np.var(out_scores, axis=1, ddof=1, dtype=np.float64)
        variance[np.ptp(out_scores, axis=1) == 0] = 0.0  # a mean's rounding is no variance
        if shape[1] < POOLED_BELOW:
            variance[:] = variance.mean()
        scores: Floats = special.ndtr((observed - mean) / np.sqrt(variance))
    bad = int((~(np.isfinite(variance) & (variance > 0))).sum())
    if bad:
        raise AuditInputError(
            f"shadow scores must vary over the retrained generators, finitely: {bad} of {shape[0]} "
            f"tiles do not. Give scores before any squashing, or fewer than {POOLED_BELOW} "
            "generators, whose variance is pooled over tiles."
        )
    return scores


@dataclass(frozen=True, kw_only=True, eq=False)
class OutsideScores:
    """Scores of an attack that ran elsewhere, joined to tiles by id, never by position.

    Attributes:
      name: one of `OUTSIDE_ATTACKS`.
      ids: id of each scored tile, shape (n,), no two alike.
      scores: finite, shape (n,); higher = more likely a member.

    Raises:
      AuditInputError: an unknown name, unequal lengths, no scores, an id given twice, or a score
        that is no finite number.

    Source: docs/methods.md#membership-attacks.
    """

    name: str
    ids: Strings
    scores: Floats

    def __post_init__(self) -> None:
        if self.name not in OUTSIDE_ATTACKS:
            near = difflib.get_close_matches(str(self.name), OUTSIDE_ATTACKS, n=1, cutoff=0.0)[0]
            raise AuditInputError(
                f"unknown outside attack {self.name!r}: the nearest is {near!r}; registered are "
                f"{', '.join(OUTSIDE_ATTACKS)}."
            )
        ids, scores = np.asarray(self.ids).astype(np.str_), np.asarray(self.scores)
        if ids.ndim != 1 or ids.shape != scores.shape or len(ids) == 0:
            raise AuditInputError(
                f"{self.name} scores must hold one score a tile id, at least one: got shapes "
                f"{ids.shape} for ids and {scores.shape} for scores."
            )
        if scores.dtype.kind not in "fiu" or not np.isfinite(scores).all():
            raise AuditInputError(
                f"{self.name} scores must be finite numbers: got NaN, infinity or other values. "
                "Score those tiles again, or leave them out of the audit."
            )
        _refuse_twice(f"{self.name} scores", ids)
        object.__setattr__(self, "ids", ids)
        object.__setattr__(self, "scores", scores.astype(np.float64))

    def for_tiles(self, ids: ArrayLike) -> Floats:
        """Scores of these tiles, in their order.

        Args:
          ids: shape (n,), no two alike; scores of other tiles are left aside.

        Raises:
          AuditInputError: an id asked for twice, or without a score.
        """
        asked = np.asarray(ids).astype(np.str_)
        if asked.ndim != 1:
            raise AuditInputError(f"tile ids must have shape (tiles,): got {asked.shape}.")
        _refuse_twice(f"tiles to be scored by {self.name}", asked)
        order = np.argsort(self.ids)
        place = np.searchsorted(self.ids, asked, sorter=order)
        found = order[np.minimum(place, len(order) - 1)]
        missing = np.flatnonzero(self.ids[found] != asked)
        if len(missing):
            raise AuditInputError(
                f"{self.name} must score every tile: {len(missing)} of {len(asked)} have no score "
                f"(first: {asked[missing[0]]}). Score them too, under the ids of the audit."
            )
        return self.scores[found]


def _refuse_twice(what: str, ids: Strings) -> None:
    names, counts = np.unique(ids, return_counts=True)
    if len(names) < len(ids):
        raise AuditInputError(
            f"{what} must name each tile once: {int((counts > 1).sum())} ids stand there twice or "
            f"more (first: {names[counts > 1][0]}). Give every tile its own id."
        )


def _check(roles: Mapping[str, NDArray[np.float32]]) -> None:
    for name, rows in roles.items():
        if rows.ndim != 2 or 0 in rows.shape:
            raise AuditInputError(
                f"{name} embeddings must have shape (tiles, features), both at least 1: "
                f"got {rows.shape}."
            )
        if not np.isfinite(rows).all():
            raise AuditInputError(f"{name} embeddings must be finite: got NaN or infinity.")
    widths = {name: rows.shape[1] for name, rows in roles.items()}
    if len(set(widths.values())) > 1:
        raise AuditInputError(f"all roles must be embedded alike: got features {widths}.")


def _components(
    synthetic: NDArray[np.float32], reference: NDArray[np.float32], dims: int
) -> tuple[Floats, Floats]:
    """Centre and principal axes of both sets with equal weight, for scores of typical length 1."""
    sets = (synthetic, reference)
    centre: Floats = np.mean([rows.mean(axis=0, dtype=np.float64) for rows in sets], axis=0)
    width = len(centre)
    covariance = np.zeros((width, width))
    for rows in sets:
        for start in range(0, len(rows), _ROWS):
            block = rows[start : start + _ROWS] - centre
            covariance += block.T @ block / (2 * len(rows))
    if not covariance.any():
        raise AuditInputError(
            "reference and synthetic embeddings are all one point: nothing can be told apart. "
            "Check the encoder and the images."
        )
    wanted = (max(0, width - dims), width - 1)
    values, axes = linalg.eigh(covariance, subset_by_index=wanted)
    kept = values > values[-1] * width * _SINGLE**2
    return centre, axes[:, kept] / math.sqrt(values[kept].sum())


def _project(rows: NDArray[np.float32], centre: Floats, axes: Floats) -> NDArray[np.float32]:
    projected = np.empty((len(rows), axes.shape[1]), dtype=np.float32)
    for start in range(0, len(rows), _ROWS):
        block = (rows[start : start + _ROWS] - centre) @ axes
        projected[start : start + _ROWS] = np.clip(block, -_FARTHEST, _FARTHEST)
    return projected


def _within(
    block: NDArray[np.float32], base: NDArray[np.float32], centre: Floats, limit: float
) -> NDArray[np.int64]:
    """Rows of `base` at most `limit` from each row of `block`, shape (len(block),).

    A matrix product settles all pairs but those within its rounding of the limit; these few are
    measured by their exact difference.
    """
    q, b = block - centre, base - centre
    squared_q, squared_b = np.einsum("ij,ij->i", q, q), np.einsum("ij,ij->i", b, b)
    excess = squared_q[:, None] + squared_b - 2 * q @ b.T - limit**2
    scale = np.sqrt(squared_q) + math.sqrt(squared_b.max()) + limit
    rounding = (4 * (q.shape[1] + 8) * _DOUBLE * scale**2)[:, None]
    inside = excess < -rounding
    row, column = np.nonzero(~inside & (excess <= rounding))
    step = max(1, _CELLS // q.shape[1])
    for start in range(0, len(row), step):
        i, j = row[start : start + step], column[start : start + step]
        difference = block[i].astype(np.float64) - base[j]
        inside[i, j] = np.sqrt(np.einsum("ij,ij->i", difference, difference)) <= limit
    counts: NDArray[np.int64] = inside.sum(axis=1)
    return counts

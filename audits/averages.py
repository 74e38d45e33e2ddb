"""Averages over tiles that published tools use to speak of copying: C_T, authenticity, DCR share.

All three are blind to rare copies (1 % of copies moves none of them visibly) and the first two call
a set "healthy" that is 10 % copies and 90 % off-manifold. They stand in the report as context, with
the published defects mended, and never decide a verdict alone.

Where a p-value is given it permutes patients between train and holdout: under the null the
synthetic tiles do not depend on which patients were in training. `group_distances` answers every
such relabelling from one pass over the distances. With few pairs of patients every relabelling is
looked at, so that p is exact: the level attained is then the largest multiple of 1 / 2^pairs that
fits (8 pairs: 12 / 256 = .047 for .05, a little less where relabellings tie), never more.

Source: docs/methods.md#c_t-statistic, docs/methods.md#authenticity, docs/methods.md#dcr-share.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import stats
from sklearn.cluster import KMeans

from audits.copying import CopyScores
from audits.errors import AuditInputError
from audits.inputs import Floats, Strings, Tiles
from audits.intervals import effective_size, newcombe
from audits.neighbors import group_distances
from audits.results import AuditResult, Estimate

CELLS = 3
"""Cells of C_T."""

DRAWS = 499
"""Random relabellings of patients behind each p-value, where there are too many to try them all."""

MOST_RELABELLINGS = 512
"""All relabellings are tried where there are at most so many: up to 9 pairs of patients."""

BLOCKS = 20
"""Pairs of patients beyond so many are relabelled in blocks."""

MOST_TILES = 4_000
"""Tiles a role that these averages look at; more would only cost time."""


@dataclass(frozen=True, kw_only=True)
class CellStatistic:
    """C_T and what it is made of.

    Attributes:
      value: weighted mean of the cells' Z_U; far below 0 = copying, far above = underfitting.
      null_sd: its standard deviation when tiles are exchangeable, sqrt(sum of squared weights).
      z: Z_U of each cell used, shape (c,).
      weights: share of the holdout tiles in each cell used, summing to 1, shape (c,).
    """

    value: float
    null_sd: float
    z: Floats
    weights: Floats


def rank_z(synthetic: Floats, holdout: Floats) -> float:
    """Mann-Whitney Z of the synthetic distances against the holdout's, variance tie-corrected.

    `(U - nm/2) / sqrt(nm/12 (N + 1 - sum(t^3 - t) / (N (N - 1))))`, U counting pairs in which the
    synthetic tile is farther; 0 when all distances are equal.

    Source: Mann & Whitney 1947; docs/methods.md#c_t-statistic.
    """
    m, n = len(synthetic), len(holdout)
    total = m + n
    below = np.sort(holdout)
    u = (
        np.searchsorted(below, synthetic, "left").sum()
        + np.searchsorted(below, synthetic, "right").sum()
    ) / 2
    pooled = np.sort(np.concatenate([synthetic, holdout]))
    ends = np.flatnonzero(pooled[1:] != pooled[:-1])
    ties = np.diff(ends, prepend=-1, append=total - 1).astype(np.float64)
    tied = (ties**3 - ties).sum() / (total * (total - 1))
    variance = m * n / 12 * (total + 1 - tied)
    return float((u - m * n / 2) / np.sqrt(variance)) if variance > 0 else 0.0


def c_t_statistic(
    synthetic: Floats,
    holdout: Floats,
    *,
    synthetic_cells: NDArray[np.intp],
    holdout_cells: NDArray[np.intp],
) -> CellStatistic:
    """C_T from distances to the nearest train tile and the cell of each tile.

    Args:
      synthetic, holdout: distances, shapes (s,) and (h,).
      synthetic_cells, holdout_cells: cell of each tile, 0..c-1. Cells that lack either are left
        out.

    Raises:
      AuditInputError: no cell holds both synthetic and holdout tiles.

    Source: Meehan, Chaudhuri & Dasgupta 2020, arXiv:2004.05675; docs/methods.md#c_t-statistic.
    """
    shared = np.intersect1d(synthetic_cells, holdout_cells)
    if len(shared) == 0:
        raise AuditInputError("C_T needs a cell with both synthetic and holdout tiles: none.")
    z = np.array(
        [rank_z(synthetic[synthetic_cells == c], holdout[holdout_cells == c]) for c in shared]
    )
    weights = np.array([(holdout_cells == c).sum() for c in shared], dtype=np.float64)
    weights /= weights.sum()
    return CellStatistic(
        value=float(weights @ z), null_sd=float(np.sqrt((weights**2).sum())), z=z, weights=weights
    )


def c_t(
    train: Tiles, holdout: Tiles, synthetic: Tiles, rng: np.random.Generator, *, cells: int = CELLS
) -> AuditResult:
    """C_T with seeded cells and a p-value that relabels patients.

    Train and holdout are made alike in size as for `dcr_share`, so that swapping the two patients
    of a pair is an exact experiment; at most `MOST_TILES` a role are looked at.

    Args:
      train, holdout: at least 2 patients each; cells are k-means clusters of both together, so
        that they favour neither.
      synthetic: what is judged.
      rng: which tiles are used, cells and permutations.
      cells: at most as many as there are real tiles; all tiles are one cell where no cell holds
        both synthetic and holdout tiles.

    Returns:
      C_T with the interval that its spread over relabelled patients implies; p is one-sided towards
      copying. `details["null_sd"]` is its standard deviation if tiles were independent.

    Raises:
      AuditInputError: fewer than 2 patients on a side.

    Source: Meehan, Chaudhuri & Dasgupta 2020, arXiv:2004.05675; docs/methods.md#c_t-statistic.
    """
    sides, pairs = _paired_rows(train, holdout, rng)
    (train_rows, block), (holdout_rows, _) = sides
    made = _some(synthetic.embeddings, rng)
    real = np.concatenate([train.embeddings[train_rows], holdout.embeddings[holdout_rows]])
    group = np.concatenate([block, pairs + block])
    clusters = KMeans(
        n_clusters=min(cells, len(real)), n_init=3, random_state=int(rng.integers(2**31))
    ).fit(real)
    real_cells, synthetic_cells = clusters.labels_, clusters.predict(made)
    to_real = group_distances(made, real, group)
    among = group_distances(real, real, group)

    def statistic(swapped: NDArray[np.bool_]) -> CellStatistic:
        members = np.concatenate([~swapped, swapped])
        outside = ~members[group]
        ours, others = synthetic_cells, real_cells[outside]
        if not np.isin(ours, others).any():
            ours, others = np.zeros_like(ours), np.zeros_like(others)
        return c_t_statistic(
            to_real[:, members].min(axis=1),
            among[outside][:, members].min(axis=1),
            synthetic_cells=ours,
            holdout_cells=others,
        )

    swaps = _relabellings(pairs, rng)
    every = [statistic(swapped) for swapped in swaps]
    observed = every[0]
    scaled = np.array([found.value / found.null_sd for found in every])
    half = float(stats.norm.ppf(0.975)) * float(np.std([found.value for found in every]))
    return AuditResult(
        name="c_t",
        harm=None,
        statistic=Estimate(
            value=observed.value,
            low=observed.value - half,
            high=observed.value + half,
            n=len(made),
            unit="tile",
        ),
        p_value=float((scaled <= scaled[0] + 1e-9).mean()),
        details={
            "null_sd": observed.null_sd,
            "cells": len(observed.z),
            "pairs": pairs,
            "relabellings": len(swaps),
        },
        note="Far below 0: copying of many tiles; far above: underfitting. Blind to rare copies.",
    )


def _some(embeddings: NDArray[np.float32], rng: np.random.Generator) -> NDArray[np.float32]:
    """At most `MOST_TILES` rows, drawn at random."""
    if len(embeddings) <= MOST_TILES:
        return embeddings
    return embeddings[np.sort(rng.choice(len(embeddings), MOST_TILES, replace=False))]


def is_authentic(scores: CopyScores, own: CopyScores) -> NDArray[np.bool_]:
    """Whether each tile is farther from its nearest train tile than that one is from the others.

    Args:
      scores: of the judged tiles, shape (n,).
      own: of the train tiles against the other train tiles, shape (t,).

    Source: Alaa et al. 2022, arXiv:2102.08921; docs/methods.md#authenticity.
    """
    authentic: NDArray[np.bool_] = scores.nearest > own.nearest[scores.source]
    return authentic


def authenticity(
    synthetic: CopyScores, holdout: CopyScores, own: CopyScores, *, holdout_patients: Strings
) -> AuditResult:
    """Authentic share of the synthetic tiles less that of the holdout.

    The share itself has no good value: a perfect generator has 1/3 in one dimension and .74 in 128.
    Only the difference to the holdout's own speaks.

    Args:
      synthetic, holdout: scores, shapes (s,) and (h,).
      own: of the train tiles against the other train tiles, shape (t,).
      holdout_patients: shape (h,).

    Returns:
      Difference with a Newcombe interval, holdout at its effective size; below 0: closer to train
      than the holdout is.

    Source: Alaa et al. 2022, arXiv:2102.08921; docs/methods.md#authenticity.
    """
    ours, others = is_authentic(synthetic, own), is_authentic(holdout, own)
    a, b = float(ours.mean()), float(others.mean())
    low, high = newcombe(a, len(ours), b, effective_size(others, holdout_patients))
    return AuditResult(
        name="authenticity",
        harm=None,
        statistic=Estimate(value=a - b, low=low, high=high, n=len(ours), unit="tile"),
        details={"synthetic_authenticity": a, "holdout_authenticity": b},
        note="Less the holdout's own, because a perfect generator has no fixed value.",
    )


def dcr_share(
    train: Tiles, holdout: Tiles, synthetic: Tiles, rng: np.random.Generator
) -> AuditResult:
    """Share of synthetic tiles nearer to a train than to a holdout tile, both sides alike in size.

    Patients of the two sides are paired by their number of tiles, and each pair gives equally many
    from both; patients left over stay out. So neither side is nearer because it is larger.

    Args:
      train, holdout: at least 2 patients each.
      synthetic: what is judged.
      rng: which patients and tiles are used, and the relabellings where not all are tried.

    Returns:
      phi, .5 under the null, with a jackknife interval over pairs of patients (a bootstrap repeats
      patients, which thins the sets that distances are taken to); p is one-sided and swaps train
      and holdout within pairs.

    Raises:
      AuditInputError: fewer than 2 patients on a side.

    Source: docs/methods.md#dcr-share.
    """
    sides, pairs = _paired_rows(train, holdout, rng)
    made = _some(synthetic.embeddings, rng)
    near = np.stack(
        [
            group_distances(made, tiles.embeddings[rows], block)
            for tiles, (rows, block) in zip((train, holdout), sides, strict=True)
        ]
    )

    def share(distances: NDArray[np.float32]) -> float:
        to_train, to_holdout = distances.min(axis=2)
        return float((to_train < to_holdout).mean() + 0.5 * (to_train == to_holdout).mean())

    observed = share(near)
    left_out = np.array([share(np.delete(near, pair, axis=2)) for pair in range(pairs)])
    error = np.sqrt((pairs - 1) / pairs * ((left_out - left_out.mean()) ** 2).sum())
    half = float(stats.t.ppf(0.975, pairs - 1) * error)
    swaps = _relabellings(pairs, rng)
    every = np.array([share(np.where(swapped, near[::-1], near)) for swapped in swaps])
    return AuditResult(
        name="dcr_share",
        harm=None,
        statistic=Estimate(
            value=observed,
            low=max(0.0, observed - half),
            high=min(1.0, observed + half),
            n=len(made),
            unit="tile",
        ),
        p_value=float((every >= observed - 1e-12).mean()),
        details={
            "pairs": pairs,
            "tiles_a_side": len(sides[0][0]),
            "relabellings": len(swaps),
        },
        note=".5 when the synthetic tiles lie as close to new patients. Blind to rare copies.",
    )


def _relabellings(pairs: int, rng: np.random.Generator) -> NDArray[np.bool_]:
    """Which pairs are swapped in each relabelling, shape (r, pairs); the first row swaps none.

    All 2^pairs where these are at most `MOST_RELABELLINGS`: random ones would repeat themselves,
    which costs level and adds noise. Else `DRAWS` random ones beside the first. Either way the
    share of rows at least as extreme as the first is a valid p.

    Source: Phipson & Smyth 2010.
    """
    if 2**pairs <= MOST_RELABELLINGS:
        every: NDArray[np.bool_] = (np.arange(2**pairs)[:, None] >> np.arange(pairs)) & 1 == 1
        return every
    drawn = rng.random((DRAWS + 1, pairs)) < 0.5
    drawn[0] = False
    return drawn


def _paired_rows(
    train: Tiles, holdout: Tiles, rng: np.random.Generator
) -> tuple[list[tuple[NDArray[np.intp], NDArray[np.intp]]], int]:
    """For each side (rows, pair of each row), equally many rows per pair; and the number of pairs.

    More than `BLOCKS` pairs are merged into as many blocks; about `MOST_TILES` rows per side stay.
    """
    owned: list[list[NDArray[np.intp]]] = []
    for tiles in (train, holdout):
        names, owner = np.unique(tiles.patients, return_inverse=True)
        if len(names) < 2:
            raise AuditInputError(
                f"relabelling patients needs 2 in {tiles.name}: got {len(names)}."
            )
        order = np.argsort(owner, kind="stable")
        of_patient = np.split(order, np.cumsum(np.bincount(owner))[:-1])
        owned.append([of_patient[i] for i in rng.permutation(len(names))])
    count = min(len(side) for side in owned)
    ranked = [sorted(side[:count], key=len) for side in owned]
    merged = rng.permutation(np.arange(count) % BLOCKS)
    whole = sum(min(len(patient) for patient in both) for both in zip(*ranked, strict=True))
    share = min(1.0, MOST_TILES / whole)
    rows: list[list[NDArray[np.intp]]] = [[], []]
    blocks: list[NDArray[np.intp]] = []
    for pair, both in enumerate(zip(*ranked, strict=True)):
        size = max(1, round(share * min(len(patient) for patient in both)))
        blocks.append(np.full(size, merged[pair]))
        for side, patient in zip(rows, both, strict=True):
            side.append(rng.permutation(patient)[:size])
    block = np.concatenate(blocks)
    return [(np.concatenate(side), block) for side in rows], min(count, BLOCKS)

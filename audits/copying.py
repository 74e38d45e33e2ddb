"""Copies: does the synthetic set contain training tiles?

The primary tests count. A copy is closer to its training tile than any new tile has a reason to be,
so the extreme low tail of "distance to the nearest train tile" is compared between the synthetic
and the holdout tiles. Averages (`averages.py`) cannot see 1 % of copies; the tail can.

Two distances are counted, each a test of its own:
- `nearest`: d(x, t1), the plain distance to the nearest train tile;
- `ratio`: d(x, t1) / mean(d(x, t2) .. d(x, tk)), scale-free, so that dense self-similar tissue or a
  patient who resembles a training patient does not look like a copy.

Two controls are held against the synthetic tiles: the holdout, whose tail gives the p-value, and
each train tile measured against the other train tiles. The second is how close two tiles of one
patient come, so it tells a copied tile from a new tile of a training patient.

Source: docs/methods.md#tail-count, docs/methods.md#extraction-ratio,
docs/methods.md#exact-duplicates.
"""

from dataclasses import dataclass
from typing import TypedDict

import numpy as np
from numpy.typing import NDArray

from audits.errors import AuditInputError
from audits.inputs import Floats, Strings
from audits.intervals import clopper_pearson, effective_size, newcombe
from audits.neighbors import Neighbors, nearest, nearest_others
from audits.results import AuditResult, Estimate, Harm
from audits.tails import QUANTILES, below, grid_p, tail_p, tail_ranks, tail_thresholds

RATIO_NEIGHBORS = 10
"""k of the distance ratio: the nearest distance against the mean of the 2nd to 10th."""

EXTRACTION_NEIGHBORS = 50
EXTRACTION_ALPHA = 0.5
"""Constants of Carlini et al. 2023: the n nearest train tiles, and the factor on their mean."""


@dataclass(frozen=True, kw_only=True)
class CopyScores:
    """How close each tile of one set comes to the train tiles; small = close.

    Attributes:
      nearest: distance to the nearest train tile, shape (n,), embedding units.
      ratio: that distance over the mean of the next ones, shape (n,), 0 for an exact copy.
      extraction: Carlini's ratio, shape (n,), 0 for an exact copy.
      source: row of the nearest train tile, shape (n,).
    """

    nearest: Floats
    ratio: Floats
    extraction: Floats
    source: NDArray[np.intp]

    def __len__(self) -> int:
        return len(self.nearest)

    def subset(self, rows: NDArray[np.bool_] | NDArray[np.intp]) -> "CopyScores":
        """The scores of these tiles."""
        return CopyScores(
            nearest=self.nearest[rows],
            ratio=self.ratio[rows],
            extraction=self.extraction[rows],
            source=self.source[rows],
        )


def copy_scores(queries: NDArray[np.float32], train: NDArray[np.float32]) -> CopyScores:
    """Distances of every query tile to the train tiles, in all forms.

    Args:
      queries: embeddings, shape (n, d).
      train: embeddings, shape (m, d), m >= 2.
    """
    return scores_from_neighbors(nearest(queries, train, k=min(EXTRACTION_NEIGHBORS, len(train))))


def own_copy_scores(train: NDArray[np.float32]) -> CopyScores:
    """The same for every train tile against the *other* train tiles.

    What a new tile of a training patient would show: the within-patient control of `tail_count`.

    Args:
      train: embeddings, shape (m, d), m >= 3.
    """
    wanted = min(EXTRACTION_NEIGHBORS, len(train) - 1)
    return scores_from_neighbors(nearest_others(train, k=wanted))


def scores_from_neighbors(found: Neighbors) -> CopyScores:
    """All forms of the score from neighbours already searched, shape (n, k >= 2).

    A tile at distance 0 from every neighbour (train tiles repeated k times) has ratio 0.
    """
    if found.distances.shape[1] < 2:
        raise AuditInputError("the distance ratio needs at least 2 train tiles: got 1.")
    first = found.distances[:, 0]
    rest = found.distances[:, 1:RATIO_NEIGHBORS].mean(axis=1)
    every = EXTRACTION_ALPHA * found.distances[:, :EXTRACTION_NEIGHBORS].mean(axis=1)
    return CopyScores(
        nearest=first,
        ratio=_quotient(first, rest),
        extraction=_quotient(first, every),
        source=found.indices[:, 0],
    )


def _quotient(first: Floats, rest: Floats) -> Floats:
    return np.divide(first, rest, out=np.zeros_like(first), where=rest > 0)


class GridRow(TypedDict):
    """One threshold of the tail-count test."""

    quantile: float
    synthetic_hits: int
    holdout_hits: int
    p: float


def _grid(
    synthetic: Floats,
    control: Floats,
    quantiles: tuple[float, ...],
    sources: NDArray[np.intp] | None = None,
) -> list[GridRow]:
    """Counts and pointwise p at each threshold, which is taken from the control alone.

    With `sources`, synthetic tiles below the threshold count once per source.
    """
    rows: list[GridRow] = []
    for quantile, tau in zip(quantiles, tail_thresholds(control, quantiles), strict=True):
        inside = below(synthetic, tau)
        a = int(inside.sum()) if sources is None else len(np.unique(sources[inside]))
        b = int(below(control, tau).sum())
        rows.append(
            {
                "quantile": quantile,
                "synthetic_hits": a,
                "holdout_hits": b,
                "p": tail_p(a, len(synthetic), b, len(control)),
            }
        )
    return rows


def _p_over_grid(rows: list[GridRow], synthetic: int, control: int) -> float:
    ranks = tail_ranks(control, tuple(row["quantile"] for row in rows))
    return grid_p(min(row["p"] for row in rows), synthetic, control, ranks)


def tail_count(
    name: str,
    synthetic: Floats,
    holdout: Floats,
    *,
    holdout_patients: Strings,
    own: Floats | None = None,
    sources: NDArray[np.intp] | None = None,
    quantiles: tuple[float, ...] = QUANTILES,
    confidence: float = 0.95,
) -> AuditResult:
    """Tail-count copy test over the registered grid of quantiles.

    Args:
      name: registered name of the result.
      synthetic: score of each synthetic tile, shape (s,); small = close to a train tile.
      holdout: the same for each holdout tile, shape (h,).
      holdout_patients: patient of each holdout tile, shape (h,).
      own: the same for train tiles against the other train tiles, shape (t,), t more than the
        length of the grid; the within-patient check is left out when None.
      sources: row of the train tile each synthetic tile is nearest to, shape (s,). Against `own`
        each source counts once: a generator that repeats itself a hundred times near one train tile
        has not copied a hundred. Counting less is always allowed, so the p stays valid.
      quantiles: the grid; p is exact for the smallest pointwise p over it (`tails.grid_p`).
      confidence: of the interval, also Bonferroni-adjusted, since the threshold with the smallest p
        is shown.

    Returns:
      Copied fraction f = a/s - b/h, in [-1, 1], with a Newcombe interval whose holdout side uses
      the effective size of the clustered tiles. `details["upper_bound"]` is the one-sided upper
      confidence limit of a/s at the widest threshold: the bound to quote when nothing is found (0
      of s: about 3/s). `details["own_p"]` is the same test against the train tiles' own distances.

    Raises:
      AuditInputError: no synthetic tiles, or too few holdout tiles.

    Source: docs/methods.md#tail-count.
    """
    if len(synthetic) == 0:
        raise AuditInputError("the copy test needs synthetic tiles with some texture: got none.")
    # The threshold itself is one holdout tile's distance: it stays out of the report.
    rows = _grid(synthetic, holdout, quantiles)
    best = min(rows, key=lambda row: row["p"])
    tau = tail_thresholds(holdout, quantiles)[rows.index(best)]
    share, chance = best["synthetic_hits"] / len(synthetic), best["holdout_hits"] / len(holdout)
    low, high = newcombe(
        share,
        len(synthetic),
        chance,
        effective_size(below(holdout, tau), holdout_patients),
        confidence=1 - (1 - confidence) / len(quantiles),
    )
    details: dict[str, object] = {
        "grid": rows,
        "holdout_tiles": len(holdout),
        "upper_bound": clopper_pearson(
            rows[-1]["synthetic_hits"], len(synthetic), confidence=2 * confidence - 1
        )[1],
    }
    if own is not None:
        within = _grid(synthetic, own, quantiles, sources)
        details["own_tiles"] = len(own)
        details["own_p"] = _p_over_grid(within, len(synthetic), len(own))
    return AuditResult(
        name=name,
        harm=Harm.COPYING,
        statistic=Estimate(
            value=share - chance,
            low=low,
            high=high,
            confidence=confidence,
            n=len(synthetic),
            unit="tile",
        ),
        p_value=_p_over_grid(rows, len(synthetic), len(holdout)),
        details=details,
    )


def extraction_ratio(
    synthetic: Floats, holdout: Floats, *, holdout_patients: Strings
) -> AuditResult:
    """Share of synthetic tiles with Carlini's ratio below 1, less the holdout's share.

    The published criterion calls a tile extracted when its distance to the nearest train tile is
    below half its mean distance to the 50 nearest. A fixed threshold has no known error rate: it
    stands here for comparison, under its authors' name, and is no test.

    Args:
      synthetic, holdout: `CopyScores.extraction`, shapes (s,) and (h,).
      holdout_patients: shape (h,).

    Source: Carlini et al. 2023, arXiv:2301.13188; docs/methods.md#extraction-ratio.
    """
    ours, others = synthetic < 1, holdout < 1
    low, high = newcombe(
        float(ours.mean()),
        len(ours),
        float(others.mean()),
        effective_size(others, holdout_patients),
    )
    return AuditResult(
        name="extraction_ratio",
        harm=None,
        statistic=Estimate(
            value=float(ours.mean() - others.mean()), low=low, high=high, n=len(ours), unit="tile"
        ),
        details={"synthetic_share": float(ours.mean()), "holdout_share": float(others.mean())},
        note="The published criterion, for comparison; no test.",
    )


def identical_tiles(synthetic: Strings, train: Strings) -> AuditResult:
    """Synthetic tiles whose pixels equal a train tile's under one of the 8 symmetries.

    This is proof, not a test: one identical tile with texture is a LEAK whatever the counts say.

    Args:
      synthetic: fingerprints, shape (s,); "" marks a featureless tile, which proves nothing.
      train: fingerprints, shape (t,).

    Returns:
      Share of synthetic tiles, with a Clopper-Pearson interval; `rejected` is true when any is
      identical.

    Source: docs/methods.md#exact-duplicates.
    """
    members = np.unique(train[train != ""])
    count = int(np.isin(synthetic[synthetic != ""], members).sum())
    low, high = clopper_pearson(count, len(synthetic))
    return AuditResult(
        name="identical_tiles",
        harm=Harm.COPYING,
        statistic=Estimate(
            value=count / len(synthetic), low=low, high=high, n=len(synthetic), unit="tile"
        ),
        rejected=count > 0,
        details={"identical": count, "featureless_synthetic": int((synthetic == "").sum())},
        note="Proof by equal pixels, up to quarter turns and mirroring; not a statistical test.",
    )

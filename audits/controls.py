"""Controls: what the same measurements show when there is nothing, or a known something, to find.

- `power_curve` plants known copies and counts how often the copy tests, as registered, find them;
- `member_against_member` runs the membership attack between halves of the training patients;
- `blind_baseline` tells train from holdout patients without looking at the synthetic tiles at all:
  when that works, the two groups differ for reasons that are no leak, and a membership result
  between them proves nothing.

Source: METHODS.md 2.5, 3; Das, Zhang & Tramer 2024, arXiv:2406.16201.
"""

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray
from scipy import stats
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedGroupKFold

from audits.copying import QUANTILES, CopyScores, below, critical_p, tail_ranks, tail_thresholds
from audits.errors import AuditInputError
from audits.inputs import Floats, Strings, Tiles
from audits.intervals import clopper_pearson
from audits.membership import patient_membership, patient_range, patient_scores
from audits.permutation import auroc
from audits.results import AuditResult, Estimate, PowerPoint

DRAWS = 400
"""Planted data sets drawn for each kind and share of copies."""

_SPLITS = 400


def power_curve(
    synthetic: CopyScores,
    holdout: CopyScores,
    planted: Mapping[str, CopyScores],
    *,
    proven: Mapping[str, NDArray[np.bool_]],
    source_patients: Mapping[str, Strings],
    fractions: Sequence[float],
    significance: float,
    rng: np.random.Generator,
    quantiles: tuple[float, ...] = QUANTILES,
) -> tuple[PowerPoint, ...]:
    """How often planted copies are found, for each kind and share.

    Each draw replaces random synthetic tiles by copies of tiles of randomly chosen train patients;
    only the replaced rows change, so no distance is computed again. A draw counts as found when a
    copy is proven by equal pixels, or when a copy test's p, adjusted over its grid, is at most
    `significance`.

    Args:
      synthetic, holdout: scores of the audited data, shapes (s,) and (h,).
      planted: scores of the copies of each kind, shape (m,).
      proven: of each kind, which copies equal their source pixel by pixel, shape (m,).
      source_patients: of each kind, the patient of each copy's source, shape (m,).
      fractions: shares of synthetic tiles to replace; at least one tile each.
      significance: what p is held against: the family-wise level divided by the size of the family,
        so that the curve holds whatever the other tests say (Holm's first step).
      rng: replaced rows and chosen copies.
      quantiles: the grid of `copying.tail_count`.

    Source: METHODS.md 3.
    """
    total = len(synthetic)
    counts = sorted({max(1, round(share * total)) for share in fractions})
    ranks = tail_ranks(len(holdout), quantiles)
    critical = critical_p(significance, total, len(holdout), ranks)
    points = []
    for kind, scores in planted.items():
        for copies in counts:
            if copies > total:
                continue
            chosen = _draw_copies(source_patients[kind], copies, rng)
            replaced = rng.permuted(np.tile(np.arange(total), (DRAWS, 1)), axis=1)[:, :copies]
            found = proven[kind][chosen].any(axis=1)
            for field in ("nearest", "ratio"):
                found |= _tail_detects(
                    getattr(synthetic, field),
                    getattr(holdout, field),
                    getattr(scores, field)[chosen],
                    replaced,
                    critical,
                    quantiles,
                )
            hits = int(found.sum())
            low, high = clopper_pearson(hits, DRAWS)
            points.append(
                PowerPoint(
                    kind=kind,
                    fraction=copies / total,
                    copies=copies,
                    power=Estimate(value=hits / DRAWS, low=low, high=high, n=DRAWS, unit="draw"),
                )
            )
    return tuple(points)


def _draw_copies(patients: Strings, copies: int, rng: np.random.Generator) -> NDArray[np.intp]:
    """Indices of `copies` planted rows a draw: a random patient first, then a tile of theirs."""
    _, owner = np.unique(patients, return_inverse=True)
    weight = 1.0 / np.bincount(owner)[owner]
    return rng.choice(len(patients), size=(DRAWS, copies), p=weight / weight.sum())


def _tail_detects(
    synthetic: Floats,
    holdout: Floats,
    copies: Floats,
    replaced: NDArray[np.intp],
    level: float,
    quantiles: tuple[float, ...],
) -> NDArray[np.bool_]:
    """For each draw, whether any threshold has p <= level; `copies`, `replaced`: (draws, j)."""
    s, h = len(synthetic), len(holdout)
    found = np.zeros(len(copies), dtype=np.bool_)
    for tau in tail_thresholds(holdout, quantiles):
        inside = below(synthetic, tau)
        a = inside.sum() - inside[replaced].sum(axis=1) + below(copies, tau).sum(axis=1)
        b = int(below(holdout, tau).sum())
        counts, draw = np.unique(a, return_inverse=True)
        found |= (stats.hypergeom.sf(counts - 1, s + h, counts + b, s) <= level)[draw]
    return found


def minimum_detectable(
    points: Sequence[PowerPoint], *, power: float = 0.8
) -> dict[str, float | None]:
    """MDL80: for each kind the smallest share from which on the power is `power`; None if never.

    Looking down from the largest share keeps one lucky simulation at a small share from setting it.
    """
    result: dict[str, float | None] = {}
    for kind in dict.fromkeys(point.kind for point in points):
        smallest: float | None = None
        curve = sorted((p for p in points if p.kind == kind), key=lambda p: -p.fraction)
        for point in curve:
            if point.power.value < power:
                break
            smallest = point.fraction
        result[kind] = smallest
    return result


def member_against_member(
    scores: Floats, patients: Strings, rng: np.random.Generator, *, confidence: float = 0.95
) -> AuditResult:
    """Range of AUROC between random halves of the training patients, where the truth is .5.

    Args:
      scores: membership score of each train tile, shape (n,).
      patients: shape (n,), at least 4 distinct.
      rng: random halves.

    Raises:
      AuditInputError: fewer than 4 patients.

    Source: METHODS.md 2.5 (a).
    """
    _, by_patient = patient_scores(scores, patients, tiles=patient_range(patients)[0])
    n = len(by_patient)
    if n < 4:
        raise AuditInputError(f"member-against-member needs 4 training patients: got {n}.")
    draws = np.empty(_SPLITS)
    for split in range(_SPLITS):
        order = rng.permutation(n)
        draws[split] = auroc(by_patient[order[: n // 2]], by_patient[order[n // 2 :]])
    tail = (1 - confidence) / 2
    low, high = np.quantile(draws, [tail, 1 - tail])
    return AuditResult(
        name="control/member_against_member",
        harm=None,
        statistic=Estimate(
            value=float(draws.mean()), low=float(low), high=float(high), n=n, unit="patient"
        ),
        details={"splits": _SPLITS},
        note="What chance does between patients who were all in training; no confidence interval.",
    )


def blind_baseline(
    train: Tiles, holdout: Tiles, rng: np.random.Generator, *, folds: int = 5
) -> AuditResult:
    """Patient-level AUROC of a classifier that tells train from holdout tiles by their looks alone.

    Logistic regression on the embeddings, cross-validated so that no patient is scored by a model
    that saw it.

    Args:
      train, holdout: at least 2 patients each.
      rng: fold assignment, permutation and bootstrap.
      folds: at most the smaller number of patients.

    Raises:
      AuditInputError: fewer than 2 patients on a side.

    Source: METHODS.md 2.5 (c).
    """
    folds = min(folds, train.patient_count, holdout.patient_count)
    if folds < 2:
        raise AuditInputError("the blind baseline needs 2 patients a side.")
    x = np.concatenate([train.embeddings, holdout.embeddings]).astype(np.float64)
    x = (x - x.mean(axis=0)) / (x.std(axis=0) + 1e-12)
    y = np.arange(len(x)) < len(train)
    owner = np.concatenate(
        [np.char.add("train ", train.patients), np.char.add("holdout ", holdout.patients)]
    )
    splitter = StratifiedGroupKFold(
        n_splits=folds, shuffle=True, random_state=int(rng.integers(2**31))
    )
    score = np.zeros(len(x))
    for fit, test in splitter.split(x, y, owner):
        if len(np.unique(y[fit])) < 2:
            continue
        model = LogisticRegression(C=1e-2, max_iter=500, class_weight="balanced")
        score[test] = model.fit(x[fit], y[fit]).decision_function(x[test])
    result = patient_membership(
        "control/blind_baseline",
        score[y],
        score[~y],
        member_patients=owner[y],
        nonmember_patients=owner[~y],
        rng=rng,
        harm=None,
    )
    return result

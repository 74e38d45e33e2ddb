"""Controls: what the same measurements show when there is nothing, or a known something, to find.

- `power_curve` plants known copies and counts how often the copy tests, as registered, find them;
- `split_half` runs the membership attack between halves of the training (or holdout) patients;
- `blind_baseline` tells train from holdout patients without looking at the synthetic tiles at all:
  when that works, the two groups differ for reasons that are no leak, and a membership result
  between them proves nothing.

Source: docs/methods.md#controls, docs/methods.md#power; Das, Zhang & Tramer 2024, arXiv:2406.16201.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from audits.errors import AuditInputError
from audits.inputs import Floats, Strings, Tiles
from audits.intervals import clopper_pearson
from audits.membership import draw_size, has_enough, patient_scores
from audits.permutation import auroc
from audits.results import AuditResult, Estimate, PowerPoint
from audits.tails import QUANTILES, below, critical_p, tail_ps, tail_ranks, tail_thresholds

DRAWS = 400
"""Planted data sets drawn for each kind and share of copies."""

BLIND = "control/blind_baseline"

_SPLITS = 400
_RELABELLINGS = 999


@dataclass(frozen=True, kw_only=True, eq=False)
class PlantedScores:
    """Scores of the planted copies of one kind.

    Attributes:
      ratio: `CopyScores.ratio` of each copy, shape (m,).
      sources: the train tile each is nearest to, shape (m,); against `own` each counts once.
      proven: which are proven by equal pixels or alignment, shape (m,).
      patients: of the train tile each was made from, shape (m,).
    """

    ratio: Floats
    sources: NDArray[np.intp]
    proven: NDArray[np.bool_]
    patients: Strings


def power_curve(
    synthetic: Floats,
    holdout: Floats,
    own: Floats,
    planted: Mapping[str, PlantedScores],
    *,
    fractions: Sequence[float],
    significance: float,
    rng: np.random.Generator,
    quantiles: tuple[float, ...] = QUANTILES,
) -> tuple[PowerPoint, ...]:
    """How often planted copies are found, for each kind and share.

    Each draw replaces random synthetic tiles by copies of tiles of randomly chosen train patients;
    only the replaced rows change, so no distance is computed again. A draw counts as found when
    the verdict would be LEAK: a copy is proven, or `tail_ratio` rejects and its
    within-patient check agrees.

    Args:
      synthetic, holdout: `CopyScores.ratio` of the audited data, shapes (s,) and (h,).
      own: the same for train tiles against the other train tiles, shape (t,).
      planted: scores of the copies, by kind.
      fractions: shares of synthetic tiles to replace; at least one tile each.
      significance: what p is held against: the weight of `tail_ratio` in the family-wise level, so
        that the curve holds whatever the other tests say (Holm's first step).
      rng: replaced rows and chosen copies.
      quantiles: the grid of `copying.tail_count`.

    Source: docs/methods.md#power.
    """
    total = len(synthetic)
    counts = sorted({max(1, round(share * total)) for share in fractions})
    critical = [
        critical_p(significance, total, len(control), tail_ranks(len(control), quantiles))
        for control in (holdout, own)
    ]
    points = []
    seed = int(rng.integers(2**63))
    for kind, copied in planted.items():
        # Of its own, so that no kind's curve depends on which others were planted.
        rng = np.random.default_rng([seed, *kind.encode()])
        for copies in counts:
            if copies > total:
                continue
            chosen = _draw_copies(copied.patients, copies, rng)
            detected = _both_detect(
                synthetic,
                (holdout, own),
                copied.ratio[chosen],
                copied.sources[chosen],
                critical,
                quantiles,
                rng,
            )
            hits = int((copied.proven[chosen].any(axis=1) | detected).sum())
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
    """Indices of `copies` planted rows per draw: a random patient first, then a tile of theirs."""
    _, owner = np.unique(patients, return_inverse=True)
    weight = 1.0 / np.bincount(owner)[owner]
    return rng.choice(len(patients), size=(DRAWS, copies), p=weight / weight.sum())


def _both_detect(
    synthetic: Floats,
    controls: tuple[Floats, Floats],
    copies: Floats,
    sources: NDArray[np.intp],
    critical: Sequence[float],
    quantiles: tuple[float, ...],
    rng: np.random.Generator,
) -> NDArray[np.bool_]:
    """For each draw, whether against every control some threshold has p <= its critical value.

    Which rows are replaced matters only through how many of them lie below each threshold: a
    multivariate hypergeometric number. Never more synthetic tiles are taken to lie there than
    innocent ones would, or copies already present would lend the planted ones their power.
    """
    taus = [tail_thresholds(control, quantiles) for control in controls]
    edges = np.sort(np.concatenate(taus))
    inside = np.array([below(synthetic, tau).sum() for tau in edges])
    expected = [
        len(synthetic) * (rank + 1) / (len(control) + 1)
        for control in controls
        for rank in tail_ranks(len(control), quantiles)
    ]
    innocent = np.array(expected)[np.argsort(np.concatenate(taus), kind="stable")]
    inside = np.minimum.accumulate(np.minimum(inside, np.ceil(innocent))[::-1])[::-1]
    inside = inside.astype(np.intp)
    bands = np.diff(np.concatenate([[0], inside, [len(synthetic)]]))
    gone = rng.multivariate_hypergeometric(bands, copies.shape[1], size=len(copies)).cumsum(axis=1)
    found = np.ones(len(copies), dtype=np.bool_)
    for place, (control, own_taus, level) in enumerate(zip(controls, taus, critical, strict=True)):
        any_threshold = np.zeros(len(copies), dtype=np.bool_)
        for tau in own_taus:
            edge = int(np.searchsorted(edges, tau))
            hits = below(copies, tau)
            added = hits.sum(axis=1) if place == 0 else _distinct(sources, hits)
            a = inside[edge] - gone[:, edge] + added
            counts, draw = np.unique(a, return_inverse=True)
            b = int(below(control, tau).sum())
            p = tail_ps(counts, len(synthetic), b, len(control))
            any_threshold |= (p <= level)[draw]
        found &= any_threshold
    return found


def _distinct(sources: NDArray[np.intp], hits: NDArray[np.bool_]) -> NDArray[np.intp]:
    """How many different sources each draw hits; both of shape (draws, j)."""
    marked = np.sort(np.where(hits, sources, -1), axis=1)
    first = np.ones((len(marked), 1), dtype=np.bool_)
    new = np.concatenate([first, marked[:, 1:] != marked[:, :-1]], axis=1)
    count: NDArray[np.intp] = (new & (marked >= 0)).sum(axis=1)
    return count


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


def split_half(
    name: str,
    scores: Floats,
    patients: Strings,
    rng: np.random.Generator,
    *,
    confidence: float = 0.95,
) -> AuditResult:
    """Range of AUROC between random halves of patients of one side, where the truth is .5.

    Args:
      name: "control/member_against_member" or "control/holdout_against_holdout".
      scores: membership score of each tile of that side, shape (n,).
      patients: shape (n,), at least 4 distinct.
      rng: random halves.

    Raises:
      AuditInputError: fewer than 4 patients.

    Source: docs/methods.md#controls.
    """
    size = draw_size(patients)
    kept = has_enough(patients, size)
    _, by_patient = patient_scores(scores[kept], patients[kept], tiles=size)
    n = len(by_patient)
    if n < 4:
        raise AuditInputError(f"a split into halves needs 4 patients: got {n}.")
    draws = np.empty(_SPLITS)
    for split in range(_SPLITS):
        order = rng.permutation(n)
        draws[split] = auroc(by_patient[order[: n // 2]], by_patient[order[n // 2 :]])
    tail = (1 - confidence) / 2
    low, high = np.quantile(draws, [tail, 1 - tail])
    return AuditResult(
        name=name,
        harm=None,
        statistic=Estimate(
            value=float(draws.mean()), low=float(low), high=float(high), n=n, unit="patient"
        ),
        details={"splits": _SPLITS},
        note="What chance does between patients of one side, by construction around .5; a range, "
        "not a confidence interval.",
    )


def blind_baseline(
    train: Tiles, holdout: Tiles, rng: np.random.Generator, *, folds: int = 5
) -> AuditResult:
    """AUROC of telling train from holdout patients by the looks of their tiles alone.

    Each patient is the mean of their standardised embeddings and of the squares (groups may differ
    in spread alone); ridge regression in that space, cross-validated over patients. Scores are
    linear in the labels, so p refits the classifier for every relabelling of patients: it is exact,
    where permuting cross-validated scores rejected 10 % at "5 %".

    Args:
      train, holdout: at least 2 patients each.
      rng: fold assignment and permutation.
      folds: at most the number of patients.

    Returns:
      AUROC over patients, with the interval that its spread over relabellings implies, and p.

    Raises:
      AuditInputError: fewer than 2 patients on a side.

    Source: docs/methods.md#controls.
    """
    if min(train.patient_count, holdout.patient_count) < 2:
        raise AuditInputError("the blind baseline needs 2 patients per side.")
    tiles = np.concatenate([train.embeddings, holdout.embeddings])
    centre, spread = tiles.mean(axis=0, dtype=np.float64), tiles.std(axis=0, dtype=np.float64)
    x = np.concatenate([_patient_means(side, centre, spread) for side in (train, holdout)])
    m, n = train.patient_count, len(x)
    x = (x - x.mean(axis=0)) / np.maximum(x.std(axis=0), 1e-12)
    kernel = x @ x.T
    fold = rng.permutation(np.arange(n) % min(folds, n))
    scorer = np.zeros((n, n))
    for part in range(int(fold.max()) + 1):
        fit, test = np.flatnonzero(fold != part), np.flatnonzero(fold == part)
        inner = kernel[np.ix_(fit, fit)]
        ridge = inner + np.eye(len(fit)) * max(np.trace(kernel) / n, 1e-12)
        centring = np.eye(len(fit)) - 1 / len(fit)
        scorer[np.ix_(test, fit)] = kernel[np.ix_(test, fit)] @ np.linalg.solve(ridge, centring)
    labels = np.tile(np.arange(n) < m, (_RELABELLINGS + 1, 1))
    labels[1:] = rng.permuted(labels[1:], axis=1)
    # Rounded, so that equal patients tie whatever the order of summation.
    scores = np.round(labels @ scorer.T, 12)
    ranks = stats.rankdata(scores, axis=1)
    values = ((ranks * labels).sum(axis=1) - m * (m + 1) / 2) / (m * (n - m))
    half = float(stats.norm.ppf(0.975)) * float(values[1:].std())
    observed = float(values[0])
    return AuditResult(
        name=BLIND,
        harm=None,
        statistic=Estimate(
            value=observed,
            low=max(0.0, observed - half),
            high=min(1.0, observed + half),
            n=n,
            unit="patient",
        ),
        p_value=float((values >= observed - 1e-12).mean()),
        details={"folds": int(fold.max()) + 1, "relabellings": _RELABELLINGS},
    )


def _patient_means(tiles: Tiles, centre: Floats, spread: Floats) -> Floats:
    """Mean standardised embedding of each patient, and mean of its squares, shape (p, 2 d)."""
    _, owner, sizes = np.unique(tiles.patients, return_inverse=True, return_counts=True)
    order = np.argsort(owner, kind="stable")
    starts = np.concatenate([[0], np.cumsum(sizes)[:-1]])
    z = (tiles.embeddings[order] - centre) / np.maximum(spread, 1e-12)
    means = np.concatenate(
        [np.add.reduceat(z, starts, axis=0), np.add.reduceat(z**2 - 1, starts, axis=0)], axis=1
    )
    found: Floats = means / sizes[:, None]
    return found


def attack_minus_blind(attack: AuditResult, blind: AuditResult) -> AuditResult:
    """Patient-level AUROC of an attack less that of the blind baseline.

    What an attack adds to telling the two groups apart by their looks. The interval treats the two
    as independent (Newcombe's square-and-add), which is wide where they agree.

    Args:
      attack: `patient_membership`.
      blind: `blind_baseline`.

    Source: Das, Zhang & Tramer 2024, arXiv:2406.16201; docs/methods.md#controls.
    """
    a, b = attack.statistic, blind.statistic
    value = a.value - b.value
    limits = [limit if limit is not None else a.value for limit in (a.low, a.high)]
    others = [limit if limit is not None else b.value for limit in (b.low, b.high)]
    return AuditResult(
        name="control/attack_minus_blind",
        harm=None,
        statistic=Estimate(
            value=value,
            low=value - float(np.hypot(a.value - limits[0], others[1] - b.value)),
            high=value + float(np.hypot(limits[1] - a.value, b.value - others[0])),
            n=a.n,
            unit=a.unit,
        ),
        note="What the attack adds to telling the two groups apart without synthetic tiles.",
    )

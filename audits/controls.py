"""Controls: what the same measurements show when there is nothing, or a known something, to find.

- `power_curve` plants known copies and counts how often the copy tests, as registered, find them;
- `split_half` runs the membership attack between halves of the training (or holdout) patients;
- `blind_baseline` tells train from holdout patients without looking at the synthetic tiles at all:
  when that works, the two groups differ for reasons that are no leak, and a membership result
  between them proves nothing.

Source: METHODS.md 2.5, 3; Das, Zhang & Tramer 2024, arXiv:2406.16201.
"""

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray
from sklearn.linear_model import RidgeClassifier
from sklearn.model_selection import StratifiedGroupKFold

from audits.errors import AuditInputError
from audits.inputs import Floats, Strings, Tiles
from audits.intervals import clopper_pearson
from audits.membership import patient_membership, patient_range, patient_scores
from audits.permutation import auroc
from audits.results import AuditResult, Estimate, PowerPoint
from audits.tails import QUANTILES, below, critical_p, tail_ps, tail_ranks, tail_thresholds

DRAWS = 400
"""Planted data sets drawn for each kind and share of copies."""

BLIND = "control/blind_baseline"

_SPLITS = 400


def power_curve(
    synthetic: Floats,
    holdout: Floats,
    own: Floats,
    planted: Mapping[str, Floats],
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
    only the replaced rows change, so no distance is computed again. A draw counts as found when
    the verdict would be LEAK: a copy is proven by equal pixels, or `tail_ratio` rejects and its
    within-patient check agrees.

    Args:
      synthetic, holdout: `CopyScores.ratio` of the audited data, shapes (s,) and (h,).
      own: the same for train tiles against the other train tiles, shape (t,).
      planted: the same for the copies of each kind, shape (m,).
      proven: of each kind, which copies equal their source pixel by pixel, shape (m,).
      source_patients: of each kind, the patient of each copy's source, shape (m,).
      fractions: shares of synthetic tiles to replace; at least one tile each.
      significance: what p is held against: the weight of `tail_ratio` in the family-wise level, so
        that the curve holds whatever the other tests say (Holm's first step).
      rng: replaced rows and chosen copies.
      quantiles: the grid of `copying.tail_count`.

    Source: METHODS.md 3.
    """
    total = len(synthetic)
    counts = sorted({max(1, round(share * total)) for share in fractions})
    critical = [
        critical_p(significance, total, len(control), tail_ranks(len(control), quantiles))
        for control in (holdout, own)
    ]
    points = []
    for kind, scores in planted.items():
        for copies in counts:
            if copies > total:
                continue
            chosen = _draw_copies(source_patients[kind], copies, rng)
            detected = _both_detect(
                synthetic, (holdout, own), scores[chosen], critical, quantiles, rng
            )
            hits = int((proven[kind][chosen].any(axis=1) | detected).sum())
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


def _both_detect(
    synthetic: Floats,
    controls: tuple[Floats, Floats],
    copies: Floats,
    critical: Sequence[float],
    quantiles: tuple[float, ...],
    rng: np.random.Generator,
) -> NDArray[np.bool_]:
    """For each draw, whether against every control some threshold has p <= its critical value.

    Which rows are replaced matters only through how many of them lie below each threshold: a
    multivariate hypergeometric number. `copies` has shape (draws, j).
    """
    taus = [tail_thresholds(control, quantiles) for control in controls]
    edges = np.sort(np.concatenate(taus))
    inside = np.array([below(synthetic, tau).sum() for tau in edges])
    bands = np.diff(np.concatenate([[0], inside, [len(synthetic)]]))
    gone = rng.multivariate_hypergeometric(bands, copies.shape[1], size=len(copies)).cumsum(axis=1)
    found = np.ones(len(copies), dtype=np.bool_)
    for control, own_taus, level in zip(controls, taus, critical, strict=True):
        any_threshold = np.zeros(len(copies), dtype=np.bool_)
        for tau in own_taus:
            edge = int(np.searchsorted(edges, tau))
            a = inside[edge] - gone[:, edge] + below(copies, tau).sum(axis=1)
            counts, draw = np.unique(a, return_inverse=True)
            b = int(below(control, tau).sum())
            p = tail_ps(counts, len(synthetic), b, len(control))
            any_threshold |= (p <= level)[draw]
        found &= any_threshold
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

    Source: METHODS.md 2.5 (a), (b).
    """
    _, by_patient = patient_scores(scores, patients, tiles=patient_range(patients)[0])
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
    """Patient-level AUROC of a classifier that tells train from holdout tiles by their looks alone.

    Ridge regression on the standardised embeddings, cross-validated so that no patient is scored by
    a model that saw it.

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
        model = RidgeClassifier(alpha=len(fit), class_weight="balanced", solver="cholesky")
        score[test] = model.fit(x[fit], y[fit]).decision_function(x[test])
    result = patient_membership(
        BLIND,
        score[y],
        score[~y],
        member_patients=owner[y],
        nonmember_patients=owner[~y],
        rng=rng,
        harm=None,
    )
    return result


def attack_minus_blind(attack: AuditResult, blind: AuditResult) -> AuditResult:
    """Patient-level AUROC of an attack less that of the blind baseline.

    What an attack adds to telling the two groups apart by their looks. The interval treats the two
    as independent (Newcombe's square-and-add), which is wide where they agree.

    Args:
      attack: `patient_membership`.
      blind: `blind_baseline`.

    Source: Das, Zhang & Tramer 2024, arXiv:2406.16201; METHODS.md 2.5 (c).
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

"""Membership: can somebody who holds the synthetic tiles tell who was in training?

Every attack (`audits.attacks`) is a score; here scores become figures. Two arms separate two harms:
- *tile membership*: train tiles against tiles of the same slides that were held back (siblings);
- *patient membership*: those siblings, tiles the generator never saw of patients it did see,
  against patients it never met.
Without siblings the second arm falls back to train tiles against holdout patients and says so.
`tpr_at_fpr` asks what share of members the attacker finds while hardly accusing anybody else.

Conventions: higher score = more likely a member; the patient is the unit of the second arm.
Source: docs/methods.md#patient-as-the-unit, docs/methods.md#tpr-at-fpr,
docs/methods.md#tile-and-patient-membership.
"""

import math
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray
from scipy import special, stats

from audits.errors import AuditInputError
from audits.inputs import Floats, Strings
from audits.intervals import clopper_pearson
from audits.permutation import (
    DRAWS,
    auroc,
    rank_sum_p,
    stratified_auroc,
    stratified_permutation_p,
    studentised_p,
)
from audits.results import AuditResult, Estimate, Harm

TOP_TILES = 5
"""A patient's score is the mean of this many highest tile scores."""

BOOTSTRAP_DRAWS = 2_000

_LEFT_OUT = 0.2
_MOST_PAIRS = 4_000_000

PATIENT_DRAWS = 200
"""Random draws of equally many tiles per patient over which patients are ranked."""

FPRS = (0.01, 0.05, 0.1, 0.2)
"""False-positive rates at which reports give the TPR, finest first."""


def patient_scores(
    scores: Floats, patients: Strings, *, tiles: int, top: int = TOP_TILES
) -> tuple[Strings, Floats]:
    """One score a patient: expected mean of the `top` highest among `tiles` of the patient's tiles.

    The highest of many is higher than the highest of few, so patients with more tiles would pass
    for members. Every patient is therefore scored as if `tiles` of them had been drawn at random,
    exactly, by the hypergeometric weight of each rank; `tiles=1` is the plain mean.

    Args:
      scores: shape (n,).
      patients: shape (n,).
      tiles: draw size, at most the smallest number of tiles of a patient here.
      top: how many of the draw's highest are averaged.

    Returns:
      (names, shape (p,); scores, shape (p,)).

    Raises:
      AuditInputError: a patient has fewer than `tiles` tiles.
    """
    names, owner = np.unique(patients, return_inverse=True)
    result = np.empty(len(names))
    used = min(top, tiles)
    for index in range(len(names)):
        own = np.sort(scores[owner == index])[::-1]
        if len(own) < tiles:
            raise AuditInputError(f"patient {index} has {len(own)} tiles, fewer than {tiles}.")
        rank = np.arange(len(own))
        # SciPy has no hypergeometric law of an empty urn: one tile drawn is always the highest.
        in_top = stats.hypergeom.cdf(used - 1, len(own) - 1, rank, tiles - 1) if tiles > 1 else 1.0
        result[index] = (own * in_top).sum() * tiles / len(own) / used
    return names, result


def patient_draws(
    scores: Floats,
    patients: Strings,
    rng: np.random.Generator,
    *,
    tiles: int,
    draws: int = PATIENT_DRAWS,
    top: int = TOP_TILES,
) -> Floats:
    """Scores of every patient in `draws` random draws of `tiles` tiles each, shape (draws, p).

    In each draw all patients are measured alike, so that under the null no patient is ahead. The
    expected score of `patient_scores` is not enough: it varies more, and more skewly, for patients
    with few tiles, who then outrank the others (training patients with 2 siblings each against
    holdout patients with 20 tiles: AUROC .53 without any leak, and p <= .05 in 18 % of data sets).

    Args:
      scores, patients, tiles, top: as in `patient_scores`, which is the mean over all draws.
      rng: the draws.
    """
    names, owner = np.unique(patients, return_inverse=True)
    result = np.empty((draws, len(names)))
    for index in range(len(names)):
        own = np.sort(scores[owner == index])[::-1]
        order = rng.random((draws, len(own)))
        chosen = np.sort(np.argpartition(order, tiles - 1, axis=1)[:, :tiles], axis=1)
        result[:, index] = own[chosen[:, :top]].mean(axis=1)
    return result


def draw_size(*groups: Strings) -> int:
    """Tiles a patient is judged by: as many as at least 4 in 5 patients of every group have.

    The patient with fewest would else set the size for all: one tile of one patient turns an attack
    on 50 tiles each into one on a single tile. Decided by counts alone.
    """
    smallest = []
    for patients in groups:
        sizes = np.sort(np.unique(patients, return_counts=True)[1])
        smallest.append(int(sizes[int(_LEFT_OUT * len(sizes))]))
    return min(smallest)


def has_enough(patients: Strings, tiles: int) -> NDArray[np.bool_]:
    """Which tiles belong to a patient with at least `tiles` of them, shape (n,)."""
    _, owner, sizes = np.unique(patients, return_inverse=True, return_counts=True)
    enough: NDArray[np.bool_] = sizes[owner] >= tiles
    return enough


def _wins(members: Floats, nonmembers: Floats) -> Floats:
    """Share of draws in which each member outranks each nonmember, ties half, shape (m, n)."""
    total = np.zeros((members.shape[1], nonmembers.shape[1]))
    for ours, others in zip(members, nonmembers, strict=True):
        total += (ours[:, None] > others) + 0.5 * (ours[:, None] == others)
    return total / len(members)


def _bootstrap_auroc(
    wins: Floats, rng: np.random.Generator, confidence: float
) -> tuple[float, float]:
    m, n = wins.shape
    weights_m = rng.multinomial(m, np.full(m, 1 / m), size=BOOTSTRAP_DRAWS)
    weights_n = rng.multinomial(n, np.full(n, 1 / n), size=BOOTSTRAP_DRAWS)
    draws = np.einsum("bi,ij,bj->b", weights_m, wins, weights_n, optimize=True) / (m * n)
    tail = (1 - confidence) / 2
    low, high = np.quantile(draws, [tail, 1 - tail])
    return float(low), float(high)


def _auroc_interval(
    ours: Floats, others: Floats, rng: np.random.Generator, confidence: float
) -> tuple[float, float, float]:
    """Mean AUROC over draws with its interval over patients: (value, low, high).

    Never narrower than the Mann-Whitney variance `(m + n + 1) / (12 m n)` at .5 allows: a bootstrap
    of few patients is too narrow to pass, or to call groups confounded, on. Thousands of patients
    need no bootstrap, whose table of pairs would not fit: there that variance is the interval.
    """
    m, n = ours.shape[1], others.shape[1]
    spread = float(stats.norm.ppf(0.5 + confidence / 2)) * np.sqrt((m + n + 1) / (12 * m * n))
    if m * n > _MOST_PAIRS:
        value = float(np.mean([auroc(a, b) for a, b in zip(ours, others, strict=True)]))
        low = high = value
    else:
        wins = _wins(ours, others)
        value = float(wins.mean())
        low, high = _bootstrap_auroc(wins, rng, confidence)
    return value, max(0.0, min(low, value - spread)), min(1.0, max(high, value + spread))


def _smallest_p(units: NDArray[np.intp], members: NDArray[np.intp] | Floats) -> float:
    """Smallest p a permutation of `members` among `units` in each stratum can reach."""
    ways = special.gammaln(units + 1) - special.gammaln(members + 1)
    ways = ways - special.gammaln(units - members + 1)
    return float(max(1 / (DRAWS + 1), np.exp(-ways.sum())))


def intra_patient_correlation(scores: Floats, patients: Strings) -> float:
    """One-way ANOVA intraclass correlation of tile scores within patients, clipped to [0, 1]."""
    _, owner, sizes = np.unique(patients, return_inverse=True, return_counts=True)
    groups, n = len(sizes), len(scores)
    if groups < 2 or n == groups:
        return 0.0
    means = np.bincount(owner, weights=scores) / sizes
    between = (sizes * (means - scores.mean()) ** 2).sum() / (groups - 1)
    within = ((scores - means[owner]) ** 2).sum() / (n - groups)
    typical = (n - (sizes**2).sum() / n) / (groups - 1)
    total = between + (typical - 1) * within
    return float(np.clip((between - within) / total, 0, 1)) if total > 0 else 0.0


def patient_membership(
    name: str,
    members: Floats,
    nonmembers: Floats,
    *,
    member_patients: Strings,
    nonmember_patients: Strings,
    rng: np.random.Generator,
    confidence: float = 0.95,
    harm: Harm | None = Harm.PATIENT_MEMBERSHIP,
) -> AuditResult:
    """Patient-level AUROC of a membership score, with permutation p and patient bootstrap interval.

    Patients are ranked in each of `PATIENT_DRAWS` random draws of equally many tiles (`draw_size`;
    patients with fewer are left out and counted); the AUROC is the mean over draws, and p permutes
    the patients' studentised mean ranks. Where all patients have equally many tiles there is one
    draw, of all tiles, and p is that of the rank sum. The interval is never narrower than the
    Mann-Whitney variance at .5: five patients per side cannot exclude anything.

    Args:
      name: registered name of the result.
      members: tile scores of training patients, shape (m,).
      nonmembers: tile scores of other patients, shape (n,).
      member_patients, nonmember_patients: patient of each tile.
      rng: draws of tiles, permutation and bootstrap.
      confidence: of the interval.
      harm: None when used as a control.

    Raises:
      AuditInputError: fewer than 2 patients on a side.

    Source: docs/methods.md#patient-as-the-unit.
    """
    size = draw_size(member_patients, nonmember_patients)
    kept, others_kept = has_enough(member_patients, size), has_enough(nonmember_patients, size)
    counted = [len(np.unique(names)) for names in (member_patients, nonmember_patients)]
    members, member_patients = members[kept], member_patients[kept]
    nonmembers, nonmember_patients = nonmembers[others_kept], nonmember_patients[others_kept]
    largest = max(
        np.unique(names, return_counts=True)[1].max()
        for names in (member_patients, nonmember_patients)
    )
    draws = PATIENT_DRAWS if largest > size else 1
    ours = patient_draws(members, member_patients, rng, tiles=size, draws=draws)
    others = patient_draws(nonmembers, nonmember_patients, rng, tiles=size, draws=draws)
    m, n = ours.shape[1], others.shape[1]
    if m < 2 or n < 2:
        raise AuditInputError(f"patient membership needs 2 patients per side: got {m} and {n}.")
    value, low, high = _auroc_interval(ours, others, rng, confidence)
    ranks = stats.rankdata(np.concatenate([ours, others], axis=1), axis=1).mean(axis=0)
    p_of = rank_sum_p if draws == 1 else studentised_p
    backwards = np.concatenate([ranks[m:], ranks[:m]])
    tiles = np.concatenate([members, nonmembers])
    owners = np.concatenate(
        [np.char.add("m", member_patients), np.char.add("n", nonmember_patients)]
    )
    correlation = intra_patient_correlation(tiles, owners)
    typical = len(tiles) / (m + n)
    return AuditResult(
        name=name,
        harm=harm,
        statistic=Estimate(
            value=value,
            low=low,
            high=high,
            confidence=confidence,
            n=m + n,
            unit="patient",
        ),
        p_value=p_of(ranks, m, rng),
        details={
            "member_patients": m,
            "nonmember_patients": n,
            "patients_with_too_few_tiles": sum(counted) - m - n,
            "reversed_p": p_of(backwards, n, rng),
            "smallest_p": _smallest_p(np.array([m + n]), np.array([m])),
            "tiles_scored_a_patient": size,
            "tile_auroc": auroc(members, nonmembers),
            "intra_patient_correlation": correlation,
            "effective_tiles": len(tiles) / (1 + (typical - 1) * correlation),
        },
    )


def tile_membership(
    train: Floats,
    siblings: Floats,
    *,
    train_slides: Strings,
    sibling_slides: Strings,
    train_patients: Strings,
    sibling_patients: Strings,
    rng: np.random.Generator,
    confidence: float = 0.95,
) -> AuditResult:
    """AUROC of train tiles against held-back tiles of the same slides, compared within slides only.

    Siblings are drawn at random within slides, so permuting within slides repeats the very
    experiment: p is exact whatever the correlation of tiles. The interval is that of a ratio
    estimator over patients, with Student's t (a bootstrap of 3 patients misses high in 12 % of
    data sets, not 2.5 %); one patient alone gives no interval narrower than [0, 1].

    Args:
      train, siblings: tile scores, shapes (t,) and (s,).
      train_slides, sibling_slides, train_patients, sibling_patients: of each tile.
      rng: permutation draws.

    Raises:
      AuditInputError: no slide holds both a train tile and a sibling.

    Source: docs/methods.md#tile-and-patient-membership.
    """
    scores = np.concatenate([train, siblings])
    is_member = np.arange(len(scores)) < len(train)
    slides = np.concatenate([train_slides, sibling_slides])
    patients = np.concatenate([train_patients, sibling_patients])
    names, strata = np.unique(np.char.add(np.char.add(patients, "\n"), slides), return_inverse=True)
    concordant, pairs = stratified_auroc(scores, is_member, strata)
    if pairs.sum() == 0:
        raise AuditInputError(
            "tile membership needs slides with both train tiles and siblings: none."
        )
    _, first = np.unique(strata, return_index=True)
    owners, owner = np.unique(patients[first], return_inverse=True)
    won, played = np.bincount(owner, weights=concordant), np.bincount(owner, weights=pairs)
    use = played > 0
    won, played = won[use], played[use]
    value = float(won.sum() / played.sum())
    groups = len(won)
    low, high = 0.0, 1.0
    if groups > 1:
        excess = won - value * played
        error = np.sqrt((excess**2).sum() * groups / (groups - 1)) / played.sum()
        half = float(stats.t.ppf(0.5 + confidence / 2, groups - 1) * error)
        low, high = max(0.0, value - half), min(1.0, value + half)
    members = np.bincount(strata, weights=is_member)
    return AuditResult(
        name="tile_membership",
        harm=Harm.TILE_MEMBERSHIP,
        statistic=Estimate(
            value=value,
            low=low,
            high=high,
            confidence=confidence,
            n=groups,
            unit="patient",
        ),
        p_value=stratified_permutation_p(scores, is_member, strata, rng),
        details={
            "train_tiles": len(train),
            "sibling_tiles": len(siblings),
            "slides_compared": int((pairs > 0).sum()),
            "slides": len(names),
            "patients_with_slides": len(owners),
            "smallest_p": _smallest_p(np.bincount(strata), members),
        },
    )


@dataclass(frozen=True, kw_only=True)
class TprAtFpr:
    """True-positive rate at a threshold set by the nonmembers, and what that threshold cost.

    Attributes:
      tpr: share of members above the threshold; exact interval given the threshold.
      fpr: share of nonmembers above it, never more than asked; its interval is for the rate among
        nonmembers to come, for whom the threshold was not chosen.
      threshold: score of a nonmember, itself not above: only higher scores are called members.
      rank: the threshold is the nonmembers' score of this rank, 1 the highest.
      chance: what a blind score is expected to find, rank / (nonmembers + 1) or, with ties, less:
        more than the FPR achieved, because the threshold was chosen among these nonmembers.
    """

    tpr: Estimate
    fpr: Estimate
    threshold: float
    rank: int
    chance: float


def finest_fpr(nonmembers: int) -> float | None:
    """Finest of `FPRS` that this many nonmembers can resolve; None below 5.

    Source: docs/methods.md#tpr-at-fpr.
    """
    return next((fpr for fpr in FPRS if _needed(fpr) <= nonmembers), None)


def _needed(fpr: float) -> int:
    """Fewest nonmembers of whom one is no more than the share `fpr`, read as a decimal number."""
    return math.ceil(1 / Fraction(str(float(fpr))))


def tpr_at_fpr(
    members: Floats,
    nonmembers: Floats,
    *,
    fpr: float,
    unit: str = "patient",
    confidence: float = 0.95,
) -> TprAtFpr:
    """TPR at the lowest threshold that lets no more than the share `fpr` of nonmembers pass.

    Only scores above the threshold count, so ties go against the attacker, and with ties the FPR
    achieved falls short of the one asked.

    Args:
      members: one score a unit, shape (m,).
      nonmembers: shape (n,); they set the threshold.
      fpr: false-positive rate asked, at least 1 / n.
      unit: what has one score: "patient", or "tile" for a description.
      confidence: of both Clopper-Pearson intervals.

    Raises:
      AuditInputError: `fpr` or `confidence` outside (0, 1), an `fpr` finer than 1 / n, no scores,
        or a score that is not finite.

    Source: docs/methods.md#tpr-at-fpr.
    """
    for name, share in (("fpr", fpr), ("confidence", confidence)):
        if not 0 < share < 1:
            raise AuditInputError(f"{name} must be a number in (0, 1): got {share}.")
    for name, scores in (("member", members), ("nonmember", nonmembers)):
        if np.ndim(scores) != 1 or len(scores) == 0 or not np.isfinite(scores).all():
            raise AuditInputError(
                f"{name} scores must be finite, one a {unit}, at least one: got shape "
                f"{np.shape(scores)}{' with NaN or infinity' if np.size(scores) else ''}."
            )
    n = len(nonmembers)
    if n < _needed(fpr):
        finest = finest_fpr(n)
        instead = "" if finest is None else f" or ask for FPR {finest:g}"
        raise AuditInputError(
            f"TPR at FPR {fpr:g} needs {_needed(fpr)} nonmember {unit}s: got {n}. "
            f"Add {unit}s{instead}."
        )
    allowed = math.floor(Fraction(str(float(fpr))) * n)
    threshold = float(np.sort(nonmembers)[n - 1 - allowed])

    def share_above(scores: Floats) -> Estimate:
        count, size = int((scores > threshold).sum()), len(scores)
        low, high = clopper_pearson(count, size, confidence=confidence)
        return Estimate(
            value=count / size, low=low, high=high, confidence=confidence, n=size, unit=unit
        )

    return TprAtFpr(
        tpr=share_above(members),
        fpr=share_above(nonmembers),
        threshold=threshold,
        rank=allowed + 1,
        chance=(allowed + 1) / (n + 1),
    )


def tpr_result(
    name: str,
    members: Floats,
    nonmembers: Floats,
    *,
    fpr: float,
    unit: str = "patient",
    confidence: float = 0.95,
) -> AuditResult:
    """`tpr_at_fpr` as a description for the report: no harm, no p, and no single score.

    The threshold is the score of one real tile or patient, so only its rank is given.

    Args:
      name: registered name of the result.
      members, nonmembers, fpr, unit, confidence: as in `tpr_at_fpr`.

    Raises:
      AuditInputError: as `tpr_at_fpr`.

    Source: docs/methods.md#tpr-at-fpr.
    """
    found = tpr_at_fpr(members, nonmembers, fpr=fpr, unit=unit, confidence=confidence)
    note = (
        f"FPR achieved {found.fpr.value:.3g} (asked {fpr:g}, {found.fpr.n} nonmember {unit}s); "
        f"a blind score finds {found.chance:.3g}."
    )
    if unit == "tile":
        note += " Tiles of one patient are alike: a description, with too narrow an interval."
    return AuditResult(
        name=name,
        harm=None,
        statistic=found.tpr,
        details={
            "fpr_asked": fpr,
            "fpr_achieved": found.fpr.value,
            "fpr_low": found.fpr.low,
            "fpr_high": found.fpr.high,
            "tpr_by_chance": found.chance,
            "threshold_rank": found.rank,
            f"member_{unit}s": found.tpr.n,
            f"nonmember_{unit}s": found.fpr.n,
        },
        note=note,
    )

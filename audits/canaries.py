"""Canaries: joining scores to them by id, and the ways to choose guesses or a threshold on them.

Conventions: higher score = more likely a member; strategies are types, registered with their seeds
before the scores are seen; random parts do not depend on the order of the input.
Source: docs/methods.md#epsilon-lower-bounds.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

from audits.errors import AuditInputError
from audits.inputs import Floats, Strings
from audits.results import AuditResult, Estimate

Unit = Literal["patient", "tile"]
Counts = NDArray[np.int64]

GUESS_LADDER = (1 / 2, 1 / 4, 1 / 8, 1 / 16, 1 / 32)
"""Shares of the canaries called members that `MultiSplit` chooses from, with as many called
nonmembers, or none."""

COIN_P = 1e-6
"""Inclusion whose two-sided binomial p is below this is not believed to come from fair coins."""


@dataclass(frozen=True)
class GuessCounts:
    """Guesses registered before the scores were seen; all other canaries are abstained from.

    Attributes:
      guessed_in: how many of the highest scores are called members.
      guessed_out: how many of the lowest scores are called nonmembers.
    """

    guessed_in: int
    guessed_out: int

    def __post_init__(self) -> None:
        _whole(self.guessed_in, "guessed_in", least=0)
        _whole(self.guessed_out, "guessed_out", least=0)
        _whole(self.guessed_in + self.guessed_out, "the number of guesses", least=1)


@dataclass(frozen=True)
class FixedThreshold:
    """A threshold chosen before the scores were seen."""

    value: float

    def __post_init__(self) -> None:
        finite_scores(np.array([self.value]), "the fixed threshold")


@dataclass(frozen=True)
class Bonferroni:
    """The best threshold on the same data, with every threshold tried paid for.

    Attributes:
      thresholds: values registered before the scores were seen; the error is shared among them.
        None tries every score: the error is then shared among the order statistics of each side,
        which makes the limits hold at all thresholds at once.
    """

    thresholds: tuple[float, ...] | None = None

    def __post_init__(self) -> None:
        if self.thresholds is not None:
            finite_scores(np.array(self.thresholds), "Bonferroni thresholds")


@dataclass(frozen=True)
class Split:
    """A threshold chosen on one random part of the canaries and measured on the rest.

    Attributes:
      fraction: share of each side on which it is chosen.
      seed: of the random part; register it with the rest.
    """

    fraction: float = 0.5
    seed: int = 0

    def __post_init__(self) -> None:
        _fraction(self.fraction)
        _whole(self.seed, "the seed of a split", least=0)


@dataclass(frozen=True)
class MultiSplit:
    """Many random splits, each at half the significance; the (lower) median bound counts.

    Valid because twice the median p of exchangeable splits is a p-value (Meinshausen, Meier &
    Buehlmann 2009, arXiv:0811.2177, theorem 3.1).

    Attributes:
      splits: how many.
      fraction, seed: as in `Split`.
    """

    splits: int = 101
    fraction: float = 0.5
    seed: int = 0

    def __post_init__(self) -> None:
        _whole(self.splits, "the number of splits", least=1)
        _fraction(self.fraction)
        _whole(self.seed, "the seed of a split", least=0)


Threshold = FixedThreshold | Bonferroni | Split | MultiSplit
Guesses = GuessCounts | MultiSplit


@dataclass(frozen=True, kw_only=True)
class ScoredCanaries:
    """Canaries with their scores, joined by id and sorted by id.

    Attributes:
      scores: shape (m,), higher = more likely a member.
      included: whether the canary was in training, shape (m,).
    """

    scores: Floats
    included: NDArray[np.bool_]


def join_scores(
    *, canary_ids: ArrayLike, included: ArrayLike, score_ids: ArrayLike, scores: ArrayLike
) -> ScoredCanaries:
    """Give every canary its score by id; the order of either list means nothing.

    Args:
      canary_ids: shape (m,), unique.
      included: booleans, shape (m,): which canaries were in training.
      score_ids: shape (m,), unique, the same ids in any order.
      scores: shape (m,), finite.

    Raises:
      AuditInputError: duplicate, missing or unknown ids, wrong shapes, a flag that is no boolean,
        or a score that is no finite number.

    Source: docs/methods.md#epsilon-lower-bounds.
    """
    canaries, scored = _ids(canary_ids, "canary_ids"), _ids(score_ids, "score_ids")
    flags = np.asarray(included)
    if flags.dtype != np.bool_ or flags.shape != canaries.shape:
        raise AuditInputError(
            f"included must hold one boolean a canary: got {flags.dtype} of shape {flags.shape} "
            f"for {len(canaries)} canaries."
        )
    values = finite_scores(scores, "scores")
    if values.shape != scored.shape:
        raise AuditInputError(
            f"scores must hold one number an id: got {len(values)} for {len(scored)} score_ids."
        )
    for what, absent in (
        ("have no score", np.setdiff1d(canaries, scored)),
        ("are scored but are no canaries", np.setdiff1d(scored, canaries)),
    ):
        if len(absent):
            raise AuditInputError(
                f"canaries and scores must have the same ids: {len(absent)} {what} "
                f"(first: {absent[0]}). Score every canary, and nothing else."
            )
    return ScoredCanaries(
        scores=values[np.argsort(scored)],
        included=flags[np.argsort(canaries)],
    )


def random_part(n: int, size: int, rng: np.random.Generator) -> NDArray[np.bool_]:
    """Mask of `size` of `n` canaries at random."""
    return rng.permutation(n) < size


def first_part(n: int, fraction: float, least: int, what: str) -> int:
    """Size of the part on which a split chooses.

    Raises:
      AuditInputError: either part would be smaller than `least`.
    """
    first = int(n * fraction)
    if min(first, n - first) < least:
        raise AuditInputError(
            f"both parts of a split need at least {least} {what}: {n} at fraction {fraction:g} "
            f"give {first} and {n - first}. Add canaries or register the choice beforehand."
        )
    return first


def _fraction(value: float) -> None:
    if not 0 < value < 1:
        raise AuditInputError(f"the split fraction must be in (0, 1): got {value!r}.")


def _whole(value: int, name: str, *, least: int) -> None:
    if not isinstance(value, int | np.integer) or value < least:
        raise AuditInputError(f"{name} must be a whole number of at least {least}: got {value!r}.")


def finite_scores(values: ArrayLike, name: str) -> Floats:
    """A list of at least one finite number, as float64.

    Raises:
      AuditInputError: anything else.
    """
    array = np.asarray(values)
    if array.ndim != 1 or len(array) == 0 or array.dtype.kind not in "fiu":
        raise AuditInputError(
            f"{name} must be a list of at least one real number: got {array.dtype} of shape "
            f"{array.shape}."
        )
    if not np.isfinite(array).all():
        raise AuditInputError(
            f"{name} must be finite: {int((~np.isfinite(array)).sum())} of {len(array)} are NaN or "
            "infinite."
        )
    return array.astype(np.float64)


def _ids(values: ArrayLike, name: str) -> Strings:
    array = np.asarray(values).astype(np.str_)
    if array.ndim != 1 or len(array) == 0:
        raise AuditInputError(f"{name} must be a list of at least one id: got {array.shape}.")
    names, counts = np.unique(array, return_counts=True)
    if len(names) != len(array):
        raise AuditInputError(
            f"{name} must be unique: {len(array) - len(names)} repeated "
            f"(first: {names[counts.argmax()]})."
        )
    return array


def correct_guesses(
    high: NDArray[np.bool_], low: NDArray[np.bool_], plans: Sequence[GuessCounts]
) -> Counts:
    """Correct guesses of each plan, given inclusion by falling and by rising score, shape (p,)."""
    hits = np.concatenate([[0], np.cumsum(high)])
    rejections = np.concatenate([[0], np.cumsum(~low)])
    return np.array([hits[plan.guessed_in] + rejections[plan.guessed_out] for plan in plans])


def guess_ladder(canaries: int) -> list[GuessCounts]:
    """The guess counts `MultiSplit` chooses from, for at least 2 canaries."""
    steps = [max(1, int(canaries * share)) for share in GUESS_LADDER]
    return [GuessCounts(k, back) for k in steps for back in (k, 0)]


def check_unit(unit: Unit) -> None:
    """Refuse a unit that is neither "patient" nor "tile"."""
    if unit not in get_args(Unit):
        raise AuditInputError(f'unit must be "patient" or "tile": got {unit!r}.')


def check_coins(included: NDArray[np.bool_]) -> None:
    """Refuse inclusion that fair coins would not have made.

    Raises:
      AuditInputError: two-sided binomial p below `COIN_P`.
    """
    inside, m = int(included.sum()), len(included)
    if stats.binomtest(inside, m).pvalue < COIN_P:
        raise AuditInputError(
            f"each canary must be included by its own fair coin: {inside} of {m} were, which fair "
            "coins would not do. Toss one coin a canary before training."
        )


def guess_orders(canaries: ScoredCanaries) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Canaries by falling and by rising score; among ties the wrong guess comes first."""
    falling = np.lexsort((canaries.included, -canaries.scores))
    rising = np.lexsort((~canaries.included, canaries.scores))
    return falling, rising


def check_level(delta: float, significance: float) -> None:
    """Refuse a delta outside [0, 1) or a significance outside (0, .5)."""
    if not 0 <= delta < 1:
        raise AuditInputError(f"delta must be in [0, 1): got {delta!r}.")
    if not 0 < significance < 0.5:
        raise AuditInputError(f"significance must be in (0, .5): got {significance!r}.")


def lower_bound_result(
    name: str,
    bound: float,
    n: int,
    unit: Unit,
    significance: float,
    *,
    details: Mapping[str, object],
    note: str,
) -> AuditResult:
    """An epsilon lower bound as a result; `details` must hold the ceiling."""
    if unit == "tile":
        note += " The epsilon is a tile's: it says nothing about a patient."
    return AuditResult(
        name=name,
        harm=None,
        statistic=Estimate(
            value=bound,
            low=bound,
            high=None,
            confidence=1 - significance,
            n=n,
            unit=f"{unit} canary (lower bound only)",
        ),
        details={**details, "unit": unit, "confidence": 1 - significance},
        note=f"At most {details['ceiling']:.4g} could have been certified here. {note}",
    )

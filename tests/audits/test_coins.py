"""Coins of repeated training: what each scheme tosses, and that re-tosses follow the same law."""

import numpy as np
import pytest

from audits import AuditInputError
from audits.coins import Coins, Design
from tests.helpers.recipes import design

RNG = np.random.default_rng(0)


def few(scheme: str, patients: int = 4, runs: int = 4) -> Design:
    return Design(scheme=scheme, runs=runs, class_tiles=np.full((patients, 1), 5))  # type: ignore[arg-type]


def test_complementary_runs_share_the_patients_out() -> None:
    included = design(runs=8).toss(RNG).included
    assert np.array_equal(included[::2], ~included[1::2])
    assert (included.sum(axis=0) == 4).all()


def test_balanced_runs_take_half_of_the_patients() -> None:
    assert (design(16, 7, "balanced").retoss(50, RNG).sum(axis=2) == 8).all()
    odd = design(9, 7, "balanced").retoss(400, RNG).sum(axis=2)
    assert set(np.unique(odd)) == {4, 5}


def test_independent_coins_are_fair_and_free() -> None:
    drawn = design(16, 6, "independent").retoss(2_000, RNG)
    assert drawn.mean() == pytest.approx(0.5, abs=0.01)
    flat = drawn.reshape(len(drawn), -1).astype(float)
    correlation = np.corrcoef(flat.T)[np.triu_indices(flat.shape[1], 1)]
    assert np.abs(correlation).max() < 0.15


@pytest.mark.parametrize("scheme", ["complementary", "independent", "balanced"])
def test_every_run_can_train_every_class(scheme: str) -> None:
    tiles = np.zeros((8, 2), dtype=np.int64)
    tiles[:, 0] = 9
    tiles[:4, 1] = 1  # two patients of four make a class trainable
    scarce = Design(scheme=scheme, runs=6, class_tiles=tiles)  # type: ignore[arg-type]
    drawn = scarce.retoss(300, RNG)
    assert ((drawn.astype(int) @ tiles) >= 2).all()
    assert 0 < scarce.acceptance < 1


@pytest.mark.parametrize("scheme", ["complementary", "independent", "balanced"])
def test_retosses_and_arrangements_have_one_law(scheme: str) -> None:
    every = few(scheme).arrangements(100_000)
    assert every is not None
    as_numbers = every.reshape(len(every), -1) @ (1 << np.arange(16))
    assert len(np.unique(as_numbers)) == len(every)
    drawn = few(scheme).retoss(20_000, RNG).reshape(20_000, -1) @ (1 << np.arange(16))
    assert np.isin(drawn, as_numbers).all()
    if len(every) < 300:
        counts = np.bincount(np.searchsorted(np.sort(as_numbers), drawn), minlength=len(every))
        assert counts.min() > 0.5 * 20_000 / len(every)


def test_too_many_arrangements_are_not_listed() -> None:
    assert design(16, 8).arrangements(10_000) is None
    assert few("independent", 6, 6).arrangements(10_000) is None


def test_the_acceptance_is_exact_for_few_patients() -> None:
    # Of 2^4 halves of one class, the empty and the full one are refused.
    assert few("independent").acceptance == pytest.approx(14 / 16)


def test_the_same_seed_tosses_the_same() -> None:
    first, again = (design().toss(np.random.default_rng(5)).included for _ in range(2))
    assert np.array_equal(first, again)


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"runs": 2}, "4 runs at least: got 2"),
        ({"runs": 5}, "pairs: got 5"),
        ({"patients": 3}, "4 patients at least: got 3"),
        ({"scheme": "fair"}, "got 'fair'"),
    ],
)
def test_what_cannot_be_tossed_is_refused(settings: dict[str, object], told: str) -> None:
    with pytest.raises(AuditInputError, match=told):
        design(**settings)  # type: ignore[arg-type]


def test_a_class_that_no_two_runs_can_share_is_refused() -> None:
    tiles = np.array([[5, 0]] * 7 + [[5, 9]])
    with pytest.raises(AuditInputError, match="every class to train on"):
        Design(scheme="complementary", runs=4, class_tiles=tiles)


def test_coins_of_another_design_are_refused() -> None:
    made = design()
    included = made.toss(RNG).included.copy()
    included[0, 0] = ~included[0, 0]
    with pytest.raises(AuditInputError, match="none of the design"):
        Coins(design=made, included=included)
    with pytest.raises(AuditInputError, match="one boolean a run and patient"):
        Coins(design=made, included=included[:4])

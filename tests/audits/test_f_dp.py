"""The f-DP bound: published values, a peer, and coverage where training is a Gaussian mechanism."""

import importlib.util
import sys
from typing import Any

import numpy as np
import pytest

from audits import AuditInputError
from audits.f_dp import f_dp_lower_bound, gaussian_epsilon, gaussian_refuted

GOLDEN = [
    (100, 100, 100, 8.2162),
    (1000, 1000, 1000, 12.3346),
    (1000, 100, 95, 3.3233),
    (1000, 100, 75, 1.0059),
    (1000, 1000, 600, 0.5835),
    (1000, 1000, 525, 0.0),
    (5000, 500, 450, 2.7761),
    (20, 20, 20, 4.7339),
    (20, 20, 18, 2.3358),
    (16, 16, 16, 4.1531),
    (10, 10, 10, 2.8062),
    (40, 40, 36, 3.1041),
    (200, 200, 150, 1.7348),
]


@pytest.mark.parametrize(("m", "r", "c", "known"), GOLDEN)
def test_published_bounds_are_reproduced(m: int, r: int, c: int, known: float) -> None:
    found = f_dp_lower_bound(canaries=m, guesses=r, correct=c, delta=1e-5)
    assert found == pytest.approx(known, abs=1e-4)


def test_the_bound_rises_with_correct_guesses_and_never_overflows() -> None:
    bounds = [
        f_dp_lower_bound(canaries=200, guesses=100, correct=correct, delta=1e-5)
        for correct in range(0, 101, 10)
    ]
    assert bounds == sorted(bounds)
    assert np.isfinite(bounds).all()


def test_epsilon_of_a_gaussian_mechanism_is_that_of_its_curve() -> None:
    # Phi(-eps / mu + mu / 2) - e^eps Phi(-eps / mu - mu / 2) = delta, at mu 1 and delta 1e-5.
    assert gaussian_epsilon(1.0, 1e-5) == pytest.approx(4.3771, abs=1e-3)
    assert gaussian_epsilon(0.0, 1e-5) == 0
    assert gaussian_epsilon(1e-6, 0.1) == 0


def test_the_bound_exceeds_the_truth_in_five_of_a_hundred_at_most() -> None:
    rng = np.random.default_rng(0)
    mu, m, guesses = 1.0, 200, 60
    truth, above, repetitions = gaussian_epsilon(mu, 1e-5), 0, 400
    for _ in range(repetitions):
        included = rng.random(m) < 0.5
        order = np.argsort(mu * included + rng.normal(size=m))
        correct = int(included[order[-guesses // 2 :]].sum())
        correct += int((~included[order[: guesses // 2]]).sum())
        found = f_dp_lower_bound(canaries=m, guesses=guesses, correct=correct, delta=1e-5)
        above += found > truth
    assert above / repetitions <= 0.05


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"guesses": 11}, "between 1 and the 10 canaries"),
        ({"correct": 6}, "between 0 and the guesses"),
        ({"delta": 0.0}, "no pure epsilon"),
        ({"delta": 1.5}, "delta must be in"),
    ],
)
def test_values_out_of_range_are_refused(settings: dict[str, Any], told: str) -> None:
    given = {"canaries": 10, "guesses": 5, "correct": 5, "delta": 1e-5, **settings}
    with pytest.raises(AuditInputError, match=told):
        f_dp_lower_bound(**given)


def test_refuting_is_monotone_in_mu() -> None:
    told = [
        gaussian_refuted(mu, canaries=100, guesses=40, correct=35)
        for mu in (0.01, 0.5, 1.0, 2.0, 4.0)
    ]
    assert told == sorted(told, reverse=True)


@pytest.mark.peer
def test_the_bound_agrees_with_jax_privacy(monkeypatch: pytest.MonkeyPatch) -> None:
    package = importlib.util.find_spec("jax_privacy")
    if package is not None:  # its package is not run, for it would import jax
        monkeypatch.setitem(sys.modules, "jax_privacy", importlib.util.module_from_spec(package))
    peer = pytest.importorskip("jax_privacy.auditing")
    rng, compared = np.random.default_rng(1), 0
    for _ in range(10):
        m, cut = int(rng.integers(40, 300)), float(rng.uniform(0, 1))
        included = rng.random(m) < 0.5
        scores = 1.5 * included + rng.normal(size=m)
        auditor = peer.CanaryScoreAuditor(scores[included], scores[~included])
        theirs = auditor.epsilon_one_run_fdp(0.05, 1e-5, threshold_strategy=peer.Explicit(cut))
        called = int((scores >= cut).sum())
        correct = int(included[scores >= cut].sum())
        ours = f_dp_lower_bound(canaries=m, guesses=called, correct=correct, delta=1e-5)
        assert ours == pytest.approx(theirs, abs=1e-3)
        compared += ours > 0
    assert compared >= 5

"""Canaries with a known epsilon, and audits of them in one call."""

from typing import Any

import numpy as np

from audits import AuditResult
from audits.epsilon import (
    Guesses,
    Threshold,
    one_run_audit,
    one_run_lower_bound,
    rates_audit,
)


def bound(m: int, r: int, v: int, delta: float = 0.0, significance: float = 0.05) -> float:
    return float(
        one_run_lower_bound(
            canaries=m, guesses=r, correct=v, delta=delta, significance=significance
        )
    )


def laplace_run(seed: int, m: int, scale: float = 1.0) -> tuple[np.ndarray, np.ndarray]:
    """(coins, scores) of m canaries under Laplace noise: epsilon is 1 / scale."""
    rng = np.random.default_rng(seed)
    coins = rng.random(m) < 0.5
    return coins, coins + rng.laplace(scale=scale, size=m)


def audit_one_run(
    coins: np.ndarray, scores: np.ndarray, guesses: Guesses, **options: Any
) -> AuditResult:
    ids = [f"p{i}" for i in range(len(coins))]
    given = {"unit": "patient", **options}
    return one_run_audit(
        canary_ids=ids, included=coins, score_ids=ids, scores=scores, guesses=guesses, **given
    )


def audit_rates(
    coins: np.ndarray, scores: np.ndarray, threshold: Threshold, **options: Any
) -> AuditResult:
    given = {"unit": "patient", **options}
    return rates_audit(
        included=scores[coins], excluded=scores[~coins], threshold=threshold, **given
    )

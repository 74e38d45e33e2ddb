"""How often epsilon lower bounds exceed the truth, where the truth is known.

Mechanisms: random scores (epsilon 0), and a canary's coin plus Laplace(1) or unit Gaussian noise,
whose privacy curves are known exactly. Every run tosses one fair coin a canary; each bound sees the
same scores. Beside them, in brackets, the best threshold (or guess count) on the same data with
nothing paid for the choice, as published tools do it. One-run levels are exact up to the steps of a
binomial (.042 to .048 here), so that another seed may end just above .05.
"""

import importlib.util
import sys
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from harness import Options, Outcome
from scipy import optimize, stats

from audits.epsilon import (
    Bonferroni,
    FixedThreshold,
    GuessCounts,
    MultiSplit,
    Split,
    one_run_audit,
    one_run_lower_bound,
    rates_audit,
    rates_lower_bound,
)
from audits.intervals import clopper_pearson

TARGET = 0.05
CANARIES = 1000
GRID = tuple(np.linspace(-1, 3, 9))
GOLDEN = (
    (100, 100, 100, 0.0, 3.4930),
    (1000, 1000, 1000, 0.0, 5.8091),
    (1000, 1000, 1000, 1e-5, 5.7823),
    (1000, 100, 95, 0.0, 2.1724),
    (1000, 100, 95, 1e-5, 2.1652),
    (1000, 100, 75, 0.0, 0.7022),
    (1000, 1000, 600, 0.0, 0.2975),
    (1000, 1000, 525, 0.0, 0.0),
    (5000, 500, 450, 1e-5, 1.9414),
    (20, 20, 20, 0.0, 1.8227),
    (10, 10, 10, 0.0, 1.0519),
)
"""(canaries, guesses, correct, delta, bound), docs/methods.md#epsilon-lower-bounds."""
GOLDEN_TARGET = 1e-3
PEER_TARGET = 1e-6

Draw = Callable[[np.random.Generator, np.ndarray], np.ndarray]


def gaussian_epsilon(delta: float) -> float:
    """Epsilon of unit Gaussian noise at sensitivity 1 (Balle & Wang 2018, arXiv:1805.06530)."""

    def excess(epsilon: float) -> float:
        far = np.exp(epsilon) * stats.norm.cdf(-0.5 - epsilon)
        return float(stats.norm.cdf(0.5 - epsilon) - far - delta)

    return float(optimize.brentq(excess, 0, 50))


def mechanisms() -> Iterator[tuple[str, Draw, float, float, float, GuessCounts]]:
    """(name, draw, delta, true epsilon, best threshold, registered guesses) of each."""

    def random(rng: np.random.Generator, coins: np.ndarray) -> np.ndarray:
        return rng.normal(size=len(coins))

    def laplace(rng: np.random.Generator, coins: np.ndarray) -> np.ndarray:
        return coins + rng.laplace(size=len(coins))

    def gaussian(rng: np.random.Generator, coins: np.ndarray) -> np.ndarray:
        return coins + rng.normal(size=len(coins))

    third = CANARIES // 3
    yield "random scores", random, 0.0, 0.0, 0.5, GuessCounts(third, third)
    yield "Laplace(1)", laplace, 0.0, 1.0, 1.0, GuessCounts(third, third)
    for delta, guesses in ((1e-5, CANARIES // 20), (0.05, CANARIES // 5)):
        truth = gaussian_epsilon(delta)
        name = f"Gaussian(1), delta {delta:g}"
        yield name, gaussian, delta, truth, 0.5 + truth, GuessCounts(guesses, guesses)


def bounds(
    coins: np.ndarray,
    scores: np.ndarray,
    ids: np.ndarray,
    delta: float,
    best: float,
    guesses: GuessCounts,
    seed: int,
) -> dict[str, float]:
    """Every bound on one run's scores."""
    splits = MultiSplit(splits=21, seed=seed)
    found = {}
    for name, plan in (("registered", guesses), ("MultiSplit", splits)):
        result = one_run_audit(
            canary_ids=ids,
            included=coins,
            score_ids=ids,
            scores=scores,
            guesses=plan,
            delta=delta,
            unit="patient",
        )
        found[f"one run, {name}"] = result.statistic.value
    members, others = np.sort(scores[coins]), np.sort(scores[~coins])
    for name, threshold in (
        ("FixedThreshold", FixedThreshold(best)),
        (f"Bonferroni over {len(GRID)}", Bonferroni(GRID)),
        ("Bonferroni over all", Bonferroni()),
        ("Split", Split(seed=seed)),
        ("MultiSplit", splits),
    ):
        rated = rates_audit(
            included=members, excluded=others, threshold=threshold, delta=delta, unit="patient"
        )
        found[f"rates, {name}"] = rated.statistic.value
    naive = rates_lower_bound(
        missed=np.searchsorted(members, members),
        included=len(members),
        false_alarms=len(others) - np.searchsorted(others, members),
        excluded=len(others),
        delta=delta,
    )
    found["(rates, best threshold)"] = float(naive.max())
    if delta == 0:
        made = np.arange(CANARIES // 25, CANARIES + 1, CANARIES // 25)
        correct = np.cumsum(coins[np.argsort(-scores)])[made - 1]
        naive = one_run_lower_bound(canaries=CANARIES, guesses=made, correct=correct)
        found["(one run, best count)"] = float(naive.max())
    return found


def run(options: Options) -> Outcome:
    """Share of runs whose bound exceeds the truth, golden values, and agreement with the peer."""
    repeats = 100 if options.quick else 1000
    rows, figures = [], []
    worst = 0.0
    for number, (name, draw, delta, truth, best, guesses) in enumerate(mechanisms()):
        rng = np.random.default_rng([options.seed, number])
        ids = np.arange(CANARIES).astype(np.str_)
        found: dict[str, list[float]] = {}
        for repeat in range(repeats):
            coins = rng.random(CANARIES) < 0.5
            scores = draw(rng, coins)
            for method, bound in bounds(coins, scores, ids, delta, best, guesses, repeat).items():
                found.setdefault(method, []).append(bound)
        for method, values in found.items():
            above = int((np.array(values) > truth).sum())
            share, published = above / repeats, method.startswith("(")
            low, high = clopper_pearson(above, repeats)
            if not published:
                worst = max(worst, share)
            verdict = "published" if published else "ok" if share <= TARGET else "OUT"
            rows.append(
                [
                    name,
                    f"{truth:.3f}",
                    method,
                    f"{np.mean(values):.3f}",
                    f"{share:.3f} [{low:.3f}, {high:.3f}]",
                    verdict,
                ]
            )
            figures.append(
                {
                    "mechanism": name,
                    "delta": delta,
                    "truth": truth,
                    "method": method,
                    "mean_bound": float(np.mean(values)),
                    "share_above": share,
                    "low": low,
                    "high": high,
                    "n": repeats,
                }
            )
    golden = max(
        abs(float(one_run_lower_bound(canaries=m, guesses=r, correct=v, delta=d)) - known)
        for m, r, v, d, known in GOLDEN
    )
    peer = peer_difference(options.seed)
    agreement = "not compared (not installed)" if peer is None else f"{peer:.1e}"
    rows.append(["golden list", "", f"{len(GOLDEN)} values", "", f"largest {golden:.1e}", ""])
    rows.append(["jax-privacy", "", "largest difference", "", agreement, ""])
    return Outcome(
        columns=["mechanism", "epsilon", "bound", "mean", "above the truth", ""],
        rows=rows,
        figures={
            "bounds": figures,
            "repeats": repeats,
            "canaries": CANARIES,
            "golden_difference": golden,
            "peer_difference": peer,
        },
        figure=(
            f"largest share above the truth {worst:.3f} over {repeats} runs, golden {golden:.1e}, "
            f"jax-privacy {agreement}"
        ),
        target=f"{TARGET:g}, {GOLDEN_TARGET:g}, {PEER_TARGET:g}",
        passed=worst <= TARGET
        and golden <= GOLDEN_TARGET
        and (peer is None or peer <= PEER_TARGET),
    )


def peer_auditing() -> Any:
    """jax-privacy's auditing module without its package, which would import jax; None if absent."""
    found = importlib.util.find_spec("jax_privacy")
    if found is None:
        return None
    sys.modules.setdefault("jax_privacy", importlib.util.module_from_spec(found))
    try:
        return importlib.import_module("jax_privacy.auditing")
    except ImportError:
        return None


def peer_difference(seed: int) -> float | None:
    """Largest difference to jax-privacy's bounds at given thresholds; None when not installed."""
    peer = peer_auditing()
    if peer is None:
        return None
    rng = np.random.default_rng(seed)
    worst = 0.0
    for _ in range(40):
        coins = rng.random(rng.integers(50, 800)) < 0.5
        scores = rng.uniform(0.5, 4) * coins + rng.laplace(size=len(coins))
        cut, delta = float(rng.uniform(0, 4)), float(10 ** rng.uniform(-7, -3))
        auditor = peer.CanaryScoreAuditor(scores[coins], scores[~coins])
        fixed = peer.Explicit(cut)
        theirs = auditor.epsilon_clopper_pearson(0.05, delta, False, threshold_strategy=fixed)
        ours = rates_audit(
            included=scores[coins],
            excluded=scores[~coins],
            threshold=FixedThreshold(cut),
            delta=delta,
            unit="patient",
        )
        worst = max(worst, abs(theirs - ours.statistic.value))
        made = int((scores >= cut).sum())
        if made:
            one_run = one_run_lower_bound(
                canaries=len(coins),
                guesses=made,
                correct=int((coins & (scores >= cut)).sum()),
                delta=delta,
            )
            theirs = auditor.epsilon_one_run(0.05, delta, threshold_strategy=fixed)
            worst = max(worst, abs(theirs - float(one_run)))
    return worst

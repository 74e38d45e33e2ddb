"""An augment-bench as it stands in report.json: it helps with few real tiles and not with all."""

import math
import random
from typing import Any

CLASSES = ("benign", "malignant")
MODELS = {"mobilenet": 0.643, "resnet": 0.717, "densenet": 0.702, "efficientnet": 0.668}
RATIOS = (0.25, 0.5, 1.0, 2.0, 3.0)
STRESSES = {"hue": 0.081, "jpeg": 0.024, "blur": 0.052}
LEVELS = {
    "balanced_accuracy": 0.0,
    "macro_f1": -0.021,
    "auroc": 0.094,
    "ece": -0.55,
    "worst_class_recall": -0.17,
}
ARMS = (
    ("real", None, "baseline"),
    ("real+classical", None, "comparison"),
    *(("real+synthetic", ratio, "tested") for ratio in RATIOS),
    ("real+filtered", 1.0, "tested"),
    ("synthetic", 1.0, "comparison"),
    ("oversampled", 1.0, "control"),
    ("shuffled", 1.0, "control"),
)
WITHOUT_GENERATOR = ("real", "real+classical", "oversampled")
REGIMES = {0.1: (56, 4, 90), 1.0: (560, 32, 300)}
"""Share of the training tiles: (tiles, patients, updates)."""


def bench(
    seed: int = 7,
    *,
    models: tuple[str, ...] = tuple(MODELS),
    audited: bool = True,
    warnings: tuple[str, ...] = (),
) -> dict[str, Any]:
    """Two regimes, every arm at five ratios, two generators.

    Args:
      seed: of every figure.
      models: of MODELS.
      audited: whether the synthetic tiles were audited too.
      warnings: shown above the figures.
    """
    rng = random.Random(seed)
    rows, differences = [], []
    for regime in REGIMES:
        tested = []
        for model in models:
            for arm, ratio, role in ARMS:
                row, difference = _measured(rng, regime, model, arm, ratio, role)
                rows.append(row)
                if role != "baseline":
                    differences.append(difference)
                if role == "tested":
                    tested.append(difference)
        _decide(tested)
    return {
        "rows": rows,
        "differences": differences,
        "histograms": [
            {
                "regime": regime,
                "metrics": {name: _estimate(0.58 + level, 0.07) for name, level in LEVELS.items()},
            }
            for regime in REGIMES
        ],
        "regimes": [
            {
                "share": regime,
                "tiles": tiles,
                "patients": patients,
                "generators": [
                    {
                        "name": f"cdcgan, seed {number}",
                        "synthetic": 3 * tiles,
                        "kept": round(2.1 * tiles),
                        "dropped_confidence": round(0.6 * tiles),
                        "dropped_distance": 3 * tiles - round(2.1 * tiles) - round(0.6 * tiles),
                    }
                    for number in (0, 1)
                ],
            }
            for regime, (tiles, patients, _) in REGIMES.items()
        ],
        "plane": _plane(rng, audited),
        "conclusion": "With 10 % of the training tiles, synthetic tiles help every network, by "
        "5.4 points on average at one synthetic tile for each real one. With all of them there is "
        "no evidence of benefit for any network; a gain of about 5.1 points would have been found. "
        "Neither control gains beyond its interval.",
        "warnings": list(warnings),
        "classes": list(CLASSES),
        "counts": {
            "validation": {"tiles": 104, "patients": 6},
            "test": {"tiles": 251, "patients": 14},
        },
        "group_unit": "patient",
        "config": {
            "models": list(models),
            "regimes": list(REGIMES),
            "ratios": list(RATIOS),
            "seeds": [0, 1, 2, 3, 4],
            "arms": list(dict.fromkeys(arm for arm, _, _ in ARMS)),
            "recipe": {
                "updates": 300,
                "batch": 32,
                "evaluations": 6,
                "learning_rate": 0.002,
                "weight_decay": 0.05,
            },
            "size": "small",
            "weights": dict.fromkeys(models, "scratch"),
            "device": "auto",
            "seed": seed,
            "side": 64,
            "primary_ratio": 1.0,
            "primary_metric": "balanced_accuracy",
            "significance": 0.05,
            "draws": 2000,
        },
        "seed": seed,
    }


def _estimate(value: float, half: float) -> dict[str, Any]:
    return {
        "value": value,
        "low": value - half,
        "high": value + half,
        "confidence": 0.95,
        "n": 14,
        "unit": "patient",
    }


def _measured(
    rng: random.Random, regime: float, model: str, arm: str, ratio: float | None, role: str
) -> tuple[dict[str, Any], dict[str, Any]]:
    """A row, and its difference from real tiles alone, still without adjusted p and verdict."""
    tiles, _, updates = REGIMES[regime]
    start = MODELS[model] + (0.0 if regime == 0.1 else 0.11)
    gain = _gain(regime, arm, ratio) + (rng.gauss(0, 0.006) if role != "baseline" else 0.0)
    half = 0.028 + 0.006 * rng.random()
    label = arm if ratio is None else f"{arm} x{ratio:g}"
    key = {"regime": regime, "model": model, "arm": label, "ratio": ratio, "role": role}
    steps = [round(updates * step / 6) for step in range(1, 7)]
    row = key | {
        "train_tiles": tiles if ratio is None else round(tiles * (ratio + (arm != "synthetic"))),
        "updates": updates,
        "seeds": 5,
        "generators": 1 if arm in WITHOUT_GENERATOR else 2,
        "metrics": {name: _estimate(start + gain + up, 0.062) for name, up in LEVELS.items()},
        "robustness": {
            name: _estimate(start + gain - drop * rng.uniform(0.7, 1.2), 0.07)
            for name, drop in STRESSES.items()
        },
        "convergence": {
            "curve": [
                {
                    "update": update,
                    "train_loss": 1.4 / number,
                    "validation_loss": 1.5 / number**0.5,
                    "validation_balanced_accuracy": start - 0.2 / number**1.6,
                }
                for number, update in enumerate(steps, start=1)
            ],
            "train_accuracy": 0.97 if regime == 0.1 else 0.93,
            "chosen": [steps[-1], steps[-1], steps[-2], steps[-1], steps[-3]],
            "still_improving": model == "densenet" and regime == 1.0,
        },
    }
    p = math.erfc(abs(gain) / (half / 1.96) / math.sqrt(2))
    difference = key | {
        "estimate": _estimate(gain, half),
        "metrics": {name: _estimate(gain, 1.1 * half) for name in LEVELS},
        "robustness": {name: _estimate(0.8 * gain, 1.2 * half) for name in STRESSES},
        "p": p,
        "p_holm": None,
        "verdict": role,
        "detectable": 2.8 * half / 1.96,
    }
    return row, difference


def _gain(regime: float, arm: str, ratio: float | None) -> float:
    """What an arm adds to balanced accuracy."""
    if arm == "oversampled":
        return 0.003
    if arm == "shuffled":
        return -0.041
    if arm == "synthetic":
        return -0.02 if regime == 0.1 else -0.16
    if arm == "real+classical":
        return 0.034 if regime == 0.1 else 0.012
    if arm == "real" or ratio is None:
        return 0.0
    size = 0.068 * (1 - math.exp(-1.5 * ratio)) + (0.008 if arm == "real+filtered" else 0.0)
    return size if regime == 0.1 else 0.006 - 0.005 * ratio


def _decide(tested: list[dict[str, Any]]) -> None:
    """Holm within a regime, and the verdicts."""
    largest = 0.0
    for place, difference in enumerate(sorted(tested, key=lambda one: float(one["p"]))):
        largest = max(largest, min(1.0, (len(tested) - place) * difference["p"]))
        difference["p_holm"] = largest
        found = "helps" if difference["estimate"]["value"] > 0 else "harms"
        difference["verdict"] = found if largest <= 0.05 else "no evidence of benefit"


def _plane(rng: random.Random, audited: bool) -> list[dict[str, Any]]:
    """Eight points: every generator of every regime, with and without the filter."""
    audits: list[tuple[str, float | None]] = [
        ("LEAK", 0.005),
        ("NO LEAK FOUND", 0.01),
        ("LEAK", 0.005),
        ("NO LEAK FOUND", 0.01),
        ("NO LEAK FOUND", 0.005),
        ("NO LEAK FOUND", 0.01),
        ("INCONCLUSIVE", None),
        ("INCONCLUSIVE", None),
    ]
    points = []
    for regime in REGIMES:
        for number in (0, 1):
            for filtered in (False, True):
                outcome, mdl80 = audits[len(points)]
                mean = (0.054 if regime == 0.1 else 0.001) + rng.gauss(0, 0.008)
                points.append(
                    {
                        "regime": regime,
                        "generator": f"cdcgan, seed {number}",
                        "filtered": filtered,
                        "gain": _estimate(mean, 0.026),
                        "outcome": outcome if audited else None,
                        "mdl80": mdl80 if audited else None,
                        "undominated": None,
                    }
                )
    for point in points if audited else []:
        point["undominated"] = not any(_dominates(other, point) for other in points)
    return points


def _dominates(one: dict[str, Any], other: dict[str, Any]) -> bool:
    """At least as good in gain, verdict and MDL80, better in one; within a regime."""
    verdicts = ("NO LEAK FOUND", "INCONCLUSIVE", "LEAK")
    ours, theirs = (
        (-point["gain"]["value"], verdicts.index(point["outcome"]), point["mdl80"] or 1.0)
        for point in (one, other)
    )
    same = one["regime"] == other["regime"] and ours != theirs
    return same and all(a <= b for a, b in zip(ours, theirs, strict=True))

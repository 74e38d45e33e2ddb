"""An augment-bench as it stands in report.json, with realistic figures."""

from typing import Any

CLASSES = ("benign", "malignant")


def bench(gains: dict[str, float], *, warnings: tuple[str, ...] = ()) -> dict[str, Any]:
    """An augment-bench of four families with two ratios and the control of repeated real tiles.

    Args:
      gains: of each family, what synthetic tiles add to its balanced accuracy at ratio 1.
      warnings: shown above the figures.
    """
    base = {"mobilenet": 0.643, "resnet": 0.717, "densenet": 0.702, "efficientnet": 0.668}
    levels = {
        "balanced_accuracy": 0.0,
        "macro_f1": -0.021,
        "auroc": 0.194,
        "ece": -0.55,
        "worst_class_recall": -0.27,
    }
    arms = [("real", None, False)]
    arms += [(f"real+synthetic x{ratio:g}", ratio, False) for ratio in (0.5, 1.0)]
    arms += [("oversampled x1", 1.0, True)]

    def measured(value: float, half: float, floor: float = 0.0) -> dict[str, Any]:
        return {
            "value": value,
            "low": max(floor, value - half),
            "high": min(1.0, value + half),
            "confidence": 0.95,
            "n": 14,
            "unit": "patient",
        }

    rows, differences = [], []
    for family, start in base.items():
        for arm, ratio, control in arms:
            gain = 0.004 if control else gains[family] * (ratio or 0.0) ** 0.5
            rows.append(
                {
                    "family": family,
                    "arm": arm,
                    "ratio": ratio,
                    "control": control,
                    "train_tiles": 320 if ratio is None else round(320 * (1 + ratio)),
                    "updates": 150,
                    "metrics": {
                        name: measured(start + gain + level, 0.062)
                        for name, level in levels.items()
                    },
                    "convergence": {
                        "curve": [
                            {
                                "update": 50 * step,
                                "train_loss": 1.4 / step,
                                "validation_loss": 1.5 / step,
                                "validation_balanced_accuracy": start - 0.15 / step**2,
                            }
                            for step in (1, 2, 3)
                        ],
                        "train_accuracy": 0.93,
                        "chosen": [150, 150, 100],
                        "still_improving": family == "densenet",
                    },
                }
            )
            if arm == "real":
                continue
            helps = gain > 0.03 and not control
            differences.append(
                {
                    "family": family,
                    "arm": arm,
                    "ratio": ratio,
                    "control": control,
                    "estimate": measured(gain, 0.027, floor=-1.0),
                    "metrics": {name: measured(gain, 0.03, floor=-1.0) for name in levels},
                    "p": 0.0017 if helps else 0.31,
                    "p_holm": None if control else 0.0136 if helps else 1.0,
                    "verdict": "control"
                    if control
                    else "helps"
                    if helps
                    else "no evidence of benefit",
                }
            )
    return {
        "rows": rows,
        "differences": differences,
        "colour_histogram": {
            name: measured(0.581 + level, 0.071) for name, level in levels.items()
        },
        "warnings": list(warnings),
        "classes": list(CLASSES),
        "counts": {
            "train": {"tiles": 320, "patients": 18},
            "validation": {"tiles": 104, "patients": 6},
            "test": {"tiles": 251, "patients": 14},
            "synthetic": {"tiles": 320},
        },
        "group_unit": "patient",
        "config": {
            "families": list(base),
            "ratios": [0.5, 1.0],
            "seeds": [0, 1, 2],
            "arms": ["real", "real+synthetic", "oversampled"],
            "recipe": {
                "updates": 150,
                "batch": 32,
                "evaluations": 3,
                "learning_rate": 0.002,
                "weight_decay": 0.05,
            },
            "size": "small",
            "device": "auto",
            "seed": 7,
            "side": 32,
            "primary_metric": "balanced_accuracy",
            "significance": 0.05,
            "draws": 2000,
        },
        "seed": 7,
    }

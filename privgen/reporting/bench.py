"""What the page shows of augment-bench: chosen and worded here, laid out by `bench.html.j2`.

Differences are shown in percentage points. Rows are arms and columns are models; regimes follow
each other.
"""

from collections.abc import Iterable, Mapping, Sequence

from privgen.reporting import bench_plots, words
from privgen.reporting.bench_sections import BenchDict, BenchDifference, BenchRegime, BenchRow
from privgen.reporting.page import (
    ArmView,
    BaselineView,
    BenchView,
    CalibrationRow,
    CellView,
    DetailView,
    RegimeView,
    StressCell,
    StressRow,
    StressTable,
)
from privgen.reporting.panels import ACROSS

_TESTED = "tested"
_BASELINE = "baseline"
_SYNTHETIC = "real+synthetic"
_METRICS_AT_PRIMARY = ("ece", "worst_class_recall")

Rows = Mapping[tuple[str, str], BenchRow]
Differences = Mapping[tuple[str, str], BenchDifference]
"""By model and arm."""


def section(bench: BenchDict) -> BenchView:
    """Everything the template shows beside the report itself."""
    config, unit = bench["config"], bench["group_unit"]
    models = list(dict.fromkeys(row["model"] for row in bench["rows"]))
    metrics = list(dict.fromkeys(name for row in bench["rows"] for name in row["metrics"]))
    return {
        "unit": unit,
        "counts": [
            (words.ROLES["validation"][0], bench["counts"]["validation"]),
            (words.ROLES["test"][0], bench["counts"]["test"]),
        ],
        "models": [words.model(name) for name in models],
        "weights": _weights(config["weights"]),
        "metrics": [words.METRICS.get(name, words.spoken(name)) for name in metrics],
        "regimes": [_regime(bench, part, models, metrics) for part in bench["regimes"]],
        "equal": all(
            len({row["updates"] for row in bench["rows"] if row["regime"] == part["share"]}) == 1
            for part in bench["regimes"]
        ),
        "filters": any(
            made["kept"] is not None for part in bench["regimes"] for made in part["generators"]
        ),
        "training_figure": bench_plots.training_figure(bench, models),
        "baselines": [_baseline(row) for row in bench["rows"] if row["role"] == _BASELINE],
        "plane": bench_plots.plane(bench["plane"]),
    }


def _baseline(row: BenchRow) -> BaselineView:
    """How far training of one network on real tiles alone had come."""
    convergence = row["convergence"]
    return {
        "regime": words.percent(row["regime"]),
        "model": words.model(row["model"]),
        "curve": [f"{look['validation_balanced_accuracy']:.2f}" for look in convergence["curve"]],
        "train_accuracy": convergence["train_accuracy"],
        "chosen": convergence["chosen"],
        "still_improving": convergence["still_improving"],
    }


def _weights(weights: Mapping[str, str]) -> list[tuple[str, str]]:
    """What networks started from, where it was not scratch."""
    return [(words.model(name), source) for name, source in weights.items() if source != "scratch"]


def _regime(
    bench: BenchDict, part: BenchRegime, models: Sequence[str], metrics: Sequence[str]
) -> RegimeView:
    """Tables and figures of one share of the training tiles."""
    share = part["share"]
    rows = [row for row in bench["rows"] if row["regime"] == share]
    differences = [row for row in bench["differences"] if row["regime"] == share]
    found = {(row["model"], row["arm"]): row for row in rows}
    less = {(row["model"], row["arm"]): row for row in differences}
    arms = list({row["arm"]: row for row in rows}.values())
    histogram = next((one for one in bench["histograms"] if one["regime"] == share), None)
    updates = sorted({row["updates"] for row in rows})
    primary = bench["config"]["primary_ratio"]
    return {
        "name": words.percent(share),
        "updates": updates,
        "tables": [
            {
                "models": [words.model(name) for name in names],
                "rows": [
                    _arm_row(
                        row,
                        [(found.get((m, row["arm"])), less.get((m, row["arm"]))) for m in names],
                    )
                    for row in arms
                ],
            }
            for names in (models[i : i + ACROSS] for i in range(0, len(models), ACROSS))
        ],
        "histogram": histogram,
        "histogram_metrics": [
            histogram["metrics"].get(name) if histogram else None for name in metrics
        ],
        "forest": bench_plots.differences_figure(differences, models, share, bench["group_unit"]),
        "curves": bench_plots.ratios_figure(differences, models, share),
        "details": [_detail(row, less.get((row["model"], row["arm"])), metrics) for row in rows],
        "robustness": _robustness(found, less, models, primary),
        "calibration": _calibration(found, models, primary),
        **part,
    }


def _detail(row: BenchRow, less: BenchDifference | None, metrics: Sequence[str]) -> DetailView:
    """A row with every measure, and its difference from the baseline in words."""
    detectable = less["detectable"] if less else None
    return {
        "model": words.model(row["model"]),
        "arm": words.arm(row["arm"], row["ratio"])[0],
        "row": row,
        "metrics": [row["metrics"].get(name) for name in metrics],
        "less": less,
        "points": words.points_interval(less["estimate"]) if less else "",
        "detectable": "–" if detectable is None else words.points(detectable),
    }


def _arm_row(
    row: BenchRow, cells: Iterable[tuple[BenchRow | None, BenchDifference | None]]
) -> ArmView:
    """One line of the table families x arms."""
    title, remark = words.arm(row["arm"], row["ratio"])
    remarks = [remark] if remark else []
    remarks += ["not tested"] if row["role"] in ("comparison", "control") else []
    shown: list[CellView] = [
        {
            "accuracy": measured["metrics"]["balanced_accuracy"] if measured else None,
            "points": words.points_interval(less["estimate"]) if less else "",
            "verdict": less["verdict"] if less and less["role"] == _TESTED else "",
        }
        for measured, less in cells
    ]
    return {"title": title, "remark": "; ".join(remarks), "cells": shown}


def _robustness(
    found: Rows, less: Differences, models: Sequence[str], primary: float
) -> StressTable:
    """Points lost under each stress, real tiles alone against real + synthetic."""
    label = f"{_SYNTHETIC} x{primary:g}"
    stresses = list(dict.fromkeys(name for row in found.values() for name in row["robustness"]))
    rows: list[StressRow] = []
    for name in models:
        cells: list[StressCell] = []
        for stress in stresses:
            losses = [_loss(found.get((name, a)), stress) for a in ("real", label)]
            both = less.get((name, label))
            under = both["robustness"].get(stress) if both else None
            gain = words.points_interval(under) if under else "–"
            cells.append({"losses": losses, "gain": gain})
        rows.append({"model": words.model(name), "cells": cells})
    titles = [words.STRESSES.get(name, words.spoken(name)) for name in stresses]
    return {"stresses": titles, "rows": rows}


def _loss(row: BenchRow | None, stress: str) -> str:
    if row is None or stress not in row["robustness"]:
        return "–"
    lost = row["metrics"]["balanced_accuracy"]["value"] - row["robustness"][stress]["value"]
    return words.points(lost, signed=False)


def _calibration(found: Rows, models: Sequence[str], primary: float) -> list[CalibrationRow]:
    """Calibration error and worst class, real tiles alone against real + synthetic."""
    labels = ("real", f"{_SYNTHETIC} x{primary:g}")
    return [
        {
            "model": words.model(name),
            "cells": [
                row["metrics"].get(metric) if row else None
                for metric in _METRICS_AT_PRIMARY
                for row in (found.get((name, label)) for label in labels)
            ],
        }
        for name in models
    ]

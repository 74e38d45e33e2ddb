"""What the plots of augment-bench show and say; `bench_figures` draws them."""

from collections.abc import Sequence

from markupsafe import Markup

from privgen.reporting import bench_figures, words
from privgen.reporting.bench_sections import BenchDict, BenchDifference, BenchPoint
from privgen.reporting.page import PlaneView, PointView
from privgen.reporting.panels import in_points

_TESTED = "tested"
_BASELINE = "baseline"
_GAIN = "points of balanced accuracy"
_SYNTHETIC = "real+synthetic"


def _arm(row: BenchDifference) -> str:
    return words.arm(row["arm"], row["ratio"])[0]


def differences_figure(
    differences: Sequence[BenchDifference], models: Sequence[str], share: float, unit: str
) -> Markup:
    """Every arm less real tiles alone, in one regime; nothing where only these were trained."""
    if not differences:
        return Markup()
    arms = list({row["arm"]: row for row in differences}.values())
    by_place = {(row["model"], row["arm"]): row for row in differences}
    panels = []
    for name in models:
        marks = [
            in_points(found["estimate"], filled=found["role"] == _TESTED) if found else None
            for found in (by_place.get((name, row["arm"])) for row in arms)
        ]
        panels.append((words.model(name), marks))
    figure = bench_figures.difference_panels(
        [_arm(row) for row in arms],
        panels,
        axis=f"difference from real tiles alone, {_GAIN}",
        prefix=f"bench-{share:g}".replace(".", "-"),
        alt=f"Differences in {_GAIN} from real tiles alone, with {words.percent(share)} of the "
        "training tiles: "
        + "; ".join(
            f"{words.model(row['model'])}, {_arm(row)} {words.points_interval(row['estimate'])}"
            for row in differences
        )
        + f". Intervals over test {words.spoken(unit)}s and trainings.",
    )
    return Markup(figure)


def ratios_figure(
    differences: Sequence[BenchDifference], models: Sequence[str], share: float
) -> Markup:
    """Gain against ratio; nothing where one ratio only was run."""
    tried = [
        (row["ratio"], row)
        for row in differences
        if row["ratio"] and row["arm"] == f"{_SYNTHETIC} x{row['ratio']:g}"
    ]
    if len({ratio for ratio, _ in tried}) < 2:
        return Markup()
    tried.sort(key=lambda pair: pair[0])
    figure = bench_figures.ratio_panels(
        [
            (
                words.model(name),
                [
                    in_points(
                        row["estimate"],
                        filled=row["verdict"] in ("helps", "harms"),
                        place=ratio,
                    )
                    for ratio, row in tried
                    if row["model"] == name
                ],
            )
            for name in models
        ],
        axes_names=("synthetic tiles for each real one (log scale)", "gain in points"),
        prefix=f"ratios-{share:g}".replace(".", "-"),
        alt=f"Gain in {_GAIN} by ratio, with {words.percent(share)} of the training tiles: "
        + "; ".join(
            f"{words.model(row['model'])} at {ratio:g}:1 {words.points_interval(row['estimate'])}"
            for ratio, row in tried
        )
        + ".",
    )
    return Markup(figure)


def training_figure(bench: BenchDict, models: Sequence[str]) -> Markup:
    """Validation accuracy of real tiles alone against updates, a line per regime."""
    curves = {
        (row["model"], row["regime"]): [
            (point["update"], point["validation_balanced_accuracy"])
            for point in row["convergence"]["curve"]
        ]
        for row in bench["rows"]
        if row["role"] == _BASELINE
    }
    if not any(curves.values()):
        return Markup()
    shares = list(dict.fromkeys(share for _, share in curves))
    last = "; ".join(
        f"{words.model(name)} with {words.percent(share)} {curve[-1][1]:.2f}"
        for (name, share), curve in curves.items()
        if curve
    )
    figure = bench_figures.training_panels(
        [
            (words.model(name), [curves.get((name, share), []) for share in shares])
            for name in models
        ],
        [f"{words.percent(share)} of the real tiles" for share in shares],
        axes_names=("updates", "balanced accuracy"),
        prefix="training",
        alt="Balanced accuracy on validation tiles during training on real tiles alone; at the "
        f"end: {last}.",
    )
    return Markup(figure)


def plane(points: Sequence[BenchPoint]) -> PlaneView:
    """The privacy-utility plane: a figure where anything was audited, and its table."""
    ordered = sorted(points, key=_rank)
    rows: list[PointView] = [
        {
            **point,
            "number": number,
            "name": f"{point['generator']}, {words.percent(point['regime'])} of the tiles"
            + (", filtered" if point["filtered"] else ""),
            "gain": words.points_interval(point["gain"]),
            "column": _column(point),
            "share": words.percent(point["regime"]),
        }
        for number, point in enumerate(ordered, start=1)
    ]
    audited = [row for row in rows if row["outcome"] is not None]
    figure = ""
    if audited:
        figure = bench_figures.plane(
            [
                bench_figures.PlanePoint(
                    number=row["number"],
                    mark=in_points(point["gain"]),
                    group=f"{row['share']} of the tiles",
                    column=row["column"],
                    outcome=row["outcome"] or "not audited",
                    ringed=bool(row["undominated"]),
                )
                for row, point in zip(rows, ordered, strict=True)
            ],
            axes_names=("smallest share of copies the audit would have found", "gain in points"),
            prefix="plane",
            alt="Gain and audit of each generator's tiles: "
            + "; ".join(
                f"{row['number']} {row['name']}: {row['gain']} points, "
                f"{row['outcome'] or 'not audited'}, {row['column']}"
                for row in rows
            )
            + ".",
        )
    return {
        "rows": rows,
        "audited": len(audited),
        "figure": Markup(figure),
        "undominated": [row for row in audited if row["undominated"]],
    }


def _rank(point: BenchPoint) -> tuple[float, ...]:
    """By regime; audits that see most come first, tiles without an audit last."""
    unseen = 2.0 if point["mdl80"] is None else point["mdl80"]
    return (point["regime"], 3.0 if point["outcome"] is None else unseen, point["filtered"])


def _column(point: BenchPoint) -> str:
    if point["outcome"] is None:
        return "not audited"
    return "not seen" if point["mdl80"] is None else words.number(point["mdl80"])

"""What the page says of a recipe's audit: chosen and worded here, laid out by the templates."""

from collections.abc import Sequence

from markupsafe import Markup

from audits.recipe_sections import PlannedDict, PlantedDict, RecipeAuditDict
from audits.sections import ResultDict
from privgen.reporting import figures, svg, words
from privgen.reporting.page import PlantedTable, RecipeView, ResultView
from privgen.reporting.recipe_sections import RecipeDict

_LOOK, _CONTROL, _QUALITY = "look/", "control/", "quality/"
_WIDE, _HIGH = 62, 300


def title(name: str) -> tuple[str, str]:
    """Title of a result of a recipe's audit, and what its statistic is."""
    arm, _, attack = name.partition("/")
    if arm in words.RECIPE_TESTS:
        said, statistic = words.RECIPE_TESTS[arm]
        return (f"{said}: {words.ATTACKS[attack]}" if attack else said), statistic
    return words.test(name)


def section(recipe: RecipeDict) -> RecipeView:
    """Everything the template shows beside the section itself."""
    audit, configuration = recipe["audit"], recipe["identity"]["configuration"]
    family = audit["verdict"]["family"]
    results = {result["name"]: result for result in audit["results"]}
    tests = [results[name] for name in family if name in results]
    looks = [result for name, result in results.items() if name.startswith(_LOOK)]
    controls = [result for name, result in results.items() if name.startswith(_CONTROL)]
    rest = [
        result
        for name, result in results.items()
        if name not in family and not name.startswith((_LOOK, _CONTROL, _QUALITY))
    ]
    quality = [result for name, result in results.items() if name.startswith(_QUALITY)]
    return {
        "unit": words.UNITS.get(audit["group_unit"], audit["group_unit"]),
        "scheme": words.SCHEMES[audit["scheme"]],
        "signed": words.clauses(audit["verdict"]["sentence"]),
        "tests": [_row(result) for result in tests],
        "bounds": [
            (title(result["name"])[0], float(str(result["details"]["upper"])) - 0.5)
            for result in tests
            if result["details"].get("attack") == "full_black_box"
        ],
        "figure": _figure(audit, *tests, *looks, *controls),
        "lines": _lines(audit),
        "looks": [_row(result) for result in looks],
        "controls": [_row(result) for result in controls],
        "others": [_row(result) for result in rest],
        "quality": [_row(result) for result in quality],
        "planted": _planted(audit["planted"]),
        "mdl80": [(words.HARMS_OF_ARMS[arm], share) for arm, share in audit["mdl80"].items()],
        "more": _more(recipe["power"]),
        "configuration": [(key, _value(value)) for key, value in sorted(configuration.items())],
    }


def _row(result: ResultDict) -> ResultView:
    said, statistic = title(result["name"])
    return {"title": said, "what": statistic, **result}


def _value(value: str | float | bool | None) -> str:
    if value is None:
        return "–"
    return words.number(value) if isinstance(value, float) else str(value)


def _figure(audit: RecipeAuditDict, *results: ResultDict) -> Markup:
    """Every AUROC with its interval; counts of patients have none."""
    rows = [
        figures.ForestRow(
            label=title(result["name"])[0],
            value=result["statistic"]["value"],
            low=result["statistic"]["low"],
            high=result["statistic"]["high"],
            text=words.interval(result["statistic"]),
            control=not result["name"].startswith(("tile_", "patient_")),
        )
        for result in results
        if result["statistic"]["high"] is not None
    ]
    figure = figures.forest(
        rows,
        reference=(0.5, "guessing"),
        bound=(0.5 + audit["policy"]["membership_excess"], "policy limit for the upper end"),
        axis="within-patient AUROC (0.5 = guessing, 1 = always right)",
        prefix="recipe",
        alt="Effect of being in training: " + "; ".join(f"{row.label} {row.text}" for row in rows),
    )
    return Markup(figure)


def _lines(audit: RecipeAuditDict) -> Markup:
    """Every patient as a line from her out-runs to her in-runs, and the mean of all."""
    lines = audit["lines"]
    if lines is None:
        return Markup()
    with svg.style():
        figure, axes = svg.canvas(_HIGH, left=_WIDE, right=200, bottom=44, top=14)
        for out, into in lines:
            axes.plot([0, 1], [out, into], color=svg.SOFT, linewidth=0.9, alpha=0.7)
        means = [sum(line[side] for line in lines) / len(lines) for side in (0, 1)]
        axes.plot([0, 1], means, color=figures.LINES[0][0], linewidth=3, marker="s", markersize=7)
        axes.text(1.06, means[1], "mean of all patients", color=figures.LINES[0][0], va="center")
        axes.set_xlim(-0.15, 1.05)
        axes.set_xticks([0, 1], ["out of training", "in training"])
        axes.set_ylabel("score, standard deviations")
        axes.grid(axis="y", color=svg.GRID, linewidth=0.8)
        alt = (
            f"Mean score of {len(lines)} patients without names, out of training and in it: on "
            f"average {words.number(means[0])} and {words.number(means[1])} standard deviations."
        )
        return Markup(svg.element(figure, prefix="patients", alt=alt))


def _planted(points: Sequence[PlantedDict]) -> PlantedTable:
    """Shares down, arms across."""
    arms = list(dict.fromkeys(point["arm"] for point in points))
    cells = {(point["copies"], point["arm"]): point["power"] for point in points}
    shares = sorted({(point["copies"], point["fraction"]) for point in points})
    return {
        "arms": [words.HARMS_OF_ARMS[arm] for arm in arms],
        "rows": [
            (copies, share, [cells.get((copies, arm)) for arm in arms]) for copies, share in shares
        ],
    }


def _more(power: Sequence[PlannedDict]) -> Sequence[PlannedDict]:
    return sorted(power, key=lambda one: one["runs"])

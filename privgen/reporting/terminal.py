"""The few lines a person at the terminal should read before opening the report."""

from collections.abc import Mapping, Sequence

from audits.sections import AuditDict, VerdictDict
from privgen import console
from privgen.reporting import recipe_view, words
from privgen.reporting.bench_sections import (
    BenchDict,
    BenchDifference,
    BenchPoint,
    BenchRegime,
    BenchRow,
    EstimatedBench,
)
from privgen.reporting.recipe_sections import EstimatedRecipe, RecipeDict
from privgen.reporting.sections import WeakerDict

_ACROSS = 4  # models side by side: at most 92 columns


def print_summary(audit: AuditDict, weaker: Sequence[WeakerDict]) -> None:
    """Show an audit: weak settings first, harms, tests, planted copies, warnings, verdict last.

    Args:
      audit: `AuditReport.to_dict()`.
      weaker: settings weaker than the default, as in report.json.
    """
    verdict = audit["verdict"]
    _say_harms(verdict, weaker)
    console.table(
        f"Registered tests (Holm over {len(verdict['family'])})",
        ["test", "estimate (95 % interval)", "n", "p", "adjusted p"],
        [
            [
                result["name"],
                words.interval(result["statistic"]),
                words.counted(result["statistic"], audit["group_unit"]),
                words.p_value(result["p_value"]),
                words.p_value(result["p_adjusted"]),
            ]
            for result in audit["results"]
            if result["name"] in verdict["family"]
        ],
    )
    console.note("smallest share of planted copies found with power .8:")
    for share, kinds in words.by_share(audit["mdl80"]):
        console.item(f"{'at no share tried' if share is None else words.number(share)}: {kinds}")
    _conclude(verdict, audit["warnings"])


def _say_harms(verdict: VerdictDict, weaker: Sequence[WeakerDict]) -> None:
    for one in weaker:
        console.warn(f"weaker than the default: {one['sentence']}")
    console.table(
        "Harms",
        ["harm", "verdict", "why"],
        [[v["harm"], v["outcome"], v["reason"]] for v in verdict["harms"]],
        prose=("verdict", "why"),
    )


def _conclude(verdict: VerdictDict, warnings: Sequence[str]) -> None:
    for warning in warnings:
        console.warn(warning)
    for harm in verdict["harms"]:
        if harm["remedy"]:
            console.note(f"to settle {harm['harm']}: {harm['remedy']}")
    head, clauses = words.clauses(verdict["sentence"])
    console.note(f"{head}{':' if clauses else '.'}")
    for clause in clauses:
        console.item(clause)


def print_recipe(recipe: RecipeDict, weaker: Sequence[WeakerDict]) -> None:
    """Show the audit of a recipe: weak settings first, harms, figures, warnings, verdict last."""
    audit = recipe["audit"]
    verdict = audit["verdict"]
    _say_harms(verdict, weaker)
    console.table(
        f"Repeated training: {audit['runs']} runs, {audit['patients']} patients",
        ["what", "estimate (95 % interval)", "p", "adjusted p"],
        [
            [
                recipe_view.title(result["name"])[0],
                words.interval(result["statistic"]),
                words.p_value(result["p_value"]),
                words.p_value(result["p_adjusted"]),
            ]
            for result in audit["results"]
        ],
    )
    console.note("smallest planted leak found with power .8, as a share of a run's tiles:")
    for arm, share in audit["mdl80"].items():
        seen = "at no share tried" if share is None else words.number(share)
        console.item(f"{words.HARMS_OF_ARMS[arm]}: {seen}")
    _conclude(verdict, audit["warnings"])


_COMPARED = {
    "patient_membership": "patients",
    "tile_membership": "tiles",
    "look/colour": "colour alone",
    "look/stain_normalised": "without stain",
    "quality/kid": "KID",
    "quality/coverage": "coverage",
}


def print_compared(sections: Mapping[str, RecipeDict]) -> None:
    """Show several recipes side by side: what each gives away, and what its tiles are worth."""
    rows = []
    for name, section in sections.items():
        results = {result["name"]: result for result in section["audit"]["results"]}
        cells = [
            words.interval(results[key]["statistic"]) if key in results else "–"
            for key in _COMPARED
        ]
        kimg = section["identity"]["configuration"]["kimg"]
        outcome = section["audit"]["verdict"]["outcome"]
        rows.append([f"{name}\n{outcome}, {float(str(kimg)):g} kimg", *cells])
    console.table(
        "Recipes on the same coins: within-patient AUROC, and quality",
        ["recipe", *_COMPARED.values()],
        rows,
    )


def print_recipe_plan(plan: EstimatedRecipe, name: str) -> None:
    """Show what an audit of a recipe would do, and what it could see."""
    rows = [
        ["patients", f"{plan['patients']}"],
        ["runs", f"{plan['runs']}, {plan['at_once']} at a time"],
        ["kimg a run", words.number(plan["kimg"])],
        ["minutes a run", words.number(plan["minutes_each"])],
        ["minutes of training in all", words.number(plan["minutes"])],
    ]
    for one in plan["power"]:
        rows += [
            [f"with {one['runs']} runs: finds an AUROC of .6", words.interval(one["detects"])],
            [
                f"with {one['runs']} runs: excludes an excess of {one['excess']:g}",
                words.interval(one["excludes"]),
            ],
        ]
    console.table(f"Dry run: {name}", ["what", "value"], rows)


def print_bench(content: BenchDict) -> None:
    """Show an augment-bench: a table of arms by models for each regime, then what it amounts to.

    Args:
      content: `BenchReport.to_dict()`.
    """
    models = list(dict.fromkeys(row["model"] for row in content["rows"]))
    console.note(
        "balanced accuracy of real tiles alone; below it, how many points more or less the other "
        "arms have (95 % intervals)"
    )
    for part in content["regimes"]:
        for first in range(0, len(models), _ACROSS):
            _bench_table(content, part, models[first : first + _ACROSS])
    for histogram in content["histograms"]:
        accuracy = words.interval(histogram["metrics"]["balanced_accuracy"])
        share = words.percent(histogram["regime"])
        console.note(f"control, colour histogram alone, {share} of the tiles: {accuracy}")
    for point in content["plane"]:
        if point["outcome"] is not None:
            console.note(_audited(point))
    for warning in content["warnings"]:
        console.warn(warning)
    console.note(content["conclusion"])


def _bench_table(content: BenchDict, part: BenchRegime, models: Sequence[str]) -> None:
    """Balanced accuracy of real tiles alone, and how many points each other arm adds."""
    share = part["share"]
    rows = [row for row in content["rows"] if row["regime"] == share]
    cells = {(row["model"], row["arm"]): _accuracy(row) for row in rows}
    cells |= {
        (row["model"], row["arm"]): _difference(row)
        for row in content["differences"]
        if row["regime"] == share
    }
    console.table(
        f"{words.percent(share)} of the training tiles ({words.count(part['tiles'], 'tile')} of "
        f"{words.count(part['patients'], content['group_unit'])})",
        ["arm", *models],
        [
            [arm, *(cells.get((model, arm), "–") for model in models)]
            for arm in dict.fromkeys(row["arm"] for row in rows)
        ],
    )


def _accuracy(row: BenchRow) -> str:
    return _on_two_lines(words.interval(row["metrics"]["balanced_accuracy"]))


def _difference(row: BenchDifference) -> str:
    """The difference over its interval; only what helps or harms says so."""
    said = _on_two_lines(words.points_interval(row["estimate"]))
    return f"{row['verdict']} {said}" if row["verdict"] in ("helps", "harms") else said


def _on_two_lines(interval: str) -> str:
    return interval.replace(" (", "\n").removesuffix(")")


def _audited(point: BenchPoint) -> str:
    share = "none seen" if point["mdl80"] is None else words.number(point["mdl80"])
    which = f"{point['generator']}, {words.percent(point['regime'])} of the tiles"
    filtered = ", filtered" if point["filtered"] else ""
    mark = ", undominated" if point["undominated"] else ""
    return (
        f"{which}{filtered}: {words.points_interval(point['gain'])} points, {point['outcome']}, "
        f"MDL80 {share}{mark}"
    )


def print_bench_plan(estimate: EstimatedBench) -> None:
    """Show what a benchmark would do, and about how long it takes.

    Args:
      estimate: `benefit.bench.Planned.estimate()`.
    """
    console.table(
        "Tiles",
        ["split", "tiles", "patients"],
        [
            [name, f"{size['tiles']:,}", f"{size['patients']:,}"]
            for name, size in estimate["regimes"].items()
        ],
    )
    console.table(
        "Trainings",
        ["arm", "ratios", "of each network"],
        [[row["arm"], row["ratios"], f"{row['trainings']:,}"] for row in estimate["arms"]],
    )
    console.table(
        "Time, measured from a few updates on this machine as busy as it is",
        ["network", "trainings", "seconds each, one thread"],
        [
            [words.model(model), f"{one['trainings']:,}", f"{one['seconds_each']:.1f}"]
            for model, one in estimate["models"].items()
        ],
    )
    made = estimate["generator_minutes"]
    before = f", after about {made:.0f} minutes for the generators" if made else ""
    console.note(
        f"{estimate['trainings']:,} trainings, about {estimate['minutes']:.0f} minutes{before}; "
        "audits of the generators come on top. Nothing was written."
    )

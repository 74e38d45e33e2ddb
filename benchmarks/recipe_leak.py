"""What carries a recipe's leak, and what lowers it: one factor at a time, on procedural tissue.

A base recipe (`cdcgan`, 24 patients, 32 px) is audited by repeated training; every other cell
changes one thing: the number of patients, how long it is trained, the families, how stains are
treated, augmentation. All cells of as many patients share their tiles and their coins, so that they
differ by what was changed. Beside the leak stands the quality, because a recipe that makes noise
leaks nothing.

More patients must not leak more than few, nor a short training more than a long one.
"""

import tempfile
from pathlib import Path
from typing import Any

from harness import Kept, Options, Outcome

from privgen.checkpoints.code import code_digest
from privgen.data.phantom import make_phantom
from privgen.recipe.run import audit_recipe

TILES, SIDE, CLASSES = 16, 32, ("LYM", "MUS", "NORM", "TUM")
RUNS, COUNT = 8, 200
BASE: dict[str, Any] = {"patients": 24, "kimg": 1.0}
CELLS: dict[str, dict[str, Any]] = {
    "base: 24 patients, 1 kimg": {},
    "8 patients": {"patients": 8},
    "64 patients": {"patients": 64},
    "0.3 kimg": {"kimg": 0.3},
    "3 kimg": {"kimg": 3.0},
    "stain_jitter 0.2": {"stain_jitter": 0.2},
    "stain_jitter 0.5": {"stain_jitter": 0.5},
    "no augmentation": {"augment": 0.0},
    "stylegan2": {"family": "stylegan2"},
    "pathologygan": {"family": "pathologygan"},
}
FEW, MANY = "8 patients", "64 patients"
SHORT, LONG = "0.3 kimg", "3 kimg"
MEASURED = {
    "tile": "tile_membership",
    "patient": "patient_membership",
    "colour": "look/colour",
    "no stain": "look/stain_normalised",
    "KID": "quality/kid",
    "KID of real": "quality/kid_floor",
    "coverage": "quality/coverage",
}


def measured(cell: str, seed: int, runs: int) -> dict[str, Any]:
    """Audit the recipe of one cell."""
    options = {"resolution": SIDE, "seed": seed, **BASE, **CELLS[cell]}
    patients = options.pop("patients")
    tiles = make_phantom(
        patients=patients, tiles_per_patient=TILES, side=SIDE, seed=seed, classes=CLASSES
    )
    with tempfile.TemporaryDirectory(prefix="privgen-recipe-leak-") as place:
        found = audit_recipe(
            tiles,
            out=Path(place) / "out",
            config=options,
            runs=runs,
            count=COUNT,
        )
    results = {result.name: result for result in found.report.results}
    entry: dict[str, Any] = {"verdict": str(found.verdict.outcome)}
    for name, key in MEASURED.items():
        if key in results:
            estimate = results[key].statistic
            entry[name] = [estimate.value, estimate.low, estimate.high]
    return entry


def run(options: Options) -> Outcome:
    """Every cell, finished ones kept."""
    runs = 4 if options.quick else RUNS
    cells = dict(list(CELLS.items())[:2]) if options.quick else CELLS
    sources = [Path(__file__), Path("audits"), Path("privgen/recipe")]
    kept = Kept("recipe-leak", sources, [options.seed, runs, code_digest()])
    for cell in cells:
        if cell not in kept:
            kept.keep(cell, measured(cell, options.seed, runs))
    figures = {cell: kept[cell] for cell in cells}
    rows = [
        [cell, *(_said(found.get(name)) for name in MEASURED), found["verdict"]]
        for cell, found in figures.items()
    ]
    faults = []
    for less, more in ((MANY, FEW), (SHORT, LONG)):
        if less in cells and figures[less]["tile"][1] > figures[more]["tile"][2]:
            faults.append(f"{less} leaks more than {more}")
    if not options.quick:
        kept.forget()
    return Outcome(
        columns=["recipe", *MEASURED, "verdict"],
        rows=rows,
        figures=figures,
        figure="; ".join(faults) or "none leaks more than it should",
        target="64 patients leak no more than 8, and .3 kimg no more than 3",
        passed=not faults,
    )


def _said(estimate: list[float] | None) -> str:
    if estimate is None:
        return "-"
    value, low, high = estimate
    return f"{value:.3f} [{low:.3f}, {high:.3f}]" if low is not None else f"{value:.3f}"

"""Audits of recipes whose truth is known: a perfect generator, and copiers of 1 % and 5 %.

Procedural tissue: 24 patients, 16 runs of 200 tiles, 100 repetitions, each with other patients and
other coins. The perfect generator draws tiles of patients who are in no data set. A copier replaces
a share of them by copies of training tiles of the run's own patients. The encoder is the product's;
every tile is embedded once, since all are drawn from one pool.

The perfect recipe may be called a LEAK in at most 10 of 100. For the copiers, the power that audits
of the perfect recipe foretell from their planted leaks must lie in the 95 % interval of the share
that is found.
"""

import os
from concurrent.futures import ProcessPoolExecutor
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from harness import Kept, Options, Outcome

from audits import Outcome as Verdict
from audits.coins import Design
from audits.intervals import clopper_pearson
from audits.recipe import judge_recipe, recipe_levels
from audits.recipe_scores import PATIENT, TILE, Look, RecipeData
from privgen.data.phantom import make_phantom
from privgen.encoders.loading import load_encoder
from privgen.encoders.orbit import Whitening, orbit_mean

POOL, TILES, SIDE = 320, 18, 32
PATIENTS, RUNS, SYNTHETIC, HELD_BACK = 24, 16, 200, 5
REPEATS = 100
SHARES = (0.0, 0.01, 0.05)
MOST_LEAKS = 10
_CACHE = Path(__file__).resolve().parent / "scratch" / "recipe-phantom.npz"


@lru_cache(maxsize=1)
def pool() -> tuple[np.ndarray, np.ndarray]:
    """Embeddings of every tile, whitened, and the class of each, by patient."""
    if not _CACHE.exists():
        tiles = make_phantom(patients=POOL, tiles_per_patient=TILES, side=SIDE, seed=77)
        _CACHE.parent.mkdir(exist_ok=True)
        means = orbit_mean(load_encoder("effnet_lite0"), tiles.load(SIDE))
        np.savez(_CACHE, means=means, labels=np.searchsorted(tiles.classes, tiles.labels))
    with np.load(_CACHE) as kept:
        means, labels = kept["means"], kept["labels"]
    whitened = Whitening.fit(means).apply(means)
    return whitened.reshape(POOL, TILES, -1), labels.reshape(POOL, TILES)


def experiment(share: float, number: int, seed: int) -> RecipeData:
    """One recipe that was tried; `share` of each run's tiles are copies."""
    rng = np.random.default_rng([seed, int(1000 * share), number])
    tiles, labels = pool()
    order = rng.permutation(POOL)
    mine, fresh = order[:PATIENTS], order[PATIENTS:]
    held = np.zeros((PATIENTS, TILES), dtype=np.bool_)
    for row in held:
        row[rng.choice(TILES, HELD_BACK, replace=False)] = True
    classes = int(labels.max()) + 1
    class_tiles = np.zeros((PATIENTS, classes), dtype=np.int64)
    for patient, row in enumerate(held):
        np.add.at(class_tiles[patient], labels[mine[patient]][~row], 1)
    design = Design(scheme="complementary", runs=RUNS, class_tiles=class_tiles)
    coins = design.toss(rng)
    owner, real = np.repeat(np.arange(PATIENTS), TILES), tiles[mine].reshape(-1, tiles.shape[2])
    runs = []
    for included in coins.included:
        people = rng.choice(fresh, SYNTHETIC // 4, replace=False)
        rows = np.stack([tiles[p][rng.choice(TILES, 4, replace=False)] for p in people])
        made = rows.reshape(SYNTHETIC, -1).copy()
        own = np.flatnonzero(included[owner] & ~held.ravel())
        copies = round(share * SYNTHETIC)
        made[:copies] = real[rng.choice(own, copies)]
        runs.append(made)
    return RecipeData(
        coins=coins,
        look=Look(real=real, synthetic=runs),
        patients=owner,
        held_back=held.ravel(),
        strata=np.zeros(PATIENTS, dtype=np.intp),
    )


def _work(task: tuple[float, int, int]) -> dict[str, Any]:
    share, number, seed = task
    report = judge_recipe(experiment(share, number, seed), seed=number)
    level = recipe_levels((TILE, PATIENT), 0.05)
    found = {result.name: result.p_value for result in report.results}
    planted = {f"{point.arm} {point.fraction:g}": point.power.value for point in report.planted}
    return {
        "leak": report.verdict.outcome is Verdict.LEAK,
        "rejects": {arm: bool((found[arm] or 0.0) <= level[arm]) for arm in (TILE, PATIENT)},
        "foretold": planted,
    }


def run(options: Options) -> Outcome:
    """Judge every recipe."""
    repeats = 20 if options.quick else REPEATS
    sources = [Path(__file__), Path("audits")]
    kept = Kept("recipe-phantom", sources, [options.seed])
    pool()
    tasks = [(share, n, options.seed) for share in SHARES for n in range(repeats)]
    left = [task for task in tasks if str(task) not in kept]
    with ProcessPoolExecutor(len(os.sched_getaffinity(0))) as workers:
        for task, found in zip(left, workers.map(_work, left), strict=True):
            kept.keep(str(task), found)
    rows, figures, faults = [], {}, []
    perfect = [kept[str(task)] for task in tasks if task[0] == 0]
    for share in SHARES:
        cells = [kept[str(task)] for task in tasks if task[0] == share]
        leaks = sum(cell["leak"] for cell in cells)
        entry: dict[str, Any] = {"leaks": leaks, "repetitions": repeats, "arms": {}}
        rows.append([f"copies {share:g}", f"LEAK {leaks} of {repeats}", "", ""])
        if share == 0 and leaks > MOST_LEAKS * repeats / 100:
            faults.append(f"a perfect recipe is a LEAK in {leaks} of {repeats}")
        for arm in (TILE, PATIENT) if share else ():
            seen = sum(cell["rejects"][arm] for cell in cells)
            low, high = clopper_pearson(seen, repeats)
            key = f"{arm} {share:g}"
            foretold = float(np.mean([cell["foretold"][key] for cell in perfect]))
            entry["arms"][arm] = {"seen": seen / repeats, "foretold": foretold}
            rows.append(
                [f"  {arm}", f"{seen / repeats:.2f} [{low:.2f}, {high:.2f}]", f"{foretold:.2f}", ""]
            )
            if not low <= foretold <= high:
                faults.append(
                    f"{arm} at {share:g}: {foretold:.2f} foretold, {seen / repeats:.2f} seen"
                )
        figures[f"{share:g}"] = entry
    if not options.quick:
        kept.forget()
    return Outcome(
        columns=["recipe", "found [95 %]", "foretold", ""],
        rows=rows,
        figures=figures,
        figure="; ".join(faults) or "all met",
        target="LEAK <= 10 of 100 for a perfect recipe; power foretold within the interval seen",
        passed=not faults,
    )

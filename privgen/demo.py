"""The whole path on procedural tissue: phantom, train, sample, audits, augment-bench, report.

Nothing is downloaded and nobody's tissue is touched. The sizes are chosen for six minutes on two
cores, and so that most seeds end in a decided verdict: copying and tiles are decided by the
release, patients by sixteen trainings of its recipe.
"""

from dataclasses import replace
from pathlib import Path

from privgen import console
from privgen.auditing.finished import Audit
from privgen.auditing.run import audit
from privgen.benefit.bench import plan_bench
from privgen.data.phantom import make_phantom, write_phantom
from privgen.files import empty_folder
from privgen.recipe.run import audit_recipe
from privgen.release.folder import write_samples
from privgen.reporting.sections import ReportDict, ReproduceDict
from privgen.reporting.terminal import print_bench
from privgen.reporting.writing import write_report
from privgen.sampling import load_generator
from privgen.training.session import train

PATIENTS = 40
TILES_A_PATIENT = 18
SIDE = 32
SAMPLES = 300
RECIPE_RUNS = 16
BENCH_UPDATES = 40


def run_demo(
    out: Path, *, seed: int = 0, minutes: float = 0.25, kimg: float | None = None
) -> Audit:
    """Run every stage into `out`; the report holds both audits and the bench.

    Args:
      out: empty or new folder; gets tiles/, runs/, synthetic/, recipe/ and the report.
      seed: of every stage.
      minutes: of training, for the release and for each run of its recipe.
      kimg: thousand tiles shown in training instead, so that another machine, or a slower hour,
        gives the same generator. The report's command names those that were reached.

    Raises:
      OutputError: `out` is not empty.
    """
    empty_folder(out)
    console.note(f"1/6 procedural tissue: {PATIENTS} patients, {PATIENTS * TILES_A_PATIENT} tiles")
    tiles = make_phantom(patients=PATIENTS, tiles_per_patient=TILES_A_PATIENT, side=SIDE, seed=seed)
    folder = out / "tiles"
    folder.mkdir()
    write_phantom(folder, tiles)

    budget = {"minutes": minutes} if kimg is None else {"kimg": kimg}
    console.note(f"2/6 training for {', '.join(f'{n:g} {unit}' for unit, n in budget.items())}")
    # One thread: with more, rounding depends on how many a machine has.
    config = {"resolution": SIDE, "seed": seed, "class_balance": "uniform", "threads": 1}
    checkpoint = train(folder, out=out / "runs", config=config | budget)
    generator = load_generator(checkpoint)

    console.note(f"3/6 sampling {SAMPLES} synthetic tiles")
    write_samples(generator, out / "synthetic", count=SAMPLES, seed=seed, balance="uniform")

    console.note(
        f"4/6 audit of the recipe: {RECIPE_RUNS} trainings on random halves of the patients"
    )
    audit_recipe(
        folder,
        out=out / "recipe",
        config={**config, "kimg": generator.kimg},
        runs=RECIPE_RUNS,
        count=SAMPLES,
    )

    console.note("5/6 audit of the release")
    result = audit(generator=checkpoint, recipe=out / "recipe", count=SAMPLES, seed=seed)

    console.note("6/6 augment-bench")
    bench = plan_bench(
        folder,
        generators=[checkpoint],
        ratios=(1.0,),
        seeds=2,
        updates=BENCH_UPDATES,
        evaluations=2,
        arms=("real", "real+synthetic"),
        resolution=SIDE,
        audit=False,
        seed=seed,
    ).run(None)
    content = bench.report.to_dict()
    print_bench(content)
    command = f"privgen demo --seed {seed} --kimg {generator.kimg:g}"
    reproduce: ReproduceDict = {"command": command, "seed": seed}
    document: ReportDict = {**result.document, "augment_bench": content, "reproduce": reproduce}
    write_report(document, out)
    return replace(result, document=document)

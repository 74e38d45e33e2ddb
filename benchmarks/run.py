"""`python benchmarks/run.py NAME [--data DIR] [--quick] [--device D] [--seed N]`.

Prints a table, writes benchmarks/results/NAME.json, and ends with one line
`NAME: <figure> (target <t>) PASS|SHORT`; exit code 1 when short. README.md explains each name.
"""

import argparse
import json
import sys
import time
from importlib import import_module
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent)]

from harness import Options, Outcome, machine  # noqa: E402

from privgen import console  # noqa: E402

NAMES = {
    "epsilon": "epsilon",
    "null-calibration": "null_calibration",
    "power": "power",
    "audit-speed": "audit_speed",
    "mutation": "mutation",
    "planted-leak": "planted_leak",
    "copy-search": "copy_search",
    "planted-copies": "planted_copies",
    "proof": "proof",
    "red-team": "red_team",
    "embed-speed": "embed_speed",
    "train-speed": "train_speed",
    "resume": "resume",
    "generator-quality": "generator_quality",
    "tile-speed": "tile_speed",
    "classifier-speed": "classifier_speed",
    "augment-known-answer": "augment_known_answer",
    "colour-histogram": "colour_histogram",
    "pipeline": "pipeline",
    "hot-paths": "hot_paths",
    "hostile": "hostile",
    "recipe-null": "recipe_null",
    "recipe-phantom": "recipe_phantom",
    "recipe-leak": "recipe_leak",
}


def main() -> int:
    """Run one benchmark; 0 when it met its target, 1 when short."""
    parser = argparse.ArgumentParser(description="Run one of privgen's benchmarks.")
    parser.add_argument("name", choices=NAMES)
    parser.add_argument("--data", type=Path, help="folder of real tiles")
    parser.add_argument("--quick", action="store_true", help="a smaller run for a first look")
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--minutes", type=float, help="of each training run")
    given = parser.parse_args()
    options = Options(
        data=given.data,
        quick=given.quick,
        device=given.device,
        seed=given.seed,
        minutes=given.minutes,
    )
    start = time.perf_counter()
    with console.on_terminal():
        outcome: Outcome = import_module(NAMES[given.name]).run(options)
    seconds = time.perf_counter() - start
    show(outcome)
    record = {
        "name": given.name,
        "figures": outcome.figures,
        "figure": outcome.figure,
        "target": outcome.target,
        "passed": outcome.passed,
        "quick": given.quick,
        "device": given.device,
        "seed": given.seed,
        "seconds": round(seconds, 1),
        "machine": machine(),
    }
    name = given.name + ("-quick" if given.quick else "")
    (HERE / "results" / f"{name}.json").write_text(json.dumps(record, indent=2) + "\n")
    word = "PASS" if outcome.passed else "SHORT"
    print(f"{given.name}: {outcome.figure} (target {outcome.target}) {word}")
    return 0 if outcome.passed else 1


def show(outcome: Outcome) -> None:
    """Print the table with aligned columns."""
    rows = [list(outcome.columns), *[list(row) for row in outcome.rows]]
    widths = [max(len(row[i]) for row in rows) for i in range(len(outcome.columns))]
    for row in rows:
        cells = [
            cell.ljust(width) if i == 0 else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        print("  ".join(cells).rstrip())
    for note in outcome.notes:
        print(note)


if __name__ == "__main__":
    sys.exit(main())

"""Does any file from outside crash the product, hang it, eat the memory or end in a wrong code?

Every door (`fuzz/all_doors.py`) gets damaged and hostile files by number, each made from valid ones
that the benchmark writes; processes of their own open them (`fuzz/workers.py`). A finding is made
again by its door, number and seed; its bytes are kept in `.kept/hostile/` as well.
"""

import os
import tempfile
from collections import Counter
from pathlib import Path

from harness import Kept, Options, Outcome

from benchmarks.fuzz.all_doors import DOORS
from benchmarks.fuzz.door import MOST_BYTES, MOST_SECONDS, Inputs
from benchmarks.fuzz.workers import Part, Tally
from benchmarks.fuzz.workers import run as open_all

INPUTS = {"report": 600, "slide": 500, "svs": 500, "dicom header": 600}
"""Of doors whose inputs take long; of every other one `USUAL`."""

USUAL = 1000
QUICK = 50
PART = 250
TARGET = "20,000 inputs; no crash, foreign exception, wrong code, 1 GiB or 20 s"

_HERE = Path(__file__).resolve().parent


def run(options: Options) -> Outcome:
    """Open every input, or take up what a killed run kept."""
    most = QUICK if options.quick else USUAL
    parts = [
        Part(door=name, first=first, count=min(PART, count - first), seed=options.seed)
        for name in DOORS
        for count in [min(most, INPUTS.get(name, USUAL))]
        for first in range(0, count, PART)
    ]
    sources = [
        _HERE / "hostile.py",
        _HERE / "fuzz",
        _HERE.parent / "privgen",
        _HERE.parent / "audits",
    ]
    kept = Kept("hostile", sources, {"seed": options.seed})

    def done(part: Part, tally: Tally) -> None:
        kept.keep(part.cell, vars(tally))
        for finding in tally.findings:
            print(f"{finding['door']} {finding['number']}: {finding['kind']}: {finding['said']}")
            _keep_input(part, finding["number"])
        print(f"{part.cell}: {tally.inputs} inputs, {len(tally.findings)} findings", flush=True)

    left = [part for part in parts if part.cell not in kept]
    if left:
        open_all(left, max(1, (os.cpu_count() or 1) // 2), done)
    tallies = {part: Tally(**kept[part.cell]) for part in parts}
    outcome = _outcome(tallies, options)
    kept.forget()
    return outcome


def _outcome(tallies: dict[Part, Tally], options: Options) -> Outcome:
    rows, doors = [], {}
    for name in DOORS:
        of_door = [tally for part, tally in tallies.items() if part.door == name]
        whole = Tally(
            inputs=sum(one.inputs for one in of_door),
            opened=sum(one.opened for one in of_door),
            refused=sum(one.refused for one in of_door),
            lost=sum(one.lost for one in of_door),
            findings=[found for one in of_door for found in one.findings],
            peak=max(one.peak for one in of_door),
            slowest=max(one.slowest for one in of_door),
        )
        doors[name] = vars(whole) | {"slowest": round(whole.slowest, 2)}
        memory = "guarded" if DOORS[name].guarded else f"{whole.peak / 2**20:.0f}"
        numbers = (whole.inputs, whole.opened, whole.refused, whole.lost, len(whole.findings))
        rows.append([name, *(f"{one:,}" for one in numbers), memory, f"{whole.slowest:.1f}"])
    inputs = sum(one.inputs for one in tallies.values())
    findings = [found for one in tallies.values() for found in one.findings]
    kinds = Counter(found["kind"] for found in findings)
    enough = options.quick or inputs >= 20_000
    return Outcome(
        columns=(
            "door",
            "inputs",
            "opened",
            "refused",
            "lost",
            "findings",
            "MiB above",
            "slowest s",
        ),
        rows=rows,
        notes=[
            "lost: slides that ended or hung their process, or asked it for too much memory, which "
            "cost that slide alone (exit code 3). Memory of a process counts above its imports and "
            "the valid files; making an input counts, too.",
        ],
        figures={
            "inputs": inputs,
            "findings": dict(kinds),
            "doors": doors,
            "limits": {"bytes": MOST_BYTES, "seconds": MOST_SECONDS},
        },
        figure=f"{inputs:,} inputs, {len(findings)} findings",
        target=TARGET,
        passed=enough and not findings,
    )


def _keep_input(part: Part, number: int) -> None:
    folder = _HERE / ".kept" / "hostile"
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as place:
        data = Inputs(DOORS[part.door], Path(place) / "made", part.seed)[number]
    (folder / f"{part.door.replace(' ', '-')}-{part.seed}-{number}").write_bytes(data)

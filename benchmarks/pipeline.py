"""Is another file format taken for a leak, and is a leak in such files still seen?

Patients of GlaS are dealt at random to train and holdout, 20 times for each design. Train and
synthetic tiles become JPEG files of one quality, holdout tiles PNG files; at 64 pixels, scaled
before that, and at 256. The product measures the files, decides the step and judges
(`pipelines.decision.decide`, `audits.audit`); only what a tile gives alone is kept between the
cells: its trace, its look, its embedding under a step, which the private cache holds by content.

Synthetic tiles of a clean cell are real tiles of patients in neither role, as a perfect generator
would make them. With 4 + 4 patients, drawn from the ten who gave 24 tiles or more (16 of them are
used), those are the other patients'. With 8 + 8 GlaS has none left, so they are tiles of LC25000,
one of a source image: other patients, tissue of the same kind, scaled and stored in the same way.
Such tiles betray the files as those of GlaS do (column "unharmonised").

A leak is 120 copies, elastically bent and re-stained, of tiles of half the training patients (60 a
patient of 2, or 30 of 4; who gave few tiles is not among them), among the synthetic tiles and in
the same files. Then membership can see
half the patients only: AUROC about .75, which 4 + 4 patients cannot show (.75 gives p = .17, and
Holm's first step asks for .017). So it is counted beside the same cells in which every tile of
every role is PNG, and once more with the 120 copies spread over all training patients.

Tiles and copies are the same whatever the seed, so that their embeddings are kept; the seed draws
the splits.

Alignment of six copies a patient, of the files as they are, joins the leak's cells: of a copy with
any tile of GlaS (its source is in the cell), its chance from tiles of other patients. The other
synthetic tiles count as not aligning, which can only hide a leak.
"""

import hashlib
import json
import os
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from harness import Options, Outcome
from numpy.typing import NDArray
from pipeline_cells import PATIENTS, SCRATCH, Cell, Design, Files, Pool, deal

import audits
from audits import Alignment, Harm
from audits import Outcome as Verdict
from privgen.pipelines.harmonise import Step

QUALITIES, SIDES, SPLITS = (30, 50, 75, 90), (64, 256), 20
CLEAN_BOUND = 25
LEAK_BOUND = 0.95
SEEN_BOUND = 0.8

Told = dict[str, bool | float]
"""What is counted of one cell."""

HERE = Path(__file__).resolve().parent

NONE = np.empty(0, dtype=np.intp)


def judge(
    files: Files,
    design: Design,
    split: int,
    aligned: Callable[[Step], tuple[NDArray[np.intp], Alignment]],
) -> Told:
    """Everything that is counted of one cell of JPEG files beside PNG files."""
    cell = Cell(files, design, mixed=True)
    pipeline = cell.pipeline(NONE)
    clean = audits.audit(cell.data(pipeline, NONE), rng=split)
    raw = audits.battery.run_family(cell.data(None, NONE), rng=split)
    with_copies = cell.pipeline(design.half)
    step = with_copies.step or files.plain
    half = audits.audit(cell.data(with_copies, design.half, aligned(step)), rng=split)
    every = audits.battery.run_family(cell.data(cell.pipeline(design.all), design.all), rng=split)
    return {
        "harmonised": pipeline.step is not None,
        "clean_leak": clean.verdict.outcome is Verdict.LEAK,
        "clean_membership": _membership(clean) is Verdict.LEAK,
        "clean_confounded": _confounded(clean),
        "clean_auroc": _auroc(clean.results),
        "raw_rejects": _rejects(raw),
        "raw_auroc": _auroc(raw),
        "half_leak": half.verdict.outcome is Verdict.LEAK,
        "half_membership": _membership(half) is Verdict.LEAK,
        "half_confounded": _confounded(half),
        "half_rejects": _rejects(half.results),
        "half_auroc": _auroc(half.results),
        "all_rejects": _rejects(every),
        "all_auroc": _auroc(every),
    }


def reference(files: Files, design: Design, split: int) -> Told:
    """The same patients and copies with every tile of every role as PNG."""
    cell = Cell(files, design, mixed=False)
    told: Told = {}
    for name, copies in (("clean", NONE), ("half", design.half), ("all", design.all)):
        found = audits.battery.run_family(cell.data(None, copies), rng=split)
        told |= {f"{name}_rejects": _rejects(found), f"{name}_auroc": _auroc(found)}
    return told


def _membership(report: audits.AuditReport) -> Verdict:
    harms = {each.harm: each.outcome for each in report.verdict.harms}
    return harms[Harm.PATIENT_MEMBERSHIP]


def _confounded(report: audits.AuditReport) -> bool:
    return any("became pixels" in warning for warning in report.warnings)


def _auroc(results: Sequence[audits.AuditResult]) -> float:
    return next(float(r.statistic.value) for r in results if r.name == "patient_membership")


def _rejects(results: Sequence[audits.AuditResult]) -> bool:
    return any(bool(r.rejected) for r in results if r.harm is Harm.PATIENT_MEMBERSHIP)


class Journal:
    """Finished cells, one per line, good for one state of the code and one choice of tiles."""

    def __init__(self, seed: int) -> None:
        code = hashlib.sha256(str(seed).encode())
        files = [f for room in ("privgen", "audits") for f in (HERE.parent / room).rglob("*.py")]
        for file in sorted({*files, *HERE.glob("pipeline*.py")}):
            code.update(file.read_bytes())
        self.file = SCRATCH / f"cells-{code.hexdigest()[:16]}.jsonl"
        self.known: dict[str, Told] = {}
        if self.file.exists():
            # The last line of a run that was killed may be cut off.
            for line in self.file.read_text().splitlines():
                with suppress(json.JSONDecodeError):
                    self.known |= json.loads(line)

    def keep(self, name: str, told: Told) -> None:
        """Add a cell; it is on disk when this returns."""
        self.known[name] = told
        with self.file.open("a") as stream:
            stream.write(json.dumps({name: told}) + "\n")
            stream.flush()
            os.fsync(stream.fileno())


def run(options: Options) -> Outcome:
    """Verdicts on cells without and with a leak, by quality, side and number of patients."""
    if options.data is None:
        raise SystemExit("pipeline needs --data DIR, a folder that holds glas and lc25000.")
    qualities = (30, 75) if options.quick else QUALITIES
    sides, splits = (SIDES[:1], 4) if options.quick else (SIDES, SPLITS)
    pool = Pool(Path(options.data), options.seed)
    journal = Journal(options.seed)
    for side in sides:
        for quality in (*qualities, None):
            names = {
                (count, split): f"{side} {quality} {count} {split}"
                for count in PATIENTS
                for split in range(splits)
            }
            if not all(name in journal.known for name in names.values()):
                with TemporaryDirectory() as folder:
                    _judge_all(pool, side, quality, names, journal, Path(folder))
    return _outcome(journal.known, qualities, sides, splits)


def _judge_all(
    pool: Pool,
    side: int,
    quality: int | None,
    names: Mapping[tuple[int, int], str],
    journal: Journal,
    folder: Path,
) -> None:
    start = time.perf_counter()
    files = Files(pool, side, quality, folder)
    for (count, split), name in names.items():
        if name in journal.known:
            continue
        # The reference has the patients of the first quality.
        drawn = quality or QUALITIES[0]
        design = deal(pool, count, np.random.default_rng([pool.seed, side, drawn, count, split]))
        told = (
            reference(files, design, split)
            if quality is None
            else judge(files, design, split, files.alignment)
        )
        journal.keep(name, told)
    kind = "PNG throughout" if quality is None else f"JPEG q{quality} beside PNG"
    print(f"{side} px, {kind}: {time.perf_counter() - start:.0f} s", flush=True)


def _outcome(
    known: Mapping[str, Told], qualities: Sequence[int], sides: Sequence[int], splits: int
) -> Outcome:
    def cells(side: int, quality: int | None, count: int) -> list[Told]:
        return [known[f"{side} {quality} {count} {split}"] for split in range(splits)]

    designs = [(q, side, count) for side in sides for count in PATIENTS for q in (*qualities, None)]
    rows = []
    for quality, side, count in designs:
        told = cells(side, quality, count)

        def counted(key: str, told: Sequence[Told] = told) -> str:
            return str(sum(bool(each[key]) for each in told)) if key in told[0] else "-"

        def mean(key: str, told: Sequence[Told] = told) -> str:
            return f"{np.mean([each[key] for each in told]):.2f}" if key in told[0] else "-"

        rows.append(
            [
                f"{side} px, {count} + {count}, {f'q{quality}' if quality else 'all PNG'}",
                *(counted(key) for key in ("raw_rejects", "clean_membership", "clean_leak")),
                *(mean(key) for key in ("raw_auroc", "clean_auroc")),
                *(counted(key) for key in ("half_leak", "half_membership", "half_rejects")),
                mean("half_auroc"),
                *(counted(key) for key in ("all_rejects", "clean_confounded", "half_confounded")),
            ]
        )
    mixed = [each for q, side, n in designs if q for each in cells(side, q, n)]
    false = sum(bool(each["clean_membership"]) for each in mixed)
    leaks = sum(bool(each["half_leak"]) for each in mixed)
    many = PATIENTS[1]
    ours = [each for q, side, n in designs if q and n == many for each in cells(side, q, n)]
    png = [each for q, side, n in designs if not q and n == many for each in cells(side, q, n)]
    seen = float(np.mean([each["half_membership"] for each in ours]))
    could = float(np.mean([each["half_rejects"] for each in png]))
    bound = CLEAN_BOUND * len(mixed) // (len(QUALITIES) * len(SIDES) * len(PATIENTS) * SPLITS)
    before = sum(bool(each["raw_rejects"]) for each in mixed)
    return Outcome(
        columns=COLUMNS,
        rows=rows,
        figures={
            "splits": splits,
            "cells": len(mixed),
            "false_membership": false,
            "unharmonised_membership": before,
            "leak_found": leaks,
            "membership_sees_8": seen,
            "membership_sees_8_all_png": could,
            "by_design": {row[0]: dict(zip(COLUMNS[1:], row[1:], strict=True)) for row in rows},
        },
        notes=[
            f"Of {splits} splits each. Unharmonised, membership rejects in {before} of "
            f"{len(mixed)} clean cells.",
            f"At {many} + {many} membership calls the leak of half the patients LEAK in "
            f"{seen:.2f} of cells, and rejects in {could:.2f} where all files are PNG.",
        ],
        figure=f"membership LEAK in {false} of {len(mixed)} clean cells; leak found in {leaks} of "
        f"{len(mixed)}, by membership {seen:.2f} against {could:.2f} all PNG ({many} + {many})",
        target=f"<= {bound}; >= {LEAK_BOUND:.0%}; >= {SEEN_BOUND:g} times as often",
        passed=false <= bound and leaks >= LEAK_BOUND * len(mixed) and seen >= SEEN_BOUND * could,
    )


COLUMNS = (
    "cells",
    "unharmonised: membership rejects",
    "clean: membership LEAK",
    "clean: any LEAK",
    "AUROC unharmonised",
    "AUROC clean",
    "leak: LEAK",
    "leak: membership LEAK",
    "leak: membership rejects",
    "AUROC leak",
    "leak of all: rejects",
    "confounded, clean",
    "confounded, leak",
)

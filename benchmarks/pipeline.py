"""Is another file format taken for a leak, and is a leak in such files still seen?

Patients of GlaS are dealt at random to train and holdout, 20 times for each design. Train and
synthetic tiles become JPEG files of one quality, holdout tiles PNG files; at 64 pixels, scaled
before that, and at 256. The product measures the files, decides the step and judges
(`evidence.pipeline.decide`, `audits.audit`); only what a tile gives alone is kept between the
cells: its trace, its look, its embedding under a step, which the private cache holds by content.

Synthetic tiles of a clean cell are real tiles of patients in neither role, as a perfect generator
would make them. With 4 + 4 patients, drawn from the ten who gave 24 tiles or more, those are the
other patients'. With 8 + 8 GlaS has none left, so they are tiles of LC25000, one of a source image:
other patients, tissue of the same kind, scaled and stored in the same way. Such tiles betray the
files as those of GlaS do (column "unharmonised").

A leak is 120 copies, elastically bent and re-stained, of tiles of half the training patients (60 a
patient of 2, or 30 of 4), among the synthetic tiles and in the same files. Then membership can see
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
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from harness import Options, Outcome
from numpy.typing import NDArray

import audits
from audits import Aligned, Alignment, AuditData, Harm, Tiles
from audits import Outcome as Verdict
from privgen.data.images import encode_jpeg, write_png
from privgen.data.layouts import open_tiles
from privgen.data.tileset import TileSet
from privgen.evidence.cache import EmbeddingCache, embed_cached
from privgen.evidence.descriptors import describe
from privgen.evidence.encoders import load_encoder
from privgen.evidence.fingerprints import Searched, search, verify
from privgen.evidence.harmonise import Step
from privgen.evidence.measuring import Look, Measured, headers, look, measure, sample
from privgen.evidence.orbit import Whitening, fingerprint
from privgen.evidence.pipeline import Pipeline, decide
from privgen.evidence.plants import plant

QUALITIES, SIDES, PATIENTS, SPLITS = (30, 50, 75, 90), (64, 256), (4, 8), 20
COPIES = 120
TILES_A_PATIENT = 16
OTHERS = 120
ALIGNED_A_PATIENT = 6
CLEAN_BOUND = 25
LEAK_BOUND = 0.95
SEEN_BOUND = 0.8

Told = dict[str, bool | float]
"""What is counted of one cell."""

SELF = Path(__file__).resolve()
ROOT = SELF.parent.parent
SCRATCH = SELF.parent / "scratch" / "pipeline"
"""Embeddings and finished cells, private and ignored by git."""

_BLOCK = 128
_TILES = 20


@dataclass
class Kept:
    """Tiles of one kind in one kind of files, and what each gave by itself."""

    tiles: TileSet
    measured: Measured
    looks: dict[Step, tuple[Look, NDArray[np.intp]]]
    embeddings: dict[Step, NDArray[np.float32]]

    def part(self, rows: NDArray[np.intp]) -> tuple[TileSet, NDArray[np.intp]]:
        """Some of the tiles, and which of them an audit of them would measure."""
        tiles = self.tiles.subset(rows)
        return tiles, sample(tiles)


class Files:
    """All tiles of one side in files of one quality, beside the same as PNG."""

    def __init__(self, pool: "Pool", side: int, quality: int | None, folder: Path) -> None:
        self.pool, self.side, self.quality = pool, side, quality
        self.plain = Step(side=side, detail=side)
        self._aligned: dict[Step, tuple[NDArray[np.intp], Alignment]] = {}
        self.kept = {
            (name, kind): self._kept(name, kind, folder)
            for name in ("glas", "others", "copies")
            for kind in ((None, quality) if quality and name == "glas" else (quality,))
        }

    def _kept(self, name: str, quality: int | None, folder: Path) -> Kept:
        place = folder / f"{name}-{self.side}-{quality}"
        tiles = stored(place, self.pool.pixels(name, self.side), self.pool.patients[name], quality)
        every = np.arange(len(tiles))
        return Kept(tiles, measure(tiles, every, headers(tiles)), {}, {})

    def looked(self, kept: Kept, step: Step, rows: NDArray[np.intp]) -> Look:
        """Of some tiles of a kind, those that show something."""
        if step not in kept.looks:
            every = np.arange(len(kept.tiles))
            seen = [look(kept.tiles, every[[row]], step) for row in every]
            told = np.flatnonzero([len(each.measures) for each in seen])
            whole = Look(
                spectra=np.concatenate([each.spectra for each in seen]),
                measures=np.concatenate([each.measures for each in seen]),
                scales=np.concatenate([each.scales for each in seen]),
                patients=np.concatenate([each.patients for each in seen]),
            )
            kept.looks[step] = whole, told
        whole, told = kept.looks[step]
        at = np.searchsorted(told, np.intersect1d(rows, told))
        return Look(
            spectra=whole.spectra[at],
            measures=whole.measures[at],
            scales=whole.scales[at],
            patients=whole.patients[at],
        )

    def embedded(self, kept: Kept, step: Step) -> NDArray[np.float32]:
        """All tiles of a kind as they are embedded after a step."""
        if step not in kept.embeddings:
            view = replace(kept.tiles, through=step) if step.changes else kept.tiles
            parts = []
            for start in range(0, len(view), _BLOCK):
                rows = np.arange(start, min(start + _BLOCK, len(view)))
                pixels = view.subset(rows).load(self.side)
                found = embed_cached(self.pool.encoder, pixels, orbit=True, cache=self.pool.cache)
                parts.append(found.mean)
            kept.embeddings[step] = np.concatenate(parts)
        return kept.embeddings[step]

    def alignment(self, step: Step) -> tuple[NDArray[np.intp], Alignment]:
        """Rows of the copies that were aligned, and their alignment with all tiles of GlaS."""
        if step in self._aligned:
            return self._aligned[step]
        glas, copies = (self.kept[name, self.quality] for name in ("glas", "copies"))
        rows = np.concatenate(
            [
                np.flatnonzero(copies.tiles.groups == name)[:ALIGNED_A_PATIENT]
                for name in np.unique(copies.tiles.groups)
            ]
        )
        x = self.embedded(glas, step)
        whitening = Whitening.fit(x)
        pixels = glas.tiles.load(self.side)
        real = Searched(
            descriptors=describe(pixels),
            embeddings=whitening.apply(x),
            groups=glas.tiles.groups,
        )
        queries = Searched(
            descriptors=describe(copies.tiles.subset(rows).load(self.side)),
            embeddings=whitening.apply(self.embedded(copies, step)[rows]),
        )
        found = verify(
            synthetic=queries,
            train=real,
            real=real,
            real_fingerprints=np.array([fingerprint(tile) for tile in pixels]),
            rng=np.random.default_rng(self.pool.seed),
            search=search,
        )
        self._aligned[step] = rows, found
        return rows, found


class Pool:
    """The tiles every cell draws on."""

    def __init__(self, data: Path, seed: int) -> None:
        self.seed = seed
        self.encoder = load_encoder("effnet_lite0")
        SCRATCH.mkdir(parents=True, exist_ok=True)
        self.cache = EmbeddingCache(SCRATCH / "embeddings")
        rng = np.random.default_rng(_TILES)
        glas, others = open_tiles(data / "glas"), open_tiles(data / "lc25000")
        rows = [
            np.sort(rng.permutation(np.flatnonzero(glas.groups == name))[:TILES_A_PATIENT])
            for name in np.unique(glas.groups)
        ]
        order = rng.permutation(len(others))
        _, first = np.unique(others.groups[order], return_index=True)
        self._tiles = {
            "glas": glas.subset(np.concatenate(rows)),
            "others": others.subset(rng.permutation(order[first])[:OTHERS]),
        }
        owners = self._tiles["glas"].groups
        names, sizes = np.unique(owners, return_counts=True)
        self.large = names[sizes == TILES_A_PATIENT]
        self.names = names
        # As many copies as a patient may have to give: of 60 in 4 + 4, else of 30.
        sources = []
        for name in names:
            wanted = COPIES // (PATIENTS[0 if name in self.large else 1] // 2)
            own = np.flatnonzero(owners == name)
            sources.append(np.resize(rng.permutation(own), wanted))
        self.sources = np.concatenate(sources)
        self.patients: dict[str, NDArray[np.str_]] = {
            "glas": owners,
            "others": self._tiles["others"].groups,
            "copies": owners[self.sources],
        }

    def pixels(self, name: str, side: int) -> NDArray[np.uint8]:
        """All tiles of a kind at one side, before they are stored."""
        if name != "copies":
            return self._tiles[name].load(side)
        originals = self._tiles["glas"].load(side)[self.sources]
        rng = np.random.default_rng(_TILES + 1)
        return plant("stain", plant("elastic", originals, rng), rng)


def stored(
    folder: Path, pixels: NDArray[np.uint8], patients: NDArray[np.str_], quality: int | None
) -> TileSet:
    """Tiles written as JPEG of a quality, colour halved, or as PNG, and opened again."""
    (folder / "all").mkdir(parents=True)
    lines = ["path,label,patient"]
    for row, (tile, patient) in enumerate(zip(pixels, patients, strict=True)):
        file = folder / "all" / f"{row:05d}.{'png' if quality is None else 'jpg'}"
        if quality is None:
            write_png(file, tile)
        else:
            file.write_bytes(encode_jpeg(tile, quality))
        lines.append(f"all/{file.name},all,{patient}")
    (folder / "manifest.csv").write_text("\n".join(lines) + "\n")
    return open_tiles(folder, min_classes=1)


@dataclass(frozen=True)
class Design:
    """Who is where in one cell: rows of tiles.

    Attributes:
      train, holdout: of GlaS.
      made: of the tiles that stand for synthetic ones, and their kind.
      half, all: of the copies, from half the training patients and from all.
    """

    train: NDArray[np.intp]
    holdout: NDArray[np.intp]
    made: tuple[str, NDArray[np.intp]]
    half: NDArray[np.intp]
    all: NDArray[np.intp]


def deal(pool: Pool, count: int, rng: np.random.Generator) -> Design:
    """Patients dealt at random: `count` a side."""
    few = count == PATIENTS[0]
    drawn = rng.permutation(pool.large if few else pool.names)[: 2 * count]
    train, holdout = drawn[:count], drawn[count:]
    owners, copied = pool.patients["glas"], pool.patients["copies"]
    third = np.flatnonzero(~np.isin(owners, drawn))

    def copies(patients: NDArray[np.str_]) -> NDArray[np.intp]:
        each = COPIES // len(patients)
        return np.concatenate([np.flatnonzero(copied == name)[:each] for name in patients])

    return Design(
        train=np.flatnonzero(np.isin(owners, train)),
        holdout=np.flatnonzero(np.isin(owners, holdout)),
        made=("glas", third) if few else ("others", np.arange(OTHERS)),
        half=copies(train[: count // 2]),
        all=copies(train),
    )


class Cell:
    """One design in one kind of files."""

    def __init__(self, files: Files, design: Design, *, mixed: bool) -> None:
        """`mixed`: the holdout is PNG; otherwise all roles have the same files."""
        self.files, self.design = files, design
        quality = files.quality
        self.kept = {
            "train": files.kept["glas", quality],
            "holdout": files.kept["glas", None if mixed else quality],
            "synthetic": files.kept[design.made[0], quality],
            "copies": files.kept["copies", quality],
        }

    def pipeline(self, copies: NDArray[np.intp]) -> Pipeline:
        """What the product measures and decides."""
        design = self.design
        rows = {"train": design.train, "holdout": design.holdout, "synthetic": design.made[1]}
        parts = {role: self.kept[role].part(own) for role, own in rows.items()}
        measured = {
            role: _measured_part(self.kept[role].measured, rows[role], at)
            for role, (_, at) in parts.items()
        }
        if len(copies):
            whole = _measured_part(self.kept["copies"].measured, copies, np.arange(len(copies)))
            measured["synthetic"] = _together(measured["synthetic"], whole)

        def looked(step: Step) -> dict[str, Look]:
            return {
                role: self.files.looked(self.kept[role], step, rows[role][parts[role][1]])
                for role in ("train", "holdout")
            }

        return decide(measured, looked, side=self.files.side, harmonise="auto")

    def data(
        self,
        pipeline: Pipeline | None,
        copies: NDArray[np.intp],
        aligned: tuple[NDArray[np.intp], Alignment] | None = None,
    ) -> AuditData:
        """What the audit is given; without a pipeline the tiles as they are."""
        design = self.design
        step = (pipeline.step if pipeline else None) or self.files.plain
        rows = {"train": design.train, "holdout": design.holdout, "synthetic": design.made[1]}
        parts = {
            role: self.files.embedded(self.kept[role], step)[own] for role, own in rows.items()
        }
        if len(copies):
            added = self.files.embedded(self.kept["copies"], step)[copies]
            parts["synthetic"] = np.concatenate([parts["synthetic"], added])
        whitening = Whitening.fit(np.concatenate(list(parts.values())))
        patients = {role: self.kept[role].tiles.groups[own] for role, own in rows.items()}
        train, holdout, synthetic = (
            Tiles(
                role,
                whitening.apply(x),
                patients=None if role == "synthetic" else patients[role],
            )
            for role, x in parts.items()
        )
        return AuditData(
            train=train,
            holdout=holdout,
            synthetic=synthetic,
            alignment=None if aligned is None else _placed(aligned, len(design.made[1]), copies),
            pipeline=pipeline.measured if pipeline else None,
            confounded=pipeline.confounded if pipeline else {},
        )


def _measured_part(measured: Measured, rows: NDArray[np.intp], at: NDArray[np.intp]) -> Measured:
    """Of tiles that were all measured, some, of which those `at` these places count as measured."""
    return Measured(
        kinds=measured.kinds[rows],
        codings=tuple(measured.codings[row] for row in rows),
        sides=measured.sides[rows],
        scales=measured.scales[rows],
        rows=at,
        traces=tuple(measured.traces[row] for row in rows[at]),
    )


def _together(one: Measured, other: Measured) -> Measured:
    return Measured(
        kinds=np.concatenate([one.kinds, other.kinds]),
        codings=one.codings + other.codings,
        sides=np.concatenate([one.sides, other.sides]),
        scales=np.concatenate([one.scales, other.scales]),
        rows=np.concatenate([one.rows, len(one) + other.rows]),
        traces=one.traces + other.traces,
    )


def _placed(
    aligned: tuple[NDArray[np.intp], Alignment], before: int, copies: NDArray[np.intp]
) -> Alignment:
    """The alignment of the copies that were aligned, among all synthetic tiles of a cell."""
    rows, found = aligned
    count = before + len(copies)
    inliers, agreement = np.zeros(count, dtype=np.intp), np.zeros(count)
    _, ours, theirs = np.intersect1d(copies, rows, return_indices=True)
    inliers[before + ours] = found.synthetic.inliers[theirs]
    agreement[before + ours] = found.synthetic.agreement[theirs]
    featureless = np.zeros(count, dtype=np.bool_)
    return replace(
        found, synthetic=Aligned(inliers=inliers, agreement=agreement, featureless=featureless)
    )


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
    """Finished cells, one a line, good for one state of the code and one choice of tiles."""

    def __init__(self, seed: int) -> None:
        code = hashlib.sha256(str(seed).encode())
        for file in sorted((*ROOT.glob("privgen/**/*.py"), *ROOT.glob("audits/*.py"), SELF)):
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

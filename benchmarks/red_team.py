"""Can the verdict be fooled? Leaks in disguise at 1 % and 3 %, and innocent sets that look alike.

Patients are dealt to train, holdout and a third group whose real tiles stand in for what a perfect
generator makes. Of those, 1 % or 3 % are replaced by disguised train tiles (`disguises.py`), one
kind at a time, and the whole battery judges. Then 60 sets without a leak are judged: real tiles of
other patients as they are, re-stained, compressed, resized, with blanks, with marks that train
tiles bear too; another data set; and a generator's samples.

A data set's tiles are embedded, described and searched once, with all its disguises as synthetic
tiles; each cell then judges its own choice of them. Whitening is fitted on all of them together, so
distances differ a little from an audit of the cell's tiles alone; alignments do not.

Thresholds were chosen on other draws of GlaS (seed 777) and other strengths. Groups of LC25000 that
share tissue with another are left out by name.
"""

import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from itertools import repeat
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import torch
from disguises import DISGUISES, MAY_BE_MISSED, innocent, marked
from harness import Kept, Options, Outcome
from planted_leak import thirds
from train_run import cores, train_apart

import audits
from audits import AuditData, Harm
from audits.inputs import Aligned, Tiles
from privgen.checkpoints.roles import reopen
from privgen.copysearch.searching import search
from privgen.data.layouts import open_tiles
from privgen.data.tileset import TileSet
from privgen.encoders.cache import EmbeddingCache
from privgen.encoders.loading import load_encoder
from privgen.evidence.collect import Evidence, collect
from privgen.sampling import load_generator, sample

ROOMS = ("copysearch", "encoders", "evidence", "pipelines")
"""What decides the evidence of a cell."""

SETS = (("glas", 64), ("glas", 128), ("glas", 256), ("lc25000", 128))
SHARES = (0.01, 0.03)
SYNTHETIC = 300
DRAW_SEED = 4242
"""Judged draws; thresholds were chosen on those of seed 777."""

DRAWS, GENERATED = 7, 11
"""Draws of patients with seven innocent sets each, and sets sampled from one honest generator."""

INNOCENT_TILES = 150
INNOCENT_SIDE = 64
MOST_FALSE_LEAKS = 6
TRAIN_MINUTES = 2.0
SHARED_TISSUE = (
    *("colon_aca_241", "colon_aca_248", "colon_n_034", "colon_n_069", "colon_n_116", "colon_n_131"),
    *("colon_n_134", "colon_n_161", "colon_n_173", "colon_n_206", "colon_n_218", "colon_n_219"),
    *("colon_n_223", "colon_n_232", "colon_n_241", "colon_n_243"),
)
"""Groups of LC25000 that show the tissue of another group, one of each of 16 pairs: scores of 23 to
798, where any other two groups reach 9 at most. With both of a pair, real tiles of others leak."""
CONTAMINATED = (1, 3, 8)

Pixels = np.ndarray


def run(options: Options) -> Outcome:
    """Every disguise at every share, then the innocent sets."""
    if options.data is None:
        raise SystemExit("red-team needs --data DIR, which holds glas and lc25000.")
    jobs = [("leaks", *where) for where in (SETS[:1] if options.quick else SETS)]
    jobs += [("innocents", draw) for draw in range(1 if options.quick else DRAWS)]
    jobs.append(("generated",))
    start = time.perf_counter()
    # A job per core: much of an audit is done by one thread.
    with ProcessPoolExecutor(cores(), mp_context=get_context("spawn")) as pool:
        found = [row for rows in pool.map(_job, repeat(options), jobs) for row in rows]
    hours = (time.perf_counter() - start) / 3600
    leaks = [row for row in found if "share" in row]
    return _outcome(leaks, [row for row in found if "share" not in row], hours, options)


def _job(options: Options, job: tuple[Any, ...]) -> list[dict[str, Any]]:
    """All cells of one data set, or of one draw of innocent sets."""
    torch.set_num_threads(1)
    kind, *of = job
    return list(JOBS[kind](options, _Cells(options), *of))


class _Cells:
    """Finished cells, which a killed run finds again, and embeddings, which all runs share."""

    def __init__(self, options: Options) -> None:
        here = Path(__file__).resolve().parent
        root = here.parent
        sources = [
            root / "audits",
            *(root / "privgen" / room for room in ROOMS),
            here / "disguises.py",
        ]
        known = [options.seed, options.quick, SYNTHETIC, DRAW_SEED, INNOCENT_TILES]
        self._kept = Kept("red-team", [*sources, Path(__file__)], known)
        self.embeddings = EmbeddingCache(here / ".kept" / "embeddings")

    def get(self, cell: str) -> dict[str, Any] | None:
        return next(iter(self.all([cell])), None)

    def all(self, cells: Iterable[str]) -> list[dict[str, Any]]:
        """These cells, or none where one is missing."""
        names = list(cells)
        whole = all(cell in self._kept for cell in names)
        return [self._kept[cell] for cell in names] if whole else []

    def add(self, row: dict[str, Any]) -> dict[str, Any]:
        self._kept.keep(row["cell"], row)
        print(f"  {row['cell']}: {row['outcome']} ({row['found_by']})", flush=True)
        return row


def _opened(options: Options, name: str) -> TileSet:
    assert options.data is not None
    group = "source_image" if name == "lc25000" else None
    tiles = open_tiles(options.data / name, group_by=group)
    return tiles.subset(np.flatnonzero(~np.isin(tiles.groups, SHARED_TISSUE)))


def _leaks(options: Options, kept: _Cells, name: str, side: int) -> Iterator[dict[str, Any]]:
    """Every cell of one data set at one side."""
    where = f"{name} {side} px"
    cells = [f"{where}, {kind}, {share:g}" for kind in DISGUISES for share in SHARES]
    cells += [f"{where}, perspective with {n} dirty null tiles" for n in CONTAMINATED]
    if done := kept.all(cells):
        yield from done
        return
    tiles = _opened(options, name)
    rng = np.random.default_rng([DRAW_SEED, options.seed, side])
    train, holdout, others = thirds(tiles.groups, rng)
    pixels = tiles.load(side)
    innocents = others[rng.permutation(len(others))[:SYNTHETIC]]
    copies = max(round(share * SYNTHETIC) for share in SHARES)
    textured = train[pixels[train].std(axis=(1, 2, 3)) > 12]
    made, first = [pixels[innocents]], {}
    for kind, (disguise, _) in DISGUISES.items():
        stream = np.random.default_rng([DRAW_SEED, options.seed, side, *kind.encode()])
        sources = stream.choice(textured, copies, replace=False)
        first[kind] = sum(map(len, made))
        made.append(disguise(pixels[sources], pixels[others], stream))
    evidence = _collected(tiles, pixels, train, holdout, np.concatenate(made), options, kept)
    for kind, (_, analog) in DISGUISES.items():
        for share in SHARES:
            cell = f"{where}, {kind}, {share:g}"
            count = round(share * len(innocents))
            rows = np.concatenate(
                [
                    np.arange(len(innocents) - count),
                    np.arange(first[kind], first[kind] + count),
                ]
            )
            known = {"kind": kind, "share": share, "analog": analog, "where": where}
            yield kept.get(cell) or kept.add(
                {"cell": cell, **known, **_judged(_chosen(evidence.data, rows), analog)}
            )
    four = np.arange(first["perspective .18"], first["perspective .18"] + 4)
    rows = np.concatenate([np.arange(len(innocents) - 4), four])
    for dirty in CONTAMINATED:
        cell = f"{where}, perspective with {dirty} dirty null tiles"
        data = _contaminated(_chosen(evidence.data, rows), dirty)
        known = {
            "kind": f"dirty null: {dirty}",
            "share": 4 / len(rows),
            "analog": "perspective",
            "where": where,
        }
        yield kept.get(cell) or kept.add({"cell": cell, **known, **_judged(data, "perspective")})


def _collected(
    tiles: TileSet,
    pixels: Pixels,
    train: np.ndarray,
    holdout: np.ndarray,
    synthetic: Pixels,
    options: Options,
    kept: _Cells,
    *,
    planted: int | None = None,
) -> Evidence:
    """The evidence of one audit of these tiles, by the product's own path."""

    def part(rows: np.ndarray) -> TileSet:
        return TileSet.from_arrays(pixels[rows], tiles.labels[rows], patients=tiles.groups[rows])

    more = {} if planted is None else {"planted_per_kind": planted}
    return collect(
        train=part(train),
        holdout=part(holdout),
        synthetic=TileSet.from_arrays(synthetic, ["all"] * len(synthetic)),
        encoder=load_encoder(),
        seed=options.seed,
        search=search,
        cache=kept.embeddings,
        **more,
    )


def _chosen(data: AuditData, rows: np.ndarray) -> AuditData:
    """The same audit with some of the synthetic tiles."""
    assert data.alignment is not None
    made, aligned = data.synthetic, data.alignment.synthetic
    assert made.fingerprints is not None
    return replace(
        data,
        synthetic=Tiles("synthetic", made.embeddings[rows], fingerprints=made.fingerprints[rows]),
        alignment=replace(
            data.alignment,
            synthetic=Aligned(
                inliers=aligned.inliers[rows],
                strength=aligned.strength[rows],
                marked=aligned.marked[rows],
                featureless=aligned.featureless[rows],
            ),
        ),
    )


def _contaminated(data: AuditData, dirty: int) -> AuditData:
    """Some real tiles are found again, with 60 key points, under another patient."""
    assert data.alignment is not None
    null = data.alignment.null
    inliers, strength = null.inliers.copy(), null.strength.copy()
    inliers[:dirty], strength[:dirty] = 60, 12.0
    return replace(
        data,
        alignment=replace(data.alignment, null=replace(null, inliers=inliers, strength=strength)),
    )


def _judged(data: AuditData, analog: str) -> dict[str, Any]:
    """The verdict, who found what, and what the report says of this kind."""
    report = audits.audit(data, rng=0)
    copying = next(harm for harm in report.verdict.harms if harm.harm is Harm.COPYING)
    by_name = {result.name: result for result in report.results}
    aligned = by_name["aligned_copies"].details
    found = [name for name in ("identical_tiles", "aligned_copies") if by_name[name].rejected]
    found += [name for name in ("tail_count", "tail_ratio") if by_name[name].rejected]
    return {
        "outcome": report.verdict.outcome.value,
        "copying": copying.outcome.value,
        "found_by": ", ".join(found) or "nothing",
        "proven": aligned["proven"],
        "needed": aligned["needed_score"],
        "mdl80": report.mdl80.get(analog),
        "leaking": [h.harm.value for h in report.verdict.harms if h.outcome.value == "LEAK"],
    }


def _innocents(options: Options, kept: _Cells, draw: int) -> Iterator[dict[str, Any]]:
    """Sets of one draw of patients that hold no leak."""
    names = [*innocent(np.zeros((1, 64, 64, 3), np.uint8), np.random.default_rng(0))]
    names += ["other data set", "marks"]
    cells = {name: f"innocent: {name}, draw {draw}" for name in names}
    if done := kept.all(cells.values()):
        yield from done
        return
    tiles = _opened(options, "glas")
    pixels = tiles.load(INNOCENT_SIDE)
    foreign = _opened(options, "lc25000").load(INNOCENT_SIDE)
    rng = np.random.default_rng([DRAW_SEED, options.seed, 99, draw])
    train, holdout, others = thirds(tiles.groups, rng)
    chosen = others[rng.permutation(len(others))[:INNOCENT_TILES]]
    made = innocent(pixels[chosen], rng)
    made["other data set"] = foreign[rng.permutation(len(foreign))[:INNOCENT_TILES]]
    everything = np.concatenate(list(made.values()))
    evidence = _collected(tiles, pixels, train, holdout, everything, options, kept, planted=8)
    ends = np.cumsum([len(each) for each in made.values()])
    for name, end in zip(made, ends, strict=True):
        rows = np.arange(end - len(made[name]), end)
        found = _judged(_chosen(evidence.data, rows), "exact")
        yield kept.get(cells[name]) or kept.add({"cell": cells[name], "kind": name, **found})
    found = _marks(options, kept, tiles, pixels, draw, (train, holdout, chosen))
    yield kept.get(cells["marks"]) or kept.add({"cell": cells["marks"], "kind": "marks", **found})


def _marks(
    options: Options,
    kept: _Cells,
    tiles: TileSet,
    pixels: Pixels,
    draw: int,
    parts: tuple[np.ndarray, np.ndarray, np.ndarray],
) -> dict[str, Any]:
    """A mark on a tenth of the train tiles and of the innocent ones; in every second draw on
    holdout tiles as well."""
    train, holdout, chosen = parts
    rng = np.random.default_rng([DRAW_SEED, options.seed, 7, draw])
    bearing = [train, *([holdout] if draw % 2 else [])]
    drawn = pixels.copy()
    for rows in bearing:
        some = rows[rng.random(len(rows)) < 0.1]
        drawn[some] = marked(pixels[some], draw)
    synthetic = pixels[chosen].copy()
    some = np.flatnonzero(rng.random(len(synthetic)) < 0.1)
    synthetic[some] = marked(synthetic[some], draw)
    evidence = _collected(tiles, drawn, train, holdout, synthetic, options, kept, planted=8)
    return _judged(evidence.data, "exact")


def _generated(options: Options, kept: _Cells) -> Iterator[dict[str, Any]]:
    """Samples of a `cdcgan` trained for two minutes by the product, against its own ledger."""
    count = 1 if options.quick else GENERATED
    cells = [f"innocent: honest generator, seed {seed}" for seed in range(count)]
    if done := kept.all(cells):
        yield from done
        return
    assert options.data is not None
    with tempfile.TemporaryDirectory() as work:
        on = replace(options, data=options.data / "glas")
        run = train_apart(Path(work), on, "cdcgan", "projected", INNOCENT_SIDE, TRAIN_MINUTES)
        generator = load_generator(run)
        made = [sample(generator, INNOCENT_TILES, seed=seed)[0] for seed in range(count)]
        assert generator.ledger is not None
        roles = reopen(generator.ledger, None)
    evidence = collect(
        train=roles["train"],
        holdout=roles["holdout"],
        siblings=roles.get("siblings"),
        synthetic=TileSet.from_arrays(np.concatenate(made), ["all"] * INNOCENT_TILES * count),
        encoder=load_encoder(),
        seed=options.seed,
        side=INNOCENT_SIDE,
        search=search,
        cache=kept.embeddings,
        planted_per_kind=8,
    )
    for place, cell in enumerate(cells):
        rows = np.arange(place * INNOCENT_TILES, (place + 1) * INNOCENT_TILES)
        found = _judged(_chosen(evidence.data, rows), "exact")
        yield kept.get(cell) or kept.add({"cell": cell, "kind": "honest generator", **found})


JOBS: dict[str, Callable[..., Iterator[dict[str, Any]]]] = {
    "leaks": _leaks,
    "innocents": _innocents,
    "generated": _generated,
}


def _outcome(
    leaks: list[dict[str, Any]], clean: list[dict[str, Any]], hours: float, options: Options
) -> Outcome:
    def missed(share: float) -> list[dict[str, Any]]:
        return [row for row in leaks if row["share"] == share and row["outcome"] != "LEAK"]

    kinds = len([row for row in leaks if row["share"] == SHARES[0]])
    bad = [row["cell"] for row in missed(SHARES[1]) if row["kind"] not in MAY_BE_MISSED]
    bad += [row["cell"] for row in leaks if "dirty" in row["kind"] and row["outcome"] != "LEAK"]
    rare = len(missed(SHARES[0]))
    covered = [
        row["cell"]
        for row in leaks
        if row["copying"] == "NO LEAK FOUND" and (row["mdl80"] or 1.0) <= row["share"]
    ]
    proofs = [row["cell"] for row in clean if row["proven"] or "identical" in row["found_by"]]
    false = [row["cell"] for row in clean if row["outcome"] == "LEAK"]
    passed = not bad and rare <= 0.1 * kinds and not covered and not proofs
    passed = passed and len(false) <= MOST_FALSE_LEAKS
    rows = [
        [
            row["cell"],
            row["outcome"],
            row["copying"],
            row["found_by"],
            str(row["proven"]),
            "-" if row.get("mdl80") is None else f"{row['mdl80']:.3g}",
        ]
        for row in [*leaks, *clean]
    ]
    return Outcome(
        columns=["cell", "verdict", "copying", "found by", "proven", "MDL80 said"],
        rows=rows,
        figures={"leaks": leaks, "innocent": clean, "hours": hours},
        figure=(
            f"at 3 % missed {len(bad)} (beyond those that may be), at 1 % {rare} of {kinds}; "
            f"{len(covered)} passes over a covered kind; {len(proofs)} false proofs and "
            f"{len(false)} false LEAK in {len(clean)} innocent sets"
        ),
        target=f"0; <= 10 %; 0; 0 and <= {MOST_FALSE_LEAKS} of {DRAWS * 7 + GENERATED}",
        passed=passed,
        notes=[
            f"{SYNTHETIC} synthetic tiles per cell ({round(SHARES[0] * SYNTHETIC)} and "
            f"{round(SHARES[1] * SYNTHETIC)} leaked), seed {options.seed}, {hours:.2f} hours",
            *(f"missed at 3 %: {cell}" for cell in bad),
            *(f"missed at 1 %: {row['cell']}" for row in missed(SHARES[0])),
            *(f"pass over a covered kind: {cell}" for cell in covered),
            *(f"false proof: {cell}" for cell in proofs),
            *(f"false LEAK: {cell}" for cell in false),
        ],
    )

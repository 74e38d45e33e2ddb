"""Which planted copies does the fingerprint search find, at which size, and at what cost?

GlaS patients are split in two: train tiles are searched in, tiles of the other patients are the
control. Copies of train tiles with tissue are planted by every kind and searched like synthetic
tiles. A tile is found when its best alignment leads to its source with a score above that of all
but 1 % of the control tiles, and a strength of 3. A crop without structure shows no tissue: counted
apart, as an audit does. Of a mosaic every train tile with a piece in it is a source.

Cost is measured against bases of growing size, windows cut from the tiles; the largest repeats
5,000 of them with noise on their key points, so nothing but time is read off it.
"""

import time
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
from harness import Options, Outcome

from audits.intervals import clopper_pearson
from audits.proof import MIN_STRENGTH, joint_score
from privgen.copysearch.alignment import Alignments, align_pairs, best_alignments
from privgen.copysearch.descriptors import Descriptors, concatenate, describe
from privgen.copysearch.marks import SAMPLE, Marks
from privgen.copysearch.searching import (
    EMBEDDED,
    PICTURED,
    VOTED,
    Searched,
    base_marks,
    candidates,
    join,
    search,
)
from privgen.copysearch.votes import shortlist
from privgen.data.balance import spread
from privgen.data.layouts import open_tiles
from privgen.data.splits import split_by_patient
from privgen.data.stain import optical_density
from privgen.encoders.loading import load_encoder
from privgen.encoders.orbit import Whitening, embed_orbit, fingerprint
from privgen.evidence.copy_kinds import KINDS, plant

SIDES = (64, 128, 256)
COPIES = 150
FALSE_ALARMS = 0.01
HARDER = {"blend_50": 0.9, "crop_35": 0.9}
TARGET = 0.99
TISSUE_DENSITY, TISSUE_SHARE = 0.1, 0.5
BASES = (500, 5_000, 50_000)
REAL_BASE = 5_000
QUERIES, FEW_QUERIES = 64, 16
COST_SIDE = 64

Pixels = np.ndarray
Set = tuple[Pixels, np.ndarray]


def run(options: Options) -> Outcome:
    """Recall of every kind at every side, shortlist and alignment apart, and the cost."""
    if options.data is None:
        raise SystemExit("planted-copies needs --data DIR, a folder of real tiles with patients.")
    tiles = open_tiles(Path(options.data))
    split = split_by_patient(tiles, siblings=0.0, seed=options.seed)
    rows, figures, short = [], {}, []
    for side in SIDES[:1] if options.quick else SIDES:
        pixels = tiles.load(side)
        rng = np.random.default_rng([options.seed, side])
        sets = [(pixels[rows], tiles.groups[rows]) for rows in (split.train, split.holdout)]
        found = _at(*sets, 30 if options.quick else COPIES, rng)
        figures[str(side)] = found
        for kind, figure in found["kinds"].items():
            rows.append(
                [
                    f"{side} px, {kind}",
                    *(f"{figure[name]:.3f}" for name in ("votes", "embedding", "pictures")),
                    *(f"{figure[name]:.3f}" for name in ("shortlist", "alignment")),
                    f"{figure['found']:.3f} [{figure['low']:.3f}, {figure['high']:.3f}]",
                    str(figure["n"]),
                    str(figure["blank"]),
                    f"{figure['inliers']:.0f}",
                    f"{figure['strength']:.1f}",
                ]
            )
            if figure["found"] < HARDER.get(kind, TARGET):
                short.append(f"{kind} at {side} px {figure['found']:.3f}")
    cost = _cost(tiles.load(256)[split.train], options)
    return Outcome(
        columns=[
            "copies",
            "votes",
            "embedding",
            "pictures",
            "any of them",
            "alignment",
            "found",
            "n",
            "blank",
            "inliers",
            "strength",
        ],
        rows=rows,
        figures={"sides": figures, "cost": cost, "short": short},
        figure="every kind reached its mark" if not short else f"short: {'; '.join(short)}",
        target=f">= {TARGET}; {', '.join(f'{kind} >= {bar}' for kind, bar in HARDER.items())}",
        passed=not short,
        notes=[
            *(
                f"{side} px: found above a score of {found['needed']:.2f}, strength >= "
                f"{MIN_STRENGTH:g}; {found['false_alarms']} of {found['control']} control tiles "
                f"exceed that, their largest score is {found['control_largest']:.2f}"
                for side, found in figures.items()
            ),
            "shares are of planted copies; alignment: of those on the shortlist, found",
            *cost["said"],
        ],
    )


def with_tissue(tiles: Pixels) -> np.ndarray:
    """Tiles at least half of which is denser than glass."""
    share = [(optical_density(tile[None]).mean(axis=3) > TISSUE_DENSITY).mean() for tile in tiles]
    return np.flatnonzero(np.array(share) >= TISSUE_SHARE)


def _at(train: Set, control: Set, copies: int, rng: np.random.Generator) -> dict:
    """Everything at one side."""
    (train, owners), (control, others) = (
        (pixels[kept], groups[kept])
        for pixels, groups in (train, control)
        for kept in (with_tissue(pixels),)
    )
    if len(train) < copies or len(control) == 0:
        raise SystemExit(
            f"planted-copies needs {copies} train tiles with tissue, and some of other patients: "
            f"got {len(train)} and {len(control)}."
        )
    encoder = load_encoder()
    means = embed_orbit(encoder, np.concatenate([train, control])).mean
    whitening = Whitening.fit(means)

    def ready(pixels: Pixels, groups: np.ndarray | None = None) -> Searched:
        embeddings = whitening.apply(embed_orbit(encoder, pixels).mean)
        return Searched(descriptors=describe(pixels), embeddings=embeddings, groups=groups)

    base, apart = ready(train, owners), ready(control, others)
    real = join([base, apart])
    shown = spread(real.groups, np.arange(len(real)), SAMPLE, rng)
    base = replace(base, marks=Marks(real.descriptors.patches[shown], real.groups[shown]))
    null = search(apart, base)
    needed = threshold(null)
    kinds = {}
    for kind in KINDS:
        source = rng.choice(len(train), copies, replace=False)
        tiles = plant(kind, train[source], rng, partners=control)
        planted = ready(tiles)
        sources = np.tile(source, (copies, 1)) if kind == "mosaic" else source[:, None]
        listed = candidates(planted, base).tiles
        marks = base_marks(base)
        best = best_alignments(planted.descriptors, base.descriptors, listed, marks=marks)
        pairs = np.stack([np.arange(copies), source], axis=1)
        pair = align_pairs(planted.descriptors, base.descriptors, pairs, marks=marks)
        some = np.array([fingerprint(tile) != "" for tile in tiles])
        hit = alarms(best, needed) & _among(best.candidates[:, None], sources)
        low, high = clopper_pearson(int(hit[some].sum()), int(some.sum()))
        lists = np.split(listed, [VOTED, VOTED + EMBEDDED], axis=1)
        by = [_among(each, sources) for each in (*lists, listed)]
        judged = some & by[-1]
        names = ("votes", "embedding", "pictures", "shortlist")
        kinds[kind] = {
            **{name: float(which[some].mean()) for name, which in zip(names, by, strict=True)},
            "alignment": float(alarms(pair, needed)[judged].sum() / max(1, judged.sum())),
            "found": float(hit[some].mean()),
            "low": low,
            "high": high,
            "n": int(some.sum()),
            "blank": int((~some).sum()),
            "inliers": float(np.median(pair.inliers[some])),
            "strength": float(np.median(pair.strengths[some])),
        }
    return {
        "train": len(train),
        "control": len(control),
        "needed": needed,
        "false_alarms": int(alarms(null, needed).sum()),
        "control_largest": float(joint_score(null.inliers, null.strengths).max()),
        "kinds": kinds,
    }


def _among(tiles: np.ndarray, sources: np.ndarray) -> np.ndarray:
    """Rows of `tiles`, shape (n, k), that hold one of the same row of `sources`."""
    return (tiles[:, :, None] == sources[:, None]).any(axis=(1, 2))


def alarms(found: Alignments, needed: float) -> np.ndarray:
    """Alignments whose score exceeds `needed` and whose tissue agrees beyond chance."""
    scores = joint_score(found.inliers, found.strengths)
    return (scores > needed) & (found.strengths >= MIN_STRENGTH)


def threshold(control: Alignments) -> float:
    """The smallest score that at most 1 % of the control tiles exceed, with enough strength."""
    scores = joint_score(control.inliers, control.strengths)
    scores = np.sort(np.where(control.strengths >= MIN_STRENGTH, scores, 0.0))
    return float(scores[-int(FALSE_ALARMS * len(scores)) - 1])


def _cost(pixels: Pixels, options: Options) -> dict:
    """Seconds per 1,000 tiles of the votes, exact and approximate, against growing bases.

    The time of two numbers of queries gives what one more query costs; what is left is the index,
    made once a search. Describing and aligning do not depend on the base.
    """
    rng = np.random.default_rng(options.seed)
    sizes = BASES[:2] if options.quick else BASES
    start = time.perf_counter()
    real = describe(_windows(pixels, min(REAL_BASE, sizes[-1]), rng))
    fixed = {"describe": (time.perf_counter() - start) / len(real) * 1000}
    queries = describe(_windows(pixels, QUERIES, rng))
    proposed = rng.integers(len(real), size=(QUERIES, VOTED + EMBEDDED + PICTURED))
    start = time.perf_counter()
    best_alignments(queries, real, proposed)
    fixed["align"] = (time.perf_counter() - start) / QUERIES * 1000
    seconds: dict[str, list[float]] = {"exact": [], "approximate": []}
    said = [", ".join(f"{step} {took:.1f} s per 1,000 tiles" for step, took in fixed.items())]
    for size in sizes:
        base = _grown(real, size, rng)
        for name, took in seconds.items():
            times = []
            for count in (FEW_QUERIES, QUERIES):
                start = time.perf_counter()
                shortlist(
                    queries.subset(np.arange(count)),
                    base,
                    top=VOTED,
                    approximate=name == "approximate",
                    certified=0,
                )
                times.append(time.perf_counter() - start)
            took.append((times[1] - times[0]) / (QUERIES - FEW_QUERIES) * 1000)
            index = times[0] - FEW_QUERIES * took[-1] / 1000
            said.append(
                f"{size} train tiles, {name} votes: {took[-1]:.1f} s per 1,000 tiles "
                f"and {max(index, 0):.1f} s for the index"
            )
    exponents = {
        name: [
            float(np.log(b / a) / np.log(q / p))
            for (a, b), (p, q) in zip(pairwise(took), pairwise(sizes), strict=True)
        ]
        for name, took in seconds.items()
    }
    said += [
        f"{name} votes grow with the base to the power {', then '.join(f'{e:.2f}' for e in each)}"
        for name, each in exponents.items()
    ]
    return {
        "sizes": sizes,
        "seconds_per_1000": {**fixed, **seconds},
        "exponents": exponents,
        "said": said,
    }


def _windows(pixels: Pixels, count: int, rng: np.random.Generator) -> Pixels:
    """Square pieces of the tiles, anywhere."""
    reach = pixels.shape[1] - COST_SIDE + 1
    rows = rng.integers(len(pixels), size=count)
    corners = rng.integers(reach, size=(count, 2))
    return np.stack(
        [
            pixels[row, y : y + COST_SIDE, x : x + COST_SIDE]
            for row, (y, x) in zip(rows, corners, strict=True)
        ]
    )


def _grown(described: Descriptors, size: int, rng: np.random.Generator) -> Descriptors:
    """The first `size` tiles; where there are fewer, repeated with noise."""
    if size <= len(described):
        return described.subset(np.arange(size))
    repeats = [described]
    while sum(map(len, repeats)) < size:
        noise = rng.integers(-6, 7, size=described.vectors.shape, dtype=np.int16)
        vectors = np.clip(described.vectors + noise, 0, 255).astype(np.uint8)
        repeats.append(
            Descriptors(
                described.side, described.starts, described.points, vectors, described.patches
            )
        )
    return concatenate(repeats)

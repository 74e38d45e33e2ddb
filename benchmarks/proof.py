"""Proof of single copies: three among 328 tiles, and none where there is none.

Patients of GlaS are dealt at random to train, holdout and a third group whose real tiles stand in
for synthetic ones, 40 times: nothing may be proven. Then, on a fixed draw, three of 328 synthetic
tiles are replaced by copies, and each must be proven by itself.
"""

from dataclasses import replace
from pathlib import Path

import numpy as np
from harness import Options, Outcome
from planted_leak import thirds

from audits.copy_evidence import aligned_copies
from audits.intervals import clopper_pearson
from audits.proof import alike, joint_score
from privgen.copysearch.descriptors import describe
from privgen.copysearch.marks import SAMPLE, Marks
from privgen.copysearch.searching import Searched, join, verify
from privgen.data.balance import spread
from privgen.data.layouts import open_tiles
from privgen.encoders.loading import load_encoder
from privgen.encoders.orbit import Whitening, embed_orbit, fingerprint
from privgen.evidence.copy_kinds import plant

SIDE = 64
DRAWS = 40
COPIES = 3
SYNTHETIC = 328
KINDS = ("exact", "symmetry", "odd_rotation", "odd_rotation_stain")


def run(options: Options) -> Outcome:
    """Proven copies among synthetic tiles without and with three copies."""
    if options.data is None:
        raise SystemExit("proof needs --data DIR, a folder of real tiles with patients.")
    tiles = open_tiles(Path(options.data))
    bench = _Bench(tiles.load(SIDE), tiles.groups, options.seed)
    draws = 4 if options.quick else DRAWS
    clean = [bench.judged(draw) for draw in range(draws)]
    copies = {kind: bench.judged(draws, kind) for kind in KINDS}
    told = {**{f"draw {draw}, none": found for draw, found in enumerate(clean)}, **copies}
    wrong = sum((found["proven"] or 0) > 0 for found in clean)
    unjudged = sum(found["proven"] is None for found in told.values())
    low, high = clopper_pearson(wrong, draws)
    missed = [
        kind for kind, found in copies.items() if (found["proven"], found["named"]) != (COPIES,) * 2
    ]
    return Outcome(
        columns=[
            "synthetic set",
            "tiles",
            "proven",
            "needed score",
            "largest",
            "largest of null",
            "null tiles",
            "fit p",
        ],
        rows=[[name, *(_shown(found[key]) for key in TOLD)] for name, found in told.items()],
        figures={"clean": clean, "copies": copies, "false_proofs": [wrong, draws, low, high]},
        figure=f"{wrong} of {draws} copy-free draws with a proof [{low:.3f}, {high:.3f}], "
        f"{unjudged} not judged; "
        + (
            f"not all proven: {', '.join(missed)}"
            if missed
            else f"all {COPIES} copies proven, each kind"
        ),
        target=f"0 of {draws}, {COPIES} of {COPIES}",
        passed=wrong == 0 and not missed and unjudged == 0,
    )


TOLD = (
    "searched",
    "proven",
    "needed_score",
    "largest",
    "null_largest",
    "null_scores",
    "goodness_of_fit_p",
)


def _shown(value: object) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)


class _Bench:
    """All tiles embedded and described once."""

    def __init__(self, pixels: np.ndarray, groups: np.ndarray, seed: int) -> None:
        self.pixels, self.groups, self.seed = pixels, groups, seed
        self.prints = np.array([fingerprint(tile) for tile in pixels])
        self.encoder = load_encoder()
        means = embed_orbit(self.encoder, pixels).mean
        self.whitening = Whitening.fit(means)
        self.every = self.ready(pixels, means, groups)

    def ready(self, pixels: np.ndarray, means: np.ndarray, groups: np.ndarray) -> Searched:
        return Searched(
            descriptors=describe(pixels), embeddings=self.whitening.apply(means), groups=groups
        )

    def judged(self, draw: int, kind: str | None = None) -> dict:
        """One random draw of patients, three of its synthetic tiles copies of a kind."""
        rng = np.random.default_rng([self.seed, draw])
        train, holdout, made = thirds(self.groups, rng)
        synthetic = self.every.subset(made)
        if kind is not None:
            textured = train[self.prints[train] != ""]
            copies = plant(kind, self.pixels[rng.choice(textured, COPIES, replace=False)], rng)
            means = embed_orbit(self.encoder, copies).mean
            planted = self.ready(copies, means, np.full(COPIES, "copy"))
            rest = self.every.subset(np.resize(made, SYNTHETIC - COPIES))
            synthetic = join([planted, rest])
        parts = [self.every.subset(rows) for rows in (train, holdout)]
        real = join(parts)
        shown = spread(real.groups, np.arange(len(real)), SAMPLE, rng)
        marks = Marks(real.descriptors.patches[shown], real.groups[shown])
        found = verify(
            synthetic=synthetic,
            train=replace(parts[0], marks=marks),
            real=real,
            real_fingerprints=self.prints[np.concatenate([train, holdout])],
            rng=rng,
        )
        ours, result = found.synthetic, aligned_copies(found, rng)
        told = {key: result.details.get(key) for key in TOLD}
        proven = alike(ours.inliers, ours.strength, needed=result.details["needed_score"])
        named = int(proven[:COPIES].sum())  # the copies come first
        largest = float(joint_score(ours.inliers, ours.strength).max())
        return {**told, "named": named, "largest": largest, "note": result.note}

"""On real tiles of known origin: is a tile's nearest neighbour another tile of its source image?

LC25000 was made by turning, mirroring and stretching a few hundred source images, so each tile has
mates. For every tile with a mate, all other tiles of both classes are searched. The ladder shows
what each step of the search adds; the last one is what `privgen audit --approximate` does. The
seconds include measuring what the approximate list misses.
"""

import time
from pathlib import Path

import numpy as np
import torch
from harness import Options, Outcome
from torch.nn import functional as F

from audits.intervals import clopper_pearson
from privgen.copysearch.alignment import Alignments, align_pairs, best_alignments
from privgen.copysearch.descriptors import Descriptors, describe
from privgen.copysearch.searching import Candidates, Searched, candidates
from privgen.data.layouts import open_tiles
from privgen.data.stain import jitter
from privgen.data.tileset import TileSet
from privgen.encoders.loading import EFFNET_SIDE, Encoder, load_encoder
from privgen.encoders.orbit import SYMMETRIES, Whitening, embed_orbit, symmetries
from privgen.models.effnet_lite import load_effnet_lite0, normalise

TARGETS = {"colon_aca": 0.995, "colon_n": 0.990}
SECONDS = 60.0
STAINS = 2
STRENGTH = 0.3
QUICK_TILES = 300

Floats = np.ndarray


def run(options: Options) -> Outcome:
    """Precision@1 step by step, seconds per 1,000 tiles, and every miss by name."""
    if options.data is None:
        raise SystemExit("copy-search needs --data DIR, tiles with a source_image column.")
    tiles = open_tiles(Path(options.data), group_by="source_image")
    if options.quick:
        names = np.unique(tiles.groups)
        kept = np.isin(tiles.groups, names[:: max(1, len(tiles) // QUICK_TILES)])
        tiles = tiles.subset(np.flatnonzero(kept))
    pixels = tiles.load()
    encoder = load_encoder()
    own = np.arange(len(tiles)).astype(str)

    clock = [time.perf_counter()]
    found = embed_orbit(encoder, pixels)
    embeddings = Whitening.fit(found.mean).apply(found.mean)
    clock.append(time.perf_counter())
    described = describe(pixels)
    clock.append(time.perf_counter())
    ready = Searched(descriptors=described, embeddings=embeddings, groups=own)
    listed = candidates(ready, ready, other_groups=True, approximate=True)
    clock.append(time.perf_counter())
    aligned = best_alignments(described, described, listed.tiles)
    clock.append(time.perf_counter())
    seconds = {
        step: float(took) / len(tiles) * 1000
        for step, took in zip(
            ("embed", "describe", "shortlist", "align"), np.diff(clock), strict=True
        )
    }

    steps = {"colour histogram": nearest(load_encoder("colour").embed(pixels))}
    steps["pixels"] = nearest(load_encoder("pixels").embed(pixels))
    steps["encoder, plain"] = nearest(found.plain)
    steps["orbit mean"] = nearest(found.mean)
    if not options.quick:
        steps |= _variants(encoder, pixels, found.mean, np.random.default_rng(options.seed))
    steps["orbit mean, whitened"] = nearest(embeddings)
    steps["votes of key points"] = listed.tiles[:, 0]
    steps["all candidates, aligned"] = aligned.candidates

    judged = Judged(tiles)
    rows, figures = [], {}
    for name, first in steps.items():
        figures[name] = judged.precision(first)
        rows.append([name, *(_cell(figures[name][label]) for label in tiles.classes)])
    misses = judged.misses(aligned, described, listed)
    last = figures["all candidates, aligned"]
    total = sum(seconds.values())
    if not set(TARGETS) <= set(last):
        raise SystemExit(f"copy-search judges {', '.join(TARGETS)}: got {', '.join(last)}.")
    reached = all(last[label]["value"] >= bar for label, bar in TARGETS.items())
    return Outcome(
        columns=["step", *tiles.classes],
        rows=rows,
        figures={
            "tiles": len(tiles),
            "precision_at_1": figures,
            "seconds_per_1000": seconds,
            "shortlist_recall": None if listed.recall is None else listed.recall.value,
            "misses": misses,
        },
        figure=" and ".join(f"{last[label]['value']:.4f} {label}" for label in last)
        + f", {total:.0f} s per 1,000 tiles",
        target=" and ".join(f">= {bar} {label}" for label, bar in TARGETS.items())
        + f", <= {SECONDS:.0f} s",
        passed=reached and total <= SECONDS,
        notes=[
            "seconds per 1,000 tiles: "
            + ", ".join(f"{step} {took:.1f}" for step, took in seconds.items()),
            f"the approximate shortlist holds the exact one's first tile in {_recall(listed)}",
            f"{len(misses)} missed:",
            *(
                f"  {miss['tile']} ({miss['group']}): {miss['named']} with {miss['inliers']} "
                f"inliers, agreement {miss['agreement']}; best mate {miss['mate_inliers']}, "
                f"{miss['mate_agreement']}: {miss['verdict']}"
                for miss in misses
            ),
        ],
    )


class Judged:
    """What the manifest says of the tiles."""

    def __init__(self, tiles: TileSet) -> None:
        self.tiles = tiles
        _, owner, counts = np.unique(tiles.groups, return_inverse=True, return_counts=True)
        self.group = owner
        self.has_mate = counts[owner] > 1

    def hits(self, first: Floats) -> Floats:
        """Whether the tile named first is a mate; False where none is named."""
        return (self.group[first] == self.group) & (first >= 0)

    def precision(self, first: Floats) -> dict[str, dict[str, float]]:
        """Per class: share of the tiles with a mate whose first tile is one."""
        hit, shares = self.hits(first), {}
        for label in self.tiles.classes:
            rows = self.has_mate & (self.tiles.labels == label)
            low, high = clopper_pearson(int(hit[rows].sum()), int(rows.sum()))
            shares[label] = {
                "value": float(hit[rows].mean()),
                "low": low,
                "high": high,
                "n": int(rows.sum()),
            }
        return shares

    def misses(
        self, aligned: Alignments, described: Descriptors, listed: Candidates
    ) -> list[dict[str, object]]:
        """Every miss: what was named instead, how well it aligns, and the best mate."""
        told = []
        for row in np.flatnonzero(self.has_mate & ~self.hits(aligned.candidates)):
            mates = np.flatnonzero(
                (self.group == self.group[row]) & (np.arange(len(self.group)) != row)
            )
            against = align_pairs(
                described, described, np.stack([np.full_like(mates, row), mates], 1)
            )
            best = int(against.inliers.argmax())
            named = int(aligned.candidates[row])
            shown = bool(np.isin(listed.tiles[row], mates).any())
            wrong = aligned.inliers[row] > against.inliers[best] and aligned.agreements[row] > 0.5
            verdict = (
                "the other group shows the same tissue: the group label is wrong"
                if wrong
                else "a mate was shown and aligned worse"
                if shown
                else "no mate was shown to the alignment"
            )
            other = "nothing" if named < 0 else str(self.tiles.groups[named])
            told.append(
                {
                    "tile": self.tiles.records[row].path,
                    "group": str(self.tiles.groups[row]),
                    "named": other,
                    "inliers": int(aligned.inliers[row]),
                    "agreement": round(float(aligned.agreements[row]), 3),
                    "mate_inliers": int(against.inliers[best]),
                    "mate_agreement": round(float(against.agreements[best]), 3),
                    "verdict": verdict,
                }
            )
        return told


def nearest(x: Floats) -> Floats:
    """The nearest other row, Euclidean."""
    squared = (x**2).sum(axis=1) - 2 * x @ x.T
    np.fill_diagonal(squared, np.inf)
    return squared.argmin(axis=1)


def _variants(
    encoder: Encoder, pixels: Floats, mean: Floats, rng: np.random.Generator
) -> dict[str, Floats]:
    """What else an orbit may be: its nearest member, stains beside symmetries, further layers."""
    versions = [encoder.embed(version) for version in symmetries(pixels)]
    plain = versions[0]
    squared = np.min(
        [
            (plain**2).sum(axis=1) - 2 * version @ plain.T + (version**2).sum(axis=1)[:, None]
            for version in versions
        ],
        axis=0,
    )
    np.fill_diagonal(squared, np.inf)
    stained = mean.astype(np.float64)
    for _ in range(STAINS):
        stained += embed_orbit(encoder, jitter(pixels, rng, strength=STRENGTH)).mean
    stained = (stained / (1 + STAINS)).astype(np.float32)
    layers = np.concatenate([_scaled(mean), _scaled(_pyramid(pixels))], axis=1)
    return {
        "orbit minimum": squared.argmin(axis=1),
        f"orbit and {STAINS} stains, mean": nearest(stained),
        f"orbit and {STAINS} stains, whitened": nearest(Whitening.fit(stained).apply(stained)),
        "orbit mean of 4 layers more": nearest(layers),
        "the same, whitened": nearest(Whitening.fit(layers).apply(layers)),
        "orbit mean, whitened to 128": nearest(Whitening.fit(mean, 128).apply(mean)),
        "orbit mean, whitened to 256": nearest(Whitening.fit(mean, 256).apply(mean)),
    }


def _scaled(x: Floats) -> Floats:
    """Rows of length 1."""
    return x / np.linalg.norm(x, axis=1, keepdims=True)


def _pyramid(pixels: Floats) -> Floats:
    """Orbit mean of the pooled maps at strides 4, 8, 16 and 32."""
    network = load_effnet_lite0()
    total: Floats = np.zeros(1)
    for version in symmetries(pixels):
        pooled = []
        for start in range(0, len(version), 32):
            block = torch.from_numpy(version[start : start + 32].copy()).permute(0, 3, 1, 2)
            small = F.interpolate(block, (EFFNET_SIDE, EFFNET_SIDE), mode="bicubic", antialias=True)
            with torch.inference_mode():
                maps = network.pyramid(normalise(small.float()))
            pooled.append(torch.cat([each.mean(dim=(2, 3)) for each in maps], dim=1).numpy())
        total = total + np.concatenate(pooled) / SYMMETRIES
    return total.astype(np.float32)


def _recall(listed: Candidates) -> str:
    found = listed.recall
    return "no case" if found is None else f"{found.value:.3f} [{found.low:.3f}, {found.high:.3f}]"


def _cell(share: dict[str, float]) -> str:
    return f"{share['value']:.4f} [{share['low']:.3f}, {share['high']:.3f}]"

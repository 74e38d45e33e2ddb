"""On real tiles: is a set with 3 % train copies found out, and is one without them left alone?

Patients are split at random into train, holdout and a third group whose real tiles stand in for
what a perfect generator would make. Some of them are then replaced by exact copies of train tiles.
Tiles are embedded once.
"""

from pathlib import Path

import numpy as np
from harness import Options, Outcome

import audits
from audits import AuditData, Harm, Tiles
from audits import Outcome as Verdict
from audits.intervals import clopper_pearson
from privgen.data.layouts import open_tiles
from privgen.data.tileset import TileSet
from privgen.encoders.loading import load_encoder
from privgen.encoders.orbit import Whitening, fingerprint, orbit_mean

SHARE = 0.03
SIDE = 64
CLEAN_BOUND = 0.05


def run(options: Options) -> Outcome:
    """LEAK rates with and without planted copies, by equal pixels and by the count tests alone."""
    if options.data is None:
        raise SystemExit("planted-leak needs --data DIR, a folder of real tiles with patients.")
    repeats = 10 if options.quick else 40
    tiles = open_tiles(Path(options.data))
    pixels = tiles.load(SIDE)
    plain = orbit_mean(load_encoder("effnet_lite0"), pixels)
    prints = np.array([fingerprint(tile) for tile in pixels])
    hits = dict.fromkeys(("clean", "clean, counts only", "copies", "copies, counts only"), 0)
    for draw in range(repeats):
        rng = np.random.default_rng([options.seed, draw])
        for planted in (False, True):
            data = _draw(tiles, plain, prints, rng, SHARE if planted else 0.0)
            copying = _copying(audits.audit(data, rng=draw))
            name = "copies" if planted else "clean"
            hits[name] += copying.outcome is Verdict.LEAK
            rejected = [r.rejected for r in audits.battery.run_family(data, rng=draw)[:2]]
            hits[f"{name}, counts only"] += any(rejected)
    rows, figures = [], {}
    for name, count in hits.items():
        low, high = clopper_pearson(count, repeats)
        figures[name] = {"rate": count / repeats, "low": low, "high": high, "n": repeats}
        rows.append([name, f"{count}/{repeats}", f"{count / repeats:.3f} [{low:.3f}, {high:.3f}]"])
    clean, copies = hits["clean"] / repeats, hits["copies"] / repeats
    return Outcome(
        columns=["synthetic set", "LEAK", "rate"],
        rows=rows,
        figures={"share": SHARE, "side": SIDE, "group_unit": tiles.group_unit, "leak": figures},
        figure=f"LEAK in {copies:.2f} of copy runs and {clean:.2f} of clean runs",
        target=f"1.00 and <= {CLEAN_BOUND:.2f}",
        passed=copies == 1 and clean <= CLEAN_BOUND,
    )


def thirds(groups: np.ndarray, rng: np.random.Generator) -> list[np.ndarray]:
    """Patients dealt in random order to whichever third has fewest tiles: rows of each third.

    Unlike `split_by_patient`, which looks for the most balanced split and so finds few different
    ones among 16 patients, every draw is another split.
    """
    names, owner, sizes = np.unique(groups, return_inverse=True, return_counts=True)
    third, load = np.empty(len(names), dtype=int), np.zeros(3)
    for name in rng.permutation(len(names)):
        third[name] = load.argmin()
        load[third[name]] += sizes[name]
    return [np.flatnonzero(third[owner] == number) for number in range(3)]


def _draw(
    tiles: TileSet, plain: np.ndarray, prints: np.ndarray, rng: np.random.Generator, share: float
) -> AuditData:
    """One random patient-disjoint draw, a share of whose synthetic tiles are train tiles."""
    train, holdout, made = thirds(tiles.groups, rng)
    copies = round(share * len(made))
    made[rng.permutation(len(made))[:copies]] = rng.choice(train, copies, replace=False)
    x = Whitening.fit(plain[np.concatenate([train, holdout, made])]).apply(plain)

    def part(name: str, rows: np.ndarray) -> Tiles:
        known = None if name == "synthetic" else tiles.groups[rows]
        return Tiles(name, x[rows], patients=known, fingerprints=prints[rows])

    return AuditData(
        train=part("train", train),
        holdout=part("holdout", holdout),
        synthetic=part("synthetic", made),
        group_unit=tiles.group_unit,
    )


def _copying(report: audits.AuditReport) -> audits.HarmVerdict:
    return next(harm for harm in report.verdict.harms if harm.harm is Harm.COPYING)

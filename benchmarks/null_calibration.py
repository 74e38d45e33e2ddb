"""How often the battery cries LEAK when there is nothing to find.

Simulated tiles: Gaussian embeddings with a patient effect (`icc` of the variance), train, siblings,
  holdout and synthetic all from one law,
synthetic tiles from patients of their own. Beside every p-value the battery reports stand the
tile-level tests that published tools use on the same data.
"""

import numpy as np
from harness import Options, Outcome
from scipy import stats

from audits import AuditData, Tiles
from audits.battery import run_family
from audits.intervals import clopper_pearson
from audits.membership import full_black_box
from audits.neighbors import nearest
from audits.permutation import auroc

SIGNIFICANCE = 0.05
WIDTH = 32
DESIGNS = ((20, 100, 1000), (8, 30, 240))
CORRELATIONS = (0.0, 0.05, 0.3)
BOUNDS = (0.02, 0.08)
LEAK_BOUND = 0.06


def simulate(
    rng: np.random.Generator, *, patients: int, tiles: int, synthetic: int, icc: float
) -> AuditData:
    """One leak-free data set: `patients` on each side with `tiles` tiles each."""

    def draw(name: str, count: int) -> Tiles:
        own = rng.normal(scale=np.sqrt(1 - icc), size=(count, tiles, WIDTH))
        shared = rng.normal(scale=np.sqrt(icc), size=(count, 1, WIDTH))
        owners = np.repeat([f"{name}{i}" for i in range(count)], tiles)
        return Tiles(name, (own + shared).reshape(-1, WIDTH), patients=owners)

    members, holdout = draw("train", patients), draw("holdout", patients)
    made = draw("synthetic", -(-synthetic // tiles))
    held_back = rng.permuted(np.tile(np.arange(tiles) < tiles // 10, (patients, 1)), axis=1).ravel()
    return AuditData(
        train=_part("train", members, ~held_back),
        siblings=_part("siblings", members, held_back),
        holdout=holdout,
        synthetic=Tiles("synthetic", made.embeddings[:synthetic]),
    )


def _part(name: str, tiles: Tiles, rows: np.ndarray) -> Tiles:
    return Tiles(name, tiles.embeddings[rows], patients=tiles.patients[rows])


def delong_p(members: np.ndarray, nonmembers: np.ndarray) -> float:
    """One-sided tile-level DeLong p: every tile counted as if it were a patient."""
    wins = (members[:, None] > nonmembers) + 0.5 * (members[:, None] == nonmembers)
    error = np.sqrt(
        wins.mean(axis=1).var(ddof=1) / len(members)
        + wins.mean(axis=0).var(ddof=1) / len(nonmembers)
    )
    return float(stats.norm.sf((auroc(members, nonmembers) - 0.5) / error))


def dcr_binomial_p(data: AuditData) -> float:
    """One-sided binomial p of the share of synthetic tiles nearer to train than to holdout."""
    size = min(len(data.train), len(data.holdout))
    train, holdout = data.train.embeddings[:size], data.holdout.embeddings[:size]
    synthetic = data.synthetic.embeddings
    closer = (
        nearest(synthetic, train, k=1).distances < nearest(synthetic, holdout, k=1).distances
    ).sum()
    return float(stats.binomtest(int(closer), len(synthetic), alternative="greater").pvalue)


def run(options: Options) -> Outcome:
    """Rejection rates of every p-value, and the battery's LEAK rate."""
    repeats = 60 if options.quick else 400
    rows, figures = [], []
    passed = True
    for patients, tiles, synthetic in DESIGNS:
        for icc in CORRELATIONS:
            rng = np.random.default_rng([options.seed, patients, int(icc * 100)])
            rates = _rates(rng, repeats, patients, tiles, synthetic, icc)
            for test, hits in rates.items():
                low, high = clopper_pearson(hits, repeats)
                rate = hits / repeats
                published = test.startswith("(")
                in_bounds = rate <= LEAK_BOUND if test == "LEAK" else BOUNDS[0] <= rate <= BOUNDS[1]
                passed &= published or in_bounds
                verdict = "published" if published else "ok" if in_bounds else "OUT"
                rows.append(
                    [
                        f"{patients}+{patients} x {tiles}",
                        f"{icc:g}",
                        test,
                        f"{rate:.3f} [{low:.3f}, {high:.3f}]",
                        verdict,
                    ]
                )
                figures.append(
                    {
                        "patients": patients,
                        "tiles": tiles,
                        "icc": icc,
                        "test": test,
                        "rate": rate,
                        "low": low,
                        "high": high,
                        "n": repeats,
                    }
                )
    worst = max(f["rate"] for f in figures if f["test"] == "LEAK")
    return Outcome(
        columns=["design", "icc", "p-value", "rejects at .05", ""],
        rows=rows,
        figures={"rates": figures, "repeats": repeats},
        figure=f"largest LEAK rate {worst:.3f}, {repeats} data sets a cell",
        target=f"each p in [{BOUNDS[0]}, {BOUNDS[1]}], LEAK <= {LEAK_BOUND}",
        passed=passed,
    )


def _rates(
    rng: np.random.Generator, repeats: int, patients: int, tiles: int, synthetic: int, icc: float
) -> dict[str, int]:
    hits: dict[str, int] = {}
    for _ in range(repeats):
        data = simulate(rng, patients=patients, tiles=tiles, synthetic=synthetic, icc=icc)
        results = run_family(data, significance=SIGNIFICANCE, rng=rng)
        outcomes = {r.name: r.p_value is not None and r.p_value <= SIGNIFICANCE for r in results}
        outcomes["LEAK"] = any(r.rejected for r in results)
        scores = [
            full_black_box(t.embeddings, data.synthetic.embeddings)
            for t in (data.train, data.holdout)
        ]
        outcomes["(tile-level DeLong)"] = delong_p(*scores) <= SIGNIFICANCE
        outcomes["(DCR-share binomial)"] = dcr_binomial_p(data) <= SIGNIFICANCE
        for test, hit in outcomes.items():
            hits[test] = hits.get(test, 0) + bool(hit)
    return hits

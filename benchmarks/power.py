"""How small a share of exact copies the copy tests see, from embeddings alone.

Simulated tiles with a patient effect; some synthetic tiles are exact copies of train embeddings,
spread over six or more patients. Equal pixels, which would prove every such copy, are withheld, so
that the tests stand alone. Beside them what published tools make of the same sets: C_T, mean
authenticity and the DCR share, each with the rule it is read by.
"""

import os
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial

import faiss
import numpy as np
from harness import Options, Outcome
from null_calibration import Design, dcr_binomial_p, simulate
from sklearn.cluster import KMeans

from audits import AuditData, Policy, Tiles
from audits import Outcome as Verdict
from audits.averages import c_t_statistic, is_authentic
from audits.battery import run_family
from audits.copying import copy_scores, own_copy_scores
from audits.copying_rules import CopyingCase
from audits.family import family, levels
from audits.intervals import clopper_pearson
from audits.verdict import copying_verdict

DESIGNS = (Design(30, 100, 3000), Design(20, 100, 3000))
CORRELATION = 0.05
REPEATS = 60
COPIED_PATIENTS = 6
TARGETS = {0.003: 0.8, 0.01: 0.99}
OFF_MANIFOLD = "10 % copies, rest off-manifold"


@dataclass(frozen=True)
class Set:
    """One kind of synthetic set: its share of copies, and whether the rest is off-manifold."""

    name: str
    share: float
    shift: float = 0.0


SETS = (
    Set("no copies", 0.0),
    Set(".1 % copies", 0.001),
    Set(".3 % copies", 0.003),
    Set("1 % copies", 0.01),
    Set(OFF_MANIFOLD, 0.1, 0.35),
)


def with_copies(rng: np.random.Generator, design: Design, kind: Set) -> AuditData:
    """A leak-free data set, then `kind` made of its synthetic tiles."""
    data = simulate(rng, design, icc=CORRELATION)
    made = data.synthetic.embeddings + np.float32(kind.shift)
    count = round(kind.share * len(made))
    names = rng.choice(np.unique(data.train.patients), COPIED_PATIENTS, replace=False)
    rows = np.flatnonzero(np.isin(data.train.patients, names))
    made[rng.permutation(len(made))[:count]] = data.train.embeddings[rng.choice(rows, count)]
    return AuditData(
        train=data.train,
        siblings=data.siblings,
        holdout=data.holdout,
        synthetic=Tiles("synthetic", made),
    )


def judge(seed: Sequence[int], design: Design, kind: Set) -> dict[str, float]:
    """Whether the copying verdict is LEAK, and the published figures with their rules' answers."""
    faiss.omp_set_num_threads(1)
    data = with_copies(np.random.default_rng(seed), design, kind)
    policy = Policy()
    results = {result.name: result for result in run_family(data, policy=policy)}
    level = levels(family(data), policy.significance)
    verdict = copying_verdict(CopyingCase(results=results, mdl80={}, policy=policy, levels=level))
    scores = copy_scores(data.synthetic.embeddings, data.train.embeddings)
    others = copy_scores(data.holdout.embeddings, data.train.embeddings)
    cells = KMeans(3, n_init=1, random_state=0).fit(data.train.embeddings)
    c_t = c_t_statistic(
        scores.nearest,
        others.nearest,
        synthetic_cells=cells.predict(data.synthetic.embeddings),
        holdout_cells=cells.predict(data.holdout.embeddings),
    ).value
    authentic = float(is_authentic(scores, own_copy_scores(data.train.embeddings)).mean())
    return {
        "leak": verdict.outcome is Verdict.LEAK,
        "c_t": c_t,
        "c_t_says": c_t < -3,
        "authenticity": authentic,
        "authenticity_says": authentic < 0.5,
        "dcr_says": dcr_binomial_p(data) <= 0.05,
    }


def run(options: Options) -> Outcome:
    """Detection rates by share of copies."""
    rows, figures, passed = [], [], True
    shown: dict[str, float] = {}
    for number, design in enumerate(DESIGNS):
        for index, kind in enumerate(SETS):
            # The second design is not judged: it shows what a smaller holdout costs.
            repeats = (20 if options.quick else REPEATS) // (1 + number)
            seeds = [(options.seed, number, index, repeat) for repeat in range(repeats)]
            with ProcessPoolExecutor(os.cpu_count()) as pool:
                found = list(pool.map(partial(judge, design=design, kind=kind), seeds, chunksize=5))
            mean = {name: float(np.mean([one[name] for one in found])) for name in found[0]}
            low, high = clopper_pearson(round(mean["leak"] * repeats), repeats)
            needed = 1.0 if kind.name == OFF_MANIFOLD else TARGETS.get(kind.share)
            judged = number == 0 and needed is not None
            if judged:
                passed &= mean["leak"] >= (needed or 0.0)
                shown[kind.name] = mean["leak"]
            rows.append(
                [
                    f"{design}, {design.synthetic}",
                    kind.name,
                    f"{mean['leak']:.3f} [{low:.3f}, {high:.3f}]",
                    f"{mean['c_t']:.2f} ({mean['c_t_says']:.2f})",
                    f"{mean['authenticity']:.3f} ({mean['authenticity_says']:.2f})",
                    f"({mean['dcr_says']:.2f})",
                ]
            )
            figures.append(
                {"design": str(design), "synthetic": design.synthetic, "set": kind.name,
                 "low": low, "high": high, "n": repeats, "needed": needed if judged else None,
                 **mean}
            )  # fmt: skip
    return Outcome(
        columns=[
            "design, synthetic",
            "synthetic set",
            "LEAK on copying",
            "C_T (< -3)",
            "authenticity (< .5)",
            "DCR share (binomial)",
        ],
        rows=rows,
        figures={"detection": figures, "icc": CORRELATION},
        figure=", ".join(f"{name} {rate:.2f}" for name, rate in shown.items()),
        target=".3 % >= .80, 1 % >= .99, off-manifold 1.00",
        passed=passed,
    )

"""What a whole audit costs, and what exactness costs over a bare search.

Three measurements: the whole battery with its fidelity block in a process of its own (wall seconds
and peak memory), `neighbors.nearest` against `faiss.IndexFlatL2` alone (interleaved, same process),
and the seconds of a self-search against the number of tiles, with the exponent of their growth.
"""

import multiprocessing
import resource
import sys
import time

import faiss
import numpy as np
from harness import Options, Outcome, Timing, interleave

import audits
from audits import AuditData, Tiles
from audits.neighbors import nearest, nearest_others

WIDTH = 512
TILES = 10_000
PATIENTS = 50
SECONDS_BOUND = 90
MEMORY_BOUND = 2.0
SEARCH_BOUND = 1.1
SIZES = (10_000, 20_000, 40_000, 80_000, 160_000)
GROWTH_WIDTH = 64


def whole_audit(tiles: int, seed: int) -> tuple[float, float]:
    """Wall seconds and peak resident GB of one audit, data included; run in a fresh process."""
    rng = np.random.default_rng(seed)
    roles = {}
    for name in ("train", "holdout", "synthetic"):
        x = rng.standard_normal((tiles, WIDTH), dtype=np.float32)
        owner = np.arange(tiles) % PATIENTS
        patients = None if name == "synthetic" else np.char.add(name, owner.astype(np.str_))
        roles[name] = Tiles(name, x, patients=patients)
    data = AuditData(train=roles["train"], holdout=roles["holdout"], synthetic=roles["synthetic"])
    features = {"encoder": {name: part.embeddings for name, part in roles.items()}}
    start = time.perf_counter()
    audits.audit(data, rng=seed, features=features)
    seconds = time.perf_counter() - start
    unit = 1 if sys.platform == "darwin" else 1024
    return seconds, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e9


def search_ratio(seed: int, shrink: int) -> tuple[float, Timing]:
    """Seconds of our exact search over those of bare FAISS: median of interleaved pairs."""
    rng = np.random.default_rng(seed)
    base = rng.standard_normal((100_000 // shrink, 768), dtype=np.float32)
    queries = rng.standard_normal((TILES // shrink, 768), dtype=np.float32)

    def bare() -> None:
        index = faiss.IndexFlatL2(base.shape[1])
        index.add(base)
        index.search(queries, 1)

    timing = interleave(lambda: nearest(queries, base, k=1), bare, pairs=3)
    return 1 / timing.summary()["median"], timing


def run(options: Options) -> Outcome:
    """The three measurements."""
    shrink = 10 if options.quick else 1
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        seconds, peak = pool.apply(whole_audit, (TILES // shrink, options.seed))
    ratio, timing = search_ratio(options.seed, shrink)
    rng = np.random.default_rng(options.seed)
    sizes = [size // shrink for size in SIZES]
    costs = []
    for size in sizes:
        tiles = rng.standard_normal((size, GROWTH_WIDTH), dtype=np.float32)
        start = time.perf_counter()
        nearest_others(tiles, k=10)
        costs.append(time.perf_counter() - start)
    exponent = float(np.polyfit(np.log(sizes), np.log(costs), 1)[0])
    rows = [
        [
            f"whole audit, 3 x {TILES // shrink} x {WIDTH}",
            f"{seconds:.1f} s",
            f"{peak:.2f} GB peak",
        ],
        [
            f"exact search, {TILES // shrink} x {100_000 // shrink} x 768",
            f"{np.median(timing.ours):.1f} s",
            f"{ratio:.3f} x bare faiss",
        ],
    ]
    rows += [
        [f"self-search, {size} x {GROWTH_WIDTH}", f"{cost:.2f} s", ""]
        for size, cost in zip(sizes, costs, strict=True)
    ]
    rows.append(["seconds grow as n to the power", f"{exponent:.2f}", ""])
    return Outcome(
        columns=["what", "cost", ""],
        rows=rows,
        figures={
            "audit_seconds": seconds,
            "audit_peak_gb": peak,
            "search_ratio": ratio,
            "search_pairs": timing.summary(),
            "growth": dict(zip(map(str, sizes), costs, strict=True)),
            "exponent": exponent,
        },
        figure=(
            f"{seconds:.1f} s, {peak:.2f} GB, search {ratio:.3f} x bare, exponent {exponent:.2f}"
        ),
        target=f"< {SECONDS_BOUND} s, < {MEMORY_BOUND:g} GB, <= {SEARCH_BOUND:g} x",
        passed=seconds < SECONDS_BOUND and peak < MEMORY_BOUND and ratio <= SEARCH_BOUND,
    )

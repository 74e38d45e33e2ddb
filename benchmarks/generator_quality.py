"""What each family makes of the same tiles in the same minutes on the same machine.

Judged in EfficientNet-Lite2, which no training ever saw: Frechet distance of synthetic tiles to
tiles of held-out patients, FD(S,H), less the real floor FD(T,H); diversity within each class, as
the mean distance between two synthetic tiles of it over that between two real ones; and how often a
classifier trained on the real training tiles recognises the class that was asked for.

Every family is trained with the discriminator of its paper ("own") and with the projected one. Runs
are made two at a time where there are two cores, each on one thread.
"""

import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from harness import Options, Outcome
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from train_run import cores, train_apart

from audits.frechet import frechet_distance
from audits.intervals import clopper_pearson
from privgen.checkpoints.roles import reopen
from privgen.checkpoints.state import load_checkpoint
from privgen.data import images
from privgen.data.tileset import TileSet
from privgen.encoders.loading import Encoder, load_encoder
from privgen.models import FAMILIES
from privgen.sampling import LoadedGenerator, load_generator, sample

RESOLUTION = 64
MINUTES = 12.0
RATIO_TARGET = 0.35
DIVERSITY_TARGET = 0.75
ENCODER = "effnet_lite2"
PAIRS = 4000
GRID_COLUMNS = 10


def run(options: Options) -> Outcome:
    """Train, sample, judge."""
    if options.data is None:
        raise SystemExit("generator-quality needs --data FOLDER of real tiles")
    minutes = options.minutes or (0.5 if options.quick else MINUTES)
    jobs = [(family, kind) for family in FAMILIES for kind in ("own", "projected")]
    with TemporaryDirectory() as work:
        with ThreadPoolExecutor(cores()) as pool:
            started = [
                pool.submit(train_apart, Path(work), options, *job, RESOLUTION, minutes)
                for job in jobs
            ]
            runs = {job: future.result() for job, future in zip(jobs, started, strict=True)}
        judge = _Judge(next(iter(runs.values())), options.device)
        found = {job: judge.judged(runs[job]) for job in jobs}
        _keep_grids(runs)
    return _outcome(found, judge, minutes)


class _Judge:
    """Real tiles of one split, embedded once, and what is asked of synthetic ones."""

    def __init__(self, run_folder: Path, device: str) -> None:
        roles = reopen(load_checkpoint(run_folder).ledger)
        self.classes = roles["train"].classes
        self.encoder: Encoder = load_encoder(ENCODER, device=device)
        self.train, self.train_labels = self._embedded(roles["train"])
        self.held_out, held_labels = self._embedded(roles["holdout"])
        self.floor = frechet_distance(self.train, self.held_out)
        self.classifier = make_pipeline(
            StandardScaler(), LogisticRegression(C=0.01, class_weight="balanced", max_iter=2000)
        ).fit(self.train, self.train_labels)
        known = self.classifier.predict(self.held_out) == held_labels
        self.known = {c: float(known[held_labels == c].mean()) for c in np.unique(held_labels)}

    def _embedded(self, tiles: TileSet) -> tuple[NDArray[np.float32], NDArray[np.str_]]:
        return self.encoder.embed(tiles.load(RESOLUTION)), tiles.labels

    def judged(self, run_folder: Path) -> dict[str, Any]:
        """Figures of one run; as many synthetic tiles as there are training tiles."""
        generator = load_generator(run_folder)
        pixels, labels = sample(generator, len(self.train), seed=1)
        synthetic = self.encoder.embed(pixels)
        predicted = self.classifier.predict(synthetic)
        recognised = {}
        for name in self.classes:
            mine = labels == name
            hits, count = int((predicted[mine] == name).sum()), int(mine.sum())
            recognised[name] = [hits / count, *clopper_pearson(hits, count), count]
        diversity = {
            name: _spread(synthetic[labels == name])
            / _spread(self.train[self.train_labels == name])
            for name in self.classes
        }
        return {
            "kimg": generator.kimg,
            "fd_holdout": frechet_distance(synthetic, self.held_out),
            "fd_train": frechet_distance(synthetic, self.train),
            "diversity": diversity,
            "recognised": recognised,
        }


def _spread(points: NDArray[np.float32]) -> float:
    """Mean Euclidean distance between two different rows."""
    rng = np.random.default_rng(0)
    first = rng.integers(0, len(points), PAIRS)
    second = (first + rng.integers(1, len(points), PAIRS)) % len(points)
    return float(np.linalg.norm(points[first] - points[second], axis=1).mean())


def _keep_grids(runs: dict[tuple[str, str], Path]) -> None:
    """Grids beside the results, for looking at; a row per class, synthetic tiles only."""
    folder = Path(__file__).resolve().parent / "results" / "grids"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    for (family, kind), run_folder in runs.items():
        generator: LoadedGenerator = load_generator(run_folder)
        count = len(generator.classes)
        tiles = generator.generate(
            2,
            np.arange(count * GRID_COLUMNS),
            np.repeat(np.arange(count), GRID_COLUMNS),
        )
        sheet = images.contact_sheet(tiles, GRID_COLUMNS)
        images.write_png(folder / f"{family}-{kind}.png", sheet)


def _outcome(
    found: dict[tuple[str, str], dict[str, Any]], judge: _Judge, minutes: float
) -> Outcome:
    rows = []
    for (family, kind), figures in found.items():
        least = min(figures["diversity"], key=lambda name: figures["diversity"][name])
        worst = min(figures["recognised"], key=lambda name: figures["recognised"][name][0])
        rows.append(
            [
                f"{family} {kind}",
                f"{figures['kimg']:.1f}",
                f"{figures['fd_holdout']:.0f}",
                f"{figures['fd_holdout'] - judge.floor:.0f}",
                f"{figures['fd_train']:.0f}",
                f"{figures['diversity'][least]:.2f} {least}",
                f"{figures['recognised'][worst][0]:.2f} {worst}",
            ]
        )
    ours, theirs = found["cdcgan", "projected"], found["cdcgan-2025", "own"]
    ratio = (ours["fd_holdout"] - judge.floor) / (theirs["fd_holdout"] - judge.floor)
    least = min(ours["diversity"].values())
    chance = 1 / len(judge.classes)
    conditional = all(low > chance for _, low, _, _ in ours["recognised"].values())
    known = ", ".join(f"{name} {share:.2f}" for name, share in judge.known.items())
    return Outcome(
        columns=[
            "run",
            "kimg",
            "FD(S,H)",
            "excess",
            "FD(S,T)",
            "least diverse",
            "least recognised",
        ],
        rows=rows,
        figures={
            "minutes": minutes,
            "resolution": RESOLUTION,
            "encoder": ENCODER,
            "floor": judge.floor,
            "train_tiles": len(judge.train),
            "held_out_tiles": len(judge.held_out),
            "held_out_recognised": judge.known,
            "runs": {" ".join(job): figures for job, figures in found.items()},
            "ratio": ratio,
        },
        figure=f"excess {ratio:.2f} of cdcgan-2025's, diversity >= {least:.2f}, "
        + ("every class recognised" if conditional else "a class not recognised"),
        target=f"<= {RATIO_TARGET}, >= {DIVERSITY_TARGET}, above chance {chance:.2f}",
        passed=ratio <= RATIO_TARGET and least >= DIVERSITY_TARGET and conditional,
        notes=[
            f"floor FD(T,H) {judge.floor:.0f}, T {len(judge.train)} and H {len(judge.held_out)} "
            f"tiles; the classifier recognises held-out tiles: {known}. Classes are confounded "
            "with patients in GlaS.",
        ],
    )

"""How much of each data set's classes do colours alone give away?

The control of augment-bench: a logistic regression on RGB histograms, trained, chosen and tested
on other patients each (`regimes.split`), with the interval that augment-bench gives it. A network
that stays below it has learned nothing that was worth a network.

A colour histogram has no right answer to be compared with, so what is judged is whether its figure
can be believed. Three data sets stand in turn: GlaS (by patient), LC25000 (by source image) and the
phantom (by patient). On each,
- labels are permuted where no colour can know them: within a part of the split, all tiles of one
  patient and class keep together and take the label of another such block. The true balanced
  accuracy is then chance, and the 95 % interval must hold it in .95 of the permutations: no fewer
  than Clopper & Pearson's interval of that share allows;
- the pixels of each tile are shuffled: the histogram, which is to see no structure, must not change
  by a bit.
"""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from harness import Options, Outcome
from numpy.typing import NDArray

from audits.intervals import clopper_pearson
from audits.results import Estimate
from privgen.benefit.regimes import Parts, Regime, check_parts, split
from privgen.benefit.results.metrics import balanced_accuracy_draws
from privgen.benefit.results.statistics import (
    PRIMARY,
    Resamples,
    crossed_estimate,
    resample_patients,
)
from privgen.benefit.results.summary import histogram_row
from privgen.benefit.trials.histogram import colour_histograms, fit_histogram
from privgen.benefit.trials.material import class_numbers
from privgen.data.layouts import open_tiles
from privgen.data.phantom import make_phantom
from privgen.data.tileset import TileSet
from privgen.errors import InputError, SplitError

SIDE = 64
SPLITS = 3
PERMUTATIONS = 20  # of each split
COVERAGE = 0.95
DRAWS = 2000
SETS = {"GlaS": ("glas", "patient"), "LC25000": ("lc25000", "source_image")}
PHANTOM_PATIENTS, PHANTOM_TILES = 24, 27

Indices = NDArray[np.intp]
Pixels = NDArray[np.uint8]


def run(options: Options) -> Outcome:
    """The control's figure on every data set present, and how it does where there is nothing."""
    permutations = 5 if options.quick else PERMUTATIONS
    rows: list[list[str]] = []
    figures: list[dict[str, object]] = []
    notes: list[str] = []
    verdicts: list[str] = []
    passed = True
    for name, tiles in _data(options, notes):
        held = tried = 0
        for seed in range(options.seed, options.seed + SPLITS):
            parts = split(tiles, seed=seed)
            try:
                check_parts(
                    [Regime(share=1.0, train=parts.known, generators=())],
                    validation=parts.validation,
                    test=parts.test,
                )
            except (InputError, SplitError) as error:
                notes.append(f"skipped: {name}, split {seed}: {error}")
                continue
            control = Control(parts)
            real = control.metrics()
            found = [
                control.permuted(np.random.default_rng([seed, number]))
                for number in range(permutations)
            ]
            chance = 1 / len(control.classes)
            covers = sum(_holds(one, chance) for one in found)
            held, tried = held + covers, tried + permutations
            rows.append(
                [
                    *(name, str(seed), _figure(real[PRIMARY]), f"{chance:.2f}"),
                    f"{real['worst_class_recall'].value:.2f}",
                    f"{len(control.classes)}",
                    f"{control.resamples.patients} / {len(parts.test)}",
                    f"{np.mean([one.value for one in found]):.3f}",
                    f"{covers}/{permutations}",
                ]
            )
            figures.append(
                {
                    "data": name,
                    "split": seed,
                    "group_unit": tiles.group_unit,
                    "metrics": {key: _plain(one) for key, one in real.items()},
                    "chance": chance,
                    "classes": list(control.classes),
                    "patients": control.resamples.patients,
                    "tiles": {key: len(part) for key, part in vars(parts).items()},
                    "permuted": [_plain(one) for one in found],
                }
            )
        low, high = clopper_pearson(held, tried) if tried else (0.0, 0.0)
        blind = _sees_no_structure(tiles)
        passed &= high >= COVERAGE and blind
        verdicts.append(f"{name} {held}/{tried}")
        notes.append(
            f"{name}: permuted, the interval holds chance in {held} of {tried} "
            f"[{low:.2f}, {high:.2f}]; shuffled pixels {'change nothing' if blind else 'CHANGE IT'}"
        )
    return Outcome(
        columns=[
            *("data", "split", "balanced accuracy", "chance", "worst class", "classes"),
            *("test patients / tiles", "permuted: mean", "holds chance"),
        ],
        rows=rows,
        figures={"side": SIDE, "permutations": permutations, "sets": figures},
        figure=f"permuted labels: interval holds chance in {', '.join(verdicts)}",
        target="each compatible with .95 (Clopper-Pearson); shuffled pixels change nothing",
        passed=passed,
        notes=notes,
    )


class Control:
    """The colour histogram of one split.

    Args:
      parts: every class in `known` and `test`.

    Attributes:
      classes: names, sorted.
      resamples: of the test patients.
    """

    def __init__(self, parts: Parts) -> None:
        self.classes = parts.known.classes
        self._parts = vars(parts)
        self._pixels: dict[str, Pixels] = {
            name: part.load(SIDE) for name, part in self._parts.items()
        }
        self._labels: dict[str, Indices] = {
            name: class_numbers(part, self.classes) for name, part in self._parts.items()
        }
        self.resamples: Resamples = resample_patients(
            parts.test.groups,
            draws=DRAWS,
            rng=np.random.default_rng(0),
            labels=self._labels["test"],
        )

    def metrics(self) -> dict[str, Estimate]:
        """On the labels as they are, as augment-bench reports it."""
        probabilities = self._predicted(self._labels)
        row = histogram_row(
            1.0, probabilities, labels=self._labels["test"], resamples=self.resamples
        )
        return dict(row.metrics)

    def permuted(self, rng: np.random.Generator) -> Estimate:
        """Balanced accuracy where the labels of each part stand at random."""
        labels = {
            name: permute_blocks(self._labels[name], part.groups, rng)
            for name, part in self._parts.items()
        }
        draws = balanced_accuracy_draws(labels["test"], self._predicted(labels), self.resamples)
        return crossed_estimate(draws[None, None], self.resamples, bounds=(0.0, 1.0)).estimate

    def _predicted(self, labels: dict[str, Indices]) -> NDArray[np.float64]:
        fitted = fit_histogram(
            train=self._pixels["known"],
            train_labels=labels["known"],
            validation=self._pixels["validation"],
            validation_labels=labels["validation"],
        )
        return np.asarray(fitted.predict_proba(colour_histograms(self._pixels["test"])))


def permute_blocks(labels: Indices, groups: NDArray[np.str_], rng: np.random.Generator) -> Indices:
    """Hand the label of each block, one patient's tiles of one class, to another block.

    Args:
      labels: class of each tile, shape (n,).
      groups: its patient, shape (n,).
      rng: of the permutation.

    Returns:
      Shape (n,); as many blocks of every class as before.
    """
    _, patient = np.unique(groups, return_inverse=True)
    blocks, block = np.unique(np.stack([patient, labels]), axis=1, return_inverse=True)
    return np.asarray(rng.permutation(blocks[1])[block.ravel()])


def _data(options: Options, notes: list[str]) -> Iterator[tuple[str, TileSet]]:
    """Every data set present; the others are noted by name."""
    for name, (folder, unit) in SETS.items():
        place = None if options.data is None else Path(options.data) / folder
        if place is None or not place.is_dir():
            notes.append(f"skipped: {name}, for --data DIR holds no {folder}/")
            continue
        yield name, open_tiles(place, group_by=unit)
    yield (
        "phantom",
        make_phantom(
            patients=PHANTOM_PATIENTS,
            tiles_per_patient=PHANTOM_TILES,
            side=SIDE,
            seed=options.seed,
        ),
    )


def _sees_no_structure(tiles: TileSet) -> bool:
    """Whether the histograms of some tiles survive any order of their pixels."""
    pixels = tiles.subset(np.arange(0, len(tiles), 10)).load(SIDE)
    flat = pixels.reshape(len(pixels), -1, 3)
    shuffled = np.random.default_rng(0).permuted(
        np.arange(flat.shape[1])[None].repeat(len(flat), 0), axis=1
    )
    other = np.take_along_axis(flat, shuffled[..., None], axis=1).reshape(pixels.shape)
    return bool(np.array_equal(colour_histograms(pixels), colour_histograms(other)))


def _holds(one: Estimate, value: float) -> bool:
    low, high = one.low, one.high
    return low is not None and high is not None and low <= value <= high


def _figure(one: Estimate) -> str:
    return f"{one.value:.3f} [{one.low:.3f}, {one.high:.3f}]"


def _plain(one: Estimate) -> dict[str, float | None]:
    return {"value": one.value, "low": one.low, "high": one.high}

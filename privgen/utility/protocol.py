"""augment-bench: do synthetic tiles help a classifier of real ones?

Every family is trained in every arm (`arms`) with the same recipe and number of updates
(`fitting`), from the same initial weights for each seed, and tested once on patients that neither
training nor selection saw. What counts is the difference from the arm of real tiles alone, seed by
seed, tile by tile (`statistics`).

A gain can be an artefact of a baseline that did not converge. Beside every figure stand the
baseline's curve and training accuracy, an arm of repeated real tiles (`oversampled`: as many tiles,
nothing new), and a logistic regression on colour histograms, which no network should lose to.

Source: METHODS.md 7.
"""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from privgen import console
from privgen.data.tileset import TileSet
from privgen.errors import InputError
from privgen.training.devices import choose_device, working_type
from privgen.utility import histogram
from privgen.utility.arms import ARMS, Pool, require_enough
from privgen.utility.caveats import data_caveats, result_caveats
from privgen.utility.classifiers import BFLOAT16_FAMILIES, FAMILIES, SMALLEST_SIDE, build
from privgen.utility.fitting import Recipe, TestGuard, fit, predict
from privgen.utility.plan import Cell, Plan, check_splits
from privgen.utility.statistics import (
    PRIMARY,
    SIGNIFICANCE,
    arm_metrics,
    metric_draws,
    resample_patients,
)
from privgen.utility.summary import BenchReport, CellResult, summarise

__all__ = ["BenchReport", "augment_bench"]

DRAWS = 2000
"""Bootstrap draws of the test patients."""


@dataclass(frozen=True, kw_only=True, eq=False)
class _Material:
    """Pixels and class numbers of everything but the test split.

    Attributes:
      pool: uint8 tiles, real then synthetic, shape (r + s, side, side, 3).
      labels: of the pool.
      validation: uint8 tiles, shape (v, side, side, 3).
      validation_labels: shape (v,).
      classes: how many there are.
    """

    pool: NDArray[np.uint8]
    labels: Pool
    validation: NDArray[np.uint8]
    validation_labels: NDArray[np.intp]
    classes: int

    @property
    def side(self) -> int:
        """Pixels a side."""
        return int(self.pool.shape[1])


def augment_bench(
    *,
    train: TileSet,
    validation: TileSet,
    test: TileSet,
    synthetic: TileSet,
    families: Sequence[str] = FAMILIES,
    ratios: Sequence[float] = (1.0,),
    seeds: Sequence[int] = (0, 1, 2),
    updates: int = 400,
    batch: int = 32,
    evaluations: int = 4,
    side: int | None = None,
    size: str = "standard",
    arms: Sequence[str] = tuple(ARMS),
    device: str = "auto",
    seed: int = 0,
) -> BenchReport:
    """Train every family in every arm and compare them on the test patients.

    Args:
      train: real tiles; the synthetic ones must come from a generator that saw no others.
      validation: real tiles of other patients, on which checkpoints are chosen.
      test: real tiles of further patients, read once by each trained classifier.
      synthetic: tiles of some or all of the same classes.
      families: of `FAMILIES`.
      ratios: synthetic tiles for each real training tile.
      seeds: of the trainings, 2 or more; the same initial weights and test patients in every arm.
      updates: optimiser updates of every training.
      batch: tiles an update.
      evaluations: checkpoints compared on the validation split, 2 or more.
      side: pixels at which all tiles are seen; the training tiles' own when None.
      size: of the networks, see `classifiers`.
      arms: of `ARMS`; `real` must be among them.
      device: "auto", "cpu", "cuda" or "cuda:N".
      seed: of everything random, together with `seeds`.

    Returns:
      The report. The same arguments give the same report on the same machine.

    Raises:
      ConfigError: an option is unknown or out of range.
      InputError: a class is missing from a split or not among the real ones, the test split has one
        patient, or there are too few synthetic tiles.
      SplitError: two splits share a patient, a picture or pixels.
      NonFiniteLossError: a training diverged.

    Source: METHODS.md 7.
    """
    plan = Plan(
        families=tuple(families),
        ratios=tuple(ratios),
        seeds=tuple(seeds),
        arms=tuple(arms),
        recipe=Recipe(updates=updates, batch=batch, evaluations=evaluations),
        size=size,
        device=device,
        seed=seed,
    )
    where = choose_device(device)
    check_splits(train=train, validation=validation, test=test, synthetic=synthetic)
    material = _load(train, validation, synthetic, side)
    for ratio in plan.ratios:
        require_enough(material.labels, ratio)
    cells = plan.cells()
    guard = TestGuard(test.load(material.side), [*(cell.name for cell in cells), histogram.NAME])
    labels = _numbers(test, train.classes)
    results = _run(cells, plan, material, guard, where)
    colours = histogram.fit_histogram(
        train=material.pool[: len(train)],
        train_labels=material.labels.real,
        validation=material.validation,
        validation_labels=material.validation_labels,
    ).predict_proba(histogram.colour_histograms(guard.read(histogram.NAME)))
    assert not guard.unread, "every classifier is tested, once"

    resamples = resample_patients(test.groups, draws=DRAWS, rng=np.random.default_rng(seed))
    rows, differences = summarise(results, labels=labels, resamples=resamples)
    control = arm_metrics(
        {
            metric: draws[np.newaxis]
            for metric, draws in metric_draws(labels, colours, resamples).items()
        },
        resamples,
    )
    return BenchReport(
        rows=rows,
        differences=differences,
        colour_histogram=control,
        warnings=(
            *data_caveats(train=train, validation=validation, test=test, synthetic=synthetic),
            *result_caveats(rows, differences, histogram=control[PRIMARY], seeds=len(plan.seeds)),
        ),
        classes=train.classes,
        counts=_counts(train=train, validation=validation, test=test, synthetic=synthetic),
        group_unit=test.group_unit,
        config={
            **asdict(plan),
            "side": material.side,
            "primary_metric": PRIMARY,
            "significance": SIGNIFICANCE,
            "draws": DRAWS,
        },
        seed=seed,
    )


def _load(train: TileSet, validation: TileSet, synthetic: TileSet, side: int | None) -> _Material:
    real = train.load(side)
    height, side = real.shape[1:3]
    if height != side or side < SMALLEST_SIDE:
        raise InputError(
            f"classifiers need square tiles of {SMALLEST_SIDE} px or more: got {side}x{height} px. "
            "Give a larger --side, or cut the tiles square."
        )
    return _Material(
        pool=np.concatenate([real, synthetic.load(side)]),
        labels=Pool(
            real=_numbers(train, train.classes), synthetic=_numbers(synthetic, train.classes)
        ),
        validation=validation.load(side),
        validation_labels=_numbers(validation, train.classes),
        classes=len(train.classes),
    )


def _numbers(tiles: TileSet, classes: tuple[str, ...]) -> NDArray[np.intp]:
    """Class number of each tile, shape (n,)."""
    return np.searchsorted(np.array(classes), tiles.labels)


def _run(
    cells: Sequence[Cell],
    plan: Plan,
    material: _Material,
    guard: TestGuard,
    device: torch.device,
) -> list[CellResult]:
    """Train and test every cell; each is a function of its name and `plan.seed` alone."""
    results = []
    with console.progress() as bar:
        task = bar.add_task("classifiers", total=len(cells) * plan.recipe.updates)
        for cell in cells:
            bar.update(task, description=cell.name)
            results.append(
                _run_cell(cell, plan, material, guard, device, lambda: bar.advance(task))
            )
    return results


def _run_cell(
    cell: Cell,
    plan: Plan,
    material: _Material,
    guard: TestGuard,
    device: torch.device,
    on_update: Callable[[], None],
) -> CellResult:
    """Train one classifier, choose its checkpoint on the validation split, test it once.

    Initial weights, batch order and the draw of synthetic tiles depend on `plan.seed` and the
    cell's seed only, so that arms and families differ in nothing else.
    """
    weights, order, draw = np.random.SeedSequence([plan.seed, cell.seed]).spawn(3)
    arm = ARMS[cell.arm]
    composition = arm.compose(material.labels, cell.ratio or 0.0, np.random.default_rng(draw))
    fitted = fit(
        build(
            cell.family,
            classes=material.classes,
            side=material.side,
            seed=int(weights.generate_state(1)[0]),
            size=plan.size,
        ),
        tiles=material.pool,
        composition=composition,
        validation=material.validation,
        validation_labels=material.validation_labels,
        recipe=plan.recipe,
        seed=int(order.generate_state(1)[0]),
        bfloat16=working_type("auto", device) == torch.bfloat16
        and (device.type != "cpu" or cell.family in BFLOAT16_FAMILIES),
        device=device,
        on_update=on_update,
    )
    return CellResult(
        cell=cell,
        train_tiles=len(composition),
        updates=fitted.updates,
        chosen=fitted.chosen,
        curve=fitted.curve,
        train_accuracy=fitted.train_accuracy,
        probabilities=predict(fitted.model, guard.read(cell.name)),
    )


def _counts(**splits: TileSet) -> dict[str, dict[str, int]]:
    """Tiles of each split, and patients of the real ones."""
    return {
        name: {"tiles": len(tiles)}
        if name == "synthetic"
        else {"tiles": len(tiles), "patients": len(np.unique(tiles.groups))}
        for name, tiles in splits.items()
    }

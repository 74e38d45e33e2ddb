"""From the tested classifiers of a benchmark to its report."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from audits.results import Estimate
from audits.sections import RoleCounts
from privgen.benefit.plan import BenchPlan
from privgen.benefit.regimes import GeneratorTiles, Regime
from privgen.benefit.results.caveats import data_caveats, result_caveats
from privgen.benefit.results.conclusion import conclude
from privgen.benefit.results.records import (
    BenchReport,
    CellResult,
    GeneratorRow,
    Point,
    RegimeRow,
)
from privgen.benefit.results.statistics import PRIMARY, SIGNIFICANCE, resample_patients
from privgen.benefit.results.summary import cells_table, histogram_row, summarise
from privgen.benefit.results.tradeoff import (
    gains,
)
from privgen.benefit.trials.filtering import Kept
from privgen.benefit.trials.material import enlarged
from privgen.data.tileset import TileSet
from privgen.reporting.bench_sections import BenchConfig

DRAWS = 2000
"""Bootstrap draws of the test patients."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Finished:
    """A benchmark that was carried out.

    Attributes:
      report: aggregates.
      columns, rows: a table of every training, aggregates over the test split too.
      kept: which synthetic tiles the filter kept, by regime and generator; empty without a filter.
    """

    report: BenchReport
    columns: Sequence[str]
    rows: Sequence[Sequence[Any]]
    kept: Mapping[tuple[float, int], NDArray[np.bool_]]


@dataclass(frozen=True, kw_only=True, eq=False)
class Tested:
    """What the trainings of a benchmark gave.

    Attributes:
      results: of all trainings, in the plan's order.
      colours: probabilities of the colour histogram on the test split, by regime.
      labels: true class of each test tile, shape (n,).
      kept: what the filter kept, by regime and generator.
    """

    results: Sequence[CellResult]
    colours: Mapping[float, NDArray[np.float64]]
    labels: NDArray[np.intp]
    kept: Mapping[tuple[float, int], Kept]


def assemble(
    plan: BenchPlan,
    regimes: Sequence[Regime],
    tested: Tested,
    *,
    validation: TileSet,
    test: TileSet,
    side: int,
) -> Finished:
    """Everything that can be said of a benchmark without an audit.

    Args:
      plan: its options.
      regimes: its tiles, smallest share first.
      tested: what the trainings gave.
      validation, test: the splits.
      side: pixels a side at which tiles were seen.
    """
    results, labels, kept = tested.results, tested.labels, tested.kept
    classes = regimes[-1].train.classes
    resamples = resample_patients(
        test.groups, labels=labels, draws=DRAWS, rng=np.random.default_rng(plan.seed)
    )
    rows, differences = summarise(results, labels=labels, resamples=resamples)
    histograms = tuple(
        histogram_row(share, probabilities, labels=labels, resamples=resamples)
        for share, probabilities in tested.colours.items()
    )
    columns, cells = cells_table(results, labels=labels)
    masks = {key: found.kept for key, found in kept.items()}
    report = BenchReport(
        rows=rows,
        differences=differences,
        histograms=histograms,
        regimes=tuple(_regime_row(regime, kept) for regime in regimes),
        plane=_plane(
            regimes,
            gains(results, labels=labels, resamples=resamples, primary_ratio=plan.primary_ratio),
        ),
        conclusion=conclude(
            rows=rows,
            differences=differences,
            histograms=histograms,
            classes=len(classes),
            tiles=len(test),
            patients=resamples.patients,
            group_unit=test.group_unit,
        ),
        warnings=(
            *enlarged(regimes, side),
            *_data_caveats(regimes, masks, validation=validation, test=test),
            *result_caveats(
                rows,
                differences,
                histograms=histograms,
                classes=len(classes),
                patients=resamples.patients,
                group_unit=test.group_unit,
            ),
        ),
        classes=classes,
        counts={"validation": _counted(validation), "test": _counted(test)},
        group_unit=test.group_unit,
        config=_config(plan, regimes, side),
        seed=plan.seed,
    )
    return Finished(report=report, columns=columns, rows=cells, kept=masks)


def _data_caveats(
    regimes: Sequence[Regime],
    masks: Mapping[tuple[float, int], NDArray[np.bool_]],
    *,
    validation: TileSet,
    test: TileSet,
) -> list[str]:
    """What limits the benchmark in its tiles."""
    kept = {
        regime.share: [masks[regime.share, g] for g in range(len(regime.generators))]
        for regime in regimes
        if masks
    }
    return list(
        data_caveats(
            train={regime.share: regime.train for regime in regimes},
            validation=validation,
            test=test,
            synthetic={
                regime.share: [one.tiles for one in regime.generators] for regime in regimes
            },
            kept=kept or None,
        )
    )


def _regime_row(regime: Regime, kept: Mapping[tuple[float, int], Kept]) -> RegimeRow:
    def row(number: int, source: GeneratorTiles) -> GeneratorRow:
        found = kept.get((regime.share, number))
        return GeneratorRow(
            name=source.name,
            synthetic=len(source.tiles),
            kept=None if found is None else int(found.kept.sum()),
            dropped_confidence=None if found is None else found.dropped_confidence,
            dropped_distance=None if found is None else found.dropped_distance,
        )

    return RegimeRow(
        share=regime.share,
        tiles=len(regime.train),
        patients=len(np.unique(regime.train.groups)),
        generators=tuple(row(number, one) for number, one in enumerate(regime.generators)),
    )


def _plane(
    regimes: Sequence[Regime], found: Mapping[tuple[float, int, bool], Estimate]
) -> tuple[Point, ...]:
    """The gains, before anybody audited."""
    names = {
        (regime.share, number): source.name
        for regime in regimes
        for number, source in enumerate(regime.generators)
    }
    return tuple(
        Point(
            regime=share,
            generator=names[share, number],
            filtered=filtered,
            gain=gain,
            outcome=None,
            mdl80=None,
        )
        for (share, number, filtered), gain in found.items()
    )


def _counted(tiles: TileSet) -> RoleCounts:
    return {"tiles": len(tiles), "patients": len(np.unique(tiles.groups))}


def _config(plan: BenchPlan, regimes: Sequence[Regime], side: int) -> BenchConfig:
    weights = dict.fromkeys(plan.models, "scratch") | {
        # A specification may end in the path of a file, which a report does not name.
        model: spec.partition(":")[0]
        for model, spec in plan.weights
        if model in plan.models
    }
    return {
        "models": plan.models,
        "ratios": plan.ratios,
        "seeds": plan.seeds,
        "arms": plan.arms,
        "recipe": asdict(plan.recipe),
        "size": plan.size,
        "weights": weights,
        "device": plan.device,
        "seed": plan.seed,
        "regimes": [regime.share for regime in regimes],
        "side": side,
        "primary_ratio": plan.primary_ratio,
        "primary_metric": PRIMARY,
        "significance": SIGNIFICANCE,
        "draws": DRAWS,
    }

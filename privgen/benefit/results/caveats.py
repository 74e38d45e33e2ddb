"""The warnings of augment-bench: everything that makes its figures say less than they seem to."""

import math
from collections.abc import Iterable, Mapping, Sequence
from statistics import median

import numpy as np
from numpy.typing import NDArray

from privgen.benefit.arms import BASELINE
from privgen.benefit.results.records import ArmRow, Difference, HistogramRow
from privgen.benefit.results.statistics import PRIMARY
from privgen.data.remarks import by_role
from privgen.data.tileset import TileSet
from privgen.errors import InputError

LEAST_PATIENTS = 3
"""Test patients without which there is no clustered interval."""

_FEW_PATIENTS = 6
_FEW_SEEDS = 3
_CLASS_PATIENTS = 3
_WORTHWHILE = 0.05  # gain in balanced accuracy that a study should be able to see
_DROPPED = 0.5  # share of the synthetic tiles


def require_patients(test: TileSet) -> None:
    """Refuse a test split on which no clustered interval can be computed.

    Raises:
      InputError: it has fewer than `LEAST_PATIENTS` patients.
    """
    patients = len(np.unique(test.groups))
    if patients < LEAST_PATIENTS:
        unit = _noun(test.group_unit)
        raise InputError(
            f"an interval over {unit}s needs {LEAST_PATIENTS} test {unit}s or more: got {patients}."
            f" Hold more {unit}s out for the test split, or give data of more {unit}s."
        )


def data_caveats(
    *,
    train: Mapping[float, TileSet],
    validation: TileSet,
    test: TileSet,
    synthetic: Mapping[float, Sequence[TileSet]],
    kept: Mapping[float, Sequence[NDArray[np.bool_]]] | None = None,
) -> list[str]:
    """What the tiles alone make doubtful.

    Args:
      train: real training tiles of each regime.
      validation, test: shared by all regimes.
      synthetic: of each regime the tiles of each of its generators.
      kept: the same, which tiles the filter keeps; None without a filter.
    """
    unit = _noun(test.group_unit)
    made_by = {
        f"synthetic tiles {number}": made
        for number, made in enumerate(
            dict.fromkeys(one for each in synthetic.values() for one in each)
        )
    }
    found = by_role({"real tiles": test, **made_by})
    if unit == "tile":
        found.append(
            "the test split names no patients: every tile counts as its own, and all intervals "
            "are too narrow. Give `group_by`."
        )
    thin = {label: len(np.unique(test.groups[test.labels == label])) for label in test.classes}
    named = [label for label, count in thin.items() if count < _CLASS_PATIENTS]
    if named:
        found.append(
            f"class and {unit} are confounded: very few test {unit}s have "
            f"{', '.join(named)}. Recall there may be recognition of a {unit}, and where a class "
            f"has one {unit} alone, its intervals leave out how {unit}s differ and are too narrow."
        )
    missing = sorted({label for tiles in train.values() for label in tiles.classes})
    missing = [label for label in missing if label not in validation.classes]
    if missing:
        found.append(
            f"the validation split has no {', '.join(missing)}: checkpoints were chosen without "
            "them."
        )
    for regime, generators in synthetic.items():
        for number, made in enumerate(generators):
            whose = f"regime {regime:g}, generator {number}"
            missing = sorted(set(train[regime].classes) - set(made.classes))
            if missing:
                found.append(
                    f"{whose}: no synthetic tile is {', '.join(missing)}: added tiles make the "
                    "others more frequent."
                )
            if kept is not None:
                found += _filter_caveats(whose, made.labels, kept[regime][number])
    return found


def _filter_caveats(whose: str, labels: NDArray[np.str_], kept: NDArray[np.bool_]) -> Iterable[str]:
    dropped = int((~kept).sum())
    if dropped > _DROPPED * len(kept):
        yield (
            f"{whose}: the filter dropped {dropped} of {len(kept)} synthetic tiles: what is left "
            "is a selection, not what this generator makes."
        )
    gone = sorted(set(labels) - set(labels[kept]))
    if gone:
        yield (
            f"{whose}: the filter dropped every tile of {', '.join(gone)}: kept tiles make the "
            "other classes more frequent."
        )


def result_caveats(
    rows: Sequence[ArmRow],
    differences: Sequence[Difference],
    *,
    histograms: Sequence[HistogramRow],
    classes: int,
    patients: int,
    group_unit: str,
) -> list[str]:
    """What the trained baselines and controls make doubtful.

    Args:
      rows, differences: of the whole run.
      histograms: the colour histogram of each regime.
      classes: how many there are.
      patients: in the test split.
      group_unit: what these really are.
    """
    return [
        *_patient_caveats(differences, patients, _noun(group_unit)),
        *_repetition_caveats(rows),
        *_chance_caveats(rows, 1 / classes),
        *_baseline_caveats(rows, histograms),
        *_control_caveats(differences),
    ]


def _patient_caveats(differences: Sequence[Difference], patients: int, unit: str) -> Iterable[str]:
    if patients >= _FEW_PATIENTS:
        return
    sizes = [one.detectable for one in differences if one.role == "tested" and one.detectable]
    needed = math.ceil(patients * (median(sizes) / _WORTHWHILE) ** 2) if sizes else 0
    advice = (
        f" Judging from the standard errors found, {needed} would be needed to see a gain of "
        f"{100 * _WORTHWHILE:g} points with power .8."
        if needed > patients
        else ""
    )
    yield (
        f"the test split has {patients} {unit}s: its intervals rest on {patients - 1} degrees "
        f"of freedom at most.{advice}"
    )


def _repetition_caveats(rows: Sequence[ArmRow]) -> Iterable[str]:
    seeds = min(row.seeds for row in rows)
    if seeds < _FEW_SEEDS:
        yield (
            f"{seeds} seeds measure the noise of training poorly: in simulations without an effect "
            "a comparison then comes out significant in up to 13 %. Use 3 or more, better 5."
        )
    for regime in dict.fromkeys(row.regime for row in rows):
        own = [row for row in rows if row.regime == regime and row.role == "tested"]
        if any(row.generators == 1 for row in own):
            yield (
                f"regime {regime:g}: one generator was trained. The intervals speak of this "
                "generator, not of the method: another one of the same recipe may differ by more. "
                "Give 2 or more, better 3."
            )


def guessing(rows: Sequence[ArmRow], chance: float) -> list[ArmRow]:
    """Those whose balanced accuracy cannot be told from `chance`."""
    return [row for row in rows if (row.metrics[PRIMARY].low or 0.0) <= chance]


def _chance_caveats(rows: Sequence[ArmRow], chance: float) -> Iterable[str]:
    """Baselines that recognise nothing in patients they have not seen."""
    blind = guessing([row for row in rows if row.arm == BASELINE], chance)
    if blind:
        yield (
            f"real tiles alone are not above chance ({chance:.2f}) on new patients with "
            f"{_models(blind)}: where nothing is learned that holds for others, neither a gain nor "
            "its absence means much. Give more patients, or classes that patients share."
        )


def _baseline_caveats(rows: Sequence[ArmRow], histograms: Sequence[HistogramRow]) -> Iterable[str]:
    baselines = [row for row in rows if row.arm == BASELINE]
    for histogram in histograms:
        colours = histogram.metrics[PRIMARY].value
        weak = [
            f"{row.model} ({row.metrics[PRIMARY].value:.2f})"
            for row in baselines
            if row.regime == histogram.regime and row.metrics[PRIMARY].value < colours
        ]
        if weak:
            yield (
                f"regime {histogram.regime:g}: real tiles alone do not reach the colour histogram "
                f"({colours:.2f}) with {', '.join(weak)}: these baselines are undertrained, and a "
                "gain over them says little. Give more updates."
            )
    rising = [row for row in baselines if row.convergence.still_improving]
    if rising:
        yield (
            f"real tiles alone were still improving with {_models(rising)} when training stopped. "
            "Give more updates."
        )


def _control_caveats(differences: Sequence[Difference]) -> Iterable[str]:
    repeated = [one for one in differences if one.arm.startswith("oversampled")]
    gained = [one for one in repeated if (one.estimate.low or 0.0) > 0]
    if gained:
        yield (
            f"real tiles repeated, nothing new, gained too, with {_models(gained)}: that much of a "
            "gain is not the synthetic tiles'."
        )
    shuffled = [one for one in differences if one.arm.startswith("shuffled")]
    harmless = [one for one in shuffled if one.estimate.value >= 0]
    if harmless:
        yield (
            f"synthetic tiles with shuffled labels do not harm with {_models(harmless)}: what the "
            "synthetic tiles show of their classes may not be what helps there."
        )


def _models(found: Sequence[ArmRow] | Sequence[Difference]) -> str:
    """`mobilenet (regime 0.1, +0.031)`: where, and by how much if it is a difference."""
    return ", ".join(
        f"{one.model} (regime {one.regime:g}, {one.estimate.value:+.3f})"
        if isinstance(one, Difference)
        else f"{one.model} (regime {one.regime:g})"
        for one in found
    )


def _noun(group_unit: str) -> str:
    return group_unit.replace("_", " ")

"""The warnings of augment-bench: everything that makes its figures say less than they seem to."""

from collections.abc import Sequence

import numpy as np

from audits.results import Estimate
from privgen.data.tileset import TileSet
from privgen.utility.arms import BASELINE
from privgen.utility.statistics import PRIMARY
from privgen.utility.summary import ArmRow, Difference

_FEW_PATIENTS = 6
_FEW_SEEDS = 3
_CLASS_PATIENTS = 3


def data_caveats(
    *, train: TileSet, validation: TileSet, test: TileSet, synthetic: TileSet
) -> list[str]:
    """What the splits alone make doubtful."""
    unit = test.group_unit
    found = []
    if unit == "tile":
        found.append(
            "the test split names no patients: every tile counts as its own, and all intervals "
            "are too narrow. Give --group-by."
        )
    patients = len(np.unique(test.groups))
    if patients < _FEW_PATIENTS:
        found.append(
            f"the test split has {patients} {unit}s: its intervals rest on {patients - 1} degrees "
            "of freedom."
        )
    thin = {label: len(np.unique(test.groups[test.labels == label])) for label in test.classes}
    named = [f"{label} ({count})" for label, count in thin.items() if count < _CLASS_PATIENTS]
    if named:
        found.append(
            f"class and {unit} are confounded: fewer than {_CLASS_PATIENTS} test {unit}s have "
            f"{', '.join(named)}. Recall there may be recognition of a {unit}."
        )
    for name, tiles, harm in (
        ("validation split", validation, "checkpoints were chosen without them"),
        ("synthetic set", synthetic, "added tiles make the others more frequent"),
    ):
        missing = sorted(set(train.classes) - set(tiles.classes))
        if missing:
            found.append(f"the {name} has no {', '.join(missing)}: {harm}.")
    return found


def result_caveats(
    rows: Sequence[ArmRow],
    differences: Sequence[Difference],
    *,
    histogram: Estimate,
    seeds: int,
) -> list[str]:
    """What the trained baselines and controls make doubtful.

    Args:
      rows, differences: of the whole run.
      histogram: balanced accuracy of the colour histogram.
      seeds: trainings of each cell.
    """
    found = []
    if seeds < _FEW_SEEDS:
        found.append(
            f"{seeds} seeds measure the noise of training poorly: in simulations without an effect "
            "a comparison then comes out significant in up to 12 %. Use 3 or more, better 5."
        )
    baselines = [row for row in rows if row.arm == BASELINE]
    weak = [
        f"{row.family} ({row.metrics[PRIMARY].value:.2f})"
        for row in baselines
        if row.metrics[PRIMARY].value < histogram.value
    ]
    if weak:
        found.append(
            f"real tiles alone do not reach the colour histogram ({histogram.value:.2f}) with "
            f"{', '.join(weak)}: these baselines are undertrained, and a gain over them says "
            "little. Give more updates."
        )
    rising = [row.family for row in baselines if row.convergence.still_improving]
    if rising:
        found.append(
            f"real tiles alone were still improving with {', '.join(rising)} when training "
            "stopped. Give more updates."
        )
    gained = [
        f"{difference.family} ({difference.estimate.value:+.3f})"
        for difference in differences
        if difference.control and (difference.estimate.low or 0.0) > 0
    ]
    if gained:
        found.append(
            f"a control without any new tile gained too, with {', '.join(gained)}: that much of a "
            "gain is not the synthetic tiles'."
        )
    return found

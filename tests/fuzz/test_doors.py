"""Every door of the hostile benchmark opens what is valid, and a few damaged files do no harm."""

from pathlib import Path

import pytest

from benchmarks.fuzz import slides
from benchmarks.fuzz.all_doors import DOORS
from benchmarks.fuzz.door import Inputs

HERE = [name for name, door in DOORS.items() if not door.guarded]
GUARDED = [name for name, door in DOORS.items() if door.guarded]

pytestmark = [
    pytest.mark.filterwarnings("ignore"),  # what decoders say of damage
    pytest.mark.usefixtures("hushed"),
]


@pytest.mark.parametrize("name", HERE)
def test_valid_files_open_and_damaged_ones_are_refused_or_open(name: str, tmp_path: Path) -> None:
    inputs = Inputs(DOORS[name], tmp_path)
    for data in inputs.seeds:
        assert inputs.judged(data).opened
    for number in range(len(inputs.seeds), 30):
        found = inputs.judged(inputs[number])
        assert not found.kind, f"{name} {number}: {found}"


@pytest.mark.parametrize("name", GUARDED)
def test_slides_are_cut_or_cost_themselves_alone(name: str, tmp_path: Path) -> None:
    inputs = Inputs(DOORS[name], tmp_path / "made")
    made = [(number, inputs[number]) for number in range(25)]
    found = dict(slides.cut(made, tmp_path, DOORS[name].file))
    assert sorted(found) == list(range(25))
    assert all(found[number].opened for number in range(len(inputs.seeds)))
    assert not [one for one in found.values() if one.kind]

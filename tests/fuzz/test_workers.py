"""The benchmark sees what it is there to see, and goes on after it."""

from pathlib import Path

import pytest

from benchmarks.fuzz import faulty, workers
from benchmarks.fuzz.door import Inputs, _judged
from benchmarks.fuzz.workers import Part, Tally
from privgen.errors import LayoutError

FAULTS = {
    b"2": "foreign",
    b"3": "exit code",
    b"5": "crash",
    b"6": "memory",
    b"7": "memory",
    b"8": "foreign",
    b"9": "time",
}
COUNT = 20


def test_each_fault_is_told_by_its_kind_and_the_next_input_is_opened(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(workers, "MOST_SECONDS", 5.0)
    monkeypatch.setattr(workers, "MARGIN_SECONDS", 0.0)
    for seed in range(1000):
        inputs = Inputs(faulty.DOORS["faulty"], tmp_path / f"{seed}", seed)
        firsts = [inputs[number][:1] for number in range(COUNT)]
        if {*FAULTS, b"0", b"1"} <= {*firsts} and firsts.count(b"9") == 1:
            break
    ended: list[Tally] = []
    part = Part(door="faulty", first=0, count=COUNT, seed=seed)
    workers.run([part], 2, lambda _, tally: ended.append(tally), doors="benchmarks.fuzz.faulty")
    (tally,) = ended
    assert tally.inputs == COUNT
    kinds = {found["number"]: found["kind"] for found in tally.findings}
    expected = {number: FAULTS[first] for number, first in enumerate(firsts) if first in FAULTS}
    assert kinds == expected
    assert tally.refused == firsts.count(b"1") + firsts.count(b"4")
    assert tally.opened == COUNT - len(expected) - tally.refused


def test_a_message_that_is_long_or_of_several_lines_is_a_fault() -> None:
    door, error = faulty.DOORS["faulty"], LayoutError("a rule")
    assert _judged(door, 2, error, "error: a rule\n") == ("", "LayoutError: a rule")
    for told in ("error: " + "x" * 5000 + "\n", "loud\nerror: a rule\n", "error: \x1b[2J\n", ""):
        assert _judged(door, 2, error, told)[0] == "message"


def test_an_input_is_a_function_of_its_number_and_seed(tmp_path: Path) -> None:
    door = faulty.DOORS["faulty"]
    one, again, other = (
        Inputs(door, tmp_path / name, seed) for name, seed in (("a", 1), ("b", 1), ("c", 2))
    )
    numbers = range(10, 60)
    assert [one[number] for number in numbers] == [again[number] for number in reversed(numbers)][
        ::-1
    ]
    assert [one[number] for number in numbers] != [other[number] for number in numbers]

"""Counts that could point at somebody."""

import pytest

from privgen.reporting.disclosure import coarse, withheld


@pytest.mark.parametrize(
    ("count", "said"), [(0, "0"), (1, "<5"), (4, "<5"), (5, "5"), (12_345, "12,345")]
)
def test_counts_of_one_to_four_are_not_given(count: int, said: str) -> None:
    assert coarse(count) == said


def test_a_small_count_is_withheld_and_cannot_be_worked_out_from_the_total() -> None:
    counts = {"ADI": 40, "TUM": 3, "STR": 12, "LYM": 0}
    assert withheld(counts) == {"ADI": 40, "TUM": None, "STR": None, "LYM": 0}


def test_two_small_counts_hide_each_other() -> None:
    assert withheld({"ADI": 40, "TUM": 3, "STR": 2}) == {"ADI": 40, "TUM": None, "STR": None}


def test_counts_that_point_at_nobody_are_given() -> None:
    assert withheld({"ADI": 40, "TUM": 5, "LYM": 0}) == {"ADI": 40, "TUM": 5, "LYM": 0}


def test_where_one_class_is_all_its_count_is_the_size_of_the_role() -> None:
    assert withheld({"ADI": 3, "TUM": 0}) == {"ADI": None, "TUM": 0}

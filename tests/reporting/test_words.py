"""Numbers as they are printed, against figures rounded by hand."""

import pytest

from privgen.benefit.arms import ARMS
from privgen.benefit.trials.stress import STRESSES
from privgen.reporting import words


def _estimate(value: float, low: float | None, high: float | None) -> dict[str, object]:
    return {"value": value, "low": low, "high": high, "n": 16, "unit": "patient"}


@pytest.mark.parametrize(
    ("p", "shown"),
    [
        (0.0004, "p = 0.0004"),
        (0.00044, "p = 0.0004"),
        (0.0001, "p = 0.0001"),
        (0.0000999, "p < 0.0001"),
        (0.0, "p < 0.0001"),
        (0.0123, "p = 0.012"),
        (0.1954, "p = 0.20"),
        (1.0, "p = 1"),
        (None, "–"),
    ],
)
def test_p_values_are_never_printed_as_zero(p: float | None, shown: str) -> None:
    assert words.p_value(p) == shown


@pytest.mark.parametrize(
    ("value", "low", "high", "shown"),
    [
        (0.0297, 0.018, 0.0481, "0.030 (0.018 to 0.048)"),
        (0.635, 0.338, 0.889, "0.64 (0.34 to 0.89)"),
        (267.4, 249.1, 285.7, "267 (249 to 286)"),
        (0.0021, -0.0004, 0.0046, "0.0021 (−0.0004 to 0.0046)"),
        (0.0, 0.0, 0.0092, "0.000 (0.000 to 0.009)"),
        (-0.00001, -0.021, 0.02, "0.000 (−0.021 to 0.020)"),
        (2.5, None, None, "2.5"),
        (1.0, 1.0, 1.0, "1 (1 to 1)"),
    ],
)
def test_intervals_show_no_more_digits_than_their_width_allows(
    value: float, low: float | None, high: float | None, shown: str
) -> None:
    assert words.interval(_estimate(value, low, high)) == shown


@pytest.mark.parametrize(
    ("value", "shown"),
    [(0, "0"), (0.003, "0.003"), (0.00012345, "0.000123"), (412.5, "412"), (-1.5, "−1.5")],
)
def test_numbers_keep_three_digits_and_no_exponent(value: float, shown: str) -> None:
    assert words.number(value) == shown


def test_the_unit_is_what_the_data_call_a_patient() -> None:
    assert words.counted(_estimate(0.5, None, None), "source_image") == "16 source images"
    assert words.count(1, "tile") == "1 tile"
    assert words.count(1200, "tile") == "1,200 tiles"


@pytest.mark.parametrize(
    ("share", "shown"),
    [
        (0.003, "about 1 in 330"),
        (0.01, "about 1 in 100"),
        (0.25, "about 1 in 4"),
        (0.8, "about 8 in 10"),
    ],
)
def test_small_shares_are_also_said_as_one_in_so_many(share: float, shown: str) -> None:
    assert words.one_in(share) == shown


@pytest.mark.parametrize(
    ("value", "low", "high", "shown"),
    [
        (0.0312, -0.0036, 0.0660, "+3.1 (−0.4 to +6.6)"),
        (-0.164, -0.193, -0.136, "−16.4 (−19.3 to −13.6)"),
        (0.3536, 0.12, 0.58, "+35 (+12 to +58)"),
        (-0.0001, -0.034, 0.033, "0.0 (−3.4 to +3.3)"),
        (0.05, None, None, "+5.0"),
        (0.0, 0.0, 0.0, "0.00 (0.00 to 0.00)"),
    ],
)
def test_differences_are_signed_percentage_points(
    value: float, low: float | None, high: float | None, shown: str
) -> None:
    assert words.points_interval(_estimate(value, low, high)) == shown


def test_points_and_percents_without_an_interval() -> None:
    assert [words.points(x) for x in (0.0312, -0.2, 0.0)] == ["+3.1", "−20.0", "0.0"]
    assert words.points(0.0312, signed=False) == "3.1"
    assert [words.percent(x) for x in (0.1, 1.0, 0.005)] == ["10 %", "100 %", "0.5 %"]


@pytest.mark.parametrize(
    ("label", "ratio", "shown"),
    [
        ("real", None, "real tiles alone"),
        ("real+synthetic x0.5", 0.5, "real + synthetic, 0.5:1"),
        ("next_arm x2", 2.0, "next arm, 2:1"),
        ("odd", 1.0, "odd, 1:1"),
    ],
)
def test_arms_are_named_with_their_ratio(label: str, ratio: float | None, shown: str) -> None:
    assert words.arm(label, ratio)[0] == shown


def test_every_arm_and_stress_of_the_bench_has_words() -> None:
    assert set(words.ARMS) == set(ARMS)
    assert set(words.STRESSES) == set(STRESSES)


@pytest.mark.parametrize(
    ("sentence", "head", "clauses"),
    [
        ("LEAK: copying.", "LEAK: copying", []),
        (
            "NO LEAK FOUND (copied share >= 0.01 at power .8, of the kinds exact; seen at larger "
            "shares only: blurred (from 0.02)).",
            "NO LEAK FOUND",
            [
                "copied share >= 0.01 at power .8, of the kinds exact",
                "seen at larger shares only: blurred (from 0.02)",
            ],
        ),
        (
            "LEAK: copying (proven, whatever is asked); asked: tile membership; significance 0.2.",
            "LEAK: copying (proven, whatever is asked)",
            ["asked: tile membership", "significance 0.2"],
        ),
        (
            "INCONCLUSIVE: copying could not be settled with these data.",
            "INCONCLUSIVE: copying could not be settled with these data",
            [],
        ),
    ],
)
def test_the_sentence_falls_into_its_clauses(sentence: str, head: str, clauses: list[str]) -> None:
    assert words.clauses(sentence) == (head, clauses)


def test_kinds_seen_from_one_share_stand_together_and_the_unseen_ones_last() -> None:
    shares = {"blur": None, "crop_60": 0.01, "exact": 0.002, "crop_35": 0.01}
    assert words.by_share(shares) == [
        (0.002, "exact"),
        (0.01, "cropped to 0.6 or 0.35 of the side"),
        (None, "blurred"),
    ]

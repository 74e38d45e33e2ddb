"""The plots of augment-bench: marks where the figures say, in shapes that say what they are."""

import re
from collections.abc import Sequence
from xml.etree import ElementTree

import pytest

from privgen.reporting import bench_figures
from privgen.reporting.bench_figures import PlanePoint
from privgen.reporting.panels import Mark, in_points

TESTED, OPEN = "#004488", "#ffffff"


def _mark(value: float, *, filled: bool = True, place: float = 0.0) -> Mark:
    return Mark(value=value, low=value - 1, high=value + 1, filled=filled, place=place)


def _forest(models: Sequence[tuple[str, Sequence[Mark | None]]]) -> ElementTree.Element:
    labels = [f"arm {i}" for i in range(len(models[0][1]))]
    return ElementTree.fromstring(
        bench_figures.difference_panels(labels, models, axis="points", prefix="f", alt="words")
    )


def _texts(root: ElementTree.Element) -> dict[str, list[tuple[float, float]]]:
    """Places of every text, in pixels."""
    found: dict[str, list[tuple[float, float]]] = {}
    for node in root.iter("text"):
        place = re.search(r"translate\(([\d.-]+) ([\d.-]+)\)", node.get("transform", ""))
        x, y = place.groups() if place else (node.get("x"), node.get("y"))
        found.setdefault(node.text or "", []).append((float(x or 0), float(y or 0)))
    return found


def _marks(root: ElementTree.Element, fill: str) -> list[tuple[float, float]]:
    """Places of the marks of one fill; ticks are drawn in another."""
    return [
        (float(use.get("x", 0)), float(use.get("y", 0)))
        for use in root.iter("use")
        if use.get("fill") == fill
    ]


def test_differences_lie_in_proportion_and_on_the_line_of_their_arm() -> None:
    root = _forest([("A", [_mark(-5), _mark(0), _mark(10)]), ("B", [_mark(10), None, _mark(-5)])])
    marks = _marks(root, TESTED)
    assert len(marks) == 5
    (a0, a1, a2), (b0, b2) = marks[:3], marks[3:]
    assert (a2[0] - a1[0]) == pytest.approx(2 * (a1[0] - a0[0]), abs=0.05)
    assert b0[0] - a2[0] == pytest.approx(b2[0] - a0[0], abs=0.05), "panels share their scale"
    heights = [_texts(root)[f"arm {i}"][0][1] for i in range(3)]
    for mark, height in zip((a0, a1, a2, b0, b2), (*heights, heights[0], heights[2]), strict=True):
        assert mark[1] == pytest.approx(height, abs=6)


def test_comparisons_and_controls_are_open_and_tested_arms_filled() -> None:
    root = _forest([("A", [_mark(1), _mark(2, filled=False), _mark(3, filled=False)])])
    assert len(_marks(root, TESTED)) == 1
    assert len(_marks(root, OPEN)) == 2


def test_five_models_take_two_rows_of_panels_and_each_row_names_the_arms() -> None:
    texts = _texts(_forest([(name, [_mark(1), _mark(2)]) for name in "ABCDE"]))
    assert len({texts[name][0][1] for name in "ABCD"}) == 1
    assert texts["E"][0][1] > texts["A"][0][1] + 40
    assert texts["E"][0][0] == pytest.approx(texts["A"][0][0], abs=1)
    assert len(texts["arm 1"]) == 2


def test_a_long_name_wraps_and_keeps_to_its_panel() -> None:
    texts = _texts(_forest([(f"MobileNetV3 large {name}", [_mark(1)]) for name in "ABCD"]))
    assert {"MobileNetV3", "large A", "large D"} <= set(texts)


@pytest.mark.parametrize("low", [None, 0.0])
def test_marks_without_an_interval_or_without_any_spread_are_drawn(low: float | None) -> None:
    mark = Mark(value=0.0, low=low, high=low)
    assert len(_marks(_forest([("A", [mark, None])]), TESTED)) == 1


def test_ratios_stand_on_a_log_scale_and_say_every_number_there_is_room_for() -> None:
    ratios = (0.25, 0.5, 1.0, 2.0, 3.0)
    curve = [_mark(ratio, place=ratio, filled=ratio > 1) for ratio in ratios]
    root = ElementTree.fromstring(
        bench_figures.ratio_panels(
            [("A", curve)], axes_names=("x axis", "y axis"), prefix="r", alt="words"
        )
    )
    places = [_texts(root)[f"{ratio:g}"][0][0] for ratio in ratios]
    steps = [places[i + 1] - places[i] for i in range(3)]
    assert steps[1] == pytest.approx(steps[2], abs=3)
    assert steps[0] == pytest.approx(steps[1], abs=4), "doubling is one step"
    assert places[4] - places[3] == pytest.approx(0.585 * steps[2], abs=3)
    assert len(_marks(root, TESTED)) == 2
    assert len(_marks(root, OPEN)) == 3


def test_ratios_too_close_to_be_told_apart_leave_numbers_out() -> None:
    curve = [_mark(1, place=ratio) for ratio in (0.97, 1.0, 1.03, 40.0)]
    root = ElementTree.fromstring(
        bench_figures.ratio_panels([("A", curve)], axes_names=("x", "y"), prefix="r", alt="a")
    )
    shown = _texts(root)
    assert {"1", "40"} <= set(shown)
    assert not {"0.97", "1.03"} & set(shown)


def test_training_curves_have_their_own_marker_and_dashes_and_one_legend() -> None:
    curves = [[(10.0, 0.5), (20.0, 0.6)], [(30.0, 0.6), (60.0, 0.8)], []]
    names = ["10 %", "50 %", "100 %"]
    root = ElementTree.fromstring(
        bench_figures.training_panels(
            [("A", curves), ("B", curves)], names, axes_names=("x", "y"), prefix="t", alt="words"
        )
    )
    texts = _texts(root)
    assert all(len(texts[name]) == 1 for name in names)
    assert root.get("aria-label") == "words"
    dashes = {
        path.get("stroke-dasharray")
        for path in root.iter("path")
        if path.get("stroke") in ("#004488", "#a83246", "#7a6000") and path.get("fill") == "none"
    }
    assert len(dashes) == 3


def _point(number: int, value: float, group: str, column: str, outcome: str) -> PlanePoint:
    return PlanePoint(
        number=number, mark=_mark(value), group=group, column=column, outcome=outcome, ringed=False
    )


def test_points_of_the_plane_are_numbered_over_their_column_and_group() -> None:
    points = [
        _point(1, 5, "10 %", "0.01", "LEAK"),
        _point(2, 3, "10 %", "not seen", "INCONCLUSIVE"),
        _point(3, 4, "100 %", "0.01", "NO LEAK FOUND"),
        _point(4, -2, "100 %", "not audited", "not audited"),
    ]
    root = ElementTree.fromstring(
        bench_figures.plane(points, axes_names=("x", "y"), prefix="p", alt="words")
    )
    texts = _texts(root)
    places = [texts[str(number)][-1] for number in (1, 2, 3, 4)]
    assert [x for x, _ in places] == sorted(x for x, _ in places)
    assert [texts["0.01"][0][0], texts["0.01"][1][0]] == pytest.approx(
        [places[0][0] - 11, places[2][0] - 11], abs=12
    )
    assert {"LEAK", "INCONCLUSIVE", "NO LEAK FOUND", "not audited", "not seen"} <= set(texts)
    assert texts["10 %"][0][0] < texts["100 %"][0][0]
    assert places[0][1] < places[1][1], "a larger gain lies higher"


def test_outcomes_differ_in_shape_not_only_in_colour() -> None:
    looks = bench_figures._OUTCOMES.values()
    assert len({look.marker for look in looks}) == len(looks)


def test_an_estimate_is_drawn_in_points() -> None:
    mark = in_points({"value": 0.031, "low": None, "high": 0.05}, place=2.0)
    assert (mark.value, mark.low, mark.high, mark.place) == pytest.approx((3.1, None, 5.0, 2.0))


def test_figures_carry_no_inline_style_and_refer_to_nothing_outside() -> None:
    point = _point(1, 5, "10 %", "0.01", "LEAK")
    for shown in (
        ElementTree.tostring(_forest([("A", [_mark(1)])]), encoding="unicode"),
        bench_figures.plane([point], axes_names=("x", "y"), prefix="p", alt="a"),
    ):
        root = ElementTree.fromstring(shown)
        own = {node.get("id") for node in root.iter()} - {None}
        assert set(re.findall(r'(?:href="|url\()#([^")]+)', shown)) == own
        assert "style" not in {key for node in root.iter() for key in node.attrib}
        assert "http" not in shown

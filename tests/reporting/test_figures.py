"""The plots: what is drawn where, and that they can stand inside any page."""

import re
from itertools import pairwise
from xml.etree import ElementTree

import matplotlib
import pytest

from privgen.reporting import figures


def _point(kind: str, fraction: float, power: float) -> dict[str, object]:
    estimate = {"value": power, "low": max(0, power - 0.05), "high": min(1, power + 0.05)}
    return {"kind": kind, "fraction": fraction, "copies": round(1000 * fraction), "power": estimate}


def _rows(*values: tuple[float, float, float], control: bool = False) -> list[figures.ForestRow]:
    return [
        figures.ForestRow(
            label=f"row {i}", value=v, low=low, high=high, text=f"text {i}", control=control
        )
        for i, (v, low, high) in enumerate(values)
    ]


def _forest(rows: list[figures.ForestRow], **changes: object) -> ElementTree.Element:
    options = {"reference": (0.5, "guessing"), "axis": "AUROC", "prefix": "f", "alt": "words"}
    return ElementTree.fromstring(figures.forest(rows, **(options | changes)))


def _texts(root: ElementTree.Element) -> dict[str, tuple[float, float]]:
    """Every text with its position in pixels, rotation left out."""
    found = {}
    for node in root.iter("text"):
        place = re.search(r"translate\(([\d.-]+) ([\d.-]+)\)", node.get("transform", ""))
        x, y = place.groups() if place else (node.get("x"), node.get("y"))
        found[node.text or ""] = (float(x), float(y))
    return found


KINDS = ("exact", "symmetry", "stain", "odd_rotation")


def test_power_curves_name_every_line_without_overlap_even_when_all_end_at_one() -> None:
    points = [_point(kind, f, min(1, f * 40)) for kind in KINDS for f in (0.001, 0.01, 0.1)]
    root = ElementTree.fromstring(
        figures.power_curves(points, names={}, bound=0.01, alt="all kinds")
    )
    heights = sorted(_texts(root)[kind][1] for kind in KINDS)
    assert min(b - a for a, b in pairwise(heights)) > 13
    assert root.get("role") == "img"
    assert root.get("aria-label") == "all kinds"


def test_power_curves_put_labels_at_the_height_their_lines_end_at() -> None:
    points = [_point("exact", f, 0.9) for f in (0.01, 0.1)]
    points += [_point("stain", f, 0.2) for f in (0.01, 0.1)]
    places = _texts(
        ElementTree.fromstring(figures.power_curves(points, names={}, bound=0.01, alt=""))
    )
    assert places["exact"][1] - places["1"][1] == pytest.approx(
        (places["0"][1] - places["1"][1]) * 0.1, abs=2
    )
    assert places["stain"][1] - places["1"][1] == pytest.approx(
        (places["0"][1] - places["1"][1]) * 0.8, abs=2
    )


@pytest.mark.parametrize("shares", [(0.002,), (0.0001, 1.0)])
def test_power_curves_draw_any_range_of_shares(shares: tuple[float, ...]) -> None:
    points = [_point("exact", share, 0.5) for share in shares]
    assert "<svg" in figures.power_curves(points, names={}, bound=0.01, alt="")


def test_forest_rows_lie_top_to_bottom_and_text_stays_beside_its_row() -> None:
    places = _texts(_forest(_rows((0.6, 0.5, 0.7), (0.5, 0.4, 0.6), (0.4, 0.3, 0.5))))
    labels = [places[f"row {i}"] for i in range(3)]
    texts = [places[f"text {i}"] for i in range(3)]
    assert [y for _, y in labels] == sorted(y for _, y in labels)
    for label, text in zip(labels, texts, strict=True):
        assert label[1] == pytest.approx(text[1], abs=1)
        assert label[0] < text[0]


def test_forest_draws_values_in_proportion_on_both_sides_of_the_reference() -> None:
    root = _forest(_rows((0.6, 0.6, 0.6), (0.5, 0.5, 0.5), (0.4, 0.4, 0.4)))
    squares = [float(use.get("x")) for use in root.iter("use") if use.get("fill") == "#004488"]
    assert len(squares) == 3
    assert squares[0] - squares[1] == pytest.approx(squares[1] - squares[2], abs=0.01)
    assert squares[0] > squares[1]


def test_forest_draws_controls_open() -> None:
    shown = ElementTree.tostring(_forest(_rows((0.5, 0.4, 0.6), control=True)), encoding="unicode")
    assert 'fill="#ffffff"' in shown
    assert 'fill="#004488"' not in shown


def test_forest_accepts_a_row_without_an_interval_and_equal_values() -> None:
    row = figures.ForestRow(label="one", value=0.5, low=None, high=None, text="0.5")
    assert "one" in _texts(_forest([row]))


def test_figures_carry_no_inline_style_and_refer_to_nothing_outside() -> None:
    for shown in (
        figures.power_curves([_point("exact", 0.01, 0.5)], names={}, bound=0.01, alt="a"),
        figures.forest(_rows((0.5, 0.4, 0.6)), reference=(0, "r"), axis="x", prefix="p", alt="a"),
    ):
        root = ElementTree.fromstring(shown)
        own = {node.get("id") for node in root.iter()} - {None}
        referred = set(re.findall(r'(?:href="|url\()#([^")]+)', shown))
        assert referred
        assert referred == own
        assert "style" not in {key for node in root.iter() for key in node.attrib}
        assert not {"style", "metadata", "script", "image"} & {node.tag for node in root.iter()}
        assert "http" not in shown


def test_names_are_text_even_when_they_look_like_markup_or_formulas() -> None:
    hostile = "<script>$\\frac{1}{2}$ & -->"
    row = figures.ForestRow(label=hostile, value=0.5, low=0.4, high=0.6, text=hostile)
    root = _forest([row])
    assert hostile in _texts(root)
    assert "script" not in {node.tag for node in root.iter()}


def test_drawing_leaves_the_callers_settings_alone_and_ignores_them() -> None:
    rows = _rows((0.6, 0.5, 0.7))
    plain = ElementTree.tostring(_forest(rows))
    with matplotlib.rc_context({"lines.linewidth": 9, "font.size": 30, "svg.fonttype": "path"}):
        assert ElementTree.tostring(_forest(rows)) == plain
        assert matplotlib.rcParams["font.size"] == 30

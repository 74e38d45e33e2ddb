"""Pictures of a tiling: where colours stand, what stays visible, what is refused."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from privgen.data.images import read_tile
from privgen.errors import InputError
from privgen.tiling.pictures import class_colours, draw_kept, summary_figure

Picture = NDArray[np.uint8]
GREY = 200


def overview(height: int = 120, width: int = 300) -> Picture:
    return np.full((height, width, 3), GREY, dtype=np.uint8)


def draw(boxes: Sequence[Sequence[float]], labels: Sequence[str], classes: Sequence[str]) -> Any:
    return draw_kept(overview(), np.array(boxes, dtype=float).reshape(-1, 4), labels, classes)


def nearness(pixel: Picture, colour: tuple[int, int, int]) -> float:
    """0 for the overview's grey, 1 for the colour of a class."""
    away = np.array(colour, dtype=float) - GREY
    return float((pixel.astype(float) - GREY) @ away / (away @ away))


def test_a_tile_is_tinted_inside_outlined_at_its_edge_and_nothing_else_is_touched() -> None:
    picture = draw([(20, 30, 60, 80)], ["a"], ["a", "b"])
    colour = class_colours(["a", "b"])["a"]
    for edge in (picture[30, 40], picture[79, 40], picture[50, 20], picture[50, 59]):
        assert nearness(edge, colour) > 0.9
    inside = picture[31:79, 21:59].reshape(-1, 3)
    assert (inside == inside[0]).all()
    assert 0.1 < nearness(inside[0], colour) < 0.3
    outside = picture[:120].copy()
    outside[30:80, 20:60] = GREY
    assert (outside == GREY).all()


def test_each_class_has_its_colour() -> None:
    classes = [f"class {i}" for i in range(12)]
    colours = class_colours(classes)
    assert len(set(colours.values())) == 12
    picture = draw([(0, 0, 40, 40), (50, 0, 90, 40)], ["class 7", "class 2"], classes)
    assert nearness(picture[20, 0], colours["class 7"]) > 0.9
    assert nearness(picture[20, 50], colours["class 2"]) > 0.9


def test_overlapping_tiles_tint_no_deeper_than_one() -> None:
    once = draw([(0, 0, 100, 100)], ["a"], ["a"])
    often = draw([(0, 0, 100, 100)] * 50, ["a"] * 50, ["a"])
    assert np.array_equal(once[:100], often[:100])


def test_crowded_outlines_let_the_tissue_show_through() -> None:
    rng = np.random.default_rng(0)
    tissue = rng.integers(0, 256, (120, 300, 3), dtype=np.uint8)
    corners = np.stack(np.meshgrid(np.arange(0, 297, 3), np.arange(0, 117, 3)), -1).reshape(-1, 2)
    boxes = np.concatenate([corners, corners + 6], axis=1)
    picture = draw_kept(tissue, boxes, ["a"] * len(boxes), ["a"])
    seen = picture[5:110, 5:290].astype(float).ravel()
    assert np.corrcoef(seen, tissue[5:110, 5:290].astype(float).ravel())[0, 1] > 0.9


def test_tiles_may_leave_the_overview_and_there_may_be_none() -> None:
    picture = draw([(-1e9, -50, 20, 20), (290, 100, 400, 1e12), (900, 0, 950, 9)], ["a"] * 3, ["a"])
    colour = class_colours(["a"])["a"]
    assert nearness(picture[19, 5], colour) > 0.9
    assert nearness(picture[119, 295], colour) < 0.3  # its lower edge is far below
    assert nearness(picture[110, 290], colour) > 0.9
    assert (picture[40:90] == GREY).all()
    assert (draw([], [], ["a"])[:120] == GREY).all()


def test_the_legend_has_a_swatch_for_every_class_even_without_tiles() -> None:
    classes = ["a", "b", "c"]
    legend = draw([(0, 0, 9, 9)], ["b"], classes)[120:]
    for colour in class_colours(classes).values():
        assert ((legend == np.array(colour)).all(axis=2)).sum() >= 100
    assert not np.array_equal(legend, draw([(0, 0, 9, 9)] * 2, ["b"] * 2, classes)[120:])  # counts


@pytest.mark.parametrize("width", [1, 57, 58, 113, 1000])
def test_the_legend_is_as_wide_as_the_overview_and_grows_downwards(width: int) -> None:
    names = ["short", "$x_1$", "Tumör", "\u816b\u760d", "long " * 60]
    picture = draw_kept(overview(30, width), np.array([[0, 0, 5, 5]]), ["short"], names)
    assert picture.shape[1] == width
    few = draw_kept(overview(30, width), np.array([[0, 0, 5, 5]]), ["short"], names[:1])
    assert picture.shape[0] > few.shape[0] > 30


def test_the_overview_given_is_not_changed_and_the_same_gives_the_same() -> None:
    given = overview()
    first = draw_kept(given, np.array([[0, 0, 50, 50]]), ["a"], ["a"])
    assert (given == GREY).all()
    assert np.array_equal(first, draw_kept(given, np.array([[0, 0, 50, 50]]), ["a"], ["a"]))


@pytest.mark.parametrize("tiles", [2, 2000])
def test_the_overview_is_mixed_twice_however_many_tiles_there_are(
    tiles: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    corners = np.random.default_rng(0).uniform(0, 900, (tiles, 2))
    boxes = np.concatenate([corners, corners + 12], axis=1)
    mixed: list[int] = []
    mix = cv2.addWeighted

    def counted(picture: Picture, *rest: Any) -> Any:
        mixed.append(picture.size)
        return mix(picture, *rest)

    monkeypatch.setattr(cv2, "addWeighted", counted)
    given = overview(1000, 1000)
    drawn = draw_kept(given, boxes, ["a", "b"] * (tiles // 2), ["a", "b"])
    assert mixed == [given.size] * 2
    touched = (drawn[:1000] != given).any(axis=2)
    covered = np.zeros_like(touched)
    for left, top, right, bottom in np.rint(boxes).astype(int):
        covered[top:bottom, left:right] = True
    assert np.array_equal(touched, covered)


@pytest.mark.parametrize(
    ("boxes", "labels", "classes"),
    [
        ([(0, 0, 1, 1)], [], ["a"]),
        ([(0, 0, 1, 1)], ["b"], ["a"]),
        ([(0, 0, 1, float("nan"))], ["a"], ["a"]),
        ([(0, 0, 1, 1)], ["a"], ["a", "a"]),
    ],
)
def test_boxes_without_a_known_class_are_refused(
    boxes: list[tuple[float, ...]], labels: list[str], classes: list[str]
) -> None:
    with pytest.raises(InputError):
        draw(boxes, labels, classes)


def table(patients: int, tiles: int = 400) -> dict[str, list[Any]]:
    rng = np.random.default_rng(patients)
    chosen = np.minimum(rng.exponential(patients / 4, tiles).astype(int), patients - 1)
    return {
        "label": [("tumour", "stroma")[i % 3 == 0] for i in range(tiles)],
        "patient": [f"p{i:04d}" for i in chosen],
        "slide": [f"s{i}" for i in chosen],
        "tissue": rng.beta(8, 2, tiles).tolist(),
        "white": rng.beta(1, 9, tiles).tolist(),
        "sharpness": rng.gamma(2, 200, tiles).tolist(),
        "pen": [0.0] * tiles,
        "fold": rng.beta(1, 50, tiles).tolist(),
    }


def drawn(
    path: Path, given: Mapping[str, Sequence[Any]], classes: Sequence[str] | None = None
) -> Picture:
    summary_figure(given, path, classes=classes)
    return read_tile(path)


def bar_lengths(picture: Picture, colour: tuple[int, int, int]) -> list[int]:
    """Pixels of a colour in each bar, top to bottom; the first swatches stand left of all bars."""
    found = (picture == np.array(colour)).all(axis=2)[:, 210:].sum(axis=1)
    starts = np.flatnonzero((found[1:] > 0) & (found[:-1] == 0)) + 1
    return [int(found[start + 5]) for start in starts]


def test_bars_are_as_long_as_the_counts_the_longest_on_top(tmp_path: Path) -> None:
    given: dict[str, list[Any]] = {
        "label": ["a"] * 10 + ["b"] * 40 + ["a"] * 20 + ["b"] * 5,
        "patient": ["p2"] * 25 + ["p1"] * 45 + [None] * 5,
        "slide": ["s"] * 75,
    }
    # p1: 20 a and 25 b; p2: 10 a and 15 b; none: 5 b.
    colours = class_colours(["a", "b"])
    picture = drawn(tmp_path / "s.png", given)
    first, second = bar_lengths(picture, colours["a"]), bar_lengths(picture, colours["b"])
    assert [length / first[0] * 20 for length in first[:2]] == pytest.approx([20, 10], abs=0.2)
    assert [x / first[0] * 20 for x in second[:3]] == pytest.approx([25, 15, 5], abs=0.2)


def test_at_most_thirty_patients_have_a_bar_of_their_own(tmp_path: Path) -> None:
    heights = [
        drawn(
            tmp_path / "s.png", {"label": ["a"] * n, "patient": range(n), "slide": range(n)}
        ).shape[0]
        for n in (29, 30, 31, 32, 500)
    ]
    row = heights[1] - heights[0]
    assert row > 0
    assert heights[2:] == [heights[1] + row] * 3


def test_the_same_table_gives_the_same_bytes_without_metadata(tmp_path: Path) -> None:
    for name in ("one.png", "two.png"):
        summary_figure(table(40), tmp_path / name)
    data = (tmp_path / "one.png").read_bytes()
    assert data == (tmp_path / "two.png").read_bytes()
    assert not any(chunk in data for chunk in (b"tEXt", b"iTXt", b"zTXt", b"eXIf", b"tIME"))


def test_classes_given_keep_their_colours(tmp_path: Path) -> None:
    colours = class_colours(["absent", "tumour", "stroma"])
    picture = drawn(tmp_path / "s.png", table(3), ["absent", "tumour", "stroma"])
    assert max(bar_lengths(picture, colours["tumour"])) > 100
    assert bar_lengths(picture, colours["absent"]) == []
    legend = (picture == np.array(colours["absent"])).all(axis=2)
    assert legend.sum() >= 100


def test_scores_may_be_missing_empty_text_or_far_out(tmp_path: Path) -> None:
    given = table(2, tiles=4)
    del given["pen"]
    given["fold"] = [None, "", float("nan"), float("inf")]
    given["tissue"] = ["0.5", "1.0", 0, None]
    given["sharpness"] = [0.0, 0.0, 0.0, 1e6]
    assert drawn(tmp_path / "s.png", given).shape[1] == 1040


def test_a_table_without_tiles_or_a_needed_column_is_refused(tmp_path: Path) -> None:
    wrong: list[dict[str, list[str]]] = [
        {"label": [], "patient": [], "slide": []},
        {"label": ["a"], "slide": ["s"]},
        {"label": ["a"], "patient": ["p", "p"], "slide": ["s"]},
    ]
    for given in wrong:
        with pytest.raises(InputError, match="a summary needs"):
            summary_figure(given, tmp_path / "s.png")
    with pytest.raises(InputError, match="one of the classes"):
        summary_figure(table(2), tmp_path / "s.png", classes=["tumour"])
    assert list(tmp_path.iterdir()) == []

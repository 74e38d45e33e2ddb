"""splits.py: roles that share a patient, a picture or pixels are refused by name."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from privgen.data.splits import incomparable, require_disjoint
from privgen.data.tileset import TileRecord, TileSet
from privgen.errors import SplitError
from tests.helpers.small_tiles import distinct, made, placed


def test_roles_that_share_a_patient_are_refused_by_name() -> None:
    train = made(["A", "B", "C"])
    holdout = made(["C", "D", "B"], first=100)
    with pytest.raises(SplitError, match=r"train and holdout .* patient: 2 .* \(first: B, C\)"):
        require_disjoint(train=train, holdout=holdout)
    with pytest.raises(SplitError, match="siblings and holdout"):
        require_disjoint(train=made(["X"], first=50), siblings=train, holdout=holdout)
    with pytest.raises(SplitError, match="holdout and reference"):
        require_disjoint(holdout=train, reference=holdout)


@pytest.mark.parametrize(
    ("ours", "theirs", "shared"),
    [
        (["1", "2"], ["1.0", "3"], "1"),
        ([1, 2], np.array([1.0, 3.0]), "1"),
        (["Müller", "X"], ["Mu\u0308ller", "Y"], "Müller"),
        (["P1", "X"], ["\u00a0P1\u200b", "Y"], "P1"),
        (["TCGA-AA-0001", "X"], ["TCGA-AA-0001-01Z-00-DX1", "Y"], "TCGA-AA-0001"),
        (["TCGA-AA-0001-01A", "X"], ["tcga-aa-0001-11A", "Y"], "TCGA-AA-0001"),
    ],
)
def test_a_patient_written_in_two_ways_is_shared(
    ours: list[object], theirs: list[object], shared: str
) -> None:
    train = TileSet.from_arrays(distinct(2), ["x", "x"], patients=ours)
    holdout = TileSet.from_arrays(distinct(2, 50), ["x", "x"], patients=theirs)
    with pytest.raises(SplitError, match=rf"may not share a patient: 1 .*first: {shared}\)"):
        require_disjoint(train=train, holdout=holdout)


@pytest.mark.parametrize("pair", [("001", "1"), ("P1", "p1"), ("P-1", "P_1")])
@pytest.mark.parametrize(
    "roles", [("train", "holdout"), ("siblings", "holdout"), ("holdout", "reference")]
)
def test_patients_who_may_be_one_person_block_across_roles(
    pair: tuple[str, str], roles: tuple[str, str]
) -> None:
    sets = {
        role: made([name, role], first=10 * n)
        for n, (role, name) in enumerate(zip(roles, pair, strict=True))
    }
    with pytest.raises(SplitError) as caught:
        require_disjoint(**sets)
    text = str(caught.value)
    assert f"{roles[0]} and {roles[1]} may not hold patients whose names differ only in" in text
    assert f"1 pairs do (first: {pair[0]} / {pair[1]})" in text
    assert "rename one" in text
    assert "\n" not in text


def test_sides_that_are_grouped_differently_are_compared_by_the_finer_unit() -> None:
    train = made(["A", "B"], slides=["s1", "s2"])
    slides = TileSet.from_arrays(distinct(2, 50), ["x", "x"], slides=["S2", "s3"])
    with pytest.raises(SplitError, match=r"hold slides whose names .*first: s2 / S2"):
        require_disjoint(train=train, holdout=slides)
    with pytest.raises(SplitError, match=r"may not share a slide: 1 .*first: s1"):
        require_disjoint(
            train=train, holdout=TileSet.from_arrays(distinct(1, 50), ["x"], slides=["s1"])
        )
    apart = TileSet.from_arrays(distinct(1, 50), ["x"], slides=["s9"])
    require_disjoint(train=train, holdout=apart)
    (told,) = incomparable(train=train, holdout=apart)
    assert "train is grouped by patient and holdout by slide: they were compared by slide" in told
    bare = replace(train, records=tuple(replace(r, slide=None) for r in train.records))
    (told,) = incomparable(train=bare, holdout=apart)
    assert "they could not be compared" in told
    assert incomparable(train=train, holdout=made(["C"], first=70)) == []
    assert incomparable(train=train, holdout=TileSet.from_arrays(distinct(1, 70), ["x"])) == []


def test_siblings_may_share_patients_with_train_but_no_picture() -> None:
    train = made(["A", "B"])
    require_disjoint(train=train, siblings=made(["A", "B"], first=100))
    with pytest.raises(SplitError, match="train and siblings may not share a picture: 2"):
        require_disjoint(train=train, siblings=made(["A", "B"]))


def test_names_of_single_tiles_are_not_taken_for_patients() -> None:
    one = TileSet.from_arrays(distinct(3), list("xyx"))
    other = TileSet.from_arrays(distinct(3, 50), list("xyx"))
    assert one.groups.tolist() == other.groups.tolist()
    require_disjoint(train=one, holdout=other)
    require_disjoint(train=made(["x/000000.png"], first=9), holdout=other)


def test_roles_that_share_a_picture_are_refused_with_both_paths() -> None:
    train = made(["A", "B", "C"])
    holdout = made(["D", "E"], first=2)
    with pytest.raises(
        SplitError, match=r"share a picture: 1 .*first: x/000002.png = x/000000.png"
    ):
        require_disjoint(train=train, holdout=holdout)


@pytest.mark.parametrize(
    ("x", "y", "slide", "shared"),
    [
        (10, 0, "s", False),
        (0, 10, "s", False),
        (9, 9, "s", True),
        (-9, -9, "s", True),
        (-10, -9, "s", False),
        (0, 0, "s", True),
        (0, 0, "t", False),
    ],
)
def test_pixels_are_shared_when_rectangles_on_one_slide_intersect(
    x: int, y: int, slide: str, shared: bool
) -> None:
    train = placed(made(["A"]), [("s", 0, 0)])
    siblings = placed(made(["A"], first=50), [(slide, x, y)])
    if shared:
        with pytest.raises(SplitError, match=r"may not share pixels: 1 pairs .*000000.png and"):
            require_disjoint(train=train, siblings=siblings)
    else:
        require_disjoint(train=train, siblings=siblings)


def test_tiles_of_two_sizes_and_scales_are_compared_in_micrometres() -> None:
    small = placed(made(["A"]), [("s", 0, 0)], side=10)
    large = placed(made(["A"], first=9), [("s", 12, 0)], side=40)

    def scaled(tiles: TileSet, mpp: float | None) -> TileSet:
        return replace(tiles, records=tuple(replace(r, mpp=mpp) for r in tiles.records))

    require_disjoint(train=small, siblings=large)
    require_disjoint(train=scaled(small, 0.5), siblings=scaled(large, 0.5))
    with pytest.raises(SplitError, match="share pixels"):
        require_disjoint(train=scaled(small, 1.0), siblings=scaled(large, 0.5))
    require_disjoint(train=scaled(small, 1.0), siblings=scaled(large, None))
    pair = placed(made(["A", "A"], first=50), [("s", 100, 0), ("s", 200, 0)])
    mixed = replace(pair, records=(replace(pair.records[0], mpp=0.1), pair.records[1]))
    require_disjoint(train=scaled(small, 1.0), siblings=mixed)


def test_source_image_is_the_frame_where_no_slide_is_known() -> None:
    def framed(name: str, first: int) -> TileSet:
        tiles = placed(made(["A"], first=first), [("s", 0, 0)])
        record = replace(tiles.records[0], slide=None, source_image=name)
        return replace(tiles, records=(record,))

    with pytest.raises(SplitError, match="share pixels"):
        require_disjoint(train=framed("i", 0), siblings=framed("i", 9))
    require_disjoint(train=framed("i", 0), siblings=framed("j", 9))


@settings(max_examples=60, deadline=None)
@given(
    corners=st.lists(
        st.tuples(st.integers(0, 1), st.integers(0, 40), st.integers(0, 40), st.integers(1, 15)),
        min_size=2,
        max_size=25,
    ),
    cut=st.integers(1, 24),
)
def test_shared_pixels_are_found_as_by_painting_them(
    corners: list[tuple[int, int, int, int]], cut: int
) -> None:
    assume(cut < len(corners))
    records = tuple(
        TileRecord(path=str(i), label="x", slide=f"s{s}", x=x, y=y, width=side, height=side)
        for i, (s, x, y, side) in enumerate(corners)
    )
    tiles = TileSet(
        root=None,
        records=records,
        layout="by hand",
        group_unit="tile",
        pixels=distinct(len(corners)),
        rows=np.arange(len(corners)),
    )
    canvas = np.zeros((2, 60, 60), dtype=int)
    for s, x, y, side in corners[:cut]:
        canvas[s, y : y + side, x : x + side] = 1
    meets = any(canvas[s, y : y + side, x : x + side].any() for s, x, y, side in corners[cut:])
    first, second = tiles.subset(np.arange(cut)), tiles.subset(np.arange(cut, len(corners)))
    if meets:
        with pytest.raises(SplitError, match="share pixels"):
            require_disjoint(train=first, holdout=second)
    else:
        require_disjoint(train=first, holdout=second)

"""splits.py: every split disjoint by patient, digest and pixels; siblings a fair draw."""

from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from privgen.data.layouts import open_tiles
from privgen.data.splits import Split, require_disjoint, split_by_patient, units
from privgen.data.tileset import TileRecord, TileSet
from privgen.errors import ConfigError, SplitError
from tests.helpers.small_tiles import distinct, made, placed


def roles_of(tiles: TileSet, split: Split) -> dict[str, TileSet]:
    return {name: tiles.subset(indices) for name, indices in split.roles().items()}


@settings(max_examples=120, deadline=None)
@given(
    patients=st.lists(st.integers(0, 9), min_size=4, max_size=60),
    classes=st.integers(1, 3),
    slides_each=st.integers(1, 3),
    reference=st.sampled_from([0.0, 0.2]),
    siblings=st.sampled_from([0.0, 0.1, 0.5, 0.9]),
    seed=st.integers(0, 2**32 - 1),
    data=st.data(),
)
def test_any_grouping_is_split_disjointly_completely_and_repeatably(
    patients: list[int],
    classes: int,
    slides_each: int,
    reference: float,
    siblings: float,
    seed: int,
    data: st.DataObject,
) -> None:
    assume(len(set(patients)) >= (3 if reference else 2))
    count = len(patients)
    draws = data.draw(st.lists(st.integers(0, 5), min_size=count, max_size=count))
    tiles = made(
        [f"P{p}" for p in patients],
        [f"c{d % classes}" for d in draws],
        [f"P{p}-{d % slides_each}" for p, d in zip(patients, draws, strict=True)],
    )
    split = split_by_patient(tiles, reference=reference, siblings=siblings, seed=seed)
    together = np.concatenate(list(split.roles().values()))
    assert sorted(together) == list(range(count))
    for name, indices in split.roles().items():
        assert np.array_equal(indices, np.sort(indices))
        asked = name in ("train", "holdout") or (name == "reference" and reference > 0)
        assert len(indices) > 0 or not asked
    groups = tiles.groups
    sides = [
        set(groups[np.concatenate([split.train, split.siblings])]),
        set(groups[split.holdout]),
        set(groups[split.reference]),
    ]
    assert sum(map(len, sides)) == len(set(groups))
    assert set(tiles.slides[split.siblings]) <= set(tiles.slides[split.train])
    require_disjoint(**roles_of(tiles, split))
    again = split_by_patient(tiles, reference=reference, siblings=siblings, seed=seed)
    for name, indices in split.roles().items():
        np.testing.assert_array_equal(indices, again.roles()[name])


def test_each_class_of_two_patients_stands_in_train_and_holdout() -> None:
    patients = ["A", "B", "C", "D", "E", "F"] * 10
    labels = ["x" if p in "AB" else "y" if p in "CD" else "z" for p in patients]
    tiles = made(patients, labels)
    for seed in range(10):
        split = split_by_patient(tiles, seed=seed)
        for role in (split.train, split.holdout):
            assert set(tiles.labels[role]) == {"x", "y", "z"}


def test_shares_are_met_when_patients_allow() -> None:
    tiles = made([f"P{i:02d}" for i in range(40) for _ in range(10)])
    split = split_by_patient(tiles, holdout=0.3, reference=0.2, siblings=0.1, seed=5)
    sizes = {name: len(indices) for name, indices in split.roles().items()}
    assert sizes == {"train": 180, "siblings": 20, "holdout": 120, "reference": 80}


def test_another_seed_gives_another_split() -> None:
    tiles = made([f"P{i:02d}" for i in range(40) for _ in range(3)])
    holdouts = {tuple(split_by_patient(tiles, seed=seed).holdout) for seed in range(5)}
    assert len(holdouts) == 5


def test_within_a_slide_each_tile_is_equally_likely_to_be_a_sibling() -> None:
    slides = ["s0"] * 5 + ["s1"] * 3 + ["s2"] * 8
    tiles = made(["A"] * 8 + ["A"] * 8 + ["B"] * 2, slides=[*slides, "t", "t"], labels=["x"] * 18)
    hits, draws = np.zeros(18), 500
    for seed in range(draws):
        split = split_by_patient(tiles, holdout=0.1, siblings=0.3, seed=seed)
        assert split.holdout.tolist() == [16, 17]
        hits[split.siblings] += 1
    for slide in ("s0", "s1", "s2"):
        inside = hits[:16][np.array(slides) == slide]
        expected = inside.mean()
        chi2 = float(((inside - expected) ** 2 / expected).sum())
        assert chi2 < 24.3, f"{slide}: {inside}"  # 99.9 % quantile of 7 degrees of freedom
        assert abs(expected / draws - 0.3) < 0.03


def test_siblings_add_up_although_slides_are_small() -> None:
    tiles = made([f"P{i}" for i in range(30) for _ in range(6)])
    split = split_by_patient(tiles, siblings=0.1, seed=2)
    mates = len(split.train) + len(split.siblings)
    assert abs(len(split.siblings) - 0.1 * mates) <= 1
    per_slide = Counter(tiles.slides[split.siblings])
    assert max(per_slide.values()) == 1


def test_slide_of_one_tile_gives_no_sibling_and_none_is_drawn_at_share_zero() -> None:
    single = made([f"P{i}" for i in range(20)])
    assert len(split_by_patient(single, siblings=0.9, seed=0).siblings) == 0
    many = made([f"P{i % 5}" for i in range(50)])
    assert len(split_by_patient(many, siblings=0.0, seed=0).siblings) == 0


def test_tile_that_overlaps_or_repeats_another_is_never_a_sibling() -> None:
    tiles = made(["A"] * 6 + ["B"] * 6)
    row = [(0, 0), (9, 9), (30, 0), (40, 0), (60, 0), (70, 0)]
    tiles = placed(tiles, [("a", x, y) for x, y in row] + [("b", x, y) for x, y in row])
    assert tiles.pixels is not None
    pixels = tiles.pixels.copy()
    pixels[[5, 11]] = pixels[[4, 10]]
    tiles = replace(tiles, pixels=pixels)
    drawn: set[int] = set()
    for seed in range(60):
        split = split_by_patient(tiles, siblings=0.5, seed=seed)
        drawn |= set(split.siblings.tolist())
        require_disjoint(**roles_of(tiles, split))
    assert drawn == {2, 3, 8, 9}, "0 and 1 overlap, 4 and 5 are one picture; 2 and 3 only touch"


def test_patients_who_share_a_picture_stay_together() -> None:
    tiles = made(["A", "B", "C", "D"] * 3)
    assert tiles.pixels is not None
    pixels = tiles.pixels.copy()
    pixels[1] = pixels[0]
    tiles = replace(tiles, pixels=pixels)
    for seed in range(20):
        split = split_by_patient(tiles, siblings=0.0, seed=seed)
        assert len({"A", "B"} & set(tiles.groups[split.holdout])) in (0, 2)


def test_groups_that_share_pixels_stay_together() -> None:
    records = tuple(
        TileRecord(
            path=str(i), label="x", source_image=f"i{i}", slide="s", x=x, y=0, width=10, height=10
        )
        for i, x in enumerate((0, 5, 20, 30, 44, 50))
    )
    tiles = TileSet(
        root=None,
        records=records,
        layout="by hand",
        group_unit="source_image",
        pixels=distinct(6),
        rows=np.arange(6),
    )
    for seed in range(20):
        holdout = set(split_by_patient(tiles, seed=seed).holdout.tolist())
        assert len(holdout & {0, 1}) in (0, 2)
        assert len(holdout & {4, 5}) in (0, 2)


def test_tied_tiles_and_their_groups_are_never_parted_and_never_siblings() -> None:
    tiles = made(
        [f"P{row // 3}" for row in range(30)], slides=[f"S{row // 3}" for row in range(30)]
    )
    tied = np.array([[0, 29], [4, 5]])
    joined = units(tiles, tied)
    assert joined[0] == joined[2] == joined[29]
    assert len(np.unique(joined)) == 9
    assert len(np.unique(units(tiles))) == 10
    parted = 0
    for seed in range(20):
        split = split_by_patient(tiles, tied, siblings=0.5, seed=seed)
        roles = {row: role for role, rows in split.roles().items() for row in rows}
        assert (roles[0] == "holdout") == (roles[29] == "holdout")
        assert not {0, 29, 4, 5} & set(split.siblings.tolist())
        untied = set(split_by_patient(tiles, siblings=0.5, seed=seed).holdout.tolist())
        parted += (0 in untied) != (29 in untied)
    assert parted


@pytest.mark.parametrize(
    ("patients", "reference", "rule"),
    [
        (["A"] * 5, 0.0, r"need a patient each, 2 in all: got 1\."),
        (["A", "B"] * 3, 0.2, r"train, holdout and reference need a patient each, 3 in all: got 2"),
    ],
)
def test_fewer_patients_than_roles_are_refused_with_the_number_needed(
    patients: list[str], reference: float, rule: str
) -> None:
    with pytest.raises(SplitError, match=rule):
        split_by_patient(made(patients), reference=reference, seed=0)


def test_patients_glued_by_one_picture_are_refused_with_the_reason() -> None:
    tiles = TileSet.from_arrays(
        distinct(1).repeat(4, axis=0), list("xyxy"), patients=["A", "A", "B", "B"]
    )
    with pytest.raises(SplitError, match=r"got 1 \(2, but they share digests or pixels, or"):
        split_by_patient(tiles, seed=0)


@pytest.mark.parametrize(
    "shares",
    [
        {"holdout": 0.0},
        {"holdout": -0.1},
        {"holdout": 1.0},
        {"holdout": 0.5, "reference": 0.5},
        {"reference": -0.1},
        {"siblings": 1.0},
        {"siblings": -0.1},
        {"holdout": float("nan")},
    ],
)
def test_shares_out_of_range_are_refused(shares: dict[str, float]) -> None:
    with pytest.raises(ConfigError, match="shares must leave tiles for train"):
        split_by_patient(made(["A", "B", "C"]), seed=0, **shares)


def test_within_a_role_names_that_are_alike_stay_together_and_block_nothing() -> None:
    tiles = made(["P1", "p1", "Q", "R", "S", "T"] * 3)
    assert len(np.unique(units(tiles))) == 5
    for seed in range(20):
        split = split_by_patient(tiles, seed=seed)
        assert len({"P1", "p1"} & set(tiles.groups[split.holdout])) in (0, 2)
        require_disjoint(**roles_of(tiles, split))


def test_paths_of_single_tiles_are_never_alike() -> None:
    tiles = TileSet.from_arrays(distinct(4), list("xyxy"))
    records = [
        replace(r, path=p) for r, p in zip(tiles.records, ("1", "01", "a", "A"), strict=True)
    ]
    assert len(np.unique(units(replace(tiles, records=tuple(records))))) == 4


def blank(count: int, level: int, noise: float = 0.0) -> NDArray[np.uint8]:
    """Equal near-constant tiles."""
    one = level + noise * np.random.default_rng(0).standard_normal((1, 2, 2, 3))
    return np.clip(one, 0, 255).astype(np.uint8).repeat(count, axis=0)


@pytest.mark.parametrize(("level", "noise"), [(255, 0.0), (0, 0.0), (244, 2.0)])
@pytest.mark.parametrize("holders", [2, 5, 8])
def test_blank_tiles_tie_nobody(level: int, noise: float, holders: int) -> None:
    """One equal white tile in each of `holders` of 8 patients."""
    patients = [f"P{row % 8}" for row in range(24)]
    tiles = TileSet.from_arrays(
        np.concatenate([distinct(24), blank(holders, level, noise)]),
        ["x"] * (24 + holders),
        patients=[*patients, *(f"P{row}" for row in range(holders))],
    )
    assert len(np.unique(units(tiles))) == 8
    split = split_by_patient(tiles, seed=0)
    require_disjoint(**roles_of(tiles, split))
    assert len(np.unique(tiles.groups[split.holdout])) == 3


def test_glas_is_split_near_its_shares_with_every_class_on_both_sides(
    real_data: Callable[[str], Path],
) -> None:
    tiles = open_tiles(real_data("glas"))
    for seed in range(5):
        split = split_by_patient(tiles, seed=seed)
        assert 0.30 < len(split.holdout) / len(tiles) < 0.45
        assert 0.05 < len(split.siblings) / len(tiles) < 0.08
        assert len(set(tiles.groups[split.holdout])) >= 5
        for role in (split.train, split.holdout):
            assert set(tiles.labels[role]) == set(tiles.classes)
        require_disjoint(**roles_of(tiles, split))


def test_lc25000_is_split_by_source_image(real_data: Callable[[str], Path]) -> None:
    tiles = open_tiles(real_data("lc25000"))
    split = split_by_patient(tiles, reference=0.2, seed=1)
    assert abs(len(split.holdout) / len(tiles) - 0.35) < 0.01
    assert abs(len(split.reference) / len(tiles) - 0.2) < 0.01
    require_disjoint(**roles_of(tiles, split))
    tile_level = replace(tiles, group_unit="tile")
    with pytest.raises(SplitError, match="share a picture"):
        require_disjoint(
            train=tile_level.subset(np.arange(0, 1373, 2)),
            holdout=tile_level.subset(np.arange(1, 1373, 2)),
        )


def grid(columns: int, rows: int, stride: int, *, slides: int = 1) -> TileSet:
    """Tiles of 256 pixels on a grid on each slide, alternately of two classes; unit: the slide."""
    places = [
        (f"s{slide}", x * stride, y * stride)
        for slide in range(slides)
        for y in range(rows)
        for x in range(columns)
    ]
    tiles = TileSet.from_arrays(
        distinct(len(places)),
        ["ab"[row % 2] for row in range(len(places))],
        slides=[slide for slide, _, _ in places],
    )
    return placed(tiles, places, side=256)


def test_split_by_tile_of_overlapping_tiles_is_refused_with_the_reason() -> None:
    tiles = replace(grid(11, 11, 156), group_unit="tile")
    with pytest.raises(SplitError) as caught:
        split_by_patient(tiles, seed=0)
    message = str(caught.value)
    assert "420 pairs of 121 tiles overlap" in message
    assert "up to 39% of its pixels in common with another and typically 95% with all" in message
    assert "Group by slide or patient, or cut again without overlap." in message
    assert "\n" not in message
    apart = replace(grid(11, 11, 256), group_unit="tile")
    assert len(split_by_patient(apart, seed=0).holdout) > 0


def test_default_split_of_overlapping_tiles_parts_no_pair_by_brute_force() -> None:
    tiles = grid(5, 5, 156, slides=6)
    for seed in range(5):
        split = split_by_patient(tiles, siblings=0.3, seed=seed)
        role = {row: name for name, rows in split.roles().items() for row in rows}
        places = [(r.slide, r.x or 0, r.y or 0) for r in tiles.records]
        pairs = [
            (i, j)
            for i, (slide, x, y) in enumerate(places)
            for j, (other, u, v) in enumerate(places[:i])
            if slide == other and abs(x - u) < 256 and abs(y - v) < 256
        ]
        assert len(pairs) == 6 * 72
        assert all(role[i] == role[j] for i, j in pairs)
        assert len(split.siblings) == 0

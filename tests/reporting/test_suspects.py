"""The private page: what it shows of each pair, who may read it, what can be smuggled into it."""

import base64
import re
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from html import unescape
from os import umask
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from privgen.copysearch.alignment import align
from privgen.copysearch.descriptors import describe
from privgen.data.images import decode
from privgen.data.phantom import make_phantom
from privgen.evidence.suspects import Suspect
from privgen.reporting.suspects import in_words, render
from privgen.reporting.writing import write_report
from tests.helpers.suspects_example import HOSTILE, SIDE, suspects


def page(**options: Any) -> str:
    found, context = suspects(**options)
    return render(found, **context)


def pictures(source: str) -> list[NDArray[np.uint8]]:
    found = re.findall(r'href="data:image/png;base64,([^"]+)"', source)
    return [decode(base64.b64decode(text), "a picture") for text in found]


def suspect() -> Suspect:
    first: Suspect = suspects()[0].chosen[0]
    return first


@contextmanager
def masked(mask: int) -> Iterator[None]:
    before = umask(mask)
    try:
        yield
    finally:
        umask(before)


@pytest.mark.parametrize("mask", [0, 0o022, 0o077])
def test_only_its_owner_may_read_the_page(
    tmp_path: Path, mask: int, example: Callable[[str], dict[str, Any]]
) -> None:
    with masked(mask):
        write_report(example("leak"), tmp_path, suspects_page="page")
    path = tmp_path / "suspects.html"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert path.read_text() == "page"
    assert {each.name for each in tmp_path.iterdir()} == {"report.json", "report.html", path.name}


def test_a_file_name_that_is_no_text_does_not_lose_the_page(
    tmp_path: Path, example: Callable[[str], dict[str, Any]]
) -> None:
    write_report(example("leak"), tmp_path, suspects_page="tile \udcff.png")
    assert (tmp_path / "suspects.html").read_text() == "tile \\udcff.png"


def test_hostile_names_stay_text() -> None:
    source = page()
    assert "<img" not in source
    assert "<script" not in source
    assert HOSTILE not in source
    assert HOSTILE in unescape(source)


def test_the_page_stands_alone() -> None:
    source = page()
    assert "default-src 'none'" in source
    assert not re.search(r"https?:|//[a-z]", re.sub(r"base64,[^\"]+", "", source))
    links = re.findall(r'(?:href|src)="([^"]{0,12})', source)
    assert links
    assert all(link.startswith(("data:", "#")) for link in links)


def test_the_warning_comes_before_any_tile() -> None:
    source = page()
    assert "<title>PRIVATE" in source
    assert 0 < source.index("must not leave the building") < source.index("<article")


def test_a_pair_shows_both_tiles_and_the_warped_one_is_the_synthetic_one() -> None:
    source = page()
    _, context = suspects()
    first = pictures(source.split("<article")[1])
    synthetic, train = context["synthetic"].load()[1], context["train"].load()[2]
    assert len(first) == 3
    assert (first[0] == synthetic).all()
    assert (first[1] == synthetic).all()
    assert (first[2] == train).all()
    assert not (train == synthetic).all()


def test_a_tile_that_does_not_fit_is_shown_as_it_is() -> None:
    source = page().split("<article")[2]
    _, context = suspects()
    shown = pictures(source)
    assert len(shown) == 2
    assert (shown[1] == context["train"].load()[1]).all()
    assert "not warped" in source
    assert "nan" not in re.sub(r"base64,[^\"]+", "", source).lower()


def test_every_picture_is_described() -> None:
    source = page()
    roles = source.count('role="img"')
    assert roles == 3 + 1 + 2
    assert len(re.findall(r'role="img" aria-label="[^"]{20,}"', source)) == roles


def test_facts_of_a_proven_pair_stand_on_the_page() -> None:
    first = page().split("<article")[1]
    for fact in (
        "Proven copy, by alignment",
        "tumour/000002.png",
        "40 key points; agreement 0.97, 14.2 standard deviations of chance; score 80.8",
        "proof takes 11.5",
        "mirrored left to right, not turned, same size, 100 % overlap",
        "0 of 120 real tiles align as well",
        "at most 2.47 %, with 95 % confidence",
        "about 1 in 100,000",
        "250 of 250 holdout tiles (100 %)",
        "249 of 250 holdout tiles (99 %)",
    ):
        assert fact in first, fact


def test_a_copy_found_as_a_whole_picture_is_told_without_key_points() -> None:
    found, context = suspects()
    blurred = replace(found.chosen[0], inliers=0, points=np.empty((0, 2)), targets=np.empty((0, 2)))
    first = render(replace(found, chosen=(blurred,)), **context).split("<article")[1]
    assert "As whole pictures, no key points; agreement 0.97" in first
    assert "mirrored left to right, not turned" in first
    assert "None: nothing brings the two together." in page().split("<article")[2]


def test_an_unproven_pair_says_so_and_names_no_threshold_that_was_never_drawn() -> None:
    source = page(proven=False)
    assert "Alignment could prove nothing here" in source
    assert "40 null scores are too few" in source
    assert "Proven copy" not in source.split("<article", 1)[1]
    assert "proof takes" not in source
    assert "The tail fitted" not in source


def test_without_any_proof_the_top_of_the_list_is_called_no_proof() -> None:
    found, context = suspects()
    rest = dict.fromkeys(found.counts, 0)
    source = render(replace(found, chosen=found.chosen[1:], counts=rest), **context)
    assert "No synthetic tile is proven to be a copy" in source
    assert "No synthetic tile is proven" not in page()


def test_a_nearer_train_tile_than_the_one_shown_is_named() -> None:
    found, context = suspects()
    other = replace(found.chosen[0], nearest=3)
    source = render(replace(found, chosen=(other,)), **context)
    assert "By distance, <code>stroma/000003.png</code> is nearer" in source
    assert "By distance" not in page()


def test_many_holdout_tiles_are_thinned_but_keep_their_ends() -> None:
    found, context = suspects()
    crowd = np.linspace(0.5, 2.0, 5000)
    source = render(replace(found, holdout=crowd), **context)
    ticks = re.findall(r"M([\d.]+) 8V32", source)
    assert len(ticks) == 400
    assert (ticks[0], ticks[-1]) == ("245.1", "980.4")


@pytest.mark.parametrize(
    ("mirrored", "rotation", "words"),
    [
        (False, 37.0, "turned 37° anticlockwise"),
        (False, -37.0, "turned 37° clockwise"),
        (True, 37.0, "turned 37° clockwise"),
        (True, -37.0, "turned 37° anticlockwise"),
        (False, 0.4, "not turned"),
        (False, 0.51, "turned 1° anticlockwise"),
        (True, -179.9, "turned 180°,"),
        (True, 180.0, "turned 180°,"),
    ],
)
def test_turns_are_told_from_the_train_tile(mirrored: bool, rotation: float, words: str) -> None:
    said = in_words(replace(suspect(), mirrored=mirrored, rotation=rotation))
    assert words in said
    assert said.startswith("mirrored left to right" if mirrored else "not mirrored")


@pytest.mark.parametrize("mirrored", [False, True])
def test_what_was_done_to_real_pixels_is_what_is_told(mirrored: bool) -> None:
    tile = make_phantom(patients=1, tiles_per_patient=1, side=SIDE, classes=("TUM",)).load()
    copy = np.rot90(tile[:, :, ::-1] if mirrored else tile, axes=(1, 2))
    found = align(describe(np.ascontiguousarray(copy)), describe(tile))
    assert found.inliers > 20
    told = replace(
        suspect(), mirrored=found.mirrored, rotation=found.rotation, scale=found.scale, overlap=1.0
    )
    first = "mirrored left to right" if mirrored else "not mirrored"
    assert in_words(told) == f"{first}, turned 90° anticlockwise, same size, 100 % overlap"


@pytest.mark.parametrize(
    ("scale", "words"), [(0.5, "scaled 2.00 times"), (2, "scaled 0.50 times"), (1.005, "same size")]
)
def test_scales_are_told_from_the_train_tile(scale: float, words: str) -> None:
    assert words in in_words(replace(suspect(), scale=scale, overlap=0.884))
    assert "88 % overlap" in in_words(replace(suspect(), scale=scale, overlap=0.884))

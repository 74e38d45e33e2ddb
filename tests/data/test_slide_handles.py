"""A slide's handle: reopened once where a read fails, shared by threads, closed in the end."""

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import openslide
import pytest

from privgen.data.slides import Slide
from privgen.errors import SlideError, SlideReadError
from tests.helpers.slide_files import Pixels, noise, write_slide
from tests.helpers.slide_handles import PLANTED, Handle


def broken_in_the_middle(path: Path) -> Path:
    """A slide of 1000 x 1024 whose second row of stored tiles is damaged, the first is not."""
    write_slide(path, noise(1000, 1024), mpp=0.5)
    data = bytearray(path.read_bytes())
    middle = len(data) // 2
    data[middle - 20_000 : middle + 20_000] = bytes(40_000)
    path.write_bytes(data)
    return path


def test_damage_in_the_middle_opens_the_slide_twice_and_no_more(
    tmp_path: Path, openings: list[Handle]
) -> None:
    with Slide(broken_in_the_middle(tmp_path / "a.tif")) as slide:
        slide.read(0, 0, 0, 1000, 256)
        for _ in range(2):  # given up: the second time nothing is opened again
            with pytest.raises(SlideReadError) as caught:
                slide.read(0, 0, 0, 1000, 1024)
            assert str(tmp_path / "a.tif") in str(caught.value)
            assert "a.tif" not in caught.value.rule
            assert caught.value.exit_code == 3
            assert caught.value.__context__ is None
        with pytest.raises(SlideReadError):
            slide.read(0, 0, 0, 8, 8)
    assert len(openings) == 2


def test_one_failure_is_healed_by_one_reopening(
    pyramid: Path, pixels: Pixels, openings: list[Handle]
) -> None:
    Handle.failing = (0,)
    with Slide(pyramid) as slide:
        assert np.array_equal(slide.read(0, 0, 0, 1000, 712), pixels)
        assert len(openings) == 2
        slide.read(1, 0, 0, 10, 10)
        assert len(openings) == 2
        assert [one.latched for one in openings] == [True, False]


def test_a_second_failure_gives_the_slide_up(pyramid: Path, openings: list[Handle]) -> None:
    Handle.failing = (0, 1)
    with Slide(pyramid) as slide, pytest.raises(SlideReadError) as caught:
        slide.read(0, 0, 0, 8, 8)
    assert PLANTED not in str(caught.value)
    assert len(openings) == 2


@pytest.mark.parametrize("change", ["gone", "another"])
def test_a_slide_that_changed_under_way_is_given_up(
    tmp_path: Path, openings: list[Handle], change: str
) -> None:
    write_slide(tmp_path / "a.tif", noise(300, 300), mpp=0.5)
    Handle.failing = (0,)
    with Slide(tmp_path / "a.tif") as slide:
        (tmp_path / "a.tif").unlink()
        if change == "another":
            write_slide(tmp_path / "a.tif", noise(310, 300), mpp=0.5)
        for _ in range(2):
            with pytest.raises(SlideReadError):
                slide.read(0, 0, 0, 8, 8)


def test_threads_share_one_reopening(pyramid: Path, openings: list[Handle]) -> None:
    gate = threading.Barrier(8)

    def fail_together(*_: Any) -> Any:
        gate.wait(10)
        raise openslide.OpenSlideError(PLANTED)

    with Slide(pyramid) as slide, ThreadPoolExecutor(8) as pool:
        openings[0].read_region = fail_together  # type: ignore[method-assign]
        read_by_each = list(pool.map(lambda _: slide.read(0, 300, 200, 128, 128), range(8)))
    assert all(np.array_equal(one, read_by_each[0]) for one in read_by_each)
    assert len(openings) == 2


def test_threads_read_the_same_bits_as_one(pyramid: Path) -> None:
    places = [(level, x, y) for level in (0, 1, 2) for x in range(0, 900, 90) for y in (0, 333)]
    with Slide(pyramid) as slide:
        alone = [slide.read(*place, 200, 100) for place in places]
        with ThreadPoolExecutor(4) as pool:
            together = list(pool.map(lambda place: slide.read(*place, 200, 100), places))
    assert all(np.array_equal(*pair) for pair in zip(alone, together, strict=True))


def test_no_handle_stays_open(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = broken_in_the_middle(tmp_path / "a.tif")
    counts = {"open": 0, "close": 0}

    def counting(what: str) -> Callable[[Any], Any]:
        call = getattr(openslide.lowlevel, what)

        def counted(argument: Any) -> Any:
            counts[what] += 1
            return call(argument)

        return counted

    for what in counts:
        monkeypatch.setattr(openslide.lowlevel, what, counting(what))
    with Slide(path) as slide:
        slide.read(0, 0, 0, 8, 8)
        assert counts == {"open": 1, "close": 0}
    assert counts == {"open": 1, "close": 1}
    with Slide(path) as slide, pytest.raises(SlideReadError):
        slide.read(0, 0, 0, 1000, 1024)
    assert counts == {"open": 3, "close": 3}
    with pytest.raises(SlideError) as kept:
        Slide(path, mpp=100.0)
    assert counts == {"open": 4, "close": 4}
    assert kept.value.rule


def test_a_slide_closed_under_a_reader_lets_it_finish(
    pyramid: Path, openings: list[Handle]
) -> None:
    reading, closed = threading.Event(), threading.Event()

    with Slide(pyramid) as slide, ThreadPoolExecutor(1) as pool:
        handle = openings.pop()
        take = handle.read_region

        def waiting(*where: Any) -> Any:
            reading.set()
            assert closed.wait(10)
            return take(*where)

        handle.read_region = waiting  # type: ignore[method-assign]
        result = pool.submit(slide.read, 0, 0, 0, 64, 64)
        assert reading.wait(10)
        slide.close()
        closed.set()
        assert result.result(10).shape == (64, 64, 3)

"""A slide with a pyramid, and handles of slides that fail when they are told to."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import openslide
import pytest

from tests.helpers.slide_files import Pixels, noise, write_slide

PLANTED = "MUSTERMANN^ERIKA"


@pytest.fixture(scope="module")
def pixels() -> Pixels:
    return noise(1000, 712)


@pytest.fixture(scope="module")
def pyramid(tmp_path_factory: pytest.TempPathFactory, pixels: Pixels) -> Path:
    path = tmp_path_factory.mktemp("slides") / "pyramid.tif"
    write_slide(path, pixels, levels=3, mpp=0.5)
    return path


@pytest.fixture
def openings(monkeypatch: pytest.MonkeyPatch) -> Iterator[list["Handle"]]:
    """Every handle opened, in turn; `Handle.failing` makes those of its numbers fail at reads."""
    made: list[Handle] = []

    class Counted(Handle):
        def __init__(self, path: Path) -> None:
            super().__init__(path)
            self.number = len(made)
            made.append(self)

    Handle.failing = ()
    monkeypatch.setattr(openslide, "OpenSlide", Counted)
    yield made
    made.clear()


class Handle(openslide.OpenSlide):
    """A handle that latches as OpenSlide's do, at the first read where its number is `failing`."""

    failing: tuple[int, ...] = ()
    number = -1
    latched = False

    def read_region(self, *where: Any) -> Any:
        if self.latched or self.number in self.failing:
            self.latched = True
            raise openslide.OpenSlideError(f"{PLANTED}: premature end of file")
        return super().read_region(*where)

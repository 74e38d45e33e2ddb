"""Slides for whole runs, and what such a run leaves behind."""

import hashlib
import sys
from collections.abc import Callable, Iterable
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from tests.helpers.slide_files import write_slide

Pixels = NDArray[np.uint8]
Painting = Callable[[int, int, int], Pixels]

SLIDES = 6
WIDTH, HEIGHT = 1024, 768

UNLIKE = frozenset({".lock", "log.jsonl"})
"""Files that tell how a run went: they differ between a run that was stopped and one that was
not."""


def stained(width: int, height: int, seed: int) -> Pixels:
    """Dark nuclei on pink, all of it tissue to the mask; shape (height, width, 3)."""
    rng = np.random.default_rng(seed)
    cells = cv2.resize(rng.random((height // 12 + 1, width // 12 + 1)), (width, height))[..., None]
    colour = np.where(cells > 0.7, [96.0, 56.0, 140.0], [214.0, 140.0, 190.0])
    grain = rng.normal(0.0, 8.0, (height, width, 1))
    return np.clip(np.rint(colour + grain), 0, 255).astype(np.uint8)


@pytest.fixture(scope="session")
def paint() -> Painting:
    """`paint(width, height, seed)`: pixels that are all tissue."""
    return stained


@pytest.fixture(scope="session")
def slides(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Six slides of 1024 x 768 at .5 um, every pixel kept, all of it tissue."""
    folder = tmp_path_factory.mktemp("slides")
    paths = [folder / f"case-{number}.tif" for number in range(SLIDES)]
    for number, path in enumerate(paths):
        write_slide(path, stained(WIDTH, HEIGHT, number), mpp=0.5)
    return paths


@pytest.fixture(scope="session")
def key(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One key for every run, so that pseudonyms are the same."""
    path = tmp_path_factory.mktemp("key") / "key"
    path.write_text(hashlib.sha256(b"of the tests").hexdigest() + "\n")
    path.chmod(0o600)
    return path


@pytest.fixture(scope="session")
def command(key: Path) -> Callable[..., list[str]]:
    """`command(slides, out, *more)`: a command line that cuts tiles of 64 px."""

    def made(slides: Iterable[Path], out: Path, *more: str) -> list[str]:
        line = [sys.executable, "-m", "privgen", "tile", *map(str, slides), "--out", str(out)]
        return [*line, "--size", "64", "--key", str(key), *more]

    return made


@pytest.fixture(scope="session")
def left_by() -> Callable[[Path], dict[str, str]]:
    """`left_by(out)`: SHA-256 by place of all that a run left, tiles and pictures, but its log."""

    def found(out: Path) -> dict[str, str]:
        private = out.with_name(f"{out.name}-private")
        return {
            str(file.relative_to(out.parent)).replace(out.name, "OUT", 1): hashlib.sha256(
                file.read_bytes()
            ).hexdigest()
            for folder in (out, private)
            for file in sorted(folder.rglob("*"))
            if file.is_file() and file.name not in UNLIKE
        }

    return found

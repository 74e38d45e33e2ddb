"""A slide of any size is cut in bounded memory."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import openslide
import pytest
from numpy.typing import NDArray

from privgen.data.leftovers import MANIFEST
from tests.helpers.slide_files import write_slide

SIDE = 20_000
MOST_MIB = 600

MEASURED = """
import resource, subprocess, sys
ran = subprocess.run([sys.executable, "-m", "privgen", *sys.argv[1:]])
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)
sys.exit(ran.returncode)
"""
"""Prints the largest resident memory, in KiB, of the command and of its own processes."""


def paint(level: int, x: int, y: int, width: int, height: int) -> NDArray[np.uint8]:
    """Pink with purple spots, another noise at every place."""
    rng = np.random.default_rng([level, x, y])
    stained = np.where(rng.random((height, width, 1)) < 0.3, (110, 60, 150), (215, 140, 190))
    return stained.astype(np.uint8)


@pytest.mark.slow
def test_a_slide_of_20000_pixels_a_side_is_cut_within_600_mib(tmp_path: Path) -> None:
    slide = tmp_path / "large.tif"
    write_slide(slide, paint, size=(SIDE, SIDE), levels=5, compression="jpeg", mpp=0.25)
    with openslide.OpenSlide(slide) as opened:
        assert opened.level_count == 5
        assert opened.dimensions == (SIDE, SIDE)
    ran = subprocess.run(
        [sys.executable, "-c", MEASURED, "tile", str(slide), "--out", str(tmp_path / "out")],
        capture_output=True,
        text=True,
    )
    assert ran.returncode == 0, ran.stderr
    rows = (tmp_path / "out" / MANIFEST).read_text().splitlines()[1:]
    assert len(rows) == (SIDE // 2 // 256) ** 2
    peak = int(ran.stdout.split()[-1]) / 1024
    assert peak < MOST_MIB, f"{peak:.0f} MiB"

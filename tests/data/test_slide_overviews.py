"""Overviews of slides: the mean of what each pixel covers, in little memory."""

import resource
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from privgen.data import slides
from privgen.data.slides import Slide, overview
from privgen.errors import InputError
from tests.helpers.slide_files import Pixels, noise, write_slide


@pytest.mark.parametrize("levels", [1, 3])
@pytest.mark.parametrize("longest", [64, 300, 1000])
def test_an_overview_is_the_mean_of_what_each_pixel_covers(
    tmp_path: Path, pixels: Pixels, monkeypatch: pytest.MonkeyPatch, levels: int, longest: int
) -> None:
    monkeypatch.setattr(slides, "BLOCK", 128)
    write_slide(tmp_path / "a.tif", pixels, levels=levels, mpp=0.5)
    with Slide(tmp_path / "a.tif") as slide:
        seen = overview(slide, longest=longest)
    scale = int(seen.scale)
    height, width, _ = seen.pixels.shape
    assert scale == seen.scale
    assert max(width, height) <= longest < 2 * scale * longest
    assert 0 <= width * scale - 1000 < scale
    assert 0 <= height * scale - 712 < scale
    padded = np.full((height * scale, width * scale, 3), 255, dtype=np.float64)
    padded[:712, :1000] = pixels
    mean = padded.reshape(height, scale, width, scale, 3).mean(axis=(1, 3))
    assert np.abs(seen.pixels - mean).max() <= (1 if levels == 1 else 2)


def test_an_overview_of_a_small_slide_is_the_slide(tmp_path: Path) -> None:
    write_slide(tmp_path / "a.tif", noise(90, 40), mpp=0.5)
    with Slide(tmp_path / "a.tif") as slide:
        seen = overview(slide)
        assert seen.scale == 1.0
        assert np.array_equal(seen.pixels, slide.read(0, 0, 0, 90, 40))
        with pytest.raises(InputError, match="longest 0"):
            overview(slide, longest=0)


_PEAK = """
import resource, sys
from pathlib import Path
from privgen.data.slides import Slide, overview
with Slide(Path(sys.argv[1])) as slide:
    slide.read(0, 0, 0, 8, 8)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    seen = overview(slide)
    print(seen.pixels.shape, seen.scale, (seen.pixels == 128).all())
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads peak memory as Linux reports it")
def test_a_large_slide_of_one_level_needs_little_memory(tmp_path: Path) -> None:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    grey = np.full((512, 512, 3), 128, dtype=np.uint8)
    write_slide(
        tmp_path / "big.tif",
        lambda level, x, y, width, height: grey[:height, :width],
        size=(10_240, 10_240),
        tile=512,
        mpp=0.5,
    )
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 200 * 1024
    command = [sys.executable, "-c", _PEAK, str(tmp_path / "big.tif")]
    ran = subprocess.run(command, capture_output=True, text=True, check=True)
    shape, grown = ran.stdout.splitlines()
    assert shape == "(2048, 2048, 3) 5.0 True"
    assert int(grown) < 150

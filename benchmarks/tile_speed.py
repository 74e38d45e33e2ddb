"""Tiles cut a second, against the loop that everybody writes first.

The plain side reads one tile, turns it to RGB and saves it as PNG with Pillow, then takes the next;
where tiles are coarser than the scan it reads a square as much larger and resizes it with Pillow's
bicubic filter. The library does what `privgen tile` does: mask, scores, digests, manifest, parts,
thumbnail, files moved into place, and the start of its process. Both cut the same slides, which are
all tissue, and both write the same tiles; every pixel is compared.

The slides are written here, as an Aperio scanner would at 40x: JPEG tiles of 256 px, levels 1, 4
and 16, .25 um per pixel. Their tissue is pieced together from the TCGA slide below `--data`, or
procedural. `bare` reads the same squares with OpenSlide and drops them: what reading alone would
allow.
"""

import os
import shutil
import statistics
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import cv2
import numpy as np
import openslide
import tifffile
from harness import Options, Outcome, Timing
from numpy.typing import NDArray
from PIL import Image

from privgen.data.manifest import read_manifest
from privgen.data.phantom import render_tile
from privgen.data.slides import Slide
from privgen.data.tissue import quality
from privgen.tiling.session import tile_slides

SIDE = 8192
SLIDES, ROUNDS = 2, 5
TILE = 256
MPP = 0.25
LEVELS = (1, 4, 16)
TARGET = 4.0
BORDER = 4
"""Pixels at a resampled tile's edge where the plain loop lacks what lies around it."""

CLOSE = 1
"""Grey levels that two ways to the same resampled pixel may differ by."""

CASES = {"as scanned": 1, "resampled": 2}
"""Scan pixels to a tile pixel."""

Pixels = NDArray[np.uint8]


def run(options: Options) -> Outcome:
    """Tiles a second of both sides, and of reading alone."""
    count, rounds = (1, 1) if options.quick else (SLIDES, ROUNDS)
    cores = os.cpu_count() or 1
    with TemporaryDirectory() as work:
        folder = Path(work)
        first = folder / "slide-0.tif"
        tissue = _pieces(options)
        _write_slide(first, _tissue(tissue, options.seed))
        slides = [first]
        for number in range(1, count):
            slides.append(folder / f"slide-{number}.tif")
            slides[-1].symlink_to(first)
        results = {
            name: _compare(folder / name.replace(" ", "-"), slides, scale, rounds, cores)
            for name, scale in CASES.items()
        }
    native = results["as scanned"]
    return Outcome(
        columns=[
            *("tiles", "number", "plain/s", "privgen/s", "ratio", "lowest", "highest"),
            *("bare/s", "share", f"bare/s, {cores} threads", "share"),
        ],
        rows=[result.row(name) for name, result in results.items()],
        figures={
            "side_px": SIDE,
            "slides": count,
            "rounds": rounds,
            "cores": cores,
            "tissue": "real" if options.data else "procedural",
            "cases": {name: result.figures() for name, result in results.items()},
        },
        figure=f"{native.speed['median']:.2f}x as scanned, "
        f"{results['resampled'].speed['median']:.2f}x resampled, pixels "
        + ("the same" if all(result.same for result in results.values()) else "DIFFERENT"),
        target=f">= {TARGET:g}x as scanned on 2 cores, the same pixels",
        passed=native.speed["median"] >= TARGET and all(r.same for r in results.values()),
        notes=[
            f"{name}: largest difference {r.inside} grey levels, {r.border} within {BORDER} px of "
            f"the edge; {r.again:.1f} of {r.tiles / r.rate('ours'):.1f} s go by without a tile"
            for name, r in results.items()
        ],
    )


@dataclass(frozen=True, kw_only=True)
class _Result:
    """Of one case: seconds of each side by round, tiles, and the largest differences."""

    tiles: int
    seconds: dict[str, list[float]]
    inside: int
    border: int
    scale: int

    @property
    def speed(self) -> dict[str, float]:
        return Timing(ours=self.seconds["ours"], plain=self.seconds["plain"]).summary()

    @property
    def same(self) -> bool:
        return max(self.inside, self.border) == 0 if self.scale == 1 else self.inside <= CLOSE

    @property
    def again(self) -> float:
        """Seconds of a run that finds everything done: start, manifest and summary."""
        return statistics.median(self.seconds["again"])

    def rate(self, name: str) -> float:
        return self.tiles / statistics.median(self.seconds[name])

    def share(self, name: str) -> float:
        """Rate of ours as a share of another's."""
        return self.rate("ours") / self.rate(name)

    def row(self, name: str) -> list[str]:
        speed = self.speed
        return [
            name,
            str(self.tiles),
            f"{self.rate('plain'):.0f}",
            f"{self.rate('ours'):.0f}",
            *(f"{speed[key]:.2f}" for key in ("median", "low", "high")),
            *(
                text
                for bare in ("bare", "bare_threads")
                for text in (f"{self.rate(bare):.0f}", f"{self.share(bare):.0%}")
            ),
        ]

    def figures(self) -> dict[str, Any]:
        return {
            "tiles": self.tiles,
            "speed_up": self.speed,
            "rates": {name: self.rate(name) for name in self.seconds if name != "again"},
            "seconds_without_a_tile": self.again,
            "share_of_bare": self.share("bare"),
            "share_of_bare_threads": self.share("bare_threads"),
            "largest_difference": {"inside": self.inside, "border": self.border},
        }


def _compare(folder: Path, slides: list[Path], scale: int, rounds: int, cores: int) -> _Result:
    """Time all sides in turn, after one unmeasured call of ours, and compare the last tiles."""
    folder.mkdir()
    ours, plain = folder / "ours", folder / "plain"
    step = TILE * scale
    places = [(x, y) for y in range(0, SIDE, step) for x in range(0, SIDE, step)]
    sides: dict[str, Callable[[], object]] = {
        "ours": lambda: tile_slides(slides, ours, size=TILE, mpp=MPP * scale),
        "again": lambda: tile_slides(slides, ours, size=TILE, mpp=MPP * scale),
        "plain": lambda: _plain(slides, plain, places, scale),
        "bare": lambda: _bare(slides, places, step, 1),
        "bare_threads": lambda: _bare(slides, places, step, cores),
    }
    seconds: dict[str, list[float]] = {name: [] for name in sides}
    sides["ours"]()  # loads what is loaded once, and the slides into the system's cache
    for _ in range(rounds):
        for made in (ours, ours.with_name("ours-private"), plain):
            shutil.rmtree(made, ignore_errors=True)
        for name, work in sides.items():
            start = time.perf_counter()
            work()
            seconds[name].append(time.perf_counter() - start)
    tiles = len(places) * len(slides)
    inside, border = _differences(ours, plain, tiles, places, scale)
    return _Result(tiles=tiles, seconds=seconds, inside=inside, border=border, scale=scale)


def _plain(slides: list[Path], out: Path, places: list[tuple[int, int]], scale: int) -> None:
    """One tile after the other."""
    for path in slides:
        folder = out / path.stem
        folder.mkdir(parents=True)
        with openslide.OpenSlide(path) as slide:
            for x, y in places:
                tile = slide.read_region((x, y), 0, (TILE * scale, TILE * scale)).convert("RGB")
                if scale > 1:
                    tile = tile.resize((TILE, TILE), Image.Resampling.BICUBIC)
                tile.save(folder / f"{x // scale}_{y // scale}.png")


def _bare(slides: list[Path], places: list[tuple[int, int]], side: int, threads: int) -> None:
    """The same reads, and nothing else."""
    for path in slides:
        with openslide.OpenSlide(path) as slide, ThreadPoolExecutor(threads) as pool:

            def read(part: list[tuple[int, int]], slide: openslide.OpenSlide = slide) -> None:
                for place in part:
                    slide.read_region(place, 0, (side, side))

            size = -(-len(places) // threads)
            parts = [places[first : first + size] for first in range(0, len(places), size)]
            list(pool.map(read, parts))


def _differences(
    ours: Path, plain: Path, tiles: int, places: list[tuple[int, int]], scale: int
) -> tuple[int, int]:
    """Largest difference away from the edges and at them; all slides show the same tissue.

    Raises:
      RuntimeError: the library did not keep every tile.
    """
    records = read_manifest(ours / "manifest.csv").records
    if len(records) != tiles:
        raise RuntimeError(f"the sides cut other tiles: {len(records)} and {tiles}")
    inside = border = 0
    reference = next(path for path in sorted(plain.iterdir()))
    for record in records:
        mine = np.asarray(Image.open(ours / record.path)).astype(np.int16)
        theirs = np.asarray(Image.open(reference / f"{record.x}_{record.y}.png"))
        apart = np.abs(mine - theirs)
        kept = apart[BORDER:-BORDER, BORDER:-BORDER]
        inside = max(inside, int(kept.max()))
        border = max(border, int(apart.max()))
    return inside, border


def _pieces(options: Options) -> list[Pixels]:
    """Squares of tissue, `TILE` px per side."""
    if options.data is None:
        return [
            render_tile(label, patient=patient, index=0, seed=options.seed, side=TILE)
            for patient in range(6)
            for label in ("TUM", "STR", "NORM", "LYM")
        ]
    path = next(iter(sorted(options.data.rglob("TCGA-*.svs"))), None)
    if path is None:
        raise FileNotFoundError(f"no TCGA-*.svs below {options.data}")
    with closing(Slide(path, mpp=MPP)) as slide:
        return list(_tissue_of(slide))


def _tissue_of(slide: Slide) -> Iterator[Pixels]:
    for y in range(0, slide.height - TILE, TILE):
        for x in range(0, slide.width - TILE, TILE):
            square = slide.read(0, x, y, TILE, TILE)
            scores = quality(square)
            if scores.tissue > 0.9 and scores.pen < 0.05:
                yield square


def _tissue(pieces: list[Pixels], seed: int) -> Pixels:
    """Pieces side by side, each turned at random, shape (SIDE, SIDE, 3)."""
    rng = np.random.default_rng(seed)
    whole = np.empty((SIDE, SIDE, 3), dtype=np.uint8)
    for y in range(0, SIDE, TILE):
        for x in range(0, SIDE, TILE):
            piece = np.rot90(pieces[int(rng.integers(len(pieces)))], int(rng.integers(4)))
            whole[y : y + TILE, x : x + TILE] = piece
    return whole


def _write_slide(path: Path, pixels: Pixels) -> None:
    """A pyramidal TIFF of JPEG tiles at quality 80 with halved colour resolution."""
    with tifffile.TiffWriter(path) as writer:
        for level in LEVELS:
            size = (pixels.shape[1] // level, pixels.shape[0] // level)
            per_cm = 1e4 / (MPP * level)
            writer.write(
                pixels if level == 1 else cv2.resize(pixels, size, interpolation=cv2.INTER_AREA),
                tile=(TILE, TILE),
                photometric="rgb",
                compression="jpeg",
                compressionargs={"level": 80, "outcolorspace": "ycbcr"},
                subsampling=(2, 2),
                resolution=(per_cm, per_cm),
                resolutionunit="CENTIMETER",
                subfiletype=int(level > 1),
                metadata=None,
                maxworkers=1,
            )

"""What is done for every tile or every file, against the plain way to do it.

Three kinds of rows. Where there is a plain way to the same result, both sides run in turns and
must agree; the figure is how many times as fast ours is. Where there is none, the same is done with
less, and the figure is how many times as long the larger input takes, which bounds how cost grows.
The last row holds the time that `privgen data check` announces against the time it takes.

OpenCV has one thread on both sides, as in the processes that call it.
"""

import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Literal

import cv2
import numpy as np
import shapely
from harness import Options, Outcome, Timing, interleave
from matplotlib.colors import rgb_to_hsv
from numpy.typing import NDArray
from scipy import ndimage

from privgen.benefit.trials.augmentation import STAIN_STRENGTH, augment
from privgen.benefit.trials.filtering import choose_synthetic
from privgen.data import tissue
from privgen.data.overlap import find_overlap
from privgen.data.phantom import make_phantom, render_tile
from privgen.data.stain import HED_FROM_RGB, RGB_FROM_HED
from privgen.data.tileset import TileRecord, TileSet
from privgen.datacheck.check import expected_seconds
from privgen.datacheck.description import describe_set
from privgen.datacheck.duplicates import look_at, near_duplicates
from privgen.documents import DocumentError, parse_json, parse_toml
from privgen.encoders.loading import load_encoder
from privgen.tiling.pictures import draw_kept
from privgen.tiling.regions import Regions

PAIRS = 9
FORECASTS = 3
TENFOLD = 25.0
"""Times as long that ten times as much may take: caches make it more than 10, squares 100."""

OFF = 1.5
"""Times by which the announced time may be too long or too short."""

Pixels = NDArray[np.uint8]
Kind = Literal["speed-up", "growth", "forecast"]


@dataclass(frozen=True, kw_only=True)
class Path:
    """One operation, and what it is held against.

    Attributes:
      name: what is done.
      against: the plain way, or the smaller input.
      kind: "speed-up" of `ours` over `other`, at least `target`; or "growth", how many times as
        long `ours` takes as `other` does with less, at most `target`.
      ours, other: both sides.
    """

    name: str
    against: str
    kind: Kind
    target: float
    ours: Callable[[], object]
    other: Callable[[], object]


@dataclass(frozen=True, kw_only=True)
class Measured:
    """Figures of one row: median, lowest and highest ratio of its pairs, and whether it will do."""

    name: str
    against: str
    kind: Kind
    target: float
    ratios: list[float]
    seconds: float

    @property
    def median(self) -> float:
        return statistics.median(self.ratios)

    @property
    def passed(self) -> bool:
        if self.kind == "speed-up":
            return self.median >= self.target
        if self.kind == "growth":
            return self.median <= self.target
        return 1 / self.target <= self.median <= self.target

    @property
    def aim(self) -> str:
        sign = {"speed-up": ">= ", "growth": "<= ", "forecast": f"{1 / self.target:.2f} to "}
        return f"{sign[self.kind]}{self.target:g}"

    def row(self) -> list[str]:
        return [
            self.name,
            self.against,
            self.kind,
            f"{self.seconds * 1e3:.3g}",
            *(f"{ratio:.2f}" for ratio in (self.median, min(self.ratios), max(self.ratios))),
            self.aim,
            "" if self.passed else "SHORT",
        ]

    def figures(self) -> dict[str, Any]:
        return {
            "kind": self.kind,
            "median": self.median,
            "low": min(self.ratios),
            "high": max(self.ratios),
            "pairs": len(self.ratios),
            "target": self.target,
            "passed": self.passed,
        }


def run(options: Options) -> Outcome:
    """Every row; passed where all reach their targets."""
    pairs, forecasts = (3, 1) if options.quick else (PAIRS, FORECASTS)
    threads = cv2.getNumThreads()
    cv2.setNumThreads(1)
    try:
        found = [_measured(path, pairs) for path in _paths(options.seed)]
        found.append(_forecast(options.seed, forecasts))
    finally:
        cv2.setNumThreads(threads)
    met = sum(row.passed for row in found)
    return Outcome(
        columns=[
            *("operation", "against", "figure", "ours, ms", "median", "lowest", "highest"),
            *("target", ""),
        ],
        rows=[row.row() for row in found],
        figures={"rows": {row.name: row.figures() for row in found}},
        figure=f"{met} of {len(found)} rows reach their targets",
        target="all",
        passed=met == len(found),
    )


def _measured(path: Path, pairs: int) -> Measured:
    timing = interleave(path.ours, path.other, pairs=pairs)
    ratios = timing.ratios
    if path.kind == "growth":
        ratios = Timing(ours=timing.plain, plain=timing.ours).ratios
    return Measured(
        name=path.name,
        against=path.against,
        kind=path.kind,
        target=path.target,
        ratios=ratios,
        seconds=statistics.median(timing.ours),
    )


def _paths(seed: int) -> Iterator[Path]:
    rng = np.random.default_rng(seed)
    yield _regions(rng)
    yield _scores(seed)
    yield _augmentation(rng)
    yield _filter(rng)
    yield _drawing(rng)
    yield _overlap()
    yield _classes(rng)
    yield from _documents()


def _require_same(name: str, ours: object, other: object, apart: float) -> None:
    """Stop where the two sides of a row have other results.

    Raises:
      RuntimeError: they do.
    """
    if not np.allclose(np.asarray(ours, float), np.asarray(other, float), rtol=0, atol=apart):
        raise RuntimeError(f"{name}: the sides have other results")


def _regions(rng: np.random.Generator) -> Path:
    """Shares of classes in tiles, of a slide with thousands of annotations."""
    cells = [shapely.Point(*rng.uniform(0, 20_000, 2)).buffer(15) for _ in range(4000)]
    regions = Regions.of({"cell": cells})
    apart = np.array(shapely.get_parts(shapely.union_all(cells)))
    places = [(x, y) for x in range(0, 20_000, 2000) for y in range(0, 20_000, 2000)]

    def ours() -> list[float]:
        return [regions.share(x, y, 256, 256).get("cell", 0.0) for x, y in places]

    def plain() -> list[float]:
        boxes = [shapely.box(x, y, x + 256, y + 256) for x, y in places]
        return [float(shapely.area(shapely.intersection(apart, b)).sum()) / 256**2 for b in boxes]

    _require_same("classes of tiles", ours(), plain(), 1e-9)
    return Path(
        name="classes of tiles among 4,000 annotations",
        against="every annotation cut with every tile",
        kind="speed-up",
        target=20,
        ours=ours,
        other=plain,
    )


def _scores(seed: int) -> Path:
    """Tissue, white, sharpness, pen and fold of tiles."""
    tiles = [
        render_tile(label, patient=0, index=0, seed=seed, side=256)
        for label in ("TUM", "STR", "NORM", "ADI")
    ]

    def scores(tile: Pixels) -> list[float]:
        found = tissue.quality(tile)
        return [found.tissue, found.white, found.sharpness, found.pen, found.fold]

    def ours() -> list[list[float]]:
        return [scores(tile) for tile in tiles]

    def other() -> list[list[float]]:
        return [_plain_scores(tile) for tile in tiles]

    # HSV of whole numbers and of real numbers differ by a rounding.
    scale = [1, 1, 0.1, 1, 1]
    _require_same("scores", np.array(ours()) * scale, np.array(other()) * scale, 0.03)
    return Path(
        name="scores of a tile",
        against="the same rules in numpy and scipy",
        kind="speed-up",
        target=5,
        ours=ours,
        other=other,
    )


def _plain_scores(tile: Pixels) -> list[float]:
    """The rules of `tissue.quality`, as one writes them first."""
    hsv = rgb_to_hsv(tile / 255) * [180, 255, 255]
    saturation, value = hsv[..., 1], hsv[..., 2]
    black_value, black_chroma = tissue.INK_BLACK
    ink = (value <= black_value) & (saturation * value / 255 <= black_chroma)
    for lowest, highest in tissue.INKS.values():
        ink |= ((hsv >= lowest) & (hsv <= highest)).all(axis=2)
    ink = ndimage.binary_opening(ink, np.ones((3, 3)))
    height, width = tile.shape[0] // 8, tile.shape[1] // 8
    cells = tile[: height * 8, : width * 8].reshape(height, 8, width, 8, 3).mean(axis=(1, 3))
    dark = cells.mean(axis=2) <= tissue.FOLD[1]
    grey = np.rint(tile @ [0.299, 0.587, 0.114])
    return [
        float(((saturation >= tissue.FLOOR) & (value >= tissue.BLACK) & ~ink).mean()),
        float((tile >= tissue.NEAR_WHITE).all(axis=2).mean()),
        float(ndimage.laplace(grey, mode="mirror").var()),
        float(ink.mean()),
        float((dark & (rgb_to_hsv(cells / 255)[..., 1] * 255 >= tissue.FOLD[0])).mean()),
    ]


def _augmentation(rng: np.random.Generator) -> Path:
    """A batch as a classifier is shown it."""
    stains = rng.uniform([0.3, 0.3, 0.0], [0.8, 0.7, 0.05], (32, 64, 64, 3))
    tiles = np.clip(np.rint(np.exp(-stains @ RGB_FROM_HED) * 256 - 1), 0, 255).astype(np.uint8)

    def ours() -> Pixels:
        return augment(tiles, np.random.default_rng(0))

    def plain() -> Pixels:
        return _plain_augment(tiles, np.random.default_rng(0))

    _require_same("augmentation", ours(), plain(), 1)
    return Path(
        name="augmentation of 32 tiles of 64 px",
        against="the same in numpy, the batch at once",
        kind="speed-up",
        target=3,
        ours=ours,
        other=plain,
    )


def _plain_augment(tiles: Pixels, rng: np.random.Generator) -> Pixels:
    """`augment` with the same draws."""
    turned = []
    for tile, drawn in zip(tiles, rng.integers(8, size=len(tiles)), strict=True):
        version = tile[::-1] if drawn & 1 else tile
        version = version[:, ::-1] if drawn & 2 else version
        turned.append(version.transpose(1, 0, 2) if drawn & 4 else version)
    size = (len(tiles), 1, 1, 3)
    scale = 1 + rng.uniform(-STAIN_STRENGTH, STAIN_STRENGTH, size=size)
    shift = rng.uniform(-STAIN_STRENGTH, STAIN_STRENGTH, size=size) / 4
    stains = -np.log((np.stack(turned) + 1.0) / 256) @ HED_FROM_RGB
    light = np.exp(-(stains * scale + shift) @ RGB_FROM_HED) * 256
    return np.clip(np.rint(light - 1), 0, 255).astype(np.uint8)


def _filter(rng: np.random.Generator) -> Path:
    """Which synthetic tiles are worth training on, by embeddings of 1,280 dimensions."""
    dims, classes, patients = 1280, 3, 12
    places = rng.normal(0, 1.2, (classes, dims))
    beside = rng.normal(0, 0.3, (patients, dims))

    def law(count: int) -> tuple[NDArray[np.float64], NDArray[np.intp], NDArray[np.intp]]:
        labels, owners = np.arange(count) % classes, np.arange(count) // classes % patients
        rows = places[labels] + beside[owners] + rng.normal(0, 1, (count, dims))
        return rows, labels, owners

    (real, labels, owners), (made, asked, _) = law(600), law(8000)

    def kept(count: int) -> object:
        return choose_synthetic(
            train_embeddings=real,
            train_labels=labels,
            train_groups=owners.astype(str),
            synthetic_embeddings=made[:count],
            synthetic_labels=asked[:count],
        )

    return Path(
        name="filter of 8,000 tiles of 1,280 dimensions",
        against="2,000 tiles",
        kind="growth",
        target=6,
        ours=lambda: kept(8000),
        other=lambda: kept(2000),
    )


def _drawing(rng: np.random.Generator) -> Path:
    """Kept tiles on the overview of a slide."""
    overview = np.full((1000, 1000, 3), 200, dtype=np.uint8)
    corners = rng.uniform(0, 900, (20_000, 2))
    boxes = np.concatenate([corners, corners + 12], axis=1)

    def draw(count: int) -> object:
        return draw_kept(overview, boxes[:count], ["a", "b"] * (count // 2), ["a", "b"])

    return Path(
        name="20,000 tiles drawn on an overview",
        against="2,000 tiles",
        kind="growth",
        target=10,
        ours=lambda: draw(20_000),
        other=lambda: draw(2000),
    )


def _overlap() -> Path:
    """Pairs of tiles that share pixels."""
    many, few = _grid(317), _grid(100)
    return Path(
        name="pairs among 100,489 overlapping tiles",
        against="10,000 tiles",
        kind="growth",
        target=TENFOLD,
        ours=lambda: find_overlap(many),
        other=lambda: find_overlap(few),
    )


def _grid(side: int) -> list[TileRecord]:
    return [
        TileRecord(
            path=f"{x}-{y}",
            label="x",
            slide="s",
            x=x * 156,
            y=y * 156,
            width=256,
            height=256,
            mpp=0.5,
        )
        for y in range(side)
        for x in range(side)
    ]


def _classes(rng: np.random.Generator) -> Path:
    """A set described: 6,000 tiles, of very many classes or of two."""
    pixels = rng.integers(0, 256, (6000, 4, 4, 3), dtype=np.uint8)

    def tiles(classes: int) -> TileSet:
        return TileSet.from_arrays(
            pixels,
            [f"class_{row % classes:04d}" for row in range(6000)],
            patients=[f"p{row % 60}" for row in range(6000)],
        )

    many, two = tiles(600), tiles(2)
    return Path(
        name="description of 6,000 tiles of 600 classes",
        against="2 classes",
        kind="growth",
        target=2,
        ours=lambda: describe_set(many),
        other=lambda: describe_set(two),
    )


def _documents() -> Iterator[Path]:
    """Texts that once held up a parser for hours, refused."""
    texts: dict[str, tuple[Callable[[str], object], Callable[[int], str]]] = {
        "a key of 20,000 parts": (parse_toml, lambda count: "a." * count + "=1"),
        "a TOML text of 20,000 escapes": (parse_toml, lambda count: 'a="""\n' + "\\" * count),
        "a JSON text of 20,000 escapes": (parse_json, lambda count: '"' + '\\"' * count),
    }
    for name, (parse, made) in texts.items():

        def refused(
            count: int,
            parse: Callable[[str], object] = parse,
            made: Callable[[int], str] = made,
        ) -> None:
            text = made(count)
            for _ in range(5):
                try:
                    parse(text)
                except DocumentError:
                    continue
                raise RuntimeError("a text that is no document was taken for one")

        yield Path(
            name=f"{name}, refused",
            against="2,000",
            kind="growth",
            target=TENFOLD,
            ours=lambda refused=refused: refused(20_000),
            other=lambda refused=refused: refused(2000),
        )


def _forecast(seed: int, times: int) -> Measured:
    """The time `privgen data check` announces, as a multiple of what its search then takes."""
    tiles = make_phantom(patients=8, tiles_per_patient=20, side=64, seed=seed)
    encoder = load_encoder("effnet_lite0")
    ratios, taken = [], []
    for _ in range(times):
        expected = expected_seconds(tiles, encoder)
        start = time.perf_counter()
        near_duplicates(look_at(tiles, encoder=encoder))
        taken.append(time.perf_counter() - start)
        ratios.append(expected / taken[-1])
    return Measured(
        name="time announced for a search among 160 tiles",
        against="the time it takes",
        kind="forecast",
        target=OFF,
        ratios=ratios,
        seconds=statistics.median(taken),
    )

"""Doors of slides, of their headers, and of what comes with them: regions and coordinates.

Slides are cut by `privgen.tiling.lanes`, as the product cuts them: in a process that is ended when
it hangs or asks for too much memory, which costs the slide it had and no other. Here it may hang
for `SILENT_SECONDS` and have `MOST_BYTES`, less than in the product.
"""

import io
import json
import shutil
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from unittest import mock

import numpy as np

from benchmarks.fuzz import shape_pictures, shape_tables, shape_texts
from benchmarks.fuzz.door import MOST_BYTES, Door, Found
from privgen.data.slides import Slide
from privgen.tiling import lanes
from privgen.tiling.coordinates import read_coordinates
from privgen.tiling.given import gather
from privgen.tiling.job import THUMBNAILS, Job
from privgen.tiling.labels import read_regions
from privgen.tiling.settings import TilingSettings

SILENT_SECONDS = 15.0
_SIDE = 64

_APERIO = (
    "Aperio Image Library v11.2.1 \r\n{0}x{0} [0,0 {0}x{0}] (64x64) JPEG/RGB Q=70"
    "|AppMag = 20|MPP = 0.5000|Left = 1.0|Top = 2.0"
)


def _pixels(side: int) -> np.ndarray:
    """Something like tissue: pink with structure, so that tiles are kept."""
    wave = np.sin(np.arange(side) / 3)[:, None] * np.cos(np.arange(side) / 5)[None, :]
    noise = np.random.default_rng(0).normal(0, 12, (side, side, 3))
    return np.clip(np.array([190, 110, 160]) + 40 * wave[..., None] + noise, 0, 255).astype(
        np.uint8
    )


def _tiff(**options: object) -> bytes:
    import tifffile

    made = io.BytesIO()
    with tifffile.TiffWriter(made) as writer:
        for level in (1, 2):
            writer.write(
                np.ascontiguousarray(_pixels(4 * _SIDE)[::level, ::level]),
                tile=(_SIDE, _SIDE),
                photometric="rgb",
                resolution=(20_000 / level, 20_000 / level),
                resolutionunit="CENTIMETER",
                metadata=None,
                **{"subfiletype": int(level > 1), **options},
            )
    return made.getvalue()


def _plain(folder: Path) -> list[bytes]:
    return [_tiff(), _tiff(compression="deflate"), _tiff(compression="jpeg")]


def _aperio(folder: Path) -> list[bytes]:
    text = _APERIO.format(4 * _SIDE)
    return [_tiff(compression=kind, subfiletype=0, description=text) for kind in ("jpeg", "lzw")]


def cut(
    inputs: Sequence[tuple[int, bytes]], folder: Path, name: str
) -> Iterator[tuple[int, Found]]:
    """Cut slides as the product does, one process after another.

    Args:
      inputs: number and bytes of each.
      folder: to work in.
      name: of the file.

    Yields:
      The number of each and what came of it, in the order in which they end.
    """
    settings = TilingSettings(size=_SIDE, stride=_SIDE, min_tissue=0.0)
    jobs = []
    for number, data in inputs:
        path = folder / "slides" / str(number) / name
        path.parent.mkdir(parents=True)
        path.write_bytes(data)
        jobs.append(
            Job(
                path=path,
                slide=f"s-{number:016x}",
                patient=None,
                label="A",
                settings=settings,
                out=folder / "out",
                private=folder / "private",
            )
        )
    (folder / "out").mkdir()
    (folder / "private" / THUMBNAILS).mkdir(parents=True)
    try:
        with mock.patch.object(lanes, "lane_bytes", return_value=MOST_BYTES):
            ended = lanes.run_here(jobs, 1, lambda done: None, silent_seconds=SILENT_SECONDS)
            for outcome in ended:
                number = int(outcome.slide[2:], 16)
                yield number, _found(outcome.exit_code, outcome.rule)
    finally:
        for place in ("slides", "out", "private"):
            shutil.rmtree(folder / place, ignore_errors=True)


def _found(code: int, rule: str | None) -> Found:
    said = rule or ""
    if code not in (0, 2, 3) or (code == 0) != (rule is None):
        return Found(opened=False, kind="exit code", said=f"{code}: {said}")
    if "defect in privgen" in said:
        return Found(opened=False, kind="foreign", said=said)
    if not said.isprintable() or len(said) > 1000:
        return Found(opened=False, kind="message", said=said)
    return Found(opened=code == 0, said=said)


def guarded(found: Found) -> bool:
    """Whether a slide ended its process, or had it ended."""
    return found.said.startswith(("took its process down", "was given up", "asked for more memory"))


def _elements(uid: bytes) -> list[bytes]:
    element = shape_pictures.element
    meta = element((2, 0x10), b"UI", b"1.2.840.10008.1.2.1\0")
    inner = element((8, 0x1150), b"UI", b"1.2.3\0")
    item = b"\xfe\xff\x00\xe0" + len(inner).to_bytes(4, "little") + inner
    opened = b"\xfe\xff\x00\xe0" + b"\xff" * 4 + inner + b"\xfe\xff\x0d\xe0" + bytes(4)
    return [
        meta,
        element((8, 0x60), b"CS", b"SM"),
        element((8, 0x1140), b"SQ", item),
        element((8, 0x2112), b"SQ", opened + b"\xfe\xff\xdd\xe0" + bytes(4), 2**32 - 1),
        element((0x20, 0xD), b"UI", b"1.2.3.4\0"),
        element((0x20, 0xE), b"UI", uid),
        element((0x28, 0x10), b"US", b"\x40\0"),
    ]


def _headers(folder: Path) -> list[bytes]:
    explicit = bytes(128) + b"DICM" + b"".join(_elements(b"1.2.3.5\0"))
    implicit = (
        bytes(128) + b"DICM" + shape_pictures.element((2, 0x10), b"UI", b"1.2.840.10008.1.2\0")
    )
    for tag, value in (((8, 0x60), b"SM"), ((0x20, 0xE), b"1.2.3.6\0")):
        implicit += b"".join(number.to_bytes(2, "little") for number in tag)
        implicit += len(value).to_bytes(4, "little") + value
    return [explicit, implicit]


def _gather(path: Path) -> None:
    gather([path])
    for slide in gather([path.parent]).slides:
        assert slide.series or slide.path == path.parent or slide.path.name == path.name
        assert all(stem.isprintable() for stem in slide.stems)


def _regions(folder: Path) -> list[bytes]:
    def square(x: int, side: int, **properties: object) -> dict[str, object]:
        ring = [[x, 0], [x + side, 0], [x + side, side], [x, side], [x, 0]]
        kind = {"type": "Polygon", "coordinates": [ring]}
        return {
            "type": "Feature",
            "id": "PathAnnotationObject",
            "geometry": kind,
            "properties": properties,
        }

    tumor = {"name": "Tumor", "colorRGB": -3670016}
    features = [
        square(0, 128, objectType="annotation", classification=tumor, name="secret"),
        square(128, 64, objectType="annotation", classification={"names": ["Stroma", "a"]}),
        square(0, 16, classification="Ignore*", isLocked=False),
        square(9, 9, objectType="detection", classification=tumor),
        {"type": "Feature", "geometry": {"type": "Point", "coordinates": [1, 2]}, "properties": {}},
    ]
    several = {"type": "MultiPolygon", "coordinates": [features[0]["geometry"]["coordinates"]]}  # type: ignore[index]
    both = {
        "type": "GeometryCollection",
        "geometries": [several],
        "plane": {"z": 0, "t": 0, "c": -1},
    }
    collected = {
        "type": "Feature",
        "geometry": both,
        "properties": {"classification": '{"name": "T"}'},
    }
    whole = {"type": "FeatureCollection", "features": features}
    return [json.dumps(one).encode() for one in (whole, [features[0], collected], collected)]


def _coordinates(folder: Path) -> list[bytes]:
    places = np.array([[64 * (n % 3), 64 * (n // 3)] for n in range(6)])
    trident = {"patch_size": 64, "patch_size_level0": 64, "level0_width": 256, "level0_height": 256}
    clam = {"patch_size": 64, "patch_level": 0, "name": "x"}
    return [
        shape_tables.h5_bytes(places, trident),
        shape_tables.h5_bytes(places, clam, chunks=(3, 2), compression="gzip"),
    ]


@cache
def _slide(folder: Path) -> Slide:
    path = folder / "one.tiff"
    path.write_bytes(_tiff())
    return Slide(path)


def _listed(path: Path) -> None:
    read_coordinates(path, _slide(path.parent))


def doors() -> Iterable[Door]:
    """Slides, headers of DICOM, regions, coordinates."""
    slide = Door(
        name="slide",
        file="a.tiff",
        seeds=_plain,
        open=lambda path: gather([path]),
        shapes=(shape_pictures.tiff,),
        codes=frozenset({0, 2, 3}),
        guarded=True,
    )
    yield slide
    yield replace(slide, name="svs", file="a.svs", seeds=_aperio)
    yield Door(
        name="dicom header",
        file="series/a.dcm",
        seeds=_headers,
        open=_gather,
        shapes=(shape_pictures.dicom,),
    )
    yield Door(
        name="geojson",
        file="a.geojson",
        seeds=_regions,
        open=read_regions,
        shapes=(shape_texts.json_document,),
    )
    yield Door(
        name="coordinates",
        file="a.h5",
        seeds=_coordinates,
        open=_listed,
        shapes=(shape_tables.h5_file,),
    )

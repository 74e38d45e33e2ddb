"""Doors of archives and tables of tiles."""

import io
import json
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from benchmarks.fuzz import shape_archives, shape_tables, shape_texts
from benchmarks.fuzz.door import Door
from benchmarks.fuzz.pictures import coded, companions, sound, tile
from privgen.data import images
from privgen.data.layouts import open_tiles
from privgen.tiling.labels import open_labels
from privgen.tiling.names import read_slide_table

_HASH = images.pixel_digest(tile(ord("a")))

_CSV = (
    "path,label\na.png,A\nb.png,B\nc.png,B\n",
    "path,label,patient,slide,x,y,mpp,xy_mpp,role\na.png,A,p1,s1,0,0,.5,.25,train\n"
    "b.png,B,p2,s2,16,0,.5,.25,holdout\nc.png,B,p2,s2,64,0,.5,.25,holdout\n",
    f'path;label;sha256;note\na.png;A;{_HASH};"x;y"\nb.png;B;;\nc.png;B;;\n',
)

_SLIDES = (
    "slide,{0}\na.svs,A\nb.tif,B\n",
    'slide,{0},note\nTCGA-AA-3502-01Z-00-DX1,A,"x, y"\nc d,B,\n',
    "slide;{0}\na;1.0\nb;2.0\n",
)


def _open_beside(path: Path) -> None:
    sound(open_tiles(path.parent, on_bad_tile="skip"))


def _open(path: Path) -> None:
    sound(open_tiles(path, flat=True, on_bad_tile="skip"))


def _manifests(folder: Path) -> list[bytes]:
    return [text.encode() for text in _CSV]


def _parquet(folder: Path) -> list[bytes]:
    known = {"path": ["a.png", "b.png", "c.png"], "label": ["A", "B", "B"]}
    more = {"patient": ["p", "q", "q"], "x": [0, 16, 64], "y": [0, 0, 0], "mpp": [0.5] * 3}
    more |= {"note": ["x"] * 3, "xy_mpp": [0.25] * 3}
    return [
        shape_tables.parquet_bytes(known),
        shape_tables.parquet_bytes(known | more, compression="zstd"),
    ]


def _picture_tables(folder: Path) -> list[bytes]:
    pictures = [{"bytes": coded(n, "PNG" if n % 2 else "JPEG"), "path": f"{n}"} for n in range(4)]
    said = {"info": {"features": {"label": {"names": ["A", "B"], "_type": "ClassLabel"}}}}
    return [
        shape_tables.parquet_bytes({"image": pictures, "label": ["A", "B", "A", "B"]}),
        shape_tables.parquet_bytes(
            {"image": pictures, "label": [0, 1, 0, 1], "patient": ["p", "q", "p", "q"]},
            {b"huggingface": json.dumps(said).encode()},
            row_group_size=2,
        ),
    ]


def _npy(array: np.ndarray) -> bytes:
    made = io.BytesIO()
    np.save(made, array)
    return made.getvalue()


def _npz(folder: Path) -> list[bytes]:
    pixels = np.stack([tile(n, 8) for n in range(4)])
    own = [("images.npy", _npy(pixels)), ("labels.npy", _npy(np.array(list("ABAB"))))]
    owned = [*own, ("patients.npy", _npy(np.array([1, 1, 2, 2]))), ("note.npy", _npy(np.zeros(3)))]
    roles = [
        (f"{role}_{what}.npy", _npy(pixels if what == "images" else np.array([[0], [1], [0], [1]])))
        for role in ("train", "val")
        for what in ("images", "labels")
    ]
    return [
        shape_archives.zipped(own, (0,)),
        shape_archives.zipped(owned, (8,)),
        shape_archives.zipped(roles, (8,)),
    ]


def _shards(folder: Path) -> list[bytes]:
    tiles = [shape_archives.member(f"{n}.png", coded(n, "PNG")) for n in range(3)]
    return [
        shape_archives.tarred(tiles),
        shape_archives.tarred([shape_archives.member("x/" + "n" * 150, b"x"), *tiles]),
    ]


def _list_shard(folder: Path) -> None:
    (folder / "manifest.csv").write_text(
        "path,label\ns/x.tar/0.png,A\ns/x.tar/1.png,B\ns/x.tar/2.png,B\n"
    )


def _open_listed(path: Path) -> None:
    sound(open_tiles(path.parent.parent, on_bad_tile="skip"))


def _samples(folder: Path) -> list[bytes]:
    said = [json.dumps({"label": "AB"[n % 2], "patient": f"p{n}"}).encode() for n in range(3)]
    classes = [
        one
        for n in range(3)
        for one in (
            shape_archives.member(f"{n}.png", coded(n, "PNG")),
            shape_archives.member(f"{n}.cls", b"%d" % (n % 2)),
        )
    ]
    described = [
        one
        for n in range(3)
        for one in (
            shape_archives.member(f"{n}.jpg", coded(n, "JPEG")),
            shape_archives.member(f"{n}.json", said[n]),
        )
    ]
    return [shape_archives.tarred(classes), shape_archives.tarred(described)]


def _slide_tables(column: str) -> list[bytes]:
    return [text.format(column).encode() for text in _SLIDES]


def doors() -> Iterable[Door]:
    """Manifests, tables of pictures, archives, shards, tables of slides."""
    csv = (shape_texts.table,)
    yield Door(
        name="manifest.csv",
        file="manifest.csv",
        seeds=_manifests,
        open=_open_beside,
        beside=companions,
        shapes=csv,
    )
    yield Door(
        name="manifest.parquet",
        file="manifest.parquet",
        seeds=_parquet,
        open=_open_beside,
        beside=companions,
        shapes=(shape_tables.parquet_table,),
    )
    yield Door(
        name="picture parquet",
        file="train-0.parquet",
        seeds=_picture_tables,
        open=_open,
        shapes=(shape_tables.parquet_table,),
    )
    yield Door(
        name="npz",
        file="tiles.npz",
        seeds=_npz,
        open=_open,
        shapes=(shape_archives.archive, shape_archives.arrays),
    )
    yield Door(
        name="tar shard",
        file="s/x.tar",
        seeds=_shards,
        open=_open_listed,
        beside=_list_shard,
        shapes=(shape_archives.shard,),
    )
    yield Door(
        name="webdataset", file="x.tar", seeds=_samples, open=_open, shapes=(shape_archives.shard,)
    )
    yield Door(
        name="patients",
        file="patients.csv",
        seeds=lambda folder: _slide_tables("patient"),
        open=lambda path: read_slide_table(path, "patient"),
        shapes=csv,
    )
    yield Door(
        name="labels",
        file="labels.csv",
        seeds=lambda folder: _slide_tables("label"),
        open=open_labels,
        shapes=csv,
    )

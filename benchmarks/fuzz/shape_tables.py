"""Changes of Parquet tables and of `.h5` files of coordinates, written anew by their libraries."""

import io
import random
from collections.abc import Mapping
from typing import Any

import numpy as np

from benchmarks.fuzz import shape_texts


def parquet_bytes(
    columns: Mapping[str, Any], metadata: dict[bytes, bytes] | None = None, **options: Any
) -> bytes:
    """A Parquet file."""
    import pyarrow
    from pyarrow import parquet

    table = pyarrow.table(list(columns.values()), names=list(columns))
    if metadata is not None:
        table = table.replace_schema_metadata(metadata)
    made = io.BytesIO()
    parquet.write_table(table, made, **options)
    return made.getvalue()


def parquet_table(draw: random.Random, data: bytes) -> bytes:
    """Another table: columns of other types, doubled, renamed, packed otherwise, with odd cells."""
    import pyarrow
    from pyarrow import parquet

    table = parquet.read_table(io.BytesIO(data)).slice(0, 1000)
    if table.num_columns > 50 or table.nbytes > 2**20:  # grown by changes before
        table = table.select(range(min(2, table.num_columns))).slice(0, 2)
    columns = {name: table.column(name).combine_chunks() for name in table.column_names}
    metadata = dict(table.schema.metadata or {})
    for _ in range(draw.choice((1, 1, 2))):
        name = draw.choice(list(columns))
        way = draw.randrange(7)
        if way <= 2:
            columns[name] = _column(draw, table.num_rows, columns[name])
        elif way == 3:
            other = draw.choice(
                ["x", "patient", "case", "image", "path", "sha256", "labell", "x" * 4000]
            )
            columns[other] = columns[name]
        elif way == 4:
            del columns[name]
            columns = columns or {"path": pyarrow.array(["a.png"] * table.num_rows)}
        elif way == 5:
            count = draw.choice((5, 400, 1001)) if columns[name].nbytes < 2**14 else 5
            columns |= {f"c{n}": columns[name] for n in range(count)}
        else:
            metadata[b"huggingface"] = _described(draw, metadata.get(b"huggingface"))
    options: dict[str, Any] = {
        "compression": draw.choice(("none", "snappy", "zstd", "gzip", "lz4", "brotli")),
        "use_dictionary": draw.random() < 0.5,
        "row_group_size": draw.choice((1, 2, 1000)),
        "data_page_version": draw.choice(("1.0", "2.0")),
        "write_statistics": draw.random() < 0.5,
    }
    return parquet_bytes(columns, metadata or None, **options)


def _column(draw: random.Random, rows: int, before: Any) -> Any:
    import pyarrow

    way = draw.randrange(14)
    if way == 0:
        return pyarrow.nulls(rows)
    if way == 1:
        kind = draw.choice((pyarrow.int64(), pyarrow.float64(), pyarrow.float16(), pyarrow.bool_()))
        return pyarrow.array([1] * rows).cast(kind)
    if way == 2:
        return pyarrow.array(
            [draw.choice((np.nan, np.inf, -np.inf, 1e308, 2.5)) for _ in range(rows)]
        )
    if way == 3:
        return pyarrow.array(
            [draw.randbytes(3) for _ in range(rows)],
            draw.choice((pyarrow.binary(), pyarrow.large_binary())),
        )
    if way == 4:
        return pyarrow.array([[1]] * rows)
    if way == 5:
        return pyarrow.array([{"bytes": b"x", "path": "a"}] * rows)
    if way == 6:
        return pyarrow.array([draw.choice((2**31 - 1, 0))] * rows, pyarrow.date32())
    if way == 7:
        return pyarrow.array([2**62] * rows, pyarrow.duration("ns"))
    if way == 8:
        return pyarrow.DictionaryArray.from_arrays(
            pyarrow.array([0] * rows, pyarrow.int32()),
            pyarrow.array(["x" * draw.choice((1, 131_073))]),
        )
    if way == 9:
        names = [one.replace("\ud800", "x") for one in shape_texts.names()]
        return pyarrow.array([draw.choice(names) for _ in range(rows)])
    if way == 10:
        return pyarrow.array([None if draw.random() < 0.5 else "A" for _ in range(rows)])
    if way == 11:
        return pyarrow.array(["x" * 200_000] * rows)
    if way == 12:
        return pyarrow.array([None] * rows, before.type)
    return pyarrow.array([b"12345678"] * rows, pyarrow.binary(8))


def _described(draw: random.Random, before: bytes | None) -> bytes:
    if before is not None and draw.random() < 0.7:
        return shape_texts.json_document(draw, before)
    return draw.choice(
        (b"", b"[" * 5000, b"\xff", b"{}", b'{"info": {"features": {"label": {"names": [1]}}}}')
    )


def h5_bytes(places: Any, attributes: Mapping[str, Any], **options: Any) -> bytes:
    """A file of coordinates."""
    import h5py

    made = io.BytesIO()
    with h5py.File(made, "w") as file:
        data = file.create_dataset("coords", data=places, **options)
        for name, one in attributes.items():
            data.attrs[name] = one
    return made.getvalue()


def h5_file(draw: random.Random, data: bytes) -> bytes:
    """Another file of coordinates: its data set of another shape, type or place, odd attributes."""
    import h5py

    made = io.BytesIO()
    with h5py.File(made, "w") as file:
        way = draw.randrange(12)
        places = np.array([[64 * n, 64 * (n % 3)] for n in range(6)])
        options: dict[str, Any] = {}
        if way == 0:
            places = draw.choice((places[:0], places[:, :1], places.reshape(-1), places[..., None]))
        elif way == 1:
            places = places.astype(
                draw.choice(("f2", "f4", "f8", "u1", "i8", "S4", "c8", "?", ">i4"))
            )
        elif way == 2:
            places = np.where(places == 0, draw.choice((-5, 2**31, 2**62, -(2**63))), places)
        elif way == 3:
            places = places + draw.choice((np.nan, np.inf, 0.5, 1e300))
        if way == 4:
            sides = (draw.choice((10**6, 4_000_001, 2**40, 2**62)), 2)
            chunks = draw.choice((True, (2**16, 2), (2**22, 2), (2**25, 2)))
            if sides[0] >= 2**20 and chunks is not True and chunks[0] > sides[0]:
                chunks = True
            file.create_dataset(
                "coords", sides, "i8", chunks=chunks, compression=draw.choice((None, "gzip"))
            )
        elif way == 5:
            file["coords"] = draw.choice(
                (h5py.SoftLink("/other"), h5py.ExternalLink("x.h5", "/coords"))
            )
        elif way == 6:
            file.create_group("coords")
        elif way == 7:
            layout = h5py.VirtualLayout((6, 2), "i8")
            layout[:] = h5py.VirtualSource("x.h5", "coords", (6, 2))
            file.create_virtual_dataset("coords", layout)
        elif way == 8:
            file.create_dataset("coords", (6, 2), "i8", external=[("/etc/passwd", 0, 96)])
        else:
            if way == 9:
                options = {"chunks": (2, 2), "compression": draw.choice(("gzip", "lzf"))}
                options |= {"shuffle": draw.random() < 0.5, "fletcher32": draw.random() < 0.5}
            file.create_dataset("coords", data=places, **options)
        if isinstance(file.get("coords", getlink=True), h5py.HardLink):
            for name in (
                "patch_size",
                "patch_size_level0",
                "patch_level",
                "level0_width",
                "level0_height",
            ):
                if draw.random() < 0.9:
                    file["coords"].attrs[name] = _attribute(draw, name)
    return made.getvalue()


def _attribute(draw: random.Random, name: str) -> Any:
    usual = {"patch_size": 64, "patch_size_level0": 64, "patch_level": 0}.get(name, 256)
    if draw.random() < 0.6:
        return usual
    odd = (
        0,
        -1,
        0.5,
        2**31,
        1e300,
        np.nan,
        np.inf,
        "64",
        b"\xff",
        np.array([64, 64]),
        np.array([64]),
    )
    return draw.choice(
        (*odd, np.zeros(0), np.zeros(8000), 2.0**20, np.array("x", dtype=object), True)
    )

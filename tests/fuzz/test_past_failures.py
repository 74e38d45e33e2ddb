"""Files that did harm once, each in its smallest form; all are refused in one line."""

import io
import json
import struct
import subprocess
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from benchmarks.fuzz import shape_archives, shape_tables
from benchmarks.fuzz.all_doors import DOORS
from benchmarks.fuzz.door import Inputs
from benchmarks.fuzz.pictures import coded
from privgen.data.public_sets import recognise
from privgen.data.tiff_header import read_directories
from privgen.data.tileset import TileRecord

Make = Callable[[list[bytes]], bytes]
"""The file, of the valid files of its door."""


def described(seed: bytes, **changes: object) -> bytes:
    """A generator file whose description is changed."""
    length = int.from_bytes(seed[:8], "little")
    header = json.loads(seed[8 : 8 + length])
    said = json.loads(header["__metadata__"]["privgen"])
    said["config"] |= changes
    header["__metadata__"]["privgen"] = json.dumps(said)
    text = json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + seed[8 + length :]


def renamed(seed: bytes) -> bytes:
    """A generator file with a tensor of a long name and no number in it."""
    length = int.from_bytes(seed[:8], "little")
    header = json.loads(seed[8 : 8 + length])
    name = next(key for key in header if key != "__metadata__")
    start, end = header[name]["data_offsets"]
    header["x" * 100_000] = header.pop(name)
    body = seed[8 + length :]
    body = body[:start] + struct.pack("<f", float("nan")) * ((end - start) // 4) + body[end:]
    text = json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + body


def pickled() -> bytes:
    """A bare pickle whose second value is a text that says that it has four gigabytes."""
    made = io.BytesIO()
    torch.save({"a": torch.ones(1)}, made, _use_new_zipfile_serialization=False)
    data = made.getvalue()
    at = data.index(b"protocol_version") - 5
    return data[: at + 1] + b"\xff\xff\xff\xfe" + data[at + 5 :]


def numbered(label: str) -> bytes:
    """A table of pictures whose classes have names, of which a number is none."""
    said = {"info": {"features": {"label": {"names": ["A", "B"]}}}}
    pictures = [{"bytes": SAMPLE, "path": "0.png"}] * 2
    return shape_tables.parquet_bytes(
        {"image": pictures, "label": ["0", label]}, {b"huggingface": json.dumps(said).encode()}
    )


ESCAPED = '"' + '\\"' * 300_000
SAMPLE = coded(0, "PNG")

CORPUS: dict[str, tuple[str, Make]] = {
    "a key of very many parts": ("configuration", lambda _: b"a." * (2**19 - 1) + b"=1"),
    "a policy of very many parts": ("policy", lambda _: b"[" + b"a." * 10**5 + b"a]"),
    "parts in quotes": ("configuration", lambda _: b"'#' . \"a\" . " * 40_000 + b"b=1"),
    "parts behind a text in threes": ("configuration", lambda _: b"x='''a'''\n" + b"a." * 10**5),
    "texts in threes that never end": ("policy", lambda _: b'"""\n\\' * 10**5),
    "a text of escapes that never ends": ("report", lambda _: ESCAPED.encode()),
    "such a text beside a picture": (
        "webdataset",
        lambda _: shape_archives.tarred(
            [
                shape_archives.member("0.png", SAMPLE),
                shape_archives.member("0.json", ESCAPED.encode()),
            ]
        ),
    ),
    "a family of very many letters": (
        "generator file",
        lambda seeds: described(seeds[0], family="x" * 100_000),
    ),
    "a tensor of a long name that is no number": (
        "generator file",
        lambda seeds: renamed(seeds[0]),
    ),
    "a number of a class of 5,000 digits": ("picture parquet", lambda _: numbered("9" * 5000)),
    "a pickle whose text says four gigabytes": ("weights", lambda _: pickled()),
}


@pytest.mark.usefixtures("hushed")
@pytest.mark.parametrize("name", CORPUS)
def test_what_did_harm_once_is_refused(name: str, tmp_path: Path) -> None:
    door, make = CORPUS[name]
    inputs = Inputs(DOORS[door], tmp_path)
    data = make(inputs.seeds)
    found = inputs.judged(data)
    assert not found.opened
    assert not found.kind, found


@pytest.mark.parametrize("name", [name for name in CORPUS if "parts" in name])
def test_keys_of_many_parts_never_reach_the_parser(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    door, make = CORPUS[name]
    parsed: list[str] = []
    monkeypatch.setattr(tomllib, "loads", parsed.append)
    inputs = Inputs(DOORS[door], tmp_path)
    found = inputs.judged(make(inputs.seeds))
    assert "a key may have 64 parts and one has more" in found.said
    assert parsed == []


def test_a_number_of_a_tiff_that_is_written_as_text_is_none(tmp_path: Path) -> None:
    entries = ((254, 2, 3, 0x414243), (256, 2, 4, 0x41424344), (322, 3, 1, 16), (270, 1, 1, 65))
    data = b"II*\0" + struct.pack("<IH", 8, len(entries))
    data += b"".join(struct.pack("<HHII", *entry) for entry in entries) + bytes(4)
    (tmp_path / "a.tif").write_bytes(data)
    (one,) = read_directories(tmp_path / "a.tif")
    assert (one.reduced, one.width, one.tile_width, one.mpp) == (False, 0, 16, None)


def test_what_libraries_log_or_warn_of_stays_off_stderr() -> None:
    code = (
        "import logging, warnings; from privgen.cli.exits import hush_libraries; hush_libraries();"
        "logging.getLogger('PIL.TiffImagePlugin').error('\\x1b[2J'); warnings.warn('\\x1b[2J')"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True)
    assert ran.stdout + ran.stderr == b""


def test_places_in_a_files_name_are_numbers_that_fit() -> None:
    def named(place: str) -> TileRecord:
        name = f"AB_CRC-Prim-HE-01_1.tif_Row_{place}_Col_1.tif"
        return TileRecord(path=f"01_TUMOR/{name}", label="01_TUMOR")

    (one,), known = recognise((named("151"),))
    assert (one.x, one.y, known[:6]) == (0, 150, "Kather")
    for place in ("9" * 10, "9" * 4300, "9" * 5000):
        (one,), known = recognise((named(place),))
        assert (one.x, known) == (None, "")

"""A planted patient name is found in nothing that a run writes or says."""

import base64
import csv
import hashlib
import io
import json
import struct
import subprocess
import sys
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path

import cv2
import numpy as np
import openslide
import pytest
import tifffile
from numpy.typing import NDArray

from privgen.data.images import read_tile
from privgen.tiling import job as jobs
from privgen.tiling.settings import TilingSettings
from tests.helpers.slide_files import break_the_end

NAME = "ZZYXQUINT-MUELLER"
WHOLE, BROKEN = f"{NAME} 1961-04-12 A", f"{NAME} 1961-04-12 B"
PATIENT = f"{NAME}, Zoe"

Pixels = NDArray[np.uint8]
Painting = Callable[[int, int, int], Pixels]


def write_svs(path: Path, pixels: Pixels, *, levels: int = 1) -> None:
    """An Aperio slide at .5 um with the name in its tags, its label and its macro image."""
    drawn = np.full((120, 480, 3), 255, dtype=np.uint8)
    cv2.putText(drawn, NAME, (8, 70), cv2.FONT_HERSHEY_SIMPLEX, 1.2, (0, 0, 0), 3)
    said = f"AppMag = 20|MPP = 0.5|Patient = {NAME}|Filename = {NAME}|Title = {NAME}"
    tags = [(315, "s", 0, NAME, True), (316, "s", 0, NAME, True)]
    with tifffile.TiffWriter(path) as writer:

        def add(shown: Pixels, description: str, side: int | None = None, kind: int = 0) -> None:
            writer.write(
                shown,
                photometric="rgb",
                tile=None if side is None else (side, side),
                compression="deflate",
                subfiletype=kind,
                description=description,
                software=NAME,
                extratags=tags,
                metadata=None,
            )

        for level in range(levels):
            size = (pixels.shape[1] >> level, pixels.shape[0] >> level)
            shown = cv2.resize(pixels, size, interpolation=cv2.INTER_AREA)
            add(shown, f"Aperio Image Library v11\r\n{NAME} {size[0]}x{size[1]}|{said}", 256)
            if level == 0:
                add(cv2.resize(pixels, (96, 72)), f"Aperio Image Library v11\r\n{NAME} 96x72")
        for image, kind in (("label", 1), ("macro", 9)):
            add(drawn, f"Aperio Image Library v11\r\n{image} 480x120", kind=kind)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, paint: Painting) -> Path:
    """A whole slide, one that breaks in the middle, and tables and regions that name them."""
    folder = tmp_path_factory.mktemp("named")
    write_svs(folder / f"{WHOLE}.svs", paint(1024, 512, 1))
    write_svs(folder / f"{BROKEN}.svs", paint(8192, 256, 2), levels=2)
    break_the_end(folder / f"{BROKEN}.svs")
    for column, value in (("label", "TUM"), ("patient", PATIENT)):
        with (folder / f"{column}s.csv").open("w", newline="") as stream:
            table = csv.writer(stream)
            table.writerow(["slide", column, "surname"])
            table.writerows([[stem, value, NAME] for stem in (WHOLE, BROKEN)])
    (folder / "regions").mkdir()
    for stem in (WHOLE, BROKEN):
        square = [[0, 0], [8192, 0], [8192, 512], [0, 512], [0, 0]]
        feature = {
            "type": "Feature",
            "id": NAME,
            "geometry": {"type": "Polygon", "coordinates": [square]},
            "properties": {"name": NAME, "classification": {"name": "STR"}},
        }
        core = {"objectType": "tma_core", "name": NAME}
        said = [{**feature, "properties": more} for more in ({"name": NAME}, core)]
        collection = {"type": "FeatureCollection", "name": NAME, "features": [feature, *said]}
        (folder / "regions" / f"{stem}.geojson").write_text(json.dumps(collection))
    return folder


def needles() -> Iterator[bytes]:
    """The name in every form that could have come along."""
    for name in (NAME, "ZZYXQUINT", "1961-04-12"):
        for form in (name, name.lower(), name.title()):
            for coding in ("utf-8", "utf-16-le", "utf-16-be", "utf-32-le"):
                yield form.encode(coding)
            for before in range(3):  # base64 depends on what stands before
                coded = base64.b64encode(bytes(before) + form.encode())
                yield coded[2 * before : 4 * ((before + len(form)) // 3)]
            yield form.encode().hex().encode()
    for text in (NAME, WHOLE, BROKEN, PATIENT, f"{WHOLE}.svs", f"{BROKEN}.svs"):
        for form in (text, text.lower(), f"slide:{text}", f"patient:{text}"):
            digest = hashlib.sha256(form.encode())
            yield digest.hexdigest()[:16].encode()
            yield digest.digest()[:16]


def assert_nameless(content: bytes, where: str) -> None:
    for needle in needles():
        assert len(needle) >= 8
        assert needle not in content, (where, needle)
        assert needle.upper() not in content.upper() or not needle.isalnum(), (where, needle)


def tile(folder: Path, out: Path, stems: list[str], *more: object) -> tuple[int, bytes, bytes]:
    line = [sys.executable, "-m", "privgen", "tile", *[str(folder / f"{s}.svs") for s in stems]]
    line += ["--out", str(out), "--size", "64", *map(str, more)]
    done = subprocess.run(line, capture_output=True)
    return done.returncode, done.stdout, done.stderr


def written(out: Path) -> list[Path]:
    folders = (out, out.with_name(f"{out.name}-private"))
    return sorted(path for folder in folders for path in folder.rglob("*") if path.is_file())


def assert_files_nameless(out: Path) -> None:
    files = written(out)
    assert {"manifest.csv", "log.jsonl", "tiling.json", "key", "summary.png"} <= {
        file.name for file in files
    }
    assert any(file.parent.name == "thumbnails" for file in files)
    for file in files:
        assert_nameless(str(file.relative_to(out.parent)).encode(), "a path")
        assert_nameless(file.read_bytes(), file.name)


def pictures(out: Path) -> list[bytes]:
    found = []
    for file in written(out):
        if file.suffix == ".png" and file.name != "summary.png":
            found.append(file.read_bytes())
        elif file.suffix == ".tar":
            with tarfile.open(file) as tar:
                for member in tar:
                    assert (member.mtime, member.uid, member.gid) == (0, 0, 0)
                    assert (member.uname, member.gname, member.pax_headers) == ("", "", {})
                    stream = tar.extractfile(member)
                    assert stream is not None
                    if member.name.endswith(".png"):
                        found.append(stream.read())
    return found


def manifest(out: Path) -> list[dict[str, str]]:
    with (out / "manifest.csv").open(newline="") as stream:
        return list(csv.DictReader(stream))


def chunks(png: bytes) -> list[bytes]:
    assert png[:8] == b"\x89PNG\r\n\x1a\n"
    names, stream = [], io.BytesIO(png[8:])
    while header := stream.read(8):
        length, name = struct.unpack(">I4s", header)
        stream.seek(length + 4, 1)
        names.append(name)
    return names


def test_the_slide_holds_the_name_where_slides_hold_names(folder: Path) -> None:
    with openslide.OpenSlide(folder / f"{WHOLE}.svs") as slide:
        assert slide.properties["openslide.vendor"] == "aperio"
        assert {"label", "macro"} <= set(slide.associated_images)
        assert (np.asarray(slide.associated_images["label"])[..., :3] == 0).any()
        for name in ("tiff.ImageDescription", "tiff.Software", "tiff.Artist", "aperio.Patient"):
            assert NAME in slide.properties[name]
    assert any(True for _ in needles())
    with pytest.raises(AssertionError):
        assert_nameless(base64.b64encode(f"id {NAME}".encode()), "planted")
    with pytest.raises(AssertionError):
        assert_nameless(f"x{NAME.lower()}x".encode("utf-16-le"), "planted")


@pytest.mark.slow
def test_of_slides_that_succeed_nothing_says_the_name(folder: Path, tmp_path: Path) -> None:
    tables = ["--labels", folder / "labels.csv", "--patients", folder / "patients.csv"]
    out = tmp_path / "out"
    code, said, errors = tile(folder, out, [WHOLE], *tables, "--json")
    assert code == 0, errors
    assert_nameless(said + errors, "the console")
    assert_files_nameless(out)
    rows = manifest(out)
    assert len(rows) == len(pictures(out)) - 1 == 16 * 8  # and a thumbnail
    assert {row["label"] for row in rows} == {"TUM"}
    assert {row["patient"][:2] for row in rows} == {"p-"}


@pytest.mark.slow
@pytest.mark.parametrize("layout", ["folders", "tar"])
def test_a_slide_that_breaks_is_named_on_the_console_and_nowhere_else(
    folder: Path, tmp_path: Path, layout: str
) -> None:
    out = tmp_path / "out"
    given = ["--labels", folder / "regions", "--patients", folder / "patients.csv"]
    code, said, errors = tile(folder, out, [WHOLE, BROKEN], *given, "--layout", layout, "--json")
    assert code == 3, errors
    assert_nameless(said, "stdout")
    naming = [line for line in errors.decode().splitlines() if NAME in line]
    assert len(naming) == 1
    assert naming[0].startswith(f"error: {folder / BROKEN}.svs: broke in the middle")
    assert_files_nameless(out)
    log = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
    assert sorted(entry.keys() for entry in log if "failed" in entry) == [{"slide", "failed"}]
    assert len(pictures(out)) == 16 * 8 + 1  # nothing of the broken slide, and a thumbnail
    for picture in pictures(out):
        assert chunks(picture) == [b"IHDR", b"IDAT", b"IEND"]
    rows = manifest(out)
    assert {row["label"] for row in rows} == {"STR"}
    aside = json.loads((out / "tiling.json").read_text())["annotations"]["left_aside"]
    assert aside == {"unclassified": 1, "tma_cores": 1}
    assert b"1 without a class, 1 TMA cores" in b" ".join(errors.split())
    assert len(rows) == 16 * 8
    if layout == "folders":
        assert read_tile(out / rows[0]["path"]).shape == (64, 64, 3)


def test_label_and_macro_images_are_never_asked_for(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def never(*_: object) -> None:
        raise AssertionError("an associated image was asked for")

    asked: list[str] = []
    value = openslide.lowlevel.get_property_value

    def noted(handle: object, name: str) -> object:
        asked.append(name)
        return value(handle, name)

    monkeypatch.setattr(openslide.OpenSlide, "associated_images", property(never))
    for call in ("get_associated_image_names", "read_associated_image"):
        monkeypatch.setattr(openslide.lowlevel, call, never)
    monkeypatch.setattr(openslide.lowlevel, "get_property_value", noted)
    out, private = tmp_path / "out", tmp_path / "private"
    for made in (out, private / jobs.THUMBNAILS):
        made.mkdir(parents=True)
    ended = jobs.tile_slide(
        jobs.Job(
            path=folder / f"{WHOLE}.svs",
            slide="s-1",
            patient="p-1",
            label="TUM",
            settings=TilingSettings(size=64, stride=64),
            out=out,
            private=private,
        ),
        lambda read, planned: None,
    )
    assert (ended.rule, ended.tiles) == (None, 16 * 8)
    assert {"openslide.mpp-x", "openslide.mpp-y"} <= set(asked)
    bounds = {f"openslide.bounds-{name}" for name in ("x", "y", "width", "height")}
    assert set(asked) <= {"openslide.vendor", "openslide.mpp-x", "openslide.mpp-y", *bounds}


def test_a_job_shows_neither_path_nor_name(folder: Path, tmp_path: Path) -> None:
    job = jobs.Job(
        path=folder / f"{WHOLE}.svs",
        slide="s-1",
        patient="p-1",
        label=None,
        regions=folder / "regions" / f"{WHOLE}.geojson",
        settings=TilingSettings(),
        out=tmp_path,
        private=tmp_path,
    )
    assert_nameless(repr(job).encode(), "the repr")
    assert str(tmp_path) not in repr(job)

"""dicom_header.py and given.py: a slide in DICOM is one series, however it is named."""

import csv
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.sequence import Sequence
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian

from privgen.data import dicom_header, images
from privgen.data.dicom_header import MAX_DEPTH, is_dicom, series_of
from privgen.errors import ConfigError
from privgen.tiling.given import gather
from privgen.tiling.run import Tiled
from privgen.tiling.session import tile_slides
from tests.helpers.dicom_files import write_series
from tests.helpers.slide_files import Pixels

Painting = Callable[[int, int, int], Pixels]


@pytest.fixture(scope="module")
def pixels(paint: Painting) -> Pixels:
    return paint(1024, 1024, 0)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, pixels: Pixels) -> Path:
    """`s/`, a slide of three levels in three files."""
    path = tmp_path_factory.mktemp("dicom") / "s"
    path.mkdir()
    write_series(path, pixels)
    return path


def cut(slides: list[Path], out: Path, key: Path, **asked: Any) -> Tiled:
    return tile_slides(slides, out, size=256, mpp=0.5, key=key, **asked)


def rows(tiled: Tiled) -> list[dict[str, str]]:
    assert tiled.manifest is not None
    with tiled.manifest.open(newline="") as stream:
        return list(csv.DictReader(stream))


def test_a_series_is_one_slide_by_folder_by_all_its_files_and_by_one(
    folder: Path, tmp_path: Path, key: Path, pixels: Pixels
) -> None:
    ways = {
        "folder": [folder],
        "files": sorted(folder.glob("*.dcm")),
        "one": [folder / "DCM_1.dcm"],
        "twice": [folder, folder / "DCM_0.dcm"],
    }
    found = {name: rows(cut(slides, tmp_path / name, key)) for name, slides in ways.items()}
    assert len(found["folder"]) == 16
    assert len({row["slide"] for row in found["folder"]}) == 1
    assert all(one == found["folder"] for one in found.values())
    first = min(found["folder"], key=lambda row: (int(row["y"]), int(row["x"])))
    tile = images.read_tile(tmp_path / "folder" / first["path"])
    assert np.abs(tile.astype(int) - pixels[:256, :256]).mean() < 6


def test_a_patient_given_for_one_file_is_the_series(
    folder: Path, tmp_path: Path, key: Path
) -> None:
    for number, name in enumerate(("DCM_0.dcm", "DCM_2", "s")):
        table = tmp_path / "patients.csv"
        table.write_text(f"slide,patient\n{name},P1\n")
        found = rows(cut(sorted(folder.glob("*.dcm")), tmp_path / str(number), key, patients=table))
        owners = defaultdict(set)
        for row in found:
            owners[row["sha256"]].add(row["patient"])
        assert len(found) == 16
        assert all(len(names) == 1 for names in owners.values())
        assert len({row["patient"] for row in found}) == 1
        assert found[0]["patient"]


def test_rows_of_one_series_must_agree(folder: Path, tmp_path: Path, key: Path) -> None:
    table = tmp_path / "patients.csv"
    table.write_text("slide,patient\nDCM_0,P1\nDCM_1,P1\n")
    assert len(rows(cut([folder], tmp_path / "a", key, patients=table))) == 16
    table.write_text("slide,patient\nDCM_0,P1\nDCM_1,P2\n")
    with pytest.raises(ConfigError, match="one slide and has one patient"):
        cut([folder], tmp_path / "b", key, patients=table)
    table.write_text("slide,label\nDCM_0,tumour\nDCM_1,stroma\n")
    tiled = cut([folder], tmp_path / "c", key, labels=table)
    assert tiled.exit_code == 2
    assert "several labels" in tiled.failures[0][1]


def test_two_series_are_two_slides_and_a_name_that_fits_both_is_refused(
    tmp_path: Path, key: Path, paint: Painting
) -> None:
    for name, seed in (("a", 1), ("b", 2)):
        (tmp_path / name).mkdir()
        write_series(tmp_path / name, paint(512, 512, seed), levels=1)
    both = [tmp_path / "a", tmp_path / "b"]
    table = tmp_path / "patients.csv"
    table.write_text("slide,patient\na,P1\nb,P2\n")
    found = rows(cut(both, tmp_path / "out", key, patients=table))
    assert len(found) == 8
    assert len({(row["slide"], row["patient"]) for row in found}) == 2
    table.write_text("slide,patient\nDCM_0,P1\n")
    with pytest.raises(ConfigError, match="DCM_0 fits several"):
        cut(both, tmp_path / "other", key, patients=table)


def test_one_folder_may_hold_two_series_and_damaged_files_are_told(
    tmp_path: Path, key: Path, paint: Painting
) -> None:
    uids = [write_series(tmp_path, paint(512, 512, n), levels=1, stem=f"S{n}") for n in (1, 2)]
    (tmp_path / "broken.dcm").write_bytes(bytes(128) + b"DICM" + bytes(40))
    (tmp_path / "DICOMDIR").write_bytes(bytes(128) + b"DICM" + bytes(40))
    (tmp_path / "other.svs").write_bytes(b"x")
    (tmp_path / "notes.txt").write_text("x")
    gathered = gather([tmp_path])
    assert [slide.name for slide in gathered.slides] == [*uids, "broken"]
    assert gathered.passed == 1
    assert "1 files of other formats" in gathered.warnings[0]
    tiled = cut([tmp_path], tmp_path / "out", key)
    assert tiled.exit_code == 2
    assert [path.name for path, _ in tiled.failures] == ["broken.dcm"]
    assert len(rows(tiled)) == 8


def test_files_of_a_series_in_two_folders_are_refused(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "copy.dcm").write_bytes((folder / "DCM_0.dcm").read_bytes())
    with pytest.raises(ConfigError, match="must lie in one folder"):
        gather([folder, tmp_path / "copy.dcm"])


def test_a_folder_without_a_series_fails_alone(
    tmp_path: Path, slides: list[Path], key: Path
) -> None:
    (tmp_path / "empty").mkdir()
    tiled = cut([tmp_path / "empty", slides[0]], tmp_path / "out", key)
    assert tiled.exit_code == 2
    assert "folder of one DICOM series" in tiled.failures[0][1]
    assert tiled.document["slides"] == 1


def written(path: Path, syntax: Any, **values: Any) -> Path:
    data = Dataset()
    data.file_meta = FileMetaDataset()
    data.file_meta.TransferSyntaxUID = syntax
    data.file_meta.MediaStorageSOPClassUID = "1.2.3"
    data.file_meta.MediaStorageSOPInstanceUID = "1.2.3.4"
    for name, value in values.items():
        setattr(data, name, value)
        data[name].is_undefined_length = name.endswith("Sequence")
    data.save_as(path, enforce_file_format=True)
    return path


def nested(depth: int) -> Sequence:
    inner = Dataset()
    inner.PatientName = "Meyer"
    inner.SeriesInstanceUID = "9.9.9"
    for _ in range(depth - 1):
        outer = Dataset()
        outer.ReferencedSeriesSequence = Sequence([inner])
        outer["ReferencedSeriesSequence"].is_undefined_length = True
        outer.is_undefined_length_sequence_item = True
        inner = outer
    return Sequence([inner])


@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, ImplicitVRLittleEndian])
def test_the_series_is_found_behind_nested_sequences(tmp_path: Path, syntax: Any) -> None:
    path = written(tmp_path / "a", syntax, SeriesInstanceUID="1.2.3.4", Modality="SM")
    assert series_of(path) == "1.2.3.4"
    assert series_of(written(tmp_path / "b", syntax, Modality="SM")) is None
    for depth in (1, MAX_DEPTH - 1, MAX_DEPTH, MAX_DEPTH + 1):
        data = {"SeriesInstanceUID": "1.2.3", "ReferencedSeriesSequence": nested(depth)}
        path = written(tmp_path / "c", syntax, **data)
        assert is_dicom(path)
        assert series_of(path) == ("1.2.3" if depth <= MAX_DEPTH else None)


def test_a_series_is_looked_for_at_the_beginning_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = written(tmp_path / "a", ExplicitVRLittleEndian, SeriesInstanceUID="1.2.3", Modality="SM")
    place = path.read_bytes().index(b"\x20\x00\x0e\x00")
    for most, expected in ((place - 1, None), (place, None), (place + 1, "1.2.3")):
        monkeypatch.setattr(dicom_header, "MAX_BYTES", most)
        assert series_of(path) == expected


def test_damaged_files_name_no_series_and_raise_nothing(folder: Path, tmp_path: Path) -> None:
    data = (folder / "DCM_2.dcm").read_bytes()
    rng = np.random.default_rng(0)
    path = tmp_path / "a.dcm"
    for _ in range(300):
        mutant = bytearray(data[: rng.integers(1, 1200)])
        for at in rng.integers(0, len(mutant), 4):
            mutant[at] = rng.integers(0, 256)
        path.write_bytes(mutant)
        found = series_of(path)
        assert found is None or len(found) <= 64
    assert series_of(tmp_path / "gone.dcm") is None
    assert not is_dicom(tmp_path / "gone.dcm")

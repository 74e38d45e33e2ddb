"""names.py: one key however many start, pseudonyms that keep, patients that are told or not."""

import hashlib
import hmac
import pickle
import re
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from privgen.errors import ConfigError, OutputError
from privgen.tiling.names import (
    Names,
    load_key,
    patient_of,
    patient_pattern,
    read_slide_table,
    slide_names,
)


def written(folder: Path, text: str) -> Path:
    path = folder / "table.csv"
    path.write_text(text, encoding="utf-8")
    return path


def test_missing_key_is_drawn_once_and_kept_private(tmp_path: Path) -> None:
    path = tmp_path / "apart" / "key"
    key = load_key(path)
    assert len(key) == 32
    assert load_key(path) == key
    assert path.read_text() == key.hex() + "\n"
    assert path.stat().st_mode & 0o777 == 0o600
    assert list(path.parent.iterdir()) == [path]
    assert load_key(tmp_path / "other") != key


def test_all_who_start_at_once_get_one_key(tmp_path: Path) -> None:
    gate = threading.Barrier(8)

    def start(path: Path) -> bytes:
        gate.wait()
        return load_key(path)

    with ThreadPoolExecutor(8) as pool:
        for attempt in range(20):
            path = tmp_path / f"key-{attempt}"
            assert set(pool.map(start, [path] * 8)) == {load_key(path)}
    assert len(list(tmp_path.iterdir())) == 20


@pytest.mark.parametrize("mode", [0o644, 0o640, 0o604, 0o602])
def test_key_that_others_may_touch_is_refused(tmp_path: Path, mode: int) -> None:
    path = tmp_path / "key"
    load_key(path)
    path.chmod(mode)
    with pytest.raises(ConfigError, match=r"only you may read .*chmod 600"):
        load_key(path)


@pytest.mark.parametrize("content", [b"", b"abc", b"g" * 64, b"0" * 63, b"0" * 65, b"\xff" * 64])
def test_file_that_is_no_key_is_refused_and_left(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "key"
    path.write_bytes(content)
    path.chmod(0o600)
    with pytest.raises(ConfigError, match="64 hex digits") as caught:
        load_key(path)
    assert "\n" not in str(caught.value)
    assert path.read_bytes() == content


def test_key_that_cannot_be_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="must be a file"):
        load_key(tmp_path)
    (tmp_path / "file").write_text("x")
    with pytest.raises((ConfigError, OutputError), match="cannot be"):
        load_key(tmp_path / "file" / "key")
    (tmp_path / "dangling").symlink_to(tmp_path / "nowhere")
    with pytest.raises(ConfigError, match="cannot be read"):
        load_key(tmp_path / "dangling")


def test_pseudonym_is_the_hmac_of_kind_and_name() -> None:
    key = bytes(range(32))
    names = Names(key)
    expected = hmac.digest(key, b"slide:Meyer 1", hashlib.sha256).hex()[:16]
    assert names.pseudonym("slide", "Meyer 1") == f"s-{expected}"
    assert re.fullmatch(r"p-[0-9a-f]{16}", names.pseudonym("patient", "Meyer 1"))
    assert names.pseudonym("patient", "Meyer 1")[2:] != expected
    assert Names(bytes(32)).pseudonym("slide", "Meyer 1") != f"s-{expected}"


def test_names_travel_to_workers_but_do_not_show_the_key() -> None:
    key = bytes(range(32))
    names = Names(key)
    there = pickle.loads(pickle.dumps(names))  # noqa: S301
    assert there.pseudonym("slide", "a") == names.pseudonym("slide", "a")
    assert key.hex() not in repr(names)
    assert repr(key) not in repr(names)


def test_slides_are_known_by_stem_and_two_of_one_stem_are_refused() -> None:
    paths = [Path("b/two.svs"), Path("a/one.svs")]
    assert list(slide_names(paths).items()) == [("two", paths[0]), ("one", paths[1])]
    with pytest.raises(ConfigError, match=r"a/one.svs and c/one.tif"):
        slide_names([*paths, Path("c/one.tif")])


def test_table_takes_stems_and_file_names_and_ignores_other_columns(tmp_path: Path) -> None:
    path = written(
        tmp_path,
        "\ufeffage,patient,slide\n60,P1,one\n61, P1 ,two.svs\n62,P2,TCGA-XX-1234.0f3e.ndpi\n"
        "63,P3,name.with.points\n",
    )
    assert read_slide_table(path, "patient") == {
        "one": "P1",
        "two": "P1",
        "TCGA-XX-1234.0f3e": "P2",
        "name.with.points": "P3",
    }


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        ("", "no header"),
        ("slide,label\na,x\n", "needs the columns slide and patient"),
        ("slide,patient,patient\na,x,y\n", "each once"),
        ("slide,patient\na,P1\na.svs,P1\n", "line 3: slide a has a row already"),
        ("slide,patient\na,P1\na,P2\n", "line 3: slide a has a row already"),
        ("slide,patient\na,\n", "line 2 has no patient"),
        ("slide,patient\n,P1\n", "line 2 has no slide"),
        ("slide,patient\na\n", "line 2 has no patient"),
        ('slide,patient\n"a,P1\n', "comma-separated"),
        ("slide,patient\na,nan\n", "line 2 has no patient ('nan' reads as missing)"),
        ("slide,patient\na,#N/A\n", "line 2 has no patient"),
        ("slide,patient\na,Smith, John\n", "line 2 has more fields than the header"),
        ("slide,patient,\na,Smith, John\nb,Smith, Mary\n", "line 2 has a value in a column"),
        ("slide,patient\na,1.2e+11\n", "line 2: an id in exponent notation"),
        ("slide,patient\nBär,P1\nBa\u0308r,P2\n", "line 3: slide Bär has a row already"),
    ],
)
def test_mistake_in_a_table_is_one_line(tmp_path: Path, text: str, rule: str) -> None:
    with pytest.raises(ConfigError) as caught:
        read_slide_table(written(tmp_path, text), "patient")
    assert rule in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "text", ["slide;patient\na;P1\n", "slide\tpatient\na\tP1\n", "Slide, PATIENT\na,P1\n"]
)
def test_tables_of_other_programs_are_read_and_what_was_detected_is_said(
    text: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert read_slide_table(written(tmp_path, text), "patient") == {"a": "P1"}
    assert "warning: " in capsys.readouterr().err


def test_table_that_cannot_be_read_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be read"):
        read_slide_table(tmp_path / "gone.csv", "patient")
    (tmp_path / "bad.csv").write_bytes(b"slide,patient\n\xff,x\n")
    with pytest.raises(ConfigError, match="UTF-8"):
        read_slide_table(tmp_path / "bad.csv", "patient")


@pytest.mark.parametrize(
    ("stem", "patient"),
    [
        ("TCGA-CR-7395-01A-01-TS1", "TCGA-CR-7395"),
        ("TCGA-CR-7395-01Z-00-DX1.0f3e-22", "TCGA-CR-7395"),
        ("TCGA-CR-7395", "TCGA-CR-7395"),
        ("TCGA-CR-73951", None),
        ("x-TCGA-CR-7395", None),
        ("TCGA-CR", None),
        ("tcga-cr-7395-01a", "TCGA-CR-7395"),
        ("CMU-1-Small-Region", None),
    ],
)
def test_tcga_barcode_tells_the_patient(stem: str, patient: str | None) -> None:
    assert patient_of(stem) == patient


def test_pattern_and_table_come_before_the_barcode() -> None:
    pattern = patient_pattern(r"^(\d+)_")
    assert patient_of("0042_a", pattern=pattern) == "0042"
    assert patient_of("TCGA-CR-7395-01A", pattern=pattern) is None
    assert patient_of("0042_a", table={"0042_a": "P"}, pattern=pattern) == "P"
    assert patient_of("0042_b", table={"0042_a": "P"}, pattern=pattern) == "0042"
    assert patient_of("TCGA-CR-7395-01A", table={"other": "P"}) is None
    assert patient_of("_a", pattern=patient_pattern(r"^(\d*)_")) is None


def test_patients_of_a_table_are_read_as_everywhere(tmp_path: Path) -> None:
    rows = "a,1.0\nb,1\nc,Mu\u0308ller\nd,TCGA-AA-0001-01A\ne,\u00a0P1\u200b\n1.0,x\n"
    table = read_slide_table(written(tmp_path, f"slide,patient,label\n{rows}"), "patient")
    assert table == {"a": "1", "b": "1", "c": "Müller", "d": "TCGA-AA-0001", "e": "P1", "1.0": "x"}
    labels = written(tmp_path, "slide,label\na,1.0\nb,nan\n")
    assert read_slide_table(labels, "label") == {"a": "1.0", "b": "nan"}


def test_a_table_finds_its_slides_whatever_the_file_system_writes(tmp_path: Path) -> None:
    text = "slide,patient\nBär,P1\nC:\\slides\\b.svs,P2\n\\\\store\\c.svs,P3\n"
    table = read_slide_table(written(tmp_path, text), "patient")
    assert patient_of("Ba\u0308r", table=table) == patient_of("Bär", table=table) == "P1"
    assert (patient_of("b", table=table), patient_of("c", table=table)) == ("P2", "P3")
    assert patient_of("Ba\u0308r_1", pattern=patient_pattern("^(Bär)_")) == "Bär"
    assert patient_of("nan_1", pattern=patient_pattern("^(.*)_")) is None
    names = Names(bytes(32))
    assert names.pseudonym("slide", "Ba\u0308r") == names.pseudonym("slide", "Bär")
    with pytest.raises(ConfigError, match="must be given once"):
        slide_names([Path("Bär.svs"), Path("Ba\u0308r.svs")])


@pytest.mark.parametrize(("text", "rule"), [("(", "is none"), ("a", "has 0"), ("(a)(b)", "has 2")])
def test_pattern_without_its_one_group_is_refused(text: str, rule: str) -> None:
    with pytest.raises(ConfigError, match=rule):
        patient_pattern(text)


def test_all_slides_of_a_patient_share_a_pseudonym() -> None:
    stems = ["TCGA-CR-7395-01A-01-TS1", "TCGA-CR-7395-01Z-00-DX1", "TCGA-AA-0001-01Z-00-DX1"]
    names = Names(bytes(32))
    first, second, third = (names.pseudonym("patient", patient_of(s) or "") for s in stems)
    assert first == second != third


def test_a_key_is_told_from_another_without_being_shown() -> None:
    names, other = Names(bytes(32)), Names(bytes([1] * 32))
    assert names.check == Names(bytes(32)).check != other.check
    assert names.key.hex()[:16] != names.check

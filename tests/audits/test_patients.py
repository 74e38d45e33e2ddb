"""patients.py: one person has one name, nobody is called "nan", and what may be one is told."""

import unicodedata
from decimal import Decimal

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from audits import AuditInputError
from audits.patients import (
    Spellings,
    alike,
    alike_within,
    folded,
    participant,
    read_id,
    read_patient,
)

NFC, NFD = (unicodedata.normalize(form, "Müller") for form in ("NFC", "NFD"))


@pytest.mark.parametrize(
    ("written", "read"),
    [
        ("P1", "P1"),
        (NFD, NFC),
        ("  P1\t", "P1"),
        ("\u00a0P1\u3000", "P1"),
        ("P\u200b1\ufeff", "P1"),
        ("\u202aP1\u202c", "P1"),
        ("P\u00ad1\u2800", "P1"),
        ("P  1", "P 1"),
        ("P\u00a01", "P 1"),
        ("1.0", "1"),
        ("1.", "1"),
        ("12.00", "12"),
        ("1.000000", "1"),
        ("1.000", "1.000"),
        ("1.10", "1.10"),
        ("007.0", "007"),
        ("v1.0", "v1.0"),
        (1, "1"),
        (1.0, "1"),
        (np.float32(3), "3"),
        (np.int64(4), "4"),
        (np.str_("P1"), "P1"),
        (Decimal("5.0"), "5"),
        (True, "True"),
        (b"P1", "P1"),
        (NFD.encode(), NFC),
        ("1E5", "1E5"),
        ("=A1", "=A1"),
    ],
)
def test_an_id_is_read_one_way(written: object, read: str) -> None:
    assert read_id(written) == read
    assert read_patient(written) == read


@pytest.mark.parametrize(
    "written",
    [
        *(None, float("nan"), np.float64("nan"), np.float32("nan"), np.ma.masked),
        *(np.datetime64("NaT"), Decimal("NaN")),
        *(
            "",
            "  ",
            "\u00a0",
            "\u200b",
            "nan",
            "NaN",
            "NAN",
            "NA",
            "N/A",
            "n/a",
            "#N/A",
            "#N/A N/A",
        ),
        *("None", "null", "NULL", "<NA>", "NaT", "-", "--", "?", "#REF!", "unknown", " NA\u200b"),
    ],
)
def test_missing_is_missing(written: object) -> None:
    assert read_id(written) is None
    assert read_patient(written) is None


@pytest.mark.parametrize(
    ("written", "rule"),
    [
        (1.5, "whole number: got 1.5"),
        (float("inf"), "whole number: got inf"),
        (2.0**53, "whole number"),
        ("1.23457E+11", "lost digits"),
        ("1e+16", "lost digits"),
        (b"M\xfcller", "must be UTF-8"),
    ],
)
def test_what_has_lost_its_name_is_refused_in_one_line(written: object, rule: str) -> None:
    with pytest.raises(AuditInputError, match=rule) as caught:
        read_id(written)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("written", "read"),
    [
        ("TCGA-AA-0001", "TCGA-AA-0001"),
        ("TCGA-AA-0001-01Z-00-DX1.0f3e", "TCGA-AA-0001"),
        ("TCGA-AA-0001-01A", "TCGA-AA-0001"),
        ("tcga-aa-0001-01a", "TCGA-AA-0001"),
        ("TCGA.AA.0001.01A", "TCGA-AA-0001"),
        ("TCGA_AA_0001", "TCGA-AA-0001"),
        ("TCGA-AA-00012", None),
        ("TCGA-AA.0001", None),
        ("x-TCGA-AA-0001", None),
        ("TCGA-AA", None),
    ],
)
def test_a_barcode_is_its_participant_for_patients_alone(written: str, read: str | None) -> None:
    assert participant(written) == read
    assert read_patient(written) == (read or written)
    assert read_id(written) == written


@settings(max_examples=300)
@given(st.text(max_size=12) | st.floats() | st.integers())
def test_reading_twice_changes_nothing(written: object) -> None:
    for read in (read_id, read_patient):
        try:
            once = read(written)
        except AuditInputError:
            continue
        assert once is None or read(once) == once


@settings(max_examples=300)
@given(st.text(min_size=1, max_size=8))
def test_unicode_form_and_blanks_make_no_other_id(text: str) -> None:
    try:
        read = read_id(text)
        assert read_id(unicodedata.normalize("NFD", text)) == read
        assert read_id(f"\u200b {text}\u00a0") == read
    except AuditInputError:
        pass


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("P1", "p1"),
        ("001", "1"),
        ("0", "00"),
        ("P001", "P1"),
        ("A-01-002", "a-1-2"),
        ("P-1", "P_1"),
        ("P 1", "P\u20131"),
        ("\uff30\uff11", "P1"),
        ("'001", "1"),
        ('="001"', "1"),
        ("STRASSE", "straße"),
        ("1.05", "1.5"),
    ],
)
def test_ids_that_may_be_one_person_are_alike(one: str, other: str) -> None:
    assert folded([one])[0] == folded([other])[0]
    assert alike([one, "x"], [other, "x"]) == [(one, other)]
    assert alike_within([other, one, one]) == [tuple(sorted((one, other)))]


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("P1", "P2"),
        ("1", "10"),
        ("100", "1"),
        ("1-11", "11-1"),
        ("P1", "P11"),
        ("1.1", "11"),
        ("TCGA-A0-00A0", "TCGA-A0-0A00"),
        ("TCGA-AA-0001-01A", "TCGA-AA-0001-11A"),
        ("Müller", "Muller"),
        ("-", "="),
    ],
)
def test_ids_that_differ_in_more_are_not_alike(one: str, other: str) -> None:
    assert alike([one], [other]) == []
    assert alike_within([one, other]) == []


def test_equal_ids_are_not_alike_and_pairs_come_once_in_order() -> None:
    assert alike(["b", "A", "a", "A"], ["B", "a", "a"]) == [("A", "a"), ("b", "B")]
    assert alike([], ["a"]) == []
    assert folded([]).shape == (0,)


def test_spellings_remember_what_was_joined_and_what_was_missing() -> None:
    read = Spellings()
    written = ["7", "7.0", 7, 7.0, "nan", float("nan"), None, "", "NA", "NA", "8", "3-Mar"]
    assert [read(one) for one in written] == [*["7"] * 4, *[None] * 6, "8", "3-Mar"]
    assert read.joined == {"7": ("7", "7.0")}
    assert read.missing == {"nan": 2, "NA": 2}
    assert read.dates == ("3-Mar",)


@pytest.mark.parametrize("date", ["1-Mar", "01.Mar", "3 Jan 2024", "Mar-22", "1-March"])
def test_what_a_spreadsheet_makes_of_an_id_is_told(date: str) -> None:
    read = Spellings()
    read(date)
    assert read.dates == (date,)
    for other in ("P1", "Marta", "Mar", "2024-03-01", "1-2"):
        read(other)
    assert read.dates == (date,)

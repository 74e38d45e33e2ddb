"""documents.py: JSON and TOML at their limits, and nothing but DocumentError for the rest."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from privgen import limits
from privgen.config import TrainConfig, read_toml
from privgen.documents import DocumentError, parse_json, parse_toml, read_text
from privgen.errors import ConfigError
from privgen.policy import read_policy


def test_depth_digits_and_size_at_their_limits(monkeypatch: pytest.MonkeyPatch) -> None:
    for depth, fits in ((63, True), (64, True), (65, False)):
        text = "[" * depth + "]" * depth
        if fits:
            parse_json(text)
        else:
            with pytest.raises(DocumentError, match="nested 64 deep"):
                parse_json(text)
    for digits, fits in ((299, True), (300, True), (301, False)):
        if fits:
            assert parse_json("9" * digits) == 10**digits - 1
            parse_toml("x = " + "9" * digits)
        else:
            with pytest.raises(DocumentError, match="300 digits"):
                parse_toml("x = " + "9" * digits)
    for most, fits in ((7, True), (6, True), (5, False)):
        monkeypatch.setattr(limits, "TEXT_BYTES", most)
        if fits:
            assert parse_toml("x = 12") == {"x": 12}
        else:
            with pytest.raises(DocumentError, match="may have 5 bytes"):
                parse_toml("x = 12")


def test_the_size_of_json_at_its_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    for most, fits in ((8, True), (7, True), (6, False)):
        monkeypatch.setattr(limits, "JSON_BYTES", most)
        if fits:
            assert parse_json('{"a":1}') == {"a": 1}
        else:
            with pytest.raises(DocumentError, match="may have 6 bytes"):
                parse_json('{"a":1}')


def test_what_stands_in_quotes_is_no_nesting_and_no_number() -> None:
    text = '{"a": "' + "[" * 500 + "9" * 500 + '\\"' + '", "b": 1}'
    assert parse_json(text)["b"] == 1


@pytest.mark.parametrize("text", ["[" * 100_000, "{" * 9, '"' * 9, "1" * 5000, "[1,", "\0", ""])
def test_anything_else_is_a_document_error(text: str) -> None:
    with pytest.raises(DocumentError) as caught:
        parse_json(text)
    assert "\n" not in str(caught.value)


@given(st.text())
def test_no_text_raises_anything_else(text: str) -> None:
    for parse in (parse_json, parse_toml):
        try:
            parse(text)
        except DocumentError:
            continue


def test_a_file_is_read_up_to_its_limit(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"abcd")
    assert read_text(tmp_path / "a", 5) == read_text(tmp_path / "a", 4) == "abcd"
    with pytest.raises(DocumentError, match="may have 3 bytes"):
        read_text(tmp_path / "a", 3)
    (tmp_path / "a").write_bytes(b"\xff\xfe")
    with pytest.raises(DocumentError):
        read_text(tmp_path / "a", 3)


TOML = [
    "batch = " + "1" * 250,
    "batch = " + "1" * 400,
    "minutes = " + "1" * 250,
    "x = " + "[" * 5000,
    "kimg = nan",
    "kimg = inf",
    "batch = -4",
    "batch = [1]",
    "resolution = [[[[1]]]]",
    ".".join("a" * 3000) + " = 1",
    "a" * 5000 + " = 1",
    "batch = true",
    "width = 1979-05-27",
    "\x00",
]


@pytest.mark.parametrize("text", TOML, ids=lambda text: text[:20])
def test_a_hostile_configuration_is_one_short_line(text: str, tmp_path: Path) -> None:
    (tmp_path / "c.toml").write_text(text)
    with pytest.raises(ConfigError) as caught:
        TrainConfig.from_dict(read_toml(tmp_path / "c.toml"))
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 1500
    with pytest.raises(ConfigError) as caught:
        read_policy(tmp_path / "c.toml")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "text", ["significance = " + "1" * 290, "fractions = [nan]", "fractions = [1" + "0" * 280 + "]"]
)
def test_a_hostile_policy_is_one_short_line(text: str, tmp_path: Path) -> None:
    (tmp_path / "p.toml").write_text(text)
    with pytest.raises((ConfigError, ValueError)) as caught:
        read_policy(tmp_path / "p.toml")
    assert "\n" not in str(caught.value)


def test_parts_of_a_key_at_their_limit_however_it_is_written(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(limits, "JSON_DEPTH", 5)
    for part in ("a", '"a"', "'#'", "'\"'", '"\\""'):
        for key in (f"{part}.", f"{part} . "):
            fits = key * 4 + "b"
            assert parse_toml(f"{fits} = 1")
            assert parse_toml(f"x = '''a'''\n[{fits}]")
            for text in (f"{key}{fits} = 1", f"[{key}{fits}]", f'x="""a"""""\n{key}{fits} = 1'):
                with pytest.raises(DocumentError, match="a key may have 5 parts"):
                    parse_toml(text)


def test_points_elsewhere_are_no_parts() -> None:
    points = "." * 200
    for text in (
        f"# {points}\nx=1",
        f"x='{points}'",
        f'x="""\n{points}"""',
        "x=[" + "1.5," * 99 + "]",
    ):
        assert parse_toml(text)

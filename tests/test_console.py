"""Names of strangers' files and classes on the terminal."""

import io

import pytest

from privgen import console

HOSTILE = [
    "x/\x1b]0;another title\x07\x1b[2J\x1b[31mred.png",
    "class \x1b[8mhidden\x1b[0m \u202egnp.exe \x9b31m",
    "one\nverdict: NO LEAK FOUND",
    "one\r\x1b[1Averdict: NO LEAK FOUND",
    "one\u2028two\u2029three\x85four",
    "half a \udcff character",
    "tab\tnull\x00bell\x07",
]

MARKUP = ["[tumor]", "[/red]", "[bold red]x[/bold red]", "[link=http://x]y[/link]", ":smile:"]


@pytest.fixture
def screen(monkeypatch: pytest.MonkeyPatch) -> io.StringIO:
    """What reaches a terminal."""
    stream = io.StringIO()
    shown = console._Screen(
        file=stream, highlight=False, soft_wrap=True, force_terminal=True, width=200, no_color=True
    )
    monkeypatch.setattr(console, "_stderr", shown)
    return stream


def _say(name: str) -> None:
    console.note(name)
    console.warn(name)
    console.fail(name)
    console.item(name)
    console.table(name, [name, "n"], [[name, "1"]])


@pytest.mark.parametrize("name", HOSTILE)
def test_nothing_in_a_name_steers_the_terminal(screen: io.StringIO, name: str) -> None:
    _say(name)
    shown = screen.getvalue()
    for styling in ("\x1b[1m", "\x1b[3m", "\x1b[0m"):  # our own: bold, slanted, plain
        shown = shown.replace(styling, "")
    left = {mark for mark in shown if console.plain(mark) != mark}
    assert left <= {"\n"}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_name_begins_no_line_of_its_own(screen: io.StringIO, name: str) -> None:
    console.note(name)
    assert screen.getvalue().count("\n") == 1


@pytest.mark.parametrize("name", MARKUP)
def test_a_name_is_text_and_no_markup(screen: io.StringIO, name: str) -> None:
    _say(name)
    assert screen.getvalue().count(name) == 7


def test_names_in_any_script_stay_as_they_are() -> None:
    for name in ("Müller", "腫瘍", "ورم", "नमूना", "می‌خواهم", "🙂", "a b", "naïve\\path"):
        assert console.plain(name) == name


def test_an_escape_says_what_it_stands_for() -> None:
    assert console.plain("a\x1b[2J\nb\u202e") == "a\\x1b[2J\\nb\\u202e"


def test_a_long_message_keeps_its_rule_and_its_way_out(screen: io.StringIO) -> None:
    console.fail("the rule: got " + "x" * 100_000 + ". The way out.")
    said = screen.getvalue()
    assert len(said) < 2100
    assert "error: the rule: got xxx" in said
    assert "xxx. The way out." in said

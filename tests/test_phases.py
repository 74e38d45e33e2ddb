"""What a command says while it works."""

import io
import time

import pytest

from privgen import console, phases
from privgen.phases import Phase, duration, phase


@pytest.fixture
def log(monkeypatch: pytest.MonkeyPatch) -> io.StringIO:
    """Where there is no terminal; a line every 50 ms instead of every ten seconds."""
    stream = io.StringIO()
    monkeypatch.setattr(console, "_stderr", console._Screen(file=stream, soft_wrap=True))
    monkeypatch.setattr(phases, "SECONDS_BETWEEN_LINES", 0.05)
    return stream


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> io.StringIO:
    stream = io.StringIO()
    shown = console._Screen(file=stream, soft_wrap=True, force_terminal=True, width=100)
    monkeypatch.setattr(console, "_stderr", shown)
    return stream


def test_a_log_has_lines_while_work_that_says_nothing_goes_on(log: io.StringIO) -> None:
    with phase("working"), phase("embedding tiles", total=40) as embedding:
        embedding.reach(10)
        time.sleep(0.4)
    lines = log.getvalue().splitlines()
    assert len(lines) >= 2
    assert all(line.startswith("embedding tiles: 10 of 40, 0 s so far, about ") for line in lines)


def test_work_that_speaks_for_itself_is_left_alone(log: io.StringIO) -> None:
    with phase("working"):
        for _ in range(20):
            time.sleep(0.02)
            console.note("own line")
    assert set(log.getvalue().splitlines()) == {"own line"}


def test_between_phases_the_command_itself_is_alive(log: io.StringIO) -> None:
    with phase("working"):
        with phase("embedding tiles"):
            pass
        time.sleep(0.3)
    assert log.getvalue().startswith("working: 0 s so far\n")


def test_silence_after_the_last_phase(log: io.StringIO) -> None:
    with phase("working"):
        pass
    time.sleep(0.2)
    assert log.getvalue() == ""


def test_a_phase_that_took_long_leaves_a_line(
    log: io.StringIO, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(phases, "_WORTH_A_LINE", 0.0)
    monkeypatch.setattr(phases, "SECONDS_BETWEEN_LINES", 60.0)
    with phase("working"), phase("embedding tiles"):
        pass
    assert log.getvalue() == "embedding tiles: 0 s\n"


class _Full(io.StringIO):
    def write(self, text: str) -> int:
        raise OSError(28, "No space left on device")


def test_a_log_that_cannot_be_written_stops_no_work(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(console, "_stderr", console._Screen(file=_Full(), soft_wrap=True))
    monkeypatch.setattr(phases, "SECONDS_BETWEEN_LINES", 0.02)
    with phase("working"):
        time.sleep(0.2)


def test_a_terminal_has_a_bar_for_every_phase_with_a_total(terminal: io.StringIO) -> None:
    with phase("working"), phase("classifiers", total=3) as outer:
        outer.advance()
        with phase("[red] tiles", total=40) as inner:
            inner.reach(10)
            time.sleep(0.6)
    shown = terminal.getvalue()
    assert "classifiers" in shown
    assert "1/3" in shown
    assert "[red] tiles" in shown
    assert "10/40" in shown


def test_what_is_printed_for_programs_never_goes_to_the_terminal(
    terminal: io.StringIO, capsys: pytest.CaptureFixture[str]
) -> None:
    with phase("working"):
        console.emit_json({"tiles": 3})
    assert capsys.readouterr().out == '{\n  "tiles": 3\n}\n'
    assert '"tiles": 3' not in terminal.getvalue()


def test_other_processes_than_the_first_say_nothing(
    log: io.StringIO, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RANK", "1")
    with phase("working"):
        time.sleep(0.2)
    assert log.getvalue() == ""


def test_time_left_is_said_only_where_the_speed_is_known() -> None:
    resumed = Phase("training, steps", total=100, done=50)
    assert "left" not in resumed.line()
    resumed._since -= 10
    resumed.done = 60
    assert resumed.line() == "training, steps: 60 of 100, 10 s so far, about 40 s left"


@pytest.mark.parametrize(
    ("seconds", "said"),
    [
        (0.2, "0 s"),
        (59.4, "59 s"),
        (60, "1 min"),
        (200, "3 min 20 s"),
        (1_234, "21 min"),
        (3_600, "1 h"),
        (7_500, "2 h 5 min"),
    ],
)
def test_durations_are_read_at_a_glance(seconds: float, said: str) -> None:
    assert duration(seconds) == said

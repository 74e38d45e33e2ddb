"""outside.py: a sampler is a process; no shell, its own folder, as many tiles as asked for."""

import sys
from pathlib import Path

import pytest

from privgen.auditing.sampler import drawn, words_of
from privgen.errors import ConfigError, InputError, PrivgenError, RuntimeFailure

MAKE = """
import sys, zlib, struct, os
count, seed, out = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
def chunk(kind, data):
    crc = struct.pack(">I", zlib.crc32(kind + data))
    return struct.pack(">I", len(data)) + kind + data + crc
print("this is for people")
for number in range(count + {more}):
    rows = 8 * (bytes([0]) + bytes((number + seed + k) % 256 for k in range(24)))
    data = b"\\x89PNG\\r\\n\\x1a\\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", 8, 8, 8, 2, 0, 0, 0))
    data += chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    open(os.path.join(out, "%d.png" % number), "wb").write(data)
sys.exit({code})
"""


def maker(folder: Path, *, more: int = 0, code: int = 0) -> str:
    file = folder / "make tiles.py"
    file.write_text(MAKE.replace("{more}", str(more)).replace("{code}", str(code)))
    return f"{sys.executable} '{file}' {{n}} {{seed}} {{out}}"


def test_tiles_of_a_process_are_opened_and_their_folder_goes(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    with drawn(maker(tmp_path), count=5, seed=3) as tiles:
        assert len(tiles) == 5
        assert tiles.load()[0, 0, 0, 0] == 3
        root = tiles.root
    assert root is not None
    assert not root.exists()
    assert capfd.readouterr().out == ""


@pytest.mark.parametrize(
    ("command", "kind", "rule"),
    [
        ("true {n}", ConfigError, "lacks {out}"),
        ("true {out} {seed}", ConfigError, "lacks {n}"),
        ("'true {n} {out}", ConfigError, "is none"),
        ("no-such-program {n} {out}", ConfigError, "no program 'no-such-program'"),
        ("true {n} {out}", InputError, "wrote no tile"),
        ("false {n} {out}", RuntimeFailure, "ended with code 1"),
        ("true {n} {out}; touch hacked", InputError, "wrote no tile"),
    ],
)
def test_a_sampler_that_does_not_work_is_one_line(
    command: str,
    kind: type[PrivgenError],
    rule: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(kind, match=rule) as caught, drawn(command, count=5, seed=0):
        pass
    assert "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("more", "code", "rule"), [(1, 0, "asked for 5, got 6"), (0, 7, "ended with code 7")]
)
def test_another_number_of_tiles_and_a_failure_are_refused(
    more: int, code: int, rule: str, tmp_path: Path
) -> None:
    with (
        pytest.raises(PrivgenError, match=rule),
        drawn(maker(tmp_path, more=more, code=code), count=5, seed=0),
    ):
        pass


def test_words_are_those_of_a_shell() -> None:
    assert words_of("env A='b c' x {n} {out}") == ["env", "A=b c", "x", "{n}", "{out}"]

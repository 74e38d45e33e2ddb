"""Fetching published weights, against a server on this machine."""

import hashlib
import threading
from collections.abc import Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import pytest

from privgen.encoders import weights
from privgen.encoders.weights import PublishedWeights, cache_folder, locate
from privgen.errors import DiskFullError, WeightsError

CONTENT = bytes(range(256)) * 5000


class Server(ThreadingHTTPServer):
    """Serves `CONTENT` whole, cut short, with a byte changed or too long, late, or not at all."""

    daemon_threads = False  # closing the server waits for the answer it is giving

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.requests: list[str] = []
        self.closing = threading.Event()


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        self.server.requests.append(self.path)
        kind = self.path.split("/")[1]
        body = {"changed": b"\1" + CONTENT[1:], "longer": CONTENT + b"\0" * 10**6}.get(
            kind, CONTENT
        )
        if kind == "missing":
            self.send_error(404)
            return
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if kind == "late":
            self.wfile.write(body[:100])
            self.server.closing.wait(20)
            return
        self.wfile.write(body[: len(body) // 2] if kind == "short" else body)

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def server() -> Iterator[Server]:
    running = Server()
    thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    yield running
    running.closing.set()
    running.shutdown()
    running.server_close()
    thread.join()


@pytest.fixture(autouse=True)
def own_caches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv("TORCH_HOME", raising=False)
    monkeypatch.delenv("PRIVGEN_CACHE", raising=False)
    return tmp_path / "cache"


@pytest.fixture
def patience(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """How long each request may wait for an answer, in the order of the requests."""
    waits: list[float] = []

    def asked(url: str, *, timeout: float) -> Any:
        waits.append(timeout)
        return urlopen(url, timeout=timeout)

    monkeypatch.setattr(weights, "urlopen", asked)
    return waits


def published(server: Server, kind: str = "whole") -> PublishedWeights:
    return PublishedWeights(
        title="Test",
        url=f"http://127.0.0.1:{server.server_port}/{kind}/net-1234.pth",
        sha256=hashlib.sha256(CONTENT).hexdigest(),
        size=len(CONTENT),
        option="`test_weights`",
    )


def test_a_download_arrives_whole_and_happens_once(server: Server, own_caches: Path) -> None:
    first = locate(published(server))
    assert first == own_caches / "privgen" / "net-1234.pth"
    assert first.read_bytes() == CONTENT
    assert locate(published(server)) == first
    assert server.requests == ["/whole/net-1234.pth"]


@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        ("changed", "another SHA-256"),
        ("longer", "another SHA-256"),
        ("short", "another SHA-256|IncompleteRead"),
        ("missing", "404"),
    ],
)
def test_a_bad_download_leaves_nothing_and_says_why(server: Server, kind: str, reason: str) -> None:
    with pytest.raises(WeightsError, match=reason) as caught:
        locate(published(server, kind))
    assert "\n" not in str(caught.value)
    assert "`test_weights`" in str(caught.value)
    assert list(cache_folder().iterdir()) == []


def test_a_server_that_falls_silent_is_left_soon(
    server: Server, patience: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert weights.PATIENCE <= 5
    monkeypatch.setattr(weights, "PATIENCE", 0.3)
    with pytest.raises(WeightsError, match="timed out"):
        locate(published(server, "late"))
    assert patience == [0.3]
    assert list(cache_folder().iterdir()) == []


def test_a_server_that_is_not_there_is_left_soon(patience: list[float]) -> None:
    with pytest.raises(WeightsError, match="could not be fetched"):
        locate(
            PublishedWeights(
                title="Test", url="http://127.0.0.1:9/a.pth", sha256="0", size=1, option="`x`"
            )
        )
    assert patience == [weights.PATIENCE]


def test_a_disk_without_room_is_told_before_the_download(server: Server) -> None:
    with pytest.raises(DiskFullError):
        locate(replace(published(server), size=2**60))
    assert server.requests == []


def test_the_first_digits_of_a_digest_suffice_where_no_more_are_published(server: Server) -> None:
    whole = published(server)
    begun = replace(whole, sha256=whole.sha256[:8], size=len(CONTENT) + 700)
    assert locate(begun).read_bytes() == CONTENT
    assert locate(begun).read_bytes() == CONTENT
    assert len(server.requests) == 1


@pytest.mark.parametrize("digits", ["00000000", "", "short"])
def test_other_or_too_few_digits_accept_nothing(server: Server, digits: str) -> None:
    whole = published(server)
    wanted = whole.sha256[:7] if digits == "short" else digits
    with pytest.raises(WeightsError, match=r"another SHA-256.*MiB, SHA-256 .*\.\.\.\)"):
        locate(replace(whole, sha256=wanted))
    assert list(cache_folder().iterdir()) == []


def test_privgens_own_variable_names_the_cache(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PRIVGEN_CACHE", str(tmp_path / "mine"))
    assert locate(published(server)) == tmp_path / "mine" / "net-1234.pth"
    with pytest.raises(WeightsError, match=r"place it in \$PRIVGEN_CACHE,"):
        locate(replace(published(server, "missing"), url="http://127.0.0.1:9/other.pth"))


def test_a_named_file_is_used_where_it_lies(server: Server, tmp_path: Path) -> None:
    copy = tmp_path / "renamed.pth"
    copy.write_bytes(CONTENT)
    assert locate(published(server), given=copy) == copy
    assert server.requests == []


def test_a_named_file_with_other_bytes_is_refused(server: Server, tmp_path: Path) -> None:
    other = tmp_path / "other.pth"
    other.write_bytes(CONTENT[:-1])
    with pytest.raises(WeightsError, match=r"must be the published file net-1234\.pth"):
        locate(published(server), given=other)
    assert server.requests == []


def test_no_message_names_a_folder_of_this_machine(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = []
    for given in (None, tmp_path / "none.pth", Path(__file__)):
        with pytest.raises(WeightsError) as caught:
            locate(published(server, "missing"), given=given)
        lines.append(str(caught.value))
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    with pytest.raises(WeightsError, match=r"~/\.cache/privgen") as caught:
        locate(published(server, "missing"))
    lines.append(str(caught.value))
    for line in lines:
        assert str(tmp_path) not in line
        assert str(Path(__file__).parent) not in line


def test_a_named_file_that_is_missing_is_refused(server: Server, tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="cannot be read"):
        locate(published(server), given=tmp_path / "none.pth")


def test_a_copy_in_pytorchs_cache_is_used(server: Server, own_caches: Path) -> None:
    folder = own_caches / "torch" / "hub" / "checkpoints"
    folder.mkdir(parents=True)
    (folder / "net-1234.pth").write_bytes(CONTENT)
    assert locate(published(server)) == folder / "net-1234.pth"
    assert server.requests == []


def test_another_file_under_that_name_in_pytorchs_cache_is_passed_over(
    server: Server, own_caches: Path
) -> None:
    folder = own_caches / "torch" / "hub" / "checkpoints"
    folder.mkdir(parents=True)
    (folder / "net-1234.pth").write_bytes(b"something else")
    assert locate(published(server)).read_bytes() == CONTENT


def test_a_copy_placed_by_hand_and_cut_short_is_named(server: Server) -> None:
    cache_folder().mkdir(parents=True)
    (cache_folder() / "net-1234.pth").write_bytes(CONTENT[:1000])
    with pytest.raises(WeightsError, match="must be the published file"):
        locate(published(server))


@pytest.mark.parametrize(
    ("variables", "folder"),
    [
        ({"PRIVGEN_CACHE": "own", "XDG_CACHE_HOME": "xdg"}, "own"),
        ({"XDG_CACHE_HOME": "xdg"}, "xdg/privgen"),
        ({}, ".cache/privgen"),
    ],
)
def test_the_users_cache_is_where_the_variables_say(
    variables: dict[str, str], folder: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("PRIVGEN_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, str(tmp_path / value))
    assert cache_folder() == tmp_path / folder

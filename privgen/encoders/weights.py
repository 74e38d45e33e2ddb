"""Published network weights that come with no package: where they are kept and how they arrive.

A file is used only when its SHA-256 is the published one: a number called "FID" computed with any
other network would be silently wrong. It is looked for where the caller says, then in privgen's own
cache, then in PyTorch's, where other tools may have left it, and downloaded last. A machine without
a network learns so within seconds and is told which file to place where. Messages end up in
reports, so they name no folder of this machine.
"""

import hashlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path
from urllib.error import HTTPError, URLError
from urllib.request import urlopen

from privgen.errors import WeightsError
from privgen.files import atomic_write, require_free_space, sha256_file
from privgen.phases import phase

PATIENCE = 5.0
"""Seconds without one byte after which a server counts as unreachable."""

_CHUNK = 2**20
_FEWEST_DIGITS = 8


@dataclass(frozen=True, kw_only=True)
class PublishedWeights:
    """One published file.

    Attributes:
      title: what it is, in words.
      url: where its authors publish it; the last part is its name.
      sha256: of its bytes, 64 hex digits; or the first 8 or more, where no more are published.
      size: bytes; rounded up, where only a rounded figure is published.
      option: what to pass to name a local copy.
    """

    title: str
    url: str
    sha256: str
    size: int
    option: str

    @property
    def name(self) -> str:
        """Its file name."""
        return self.url.rsplit("/", 1)[-1]

    def accepts(self, digest: str) -> bool:
        """Whether a file with this SHA-256 is the published one."""
        return len(self.sha256) >= _FEWEST_DIGITS and digest.startswith(self.sha256)

    @property
    def digest_in_words(self) -> str:
        """What its SHA-256 is, as far as it is published."""
        return self.sha256 if len(self.sha256) == 64 else f"{self.sha256}..."


def cache_folder() -> Path:
    """Where privgen keeps what it can get again.

    `$PRIVGEN_CACHE`, else `$XDG_CACHE_HOME/privgen`, else `~/.cache/privgen`.
    """
    own = os.environ.get("PRIVGEN_CACHE")
    return Path(own) if own else _user_cache() / "privgen"


def locate(published: PublishedWeights, *, given: Path | None = None) -> Path:
    """A verified copy of `published` on this machine, downloaded if need be.

    Args:
      published: the file wanted.
      given: a copy the caller named; then no other place is tried.

    Raises:
      WeightsError: `given`, or what lies in the cache, is not that file; or there is no copy and
        the download failed.
    """
    if given is not None:
        _require_published(published, given)
        return given
    own = cache_folder() / published.name
    if own.is_file():
        _require_published(published, own)
        return own
    torch_home = Path(os.environ.get("TORCH_HOME") or _user_cache() / "torch")
    shared = torch_home / "hub" / "checkpoints" / published.name
    if shared.is_file() and published.accepts(sha256_file(shared)):
        return shared
    try:
        own.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        reason = f"cannot create {_cache_in_words()}: {error.strerror}"
        raise _unavailable(published, reason) from error
    _download(published, own)
    return own


def _cache_in_words() -> str:
    if os.environ.get("PRIVGEN_CACHE"):
        return "$PRIVGEN_CACHE"
    return "$XDG_CACHE_HOME/privgen" if os.environ.get("XDG_CACHE_HOME") else "~/.cache/privgen"


def _user_cache() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")


def _require_published(published: PublishedWeights, given: Path) -> None:
    try:
        found = sha256_file(given)
    except OSError as error:
        raise WeightsError(
            f"the {published.title} weights cannot be read from {given.name} ({error.strerror}). "
            f"Give the path of {published.name}."
        ) from error
    if not published.accepts(found):
        raise WeightsError(
            f"the {published.title} weights must be the published file {published.name} with "
            f"SHA-256 {published.digest_in_words}: {given.name} has {found}. Fetch it from "
            f"{published.url}"
        )


def _download(published: PublishedWeights, target: Path) -> None:
    require_free_space(target.parent, published.size)
    digest = hashlib.sha256()
    with (
        atomic_write(target) as stream,
        phase(f"fetching {published.name}, bytes", total=published.size) as fetching,
    ):
        for chunk in _chunks(published):
            digest.update(chunk)
            stream.write(chunk)
            fetching.advance(len(chunk))
        if not published.accepts(digest.hexdigest()):
            raise _unavailable(published, "what the server sent has another SHA-256")


def _chunks(published: PublishedWeights) -> Iterator[bytes]:
    """What the server sends, at most a byte too many; network trouble is a `WeightsError`."""
    left = published.size + 1
    try:
        with urlopen(published.url, timeout=PATIENCE) as response:
            while left > 0 and (chunk := response.read(min(_CHUNK, left))):
                left -= len(chunk)
                yield chunk
    except (OSError, HTTPException, ValueError) as error:
        if isinstance(error, HTTPError):
            error.close()  # it is also the server's answer, and holds the connection
        cause = error.reason if type(error) is URLError else error
        raise _unavailable(published, " ".join(str(cause).split()) or "no answer") from error


def _unavailable(published: PublishedWeights, reason: str) -> WeightsError:
    return WeightsError(
        f"the {published.title} weights are not on this machine and could not be fetched "
        f"({reason}). Download {published.name} ({published.size / 2**20:.0f} MiB, SHA-256 "
        f"{published.digest_in_words}) from {published.url} and place it in {_cache_in_words()}, "
        f"or pass {published.option}"
    )

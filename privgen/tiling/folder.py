"""The folder of a tiling run: whose it is, and what may go on in it.

`tiling.json` is written before the first tile. It holds the settings, which a run that goes on must
share, and what tells the key of the pseudonyms from another one.
"""

import json
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path

from privgen.errors import ConfigError, OutputError
from privgen.files import empty_folder, sha256_file, write_json
from privgen.tiling.document import RunSettings
from privgen.tiling.job import THUMBNAILS, Stain
from privgen.tiling.names import Names
from privgen.tiling.parts import FOLDER
from privgen.tiling.settings import TilingSettings

PARAMETERS = "tiling.json"


def prepare(out: Path, private: Path, key: Path) -> None:
    """Make the folders; the key and the pictures never lie among the tiles.

    Raises:
      ConfigError: they would.
      OutputError: a folder cannot be made, or `out` holds something else.
    """
    for what, path in (("`private`", private), ("`key`", key)):
        if path.resolve().is_relative_to(out.resolve()):
            raise ConfigError(
                f"{what} must lie outside the tiles, which may be shared: {path} is inside {out}. "
                "Give another place."
            )
    if not (out / PARAMETERS).is_file():
        _require_new(out)
    try:
        private.mkdir(mode=0o700, parents=True, exist_ok=True)
        (private / THUMBNAILS).mkdir(mode=0o700, exist_ok=True)
    except OSError as error:
        raise OutputError(f"cannot create {private}: {error.strerror or error}") from error


def _require_new(out: Path) -> None:
    """Make the folder, or accept it when it holds nothing but what a killed first start leaves."""
    if out.is_dir() and all(
        file.name == ".lock" or file.name.startswith(".partial-") for file in out.iterdir()
    ):
        return
    empty_folder(out)


def claim(out: Path, settings: TilingSettings, stain: Stain | None, names: Names) -> None:
    """Say what the folder is, or refuse what it is not; as long as nothing is cut, it is anything.

    Raises:
      ConfigError: it holds tiles cut with other settings or named with another key.
      OutputError: what it says of itself cannot be read.
    """
    asked: Mapping[str, object] = described(settings, stain)
    whose = {"version": version("privgen"), "settings": asked, "key": names.check}
    if not (out / PARAMETERS).is_file() or not any((out / FOLDER).glob("*.json")):
        write_json(out / PARAMETERS, whose)
        return
    try:
        found = json.loads((out / PARAMETERS).read_bytes())
        before, key = dict(found["settings"]), found["key"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise OutputError(
            f"{out / PARAMETERS} cannot be read as a tiling run's. Give a new `out`."
        ) from error
    if key != names.check:
        raise ConfigError(
            f"the slides in {out} have pseudonyms of another key: under this one they would stand "
            "there twice. Give that key with `key`, or a new `out`."
        )
    differing = [
        f"{name} {before.get(name)} (now {asked.get(name)})"
        for name in sorted({*asked, *before})
        if asked.get(name) != before.get(name)
    ]
    if differing:
        raise ConfigError(
            f"{out} holds tiles cut otherwise: {', '.join(differing)}. Give the same settings to "
            "go on, or a new `out`."
        )


def described(settings: TilingSettings, stain: Stain | None) -> RunSettings:
    """The settings as `tiling.json` holds them; the target tile is told by its digest."""
    method, target = (None, None) if stain is None else (stain[0], sha256_file(stain[1]))
    return {**settings.as_dict(), "stain": method, "stain_target": target}

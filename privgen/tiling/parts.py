"""What was cut from one slide: written when its last tile is, so that its being there says "done".

`parts/<slide>.json` holds the manifest's columns for the tiles of one slide, and what they were cut
with. A run that goes on keeps the slides whose part fits; everything else is cut again. The
manifest is the parts put together in order of the slides' pseudonyms, so it does not depend on who
cut what, or when.
"""

import hashlib
import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from privgen.data.manifest import write_manifest
from privgen.files import atomic_write
from privgen.tiling.annotated import Annotated


@dataclass(frozen=True, kw_only=True)
class Row:
    """One tile in the manifest.

    Attributes:
      path: None until it has been written.
      label: its class.
      patient: "" where it is not known.
      slide: pseudonym.
      x, y: pixels of the tile's own resolution.
      level: of the slide, that it was read from.
      mpp: micrometres per pixel.
      tissue, white, sharpness, pen, fold: scores, see `data.tissue.quality`.
      sha256: of its pixels.
    """

    path: str | None
    label: str
    patient: str
    slide: str
    x: int
    y: int
    level: int
    mpp: float
    tissue: float
    white: float
    sharpness: float
    pen: float
    fold: float
    sha256: str


COLUMNS = tuple(field.name for field in fields(Row))
"""Of the manifest, in order."""

PARQUET_ABOVE = 100_000
"""Rows from which on the manifest is Parquet instead of CSV."""

FOLDER, SHARDS = "parts", "shards"

FORMAT = 2
"""Of pixels, scores and rows: raised whenever the same settings would give others."""

Columns = dict[str, list[Any]]


@dataclass(frozen=True, kw_only=True)
class SlidePart:
    """The finished work on one slide.

    Attributes:
      slide: its pseudonym.
      made_by: digest of everything that decides the tiles (`made_by`).
      candidates: tiles of the grid before any rule.
      micrometres: micrometres per pixel of the slide's level 0, stored or given.
      unstained: tiles that stain normalisation returned as they were.
      columns: `COLUMNS`, a value per tile; patients that are unknown are "".
      annotated: what became of the slide's annotations, where there were any.
      listed: what became of listed places, in counts, where there was a list.
      unseen: levels that the file holds and OpenSlide does not show.
    """

    slide: str
    made_by: str
    candidates: int
    micrometres: float
    unstained: int
    columns: Columns
    annotated: Annotated | None = None
    listed: Mapping[str, int] | None = None
    unseen: int = 0

    def __len__(self) -> int:
        return len(self.columns["path"])

    def write(self, out: Path) -> None:
        """Write it, durably, after the tiles it names."""
        folder = out / FOLDER
        folder.mkdir(exist_ok=True)
        text = json.dumps(
            {
                "slide": self.slide,
                "made_by": self.made_by,
                "candidates": self.candidates,
                "mpp": self.micrometres,
                "unstained": self.unstained,
                "annotated": None if self.annotated is None else self.annotated.as_dict(),
                "listed": None if self.listed is None else dict(self.listed),
                "unseen": self.unseen,
                "columns": self.columns,
            }
        )
        with atomic_write(folder / f"{self.slide}.json") as stream:
            stream.write(text.encode())

    def complete(self, out: Path) -> bool:
        """Every file it names is there and not empty."""
        files = {_file(path) for path in self.columns["path"]}
        try:
            return all((out / file).stat().st_size > 0 for file in files)
        except OSError:
            return False

    def withdraw(self, out: Path) -> None:
        """Take it back: first the manifests that name its tiles, then itself, then the tiles."""
        for kind in _KINDS:
            (out / f"manifest.{kind}").unlink(missing_ok=True)
        (out / FOLDER / f"{self.slide}.json").unlink(missing_ok=True)
        clear_tiles(out, self.slide)


def clear_tiles(out: Path, slide: str) -> None:
    """Remove every tile and shard of a slide; class folders stay, others are at work there."""
    for folder in out.glob(f"*/{slide}"):
        shutil.rmtree(folder)
    for shard in (out / SHARDS).glob(f"{slide}-*.tar"):
        shard.unlink(missing_ok=True)


def clear_unfinished(out: Path) -> None:
    """Remove what killed runs left: locks, and tiles of slides that have no part."""
    for lock in (out / FOLDER).glob("*.lock"):
        lock.unlink(missing_ok=True)
    finished = {file.stem for file in (out / FOLDER).glob("*.json")}
    folders = (folder.name for folder in out.glob("*/s-*") if folder.is_dir())
    shards = (file.name.rpartition("-")[0] for file in (out / SHARDS).glob("s-*.tar"))
    for slide in {*folders, *shards} - finished:
        clear_tiles(out, slide)


def _file(path: str) -> str:
    """The file that holds a tile: itself, or the shard it lies in."""
    before, tar, _ = path.partition(".tar/")
    return before + ".tar" if tar else path


def read_part(out: Path, slide: str) -> SlidePart | None:
    """The part of a slide; None where there is none, or it cannot be read."""
    try:
        known = json.loads((out / FOLDER / f"{slide}.json").read_bytes())
        return SlidePart(
            slide=known["slide"],
            made_by=known["made_by"],
            candidates=known["candidates"],
            micrometres=known["mpp"],
            unstained=known["unstained"],
            columns={name: known["columns"][name] for name in COLUMNS},
            annotated=known["annotated"] and Annotated(**known["annotated"]),
            listed=known["listed"],
            unseen=known["unseen"],
        )
    except (OSError, ValueError, KeyError, TypeError):
        return None


def read_parts(out: Path) -> list[SlidePart]:
    """Every part of a run, in order of the slides' pseudonyms."""
    found = (read_part(out, file.stem) for file in sorted((out / FOLDER).glob("*.json")))
    return [part for part in found if part is not None]


def made_by(what: Mapping[str, object]) -> str:
    """Digest of everything that decides the tiles of a slide, 64 hex digits."""
    text = json.dumps({"format": FORMAT, **what}, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def write_joined(out: Path, parts: list[SlidePart]) -> Path:
    """Write the manifest of all parts; an earlier one of the other kind goes.

    Where the patient is known for some slides only, each of the others stands for one of its own,
    under its slide's digits: a split by patient needs one for every tile.

    Returns:
      `manifest.csv`, or above `PARQUET_ABOVE` tiles `manifest.parquet`.
    """
    columns: Columns = {}
    for name in COLUMNS:
        columns[name] = [value for part in parts for value in part.columns[name]]
        if name == "mpp":  # x and y are pixels of the tiles' own resolution
            columns["xy_mpp"] = columns["mpp"]
    if any(columns["patient"]):
        columns["patient"] = [
            patient or "p-" + slide.partition("-")[2]
            for patient, slide in zip(columns["patient"], columns["slide"], strict=True)
        ]
    many = len(columns["path"]) > PARQUET_ABOVE
    path, other = (out / f"manifest.{kind}" for kind in (_KINDS if many else _KINDS[::-1]))
    write_manifest(path, columns)
    other.unlink(missing_ok=True)
    return path


_KINDS = ("parquet", "csv")

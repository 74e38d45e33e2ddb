"""Classes of tiles: one a slide, from a table, or by region, from GeoJSON as QuPath exports it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from privgen.data.layouts import FLAT_CLASS
from privgen.data.tileset import is_folder_name
from privgen.errors import ConfigError, SlideError
from privgen.tiling import annotations
from privgen.tiling.names import known_as, read_slide_table
from privgen.tiling.regions import Regions

RESERVED = frozenset(
    {"parts", "shards", "manifest.csv", "manifest.parquet", "tiling.json", "log.jsonl"}
)
"""Names in the output folder that no class may have."""


@dataclass(frozen=True, eq=False)
class LabelSource:
    """Where the classes come from.

    Attributes:
      table: class by the slide's stem, for classes that hold for whole slides.
      folder: folder of `<stem>.geojson`, for classes by region.
    """

    table: Mapping[str, str] | None = field(repr=False, default=None)
    folder: Path | None = field(repr=False, default=None)

    @property
    def classes(self) -> tuple[str, ...]:
        """All classes there are, sorted, where a table says so; else empty."""
        return tuple(sorted(set(self.table.values()))) if self.table else ()

    def of_slide(self, stem: str) -> tuple[str | None, Path | None]:
        """The class of all tiles of a slide, or its GeoJSON; exactly one of the two is None.

        Raises:
          SlideError: this slide has none.
        """
        if self.table is not None:
            if known_as(stem) not in self.table:
                raise SlideError(
                    stem, "has no row in the table of labels. Add one, or leave the slide out."
                )
            return self.table[known_as(stem)], None
        if self.folder is not None:
            regions = self.folder / f"{stem}.geojson"
            if not regions.is_file():
                raise SlideError(
                    stem, "has no GeoJSON in the folder of labels. Add one, or leave it out."
                )
            return None, regions
        return FLAT_CLASS, None


def open_labels(path: Path | None) -> LabelSource:
    """Open what --labels names.

    Args:
      path: a CSV with the columns slide and label, a folder of `<stem>.geojson`, or None: then
        every tile is of the class `FLAT_CLASS`.

    Raises:
      ConfigError: it is neither, or a label cannot be a folder's name.
    """
    if path is None:
        return LabelSource()
    if path.is_dir():
        return LabelSource(folder=path)
    table = read_slide_table(path, "label")
    for label in table.values():
        if not _usable(label):
            raise ConfigError(
                f"a label must be usable as a folder's name: {path.name} has {label!r}. Use "
                "letters, digits, - and _."
            )
    return LabelSource(table=table)


def _usable(label: str) -> bool:
    """Whether a class can be a folder among the output's own files."""
    return is_folder_name(label) and label.casefold() not in RESERVED


def read_regions(path: Path) -> Regions:
    """Read the regions of one slide, whose classes become folders.

    Args:
      path: as for `annotations.read_regions`.

    Raises:
      SlideError: as there, or a class cannot be a folder's name.
    """
    regions = annotations.read_regions(path)
    if not all(map(_usable, regions.labels)):
        raise SlideError(
            str(path),
            "the class of a region must be usable as a folder's name. Use letters, digits, - and "
            "_.",
        )
    return regions

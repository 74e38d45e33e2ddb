"""Classes of tiles: one per slide, from a table, or by region, from GeoJSON as QuPath writes it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from privgen.data import class_names
from privgen.data.class_names import FLAT_CLASS
from privgen.errors import ConfigError, SlideError
from privgen.tiling import annotations
from privgen.tiling.names import known_as, read_slide_table
from privgen.tiling.regions import Regions


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

    def of_slide(self, *stems: str) -> tuple[str | None, Path | None]:
        """The class of all tiles of a slide, or its GeoJSON; exactly one of the two is None.

        Args:
          stems: what the slide may be called: its stem, or the names of a DICOM series.

        Raises:
          SlideError: this slide has none, or several.
        """
        name = stems[0]
        if self.table is not None:
            rows = {self.table[known_as(stem)] for stem in stems if known_as(stem) in self.table}
            if not rows:
                raise SlideError(
                    name, "has no row in the table of labels. Add one, or leave the slide out."
                )
            if len(rows) > 1:
                raise SlideError(name, "has rows of several labels in their table. Keep one row.")
            return rows.pop(), None
        if self.folder is not None:
            files = [self.folder / f"{stem}.geojson" for stem in stems]
            files = [path for path in files if path.is_file()]
            if not files:
                raise SlideError(
                    name, "has no GeoJSON in the folder of labels. Add one, or leave it out."
                )
            if len(files) > 1:
                raise SlideError(
                    name, "has several GeoJSON in the folder of labels, one per file. Keep one."
                )
            return None, files[0]
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
        if refused := class_names.refusal(label):
            raise ConfigError(f"{path.name}: {refused}")
    return LabelSource(table=table)


def _usable(label: str) -> bool:
    """Whether a class can be a folder among the output's own files."""
    return class_names.fault_of(label) is None


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

"""The slides that a call names: files, DICOM files of one series, folders of series.

A slide is one file, known by its stem, except in DICOM: there it is one series, however it was
given (a file of it, all of them, its folder), and its pseudonym is made of the series' own UID.
Tables may name a series by its folder, where that holds no other, by any of its files, or by UID.
"""

from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from privgen.data.dicom_header import is_dicom, series_of
from privgen.errors import ConfigError
from privgen.tiling.names import known_as, slide_names


@dataclass(frozen=True)
class Given:
    """One slide.

    Attributes:
      name: what its pseudonym is made of.
      path: what is opened.
      stems: what tables and regions may call it; what stands for other slides too is left out.
      files: all that it is made of.
      series: it is a DICOM series.
    """

    name: str
    path: Path = field(repr=False)
    stems: tuple[str, ...] = field(repr=False)
    files: tuple[Path, ...] = field(repr=False)
    series: bool = False

    @property
    def telling(self) -> tuple[str, ...]:
        """Stems that people chose; a UID tells nothing of a patient."""
        return tuple(stem for stem in self.stems if not (self.series and stem == self.name))


@dataclass(frozen=True)
class Gathered:
    """All slides of a call.

    Attributes:
      slides: in the order given.
      shared: names that fit several of them.
      passed: slides of other formats in folders, which were not read.
    """

    slides: tuple[Given, ...]
    shared: frozenset[str] = field(repr=False)
    passed: int

    @property
    def warnings(self) -> list[str]:
        """What should be read; it names nobody."""
        if not self.passed:
            return []
        return [
            f"folders are read for their DICOM series alone: {self.passed} files of other formats "
            "in them were not cut. Name them."
        ]

    def require_clear(self, *tables: Collection[str] | None) -> None:
        """Refuse tables with a row that fits several slides.

        Raises:
          ConfigError: it says which name.
        """
        for name in sorted(self.shared):
            if any(table is not None and name in table for table in tables):
                raise ConfigError(
                    f"a row must name one slide: {name} fits several. Name the folder of a DICOM "
                    "series, or its SeriesInstanceUID."
                )


_ELSE = frozenset({".svs", ".ndpi", ".mrxs", ".scn", ".bif", ".svslide", ".vms", ".vmu", ".czi"})
_INDEX = "dicomdir"


def gather(paths: Iterable[Path]) -> Gathered:
    """The slides that files and folders stand for.

    Args:
      paths: files, or folders that hold DICOM series; a folder without one stands for itself, and
        will be refused as a slide.

    Raises:
      ConfigError: two files have one stem, or files of one series lie in two folders.
    """
    folders: dict[Path, dict[str, list[Path]]] = {}
    places: dict[str, Path] = {}  # of each series
    order: list[str | Path] = []  # series, and files that are of none
    passed = 0
    for path in paths:
        folder = path if path.is_dir() else path.parent
        uids = [series_of(path)] if folder is not path else list(_series_in(folder, folders))
        alone = [path] if uids == [None] else []
        if folder is path:
            alone = _nameless_in(path)
            alone = alone if uids or alone else [path]
            passed += _others_in(path) if uids else 0
        for uid in filter(None, uids):
            files = _series_in(folder, folders).setdefault(uid, [])
            files += [] if files else [path]  # the folder may not be listed, the file be read
            before = places.setdefault(uid, folder)
            if before.resolve() != folder.resolve():
                raise ConfigError(
                    f"a DICOM series must lie in one folder: got files of one in {before} and "
                    f"{folder}. Leave one out."
                )
            order.append(uid)
        order += alone
    slide_names(path for path in order if isinstance(path, Path))
    slides = [
        _of_series(one, places[one], folders[places[one]])
        if isinstance(one, str)
        else Given(one.stem, one, (one.stem,), (one,))
        for one in _once(order)
    ]
    counts = Counter(stem for slide in slides for stem in {*map(known_as, slide.stems)})
    shared = frozenset(stem for stem, count in counts.items() if count > 1)
    cleared = [
        replace(slide, stems=tuple(stem for stem in slide.stems if known_as(stem) not in shared))
        if slide.series
        else slide
        for slide in slides
    ]
    return Gathered(tuple(cleared), shared, passed)


def _once(order: Iterable[str | Path]) -> list[str | Path]:
    """Each series where it first came; files stay, for `slide_names` has judged them."""
    return list(dict.fromkeys(order))


def one_of(slide: Given, table: Mapping[str, str], what: str) -> str | None:
    """What a table says of a slide; None where it has no row.

    Raises:
      ConfigError: rows of one slide differ.
    """
    said = {table[known_as(stem)] for stem in slide.stems if known_as(stem) in table}
    if len(said) > 1:
        raise ConfigError(
            f"a DICOM series is one slide and has one {what}: the rows of the files in "
            f"{slide.path.parent} name {len(said)}. Keep one row."
        )
    return next(iter(said), None)


def _series_in(folder: Path, known: dict[Path, dict[str, list[Path]]]) -> dict[str, list[Path]]:
    """Files of each series in a folder, in order of their names."""
    if folder not in known:
        found: dict[str, list[Path]] = {}
        for path in _files_in(folder):
            uid = series_of(path)
            if uid is not None:
                found.setdefault(uid, []).append(path)
        known[folder] = found
    return known[folder]


def _nameless_in(folder: Path) -> list[Path]:
    """DICOM files that name no series: damaged ones, which must not pass unseen."""
    return [
        path
        for path in _files_in(folder)
        if path.name.casefold() != _INDEX and is_dicom(path) and series_of(path) is None
    ]


def _others_in(folder: Path) -> int:
    return sum(path.suffix.lower() in _ELSE and not is_dicom(path) for path in _files_in(folder))


def _files_in(folder: Path) -> list[Path]:
    try:
        return sorted(path for path in folder.iterdir() if path.is_file())
    except OSError:
        return []


def _of_series(uid: str, folder: Path, inside: Mapping[str, list[Path]]) -> Given:
    files = inside[uid]
    alone = [folder.resolve().name] if len(inside) == 1 else []
    stems = dict.fromkeys([uid, *alone, *(path.stem for path in files)])
    largest = max(files, key=lambda path: (path.stat().st_size, path.name))
    return Given(uid, largest, tuple(stems), tuple(files), series=True)

"""Opening tiles as people have them: class folders, a manifest, an archive, a flat folder.

A folder with a `manifest.csv` or `manifest.parquet`, or such a file by itself, is a manifest
(`privgen.data.manifest`), whose tiles may lie in tar shards (`privgen.data.tar_members`); an
`.npz` is an archive (`privgen.data.archive`); any other folder holds class folders or, with
`flat=True`, images. Published data sets are known by their names (`privgen.data.public_sets`).
`TileSet.layout` says what was recognised.

Every tile is decoded once here, so that no later step can trip over a bad one; pixels are not kept.
"""

import hashlib
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Literal

from privgen.data import images
from privgen.data.archive import read_archive
from privgen.data.manifest import SUFFIXES, read_manifest
from privgen.data.public_sets import recognise
from privgen.data.tables import PARQUET
from privgen.data.tar_members import is_there
from privgen.data.tileset import DECODERS, GROUP_UNITS, GroupUnit, TileRecord, TileSet
from privgen.errors import ConfigError, LayoutError, TileError

MANIFEST = "manifest.csv"
PARQUET_MANIFEST = "manifest.parquet"
FLAT_CLASS = "all"
"""Label of every tile of a folder without classes."""

_IGNORED = frozenset(
    {"thumbs.db", "desktop.ini", "__macosx", "sample.json", MANIFEST, PARQUET_MANIFEST}
)
_IMAGE_SUFFIXES = frozenset(
    {".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp", ".gif", ".webp", ".jp2"}
)


def open_tiles(
    path: Path,
    *,
    on_bad_tile: Literal["error", "skip"] = "error",
    group_by: str | None = None,
    flat: bool = False,
    min_classes: int = 2,
) -> TileSet:
    """Open a folder, a manifest or an `.npz` archive of tiles, whichever layout it has.

    Args:
      path: what to open.
      on_bad_tile: stop at a file that cannot be used, or leave it out and list it in `skipped`.
      group_by: "patient", "slide", "source_image" or "tile"; default the first that is known.
      flat: a synthetic folder: images without class folders are one class, `FLAT_CLASS`, and one
        class is enough.
      min_classes: fewer classes than this are refused.

    Returns:
      The tiles in order of class and name, or in the manifest's order.

    Raises:
      LayoutError: the path is no tile set: missing, empty, ambiguous, one class, a bad manifest.
      TileError: a tile cannot be used and `on_bad_tile` is "error".
      ConfigError: `on_bad_tile` or `group_by` is no such word.
    """
    if on_bad_tile not in ("error", "skip"):
        raise ConfigError(f"on_bad_tile must be error or skip: got {on_bad_tile!r}.")
    if group_by is not None and group_by not in GROUP_UNITS:
        raise ConfigError(f"group_by must be one of {', '.join(GROUP_UNITS)}: got {group_by!r}.")
    path = Path(path)
    minimum = 1 if flat else min_classes
    try:
        if not path.exists():
            raise LayoutError(f"there is nothing at {path}. Check the path.")
        if path.suffix.lower() == ".npz" and path.is_file():
            tiles = read_archive(path)
            tiles = replace(tiles, group_unit=_group_unit(tiles.records, group_by))
        else:
            tiles = _open_files(path, on_bad_tile, group_by, flat, minimum)
    except OSError as error:
        raise LayoutError(
            f"{error.filename or path} cannot be read ({error.strerror}). Check its permissions."
        ) from error
    _require_classes(path, set(tiles.classes), minimum)
    return tiles


def _open_files(
    path: Path, on_bad_tile: str, group_by: str | None, flat: bool, minimum: int
) -> TileSet:
    listing = _listing(path)
    if listing.is_file():
        if listing.suffix.lower() not in SUFFIXES:
            raise LayoutError(
                "tiles come as a folder, a .csv or .parquet manifest or an .npz archive: got "
                f"{path}. Give one of these."
            )
        root = listing.parent
        records, left_aside = read_manifest(listing)
        _require_files(listing, records)
        layout = f"{'Parquet' if listing.suffix.lower() == PARQUET else 'CSV'} manifest"
        if left_aside:
            layout += f" (columns not read: {', '.join(left_aside)})"
        unlisted = _count_unlisted(root, records) if path.is_dir() else 0
        if unlisted:
            layout += f" ({unlisted} images in the folder are not listed and were left out)"
    else:
        root = path
        records, layout = _scan(root, flat)
    _require_classes(path, {record.label for record in records}, minimum)
    records, data_set = recognise(records)
    if data_set:
        layout += f", {data_set}"
    if not any(record.patient for record in records):
        layout += ", no patients known"
    _require_nesting(records)
    unit = _group_unit(records, group_by)
    usable, skipped = _check_tiles(root, records, on_bad_tile)
    if not usable:
        raise LayoutError(
            f"no tile of {path} can be used: {len(skipped)} skipped, the first {skipped[0][0]}: "
            f"{skipped[0][1]}"
        )
    return TileSet(
        root=root,
        records=usable,
        layout=layout,
        group_unit=unit,
        skipped=skipped,
        source=path,
    )


def is_manifest(path: Path) -> bool:
    """Whether a path is a manifest, or a folder with one."""
    return path.suffix.lower() in SUFFIXES or any(
        (path / name).is_file() for name in (MANIFEST, PARQUET_MANIFEST)
    )


def _listing(path: Path) -> Path:
    """The manifest in a folder; `path` itself where there is none."""
    found = [path / name for name in (MANIFEST, PARQUET_MANIFEST) if (path / name).is_file()]
    if len(found) > 1:
        raise LayoutError(
            f"a folder has one manifest: {path} holds {MANIFEST} and {PARQUET_MANIFEST}. Remove "
            "one, or give the one that holds."
        )
    return found[0] if found else path


def _require_classes(path: Path, classes: set[str], minimum: int) -> None:
    if len(classes) < minimum:
        raise LayoutError(
            f"at least {minimum} classes are needed: {path} has only {', '.join(sorted(classes))}. "
            "Give the folder that holds the class folders, or one with more classes."
        )


def _scan(root: Path, flat: bool) -> tuple[tuple[TileRecord, ...], str]:
    """Records of a folder without a manifest, and what kind of folder it is."""
    loose, folders, strays = _entries(root)
    if loose and folders:
        raise LayoutError(
            f"images must lie in class folders or beside none: {root} holds {len(loose)} images "
            f"(the first {loose[0].name}) beside {len(folders)} folders (the first "
            f"{folders[0].name}). Move one of the two away, or write a {MANIFEST}."
        )
    records = [TileRecord(path=file.name, label=FLAT_CLASS) for file in loose]
    for folder in folders:
        files, nested, inner_strays = _entries(folder)
        if nested:
            raise LayoutError(
                f"images must lie directly in class folders: {folder.name}/ holds the folder "
                f"{nested[0].name}/. Give {folder} itself if it holds the class folders, or write "
                f"a {MANIFEST}."
            )
        if not files:
            raise LayoutError(f"class folder {folder} holds no image. Fill it or remove it.")
        records += [
            TileRecord(path=f"{folder.name}/{file.name}", label=folder.name) for file in files
        ]
        strays += inner_strays
    if not records:
        raise LayoutError(f"{root} holds no image and no class folder. Give another folder.")
    if loose and not flat:
        raise LayoutError(
            f"images must lie in class folders: {root} holds {len(loose)} images and no folder. "
            f"Sort them into class folders, or write a {MANIFEST} with a label column."
        )
    layout = "flat folder without classes" if loose else "plain class folders"
    if strays:
        layout += f" ({strays} files that are no images were left aside)"
    return tuple(records), layout


def _entries(folder: Path) -> tuple[list[Path], list[Path], int]:
    """Image files and folders inside `folder`, sorted by name, and how many files are neither.

    A file counts as an image by its suffix or by its first bytes, so that a damaged one is not
    passed over in silence.
    """
    inside = sorted(
        entry
        for entry in folder.iterdir()
        if not entry.name.startswith(".") and entry.name.lower() not in _IGNORED
    )
    folders = [entry for entry in inside if entry.is_dir()]
    files = [entry for entry in inside if not entry.is_dir()]
    images_inside = [file for file in files if _looks_like_image(file)]
    return images_inside, folders, len(files) - len(images_inside)


def _looks_like_image(file: Path) -> bool:
    return file.suffix.lower() in _IMAGE_SUFFIXES or images.has_image_signature(file)


def _require_files(listing: Path, records: Sequence[TileRecord]) -> None:
    missing = [record.path for record in records if not is_there(listing.parent / record.path)]
    if missing:
        raise LayoutError(
            f"every tile of a manifest must be there: {len(missing)} of {len(records)} in "
            f"{listing} are missing, the first {missing[0]}. Put it into the folder its "
            "paths start from, or remove those rows."
        )


def _count_unlisted(root: Path, records: Sequence[TileRecord]) -> int:
    listed = {record.path for record in records}
    found = (file.relative_to(root) for file in root.rglob("*") if file.is_file())
    return sum(
        file.suffix.lower() in _IMAGE_SUFFIXES
        and not any(part.startswith(".") or part.lower() in _IGNORED for part in file.parts)
        and file.as_posix() not in listed
        for file in found
    )


def _group_unit(records: Sequence[TileRecord], group_by: str | None) -> GroupUnit:
    """The unit asked for, or the coarsest that is known for every tile."""
    for unit in GROUP_UNITS:
        if unit == "tile" or group_by not in (None, unit):
            continue
        unknown = [record.path for record in records if getattr(record, unit) is None]
        if not unknown:
            return unit
        if group_by == unit or len(unknown) < len(records):
            raise LayoutError(
                f"the {unit} must be known for every tile or for none: it is missing for "
                f"{len(unknown)} of {len(records)}, the first {unknown[0]}. Fill it in, or group "
                "by another column."
            )
    return "tile"


def _require_nesting(records: Sequence[TileRecord]) -> None:
    """A slide belongs to one patient and a source image to one slide and patient."""
    for child, parent in (
        ("slide", "patient"),
        ("source_image", "slide"),
        ("source_image", "patient"),
    ):
        owner: dict[str, str] = {}
        for record in records:
            inner, outer = getattr(record, child), getattr(record, parent)
            if inner is None or outer is None:
                continue
            if owner.setdefault(inner, outer) != outer:
                raise LayoutError(
                    f"a {child} belongs to one {parent}: {child} {inner} stands under "
                    f"{owner[inner]} and {outer} ({record.path}). Make the names unique."
                )


def _check_tiles(
    root: Path, records: Sequence[TileRecord], on_bad_tile: str
) -> tuple[tuple[TileRecord, ...], tuple[tuple[str, str], ...]]:
    """Decode every tile once; keep its size and digest, and the rule a bad one breaks."""

    def check(record: TileRecord) -> TileRecord | TileError:
        try:
            return _checked(root / record.path, record)
        except TileError as error:
            if on_bad_tile == "skip":
                return error
            raise TileError(
                error.path, f"{error.rule} Or leave such tiles out with --on-bad-tile skip."
            ) from error

    usable: list[TileRecord] = []
    skipped: list[tuple[str, str]] = []
    with ThreadPoolExecutor(DECODERS) as pool:
        for record, outcome in zip(records, pool.map(check, records), strict=True):
            if isinstance(outcome, TileRecord):
                usable.append(outcome)
            else:
                skipped.append((record.path, outcome.rule))
    return tuple(usable), tuple(skipped)


def _checked(file: Path, record: TileRecord) -> TileRecord:
    data = images.read_bytes(file)
    tile = images.decode(data, str(file))
    height, width, _ = tile.shape
    if height != width:
        raise TileError(
            str(file), f"is {width}x{height} pixels, but tiles are square. Cut squares."
        )
    digest = images.pixel_digest(tile)
    if record.sha256 not in (None, digest, hashlib.sha256(data).hexdigest()):
        raise TileError(
            str(file),
            "is not the picture its manifest names: the SHA-256 of neither its pixels nor its "
            "bytes agrees. Restore it, or correct the manifest.",
        )
    return replace(record, sha256=digest, width=width, height=height)

"""Opening tiles as people have them: class folders, a manifest, an archive, a flat folder.

A folder with a `manifest.csv` or `manifest.parquet`, or such a file by itself, is a manifest
(`privgen.data.manifest`), whose tiles may lie in tar shards (`privgen.data.tar_members`); an
`.npz` is an archive (`privgen.data.archive`); any other folder holds class folders or, with
`flat=True`, images. Published data sets are known by their names (`privgen.data.public_sets`).
`TileSet.layout` says what was recognised.

A folder is opened whole or not at all: images that its manifest does not list, or that lie where no
tile can, are refused (`privgen.data.leftovers`). A manifest given by itself is a selection, and
what it leaves out beside its tiles is counted.

Every tile is decoded once here, so that no later step can trip over a bad one; pixels are not kept.
"""

import hashlib
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

from audits.patients import Spellings
from privgen.choices import Icc, OnBadTile
from privgen.compute.cores import decoders
from privgen.data import images
from privgen.data.archive import read_archive
from privgen.data.class_names import FLAT_CLASS
from privgen.data.folders import leading_out, require_no_manifest, scan
from privgen.data.image_rows import is_image_table, row_of
from privgen.data.image_tables import read_image_tables
from privgen.data.leftovers import IGNORED, MANIFEST, PARQUET_MANIFEST, left_over
from privgen.data.manifest import SUFFIXES, read_manifest
from privgen.data.owners import GROUP_UNITS, Remark, group_unit_of, remarks_on
from privgen.data.patterns import files_of, is_pattern
from privgen.data.public_sets import recognise
from privgen.data.tables import PARQUET
from privgen.data.tar_members import SUFFIX as TAR
from privgen.data.tar_members import is_there
from privgen.data.tileset import TileRecord, TileSet
from privgen.data.webdataset import read_shards
from privgen.errors import ConfigError, LayoutError, TileError
from privgen.phases import phase


def open_tiles(
    path: Path,
    *,
    on_bad_tile: OnBadTile = "error",
    group_by: str | None = None,
    flat: bool = False,
    min_classes: int = 2,
    whole: bool = True,
    icc: Icc = "ignore",
) -> TileSet:
    """Open a folder, a manifest or an `.npz` archive of tiles, whichever layout it has.

    Args:
      path: what to open.
      on_bad_tile: stop at a file that cannot be used, or leave it out and list it in `skipped`.
      group_by: "patient", "slide", "source_image" or "tile"; default the first that is known.
      flat: a synthetic folder: images without class folders are one class, `FLAT_CLASS`, and one
        class is enough.
      min_classes: fewer classes than this are refused.
      icc: "apply" brings the colours of files with a colour profile to sRGB, "ignore" leaves them.
      whole: refuse a folder that holds images besides its tiles; False where a ledger says which
        tiles count.

    Returns:
      The tiles in order of class and name, or in the manifest's order.

    Raises:
      LayoutError: the path is no tile set: missing, empty, ambiguous, one class, a bad manifest;
        or it holds images that would be left out.
      TileError: a tile cannot be used and `on_bad_tile` is "error".
      ConfigError: `on_bad_tile` or `group_by` is no such word.
    """
    if on_bad_tile not in ("error", "skip"):
        raise ConfigError(f"on_bad_tile must be error or skip: got {on_bad_tile!r}.")
    if icc not in ("apply", "ignore"):
        raise ConfigError(f"icc must be apply or ignore: got {icc!r}.")
    if group_by is not None and group_by not in GROUP_UNITS:
        raise ConfigError(f"group_by must be one of {', '.join(GROUP_UNITS)}: got {group_by!r}.")
    path = Path(path)
    minimum = 1 if flat else min_classes
    try:
        if not exists(path):
            raise LayoutError(f"there is nothing at {path}. Check the path.")
        if path.suffix.lower() == ".npz" and path.is_file():
            tiles = read_archive(path)
            tiles = replace(tiles, group_unit=group_unit_of(tiles.records, group_by))
        else:
            tiles = _open_files(path, on_bad_tile, group_by, flat, minimum, whole, icc)
    except OSError as error:
        raise LayoutError(
            f"{error.filename or path} cannot be read ({error.strerror}). Check its permissions."
        ) from error
    _require_classes(path, set(tiles.classes), minimum)
    return tiles


def _open_files(
    path: Path,
    on_bad_tile: str,
    group_by: str | None,
    flat: bool,
    minimum: int,
    whole: bool,
    icc: Icc,
) -> TileSet:
    listing, files = _listing(path), _containers(path)
    remarks: tuple[Remark, ...] = ()
    unlisted: tuple[tuple[str, str], ...] = ()
    spellings: Mapping[str, Spellings] = {}
    if files:
        root = files[0].parent
        read = read_shards if files[0].suffix.lower() == TAR else read_image_tables
        records, spellings = read(root, files, flat=flat)
        remarks = remarks_on(spellings)
        kind = "WebDataset shards" if read is read_shards else "Parquet files of pictures"
        layout = f"{kind} ({len(files)})"
    elif listing.is_file():
        if listing.suffix.lower() not in SUFFIXES:
            raise LayoutError(
                "tiles come as a folder, a .csv or .parquet manifest, an .npz archive, or .tar or "
                f".parquet files with the pictures inside: got {path}. Give one of these."
            )
        root = listing.parent
        records, left_aside, spellings, remarks = read_manifest(listing)
        _require_files(listing, records)
        remarks += remarks_on(spellings)
        layout = f"{'Parquet' if listing.suffix.lower() == PARQUET else 'CSV'} manifest"
        if left_aside:
            # Their names may say what a hospital knows of its patients.
            layout += f" ({len(left_aside)} column{'s' * (len(left_aside) > 1)} not read)"
    else:
        root = path
        records, layout, remarks = scan(root, flat)
    _require_classes(path, {record.label for record in records}, minimum)
    records, data_set = recognise(records)
    if data_set:
        layout += f", {data_set}"
    if not any(record.patient for record in records):
        layout += ", no patients known"
    _require_nesting(records)
    unit = group_unit_of(records, group_by, spellings)
    if whole:
        more, unlisted = _left_aside(path, listing, records, on_bad_tile)
        remarks += more
    remarks += leading_out(root, records)
    usable, skipped = _check_tiles(root, records, on_bad_tile, icc)
    remarks += _profiles(usable, icc)
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
        skipped=skipped + unlisted,
        remarks=remarks,
        source=path,
        icc=icc,
    )


def _profiles(records: Sequence[TileRecord], icc: Icc) -> tuple[Remark, ...]:
    """A remark where colour profiles (ICC) decide the colours of tiles."""
    found = [record.path for record in records if record.profiled]
    done = "brought to sRGB by it" if icc == "apply" else "taken as stored"
    what = (
        f"tiles whose colours are others under their colour profile (ICC), {done} (`icc` {icc}): "
        f"{len(found)}"
    )
    return (Remark(what=what, first=found[0]),) if found else ()


def _left_aside(
    path: Path, listing: Path, records: Sequence[TileRecord], on_bad_tile: str
) -> tuple[tuple[Remark, ...], tuple[tuple[str, str], ...]]:
    """Refuse a folder that holds images besides its tiles; say what else it holds.

    A manifest given by itself leaves images out on purpose: they are counted. Where unusable tiles
    are skipped, so is an image that is not listed and that no step could use.

    Returns:
      Remarks, and (path, rule) of every image that is not listed and could not be used.

    Raises:
      LayoutError: a folder was given, and it holds images that would be left out.
    """
    root = listing if listing.is_dir() else listing.parent
    found = left_over(root, [record.path for record in records], near=not path.is_dir())
    left, unusable = [*found.pictures, *found.archived], []
    if path.is_dir() and on_bad_tile == "skip":
        for name in found.pictures:
            rule = _rule_broken(root / name)
            if rule is not None:
                left.remove(name)
                unusable.append((name, rule))
    remarks = []
    if left and path.is_dir():
        where, way = "are no tiles of its classes", "Move them away."
        if listing.is_file():
            where = f"are not listed in {listing.name}"
            way = f"List them, move them away, or give {listing} itself, which leaves them out."
        raise LayoutError(
            f"a folder of tiles is used whole: {len(left)} images in {path} (first: {left[0]}) "
            f"{where}. {way}"
        )
    if left:
        remarks.append(
            Remark(
                what="images beside the tiles that the manifest does not list, left out: "
                f"{len(left)}",
                first=left[0],
            )
        )
    if found.system:
        remarks.append(
            Remark(
                what="folders of an operating system or a network drive beside the tiles, not "
                f"looked into: {len(found.system)}",
                first=found.system[0],
            )
        )
    if found.opaque:
        remarks.append(
            Remark(
                what="files and folders beside the tiles that may hold images and could not be "
                f"looked into: {len(found.opaque)}",
                first=found.opaque[0],
            )
        )
    return tuple(remarks), tuple(unusable)


def _rule_broken(file: Path) -> str | None:
    """The rule that an image breaks which is not listed, or None where it could be a tile."""
    try:
        _checked(file, TileRecord(path=file.name, label=FLAT_CLASS), "ignore")
    except TileError as error:
        return f"is not listed, and {error.rule}"
    return None


def exists(path: Path) -> bool:
    """Whether there is something to open: a path, or files that a pattern names."""
    return path.exists() or is_pattern(path)


def _containers(path: Path) -> list[Path]:
    """The files with pictures inside that a path names: itself, a pattern's, or a folder of them.

    Raises:
      LayoutError: a pattern names nothing, or files of several kinds.
    """
    if is_pattern(path):
        files = files_of(path)
    elif path.is_dir():
        if any((path / name).is_file() for name in (MANIFEST, PARQUET_MANIFEST)):
            return []
        files = [
            entry
            for entry in sorted(path.iterdir())
            if not entry.name.startswith(".") and entry.name.lower() not in IGNORED
        ]
        if any(entry.is_dir() or entry.suffix.lower() not in (TAR, PARQUET) for entry in files):
            return []
    else:
        files = [path] if path.suffix.lower() in (TAR, PARQUET) else []
    kinds = {file.suffix.lower() for file in files}
    if kinds == {PARQUET} and (is_pattern(path) or is_image_table(files[0])):
        return files
    if kinds == {TAR}:
        return files
    if is_pattern(path) or len(kinds) > 1:
        raise LayoutError(
            f"files with pictures inside are all .tar or all .parquet: {path} names "
            f"{', '.join(sorted(kinds))}. Give one kind."
        )
    return []


def _there(file: Path) -> bool:
    return is_there(file) or row_of(file) is not None


def is_manifest(path: Path) -> bool:
    """Whether a path is a manifest, or a folder with one."""
    return path.suffix.lower() in SUFFIXES or any(
        (path / name).is_file() for name in (MANIFEST, PARQUET_MANIFEST)
    )


def _listing(path: Path) -> Path:
    """The manifest in a folder; `path` itself where there is none."""
    found = [path / name for name in (MANIFEST, PARQUET_MANIFEST) if (path / name).is_file()]
    if not found and path.is_dir():
        require_no_manifest(path, "is called by its name in small letters")
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


def _require_files(listing: Path, records: Sequence[TileRecord]) -> None:
    missing = [record.path for record in records if not _there(listing.parent / record.path)]
    if missing:
        raise LayoutError(
            f"every tile of a manifest must be there: {len(missing)} of {len(records)} in "
            f"{listing} are missing, the first {missing[0]}. Put it into the folder its "
            "paths start from, or remove those rows."
        )


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
    root: Path, records: Sequence[TileRecord], on_bad_tile: str, icc: Icc
) -> tuple[tuple[TileRecord, ...], tuple[tuple[str, str], ...]]:
    """Decode every tile once; keep its size and digest, and the rule a bad one breaks."""

    def check(record: TileRecord) -> TileRecord | TileError:
        try:
            return _checked(root / record.path, record, icc)
        except TileError as error:
            if on_bad_tile == "skip":
                return error
            raise TileError(
                error.path, f"{error.rule} Or leave such tiles out with `on_bad_tile=skip`."
            ) from error

    usable: list[TileRecord] = []
    skipped: list[tuple[str, str]] = []
    with (
        ThreadPoolExecutor(decoders()) as pool,
        phase("opening tiles", total=len(records)) as opening,
    ):
        for record, outcome in zip(records, pool.map(check, records), strict=True):
            opening.advance()
            if isinstance(outcome, TileRecord):
                usable.append(outcome)
            else:
                skipped.append((record.path, outcome.rule))
    return tuple(usable), tuple(skipped)


def _checked(file: Path, record: TileRecord, icc: Icc) -> TileRecord:
    data = images.read_bytes(file)
    tile, profiled = images.decode_profiled(data, str(file), icc=icc)
    height, width, _ = tile.shape
    if height != width:
        raise TileError(
            str(file), f"is {width}x{height} pixels, but tiles are square. Cut squares."
        )
    digest = images.pixel_digest(tile)
    named = [None, digest, hashlib.sha256(data).hexdigest()]
    if profiled and icc == "apply":
        named.append(images.pixel_digest(images.decode(data, str(file))))
    if record.sha256 not in named:
        raise TileError(
            str(file),
            "is not the picture its manifest names: the SHA-256 of neither its pixels nor its "
            "bytes agrees. Restore it, or correct the manifest.",
        )
    return replace(
        record,
        sha256=digest,
        width=width,
        height=height,
        featureless=images.is_featureless(tile),
        profiled=profiled,
    )

"""Folders of class folders: what lies in them, what belongs to the system, what leads out of them.

Images lie directly in class folders. Folders that operating systems and network drives leave there
(`class_names.SYSTEM_FOLDERS`: thumbnails, recycle bins) are no classes and are counted. A tile that
is a link out of the set's folder is used, and counted too: whoever made the folder may have meant
another machine's files.
"""

from collections.abc import Sequence
from functools import cache
from pathlib import Path

from privgen.data import class_names
from privgen.data.kinds import head_of, is_picture, is_picture_name
from privgen.data.leftovers import IGNORED, MANIFEST, PARQUET_MANIFEST
from privgen.data.owners import Remark
from privgen.data.tileset import TileRecord
from privgen.errors import LayoutError
from privgen.limits import shown


def scan(root: Path, flat: bool) -> tuple[tuple[TileRecord, ...], str, tuple[Remark, ...]]:
    """Records of a folder without a manifest.

    Args:
      root: the folder.
      flat: images without class folders are one class.

    Returns:
      The records, what kind of folder it is, and what has to be said of its class names.

    Raises:
      OSError: a folder cannot be read.
      LayoutError: images lie where no tile can, a class folder is empty, or its name is no class's.
    """
    loose, folders, strays = _entries(root)
    if loose and folders:
        raise LayoutError(
            f"images must lie in class folders or beside none: {root} holds {len(loose)} images "
            f"(the first {loose[0].name}) beside {len(folders)} folders (the first "
            f"{folders[0].name}). Move one of the two away, or write a {MANIFEST}."
        )
    records = [TileRecord(path=file.name, label=class_names.FLAT_CLASS) for file in loose]
    for folder in folders:
        files, nested, inner_strays = _entries(folder)
        if nested:
            raise LayoutError(
                f"images must lie directly in class folders: {folder.name}/ holds the folder "
                f"{nested[0].name}/. Give {folder} itself if it holds the class folders, or write "
                f"a {MANIFEST}."
            )
        require_no_manifest(folder, "lies beside the class folders, never inside one")
        if not files:
            raise LayoutError(f"class folder {folder} holds no image. Fill it or remove it.")
        label = class_names.plain(folder.name)
        records += [TileRecord(path=f"{folder.name}/{file.name}", label=label) for file in files]
        strays += inner_strays
    if not records:
        raise LayoutError(f"{root} holds no image and no class folder. Give another folder.")
    if loose and not flat:
        raise LayoutError(
            f"images must lie in class folders: {root} holds {len(loose)} images and no folder. "
            f"Sort them into class folders, or write a {MANIFEST} with a label column."
        )
    if refused := class_names.refusal_of_all(record.label for record in records):
        raise LayoutError(f"the folder {shown(str(root))}: {refused}")
    layout = "flat folder without classes" if loose else "plain class folders"
    if strays:
        layout += f" ({strays} files that are no images were left aside)"
    joined = len(folders) - len({class_names.plain(folder.name) for folder in folders})
    what = f"class names written in two Unicode forms, each taken for one: {joined}"
    return tuple(records), layout, (Remark(what=what),) if joined else ()


def require_no_manifest(folder: Path, rule: str) -> None:
    """Refuse a manifest that would be read past.

    Raises:
      LayoutError: there is one.
    """
    for file in sorted(folder.iterdir()):
        if file.name.lower() in (MANIFEST, PARQUET_MANIFEST):
            raise LayoutError(
                f"a manifest {rule}: {file} would not be read, nor the patients it names. Rename "
                f"or move it, or give it itself."
            )


def _entries(folder: Path) -> tuple[list[Path], list[Path], int]:
    """Image files and folders inside `folder`, sorted by name, and how many files are neither.

    A file counts as an image by its suffix or by its first bytes, so that a damaged one is not
    passed over in silence.
    """
    inside = sorted(
        entry
        for entry in folder.iterdir()
        if not entry.name.startswith(".")
        and entry.name.lower() not in IGNORED | class_names.SYSTEM_FOLDERS
    )
    folders = [entry for entry in inside if entry.is_dir()]
    files = [entry for entry in inside if not entry.is_dir()]
    images_inside = [file for file in files if _looks_like_image(file)]
    return images_inside, folders, len(files) - len(images_inside)


def _looks_like_image(file: Path) -> bool:
    try:
        return is_picture_name(file.name) or (file.is_file() and is_picture(head_of(file)))
    except OSError:
        return False


def leading_out(root: Path, records: Sequence[TileRecord]) -> tuple[Remark, ...]:
    """A remark where tiles are reached through a link that leads out of the set's folder."""
    whole = root.resolve()

    @cache
    def strays(place: Path) -> bool:
        return not place.resolve().is_relative_to(whole)

    def leads_out(path: str) -> bool:
        file = root / path
        return strays(file if file.is_symlink() else file.parent)

    out = [record.path for record in records if leads_out(record.path)]
    what = f"tiles behind links that lead out of their folder: {len(out)}"
    return (Remark(what=what, first=out[0]),) if out else ()

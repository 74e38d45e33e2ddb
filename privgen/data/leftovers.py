"""What lies in a folder of tiles and is not among them: nothing is left out in silence.

A verdict on 100 of 140 images says nothing of the other 40. So whatever layout a folder has, all of
it is walked through, links and hidden folders too, and every file that is no tile of the set is
told by its name and its first bytes:

- a *picture*: an image, a member of a tar, an archive of tiles. Whoever opens the set refuses it;
- *system*: folders that operating systems and network drives leave (thumbnails, recycle bins). They
  are counted and not looked into, unless they are empty;
- *opaque*: no picture that is known here, and no text: it may hold tiles. It is counted and said;
- neither: text, and what operating systems and privgen itself leave beside tiles.

A file is known by its place on the disk: a link to a tile of the set is that tile.
"""

import os
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path, PurePosixPath

from privgen.data import tar_members
from privgen.data.archive import holds_pictures
from privgen.data.class_names import SYSTEM_FOLDERS
from privgen.data.image_rows import is_image_table
from privgen.data.kinds import HEAD, head_of, is_picture, is_picture_name
from privgen.data.tables import PARQUET, reading
from privgen.errors import LayoutError

MANIFEST = "manifest.csv"
PARQUET_MANIFEST = "manifest.parquet"

IGNORED = frozenset(
    {"thumbs.db", "desktop.ini", "__macosx", "sample.json", MANIFEST, PARQUET_MANIFEST}
)
"""Names, lower-case, of what lies in many folders and is never a tile."""

_VERSION_STORES = frozenset({".git", ".hg", ".svn", ".dvc"})
_PLAIN = frozenset({"thumbs.db", "desktop.ini", ".ds_store", "sample.json", MANIFEST})
_APPLE_DOUBLE = b"\0\5\x16\7"
_UTF_16 = (b"\xff\xfe", b"\xfe\xff")


@dataclass(frozen=True, kw_only=True)
class Leftovers:
    """Files that are no tiles of the set, by their paths from its root, sorted.

    Attributes:
      pictures: image files.
      archived: members of tars that are images, and archives that hold tiles.
      opaque: files and folders that could not be looked into.
      system: folders of the operating system or a network drive.
    """

    pictures: tuple[str, ...]
    archived: tuple[str, ...]
    opaque: tuple[str, ...]
    system: tuple[str, ...] = ()


def left_over(root: Path, listed: Iterable[str], *, near: bool = False) -> Leftovers:
    """Find what a set of tiles leaves out of its folder.

    Args:
      root: the folder.
      listed: paths of the set's tiles from there, with `/`; they may lead through tars.
      near: look only into the folders and tars that hold a tile, not into all of `root`.
    """
    known = _Listed(root, frozenset(listed))
    pictures: list[str] = []
    archived: list[str] = []
    opaque: list[str] = []
    system: list[str] = []
    for path, name in _near(root, known) if near else _below(root, opaque, system):
        if name in known.names or name in known.tables or not path.is_file():
            continue
        kind = _kind(path, name)
        if kind == "opaque":
            opaque.append(name)
        elif kind == "tar":
            inside, whole = _members(path, name, known)
            archived += inside
            opaque += [] if whole else [name]
        elif kind and not known.holds(path):
            (archived if kind == "archive" else pictures).append(name)
    return Leftovers(
        pictures=tuple(sorted(pictures)),
        archived=tuple(sorted(archived)),
        opaque=tuple(sorted(opaque)),
        system=tuple(sorted(system)),
    )


class _Listed:
    """The tiles of a set, by name and by place on the disk."""

    def __init__(self, root: Path, names: frozenset[str]) -> None:
        self.names = names
        self._root = root

    @cached_property
    def members(self) -> dict[str, frozenset[str]]:
        """Members of tars that are tiles, by the tar's path."""
        found: dict[str, set[str]] = defaultdict(set)
        for name in self.names:
            parts = PurePosixPath(name).parts
            for end in range(1, len(parts)):
                if parts[end - 1].lower().endswith(tar_members.SUFFIX):
                    found["/".join(parts[:end])].add("/".join(parts[end:]))
        return {tar: frozenset(inside) for tar, inside in found.items()}

    @cached_property
    def tables(self) -> frozenset[str]:
        """Parquet files of which a row is a tile."""
        holders = (name.rpartition("/")[0] for name in self.names)
        return frozenset(one for one in holders if one.lower().endswith(PARQUET))

    def holds(self, path: Path) -> bool:
        """Whether a file is one of the tiles under another name."""
        status = path.stat()
        return (status.st_dev, status.st_ino) in self._places

    @cached_property
    def _places(self) -> frozenset[tuple[int, int]]:
        places = []
        for name in self.names:
            try:
                status = (self._root / name).stat()
            except OSError:  # a member of a tar
                continue
            places.append((status.st_dev, status.st_ino))
        return frozenset(places)


def _below(root: Path, opaque: list[str], system: list[str]) -> Iterator[tuple[Path, str]]:
    """Every file in a folder and its folders, links followed, each folder once.

    Folders that may not be read, and those of version control, are added to `opaque`; those of the
    system that hold anything to `system`.
    """
    seen: set[tuple[int, int]] = set()

    def refused(error: OSError) -> None:
        opaque.append(Path(error.filename).relative_to(root).as_posix())

    for folder, folders, files in os.walk(root, onerror=refused, followlinks=True):
        place = Path(folder)
        try:
            status = place.stat()
        except OSError as error:
            refused(error)
            continue
        if (status.st_dev, status.st_ino) in seen:
            folders.clear()
            continue
        seen.add((status.st_dev, status.st_ino))
        within = "" if place == root else f"{place.relative_to(root).as_posix()}/"
        stores = [name for name in folders if name.lower() in _VERSION_STORES]
        opaque += [within + name for name in stores]
        left = [name for name in folders if name.lower() in SYSTEM_FOLDERS]
        system += [within + name for name in left if _holds_anything(place / name)]
        folders[:] = sorted(set(folders) - set(stores) - set(left))
        for name in sorted(files):
            yield place / name, within + name


def _holds_anything(folder: Path) -> bool:
    try:
        return any(folder.iterdir())
    except OSError:
        return True


def _near(root: Path, known: _Listed) -> Iterator[tuple[Path, str]]:
    """Every file in the folders that hold a tile, and every tar that does."""
    for tar in sorted(known.members):
        yield root / tar, tar
    for parent in sorted({PurePosixPath(name).parent for name in known.names}):
        if (root / parent).is_dir():
            for path in sorted((root / parent).iterdir()):
                name = path.relative_to(root).as_posix()
                if name not in known.members:
                    yield path, name


def _kind(path: Path, name: str) -> str:
    """What a file is: "picture", "archive", "tar", "opaque", or "" for none of these."""
    parts = [part.lower() for part in PurePosixPath(name).parts]
    hidden = any(part.startswith(".") or part == "__macosx" for part in parts)
    suffix = path.suffix.lower()
    if parts[-1] in _PLAIN or parts[-1] == PARQUET_MANIFEST:
        return ""
    try:
        head = head_of(path)
    except OSError:
        return "opaque"
    if is_picture(head) or (is_picture_name(path.name) and not hidden):
        return "picture"
    if suffix == tar_members.SUFFIX or head[257:262] == b"ustar":
        return "tar"
    if head.startswith(b"PK\3\4"):
        return "archive" if _holds_tiles(path) else "opaque"
    if b"\0" not in head or head.startswith((_APPLE_DOUBLE, *_UTF_16)):
        return ""
    if suffix == PARQUET and is_image_table(path):
        return "archive"
    return "" if suffix == PARQUET and _is_manifest(path) else "opaque"


def _members(path: Path, name: str, known: _Listed) -> tuple[list[str], bool]:
    """Images in a tar that are not of the set, and whether all of the tar could be seen."""
    own = known.members.get(name, frozenset())
    try:
        found = tar_members.members(path, head=HEAD, but=own)
    except OSError:
        return [], False
    inside = [
        f"{name}/{member}"
        for member, head in found.heads.items()
        if is_picture(head) or is_picture_name(member)
    ]
    return inside + [f"{name}/{member}" for member in found.repeated], found.whole


def _holds_tiles(path: Path) -> bool:
    """Whether a zip or npz archive holds images, or arrays that may be."""
    try:
        return holds_pictures(path)
    except (OSError, LayoutError):
        return False


def _is_manifest(path: Path) -> bool:
    try:
        with reading(path, only=()) as table:
            return {"path", "label"} <= set(table.columns)
    except (LayoutError, OSError):
        return False

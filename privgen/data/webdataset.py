"""Tar shards without a manifest, as WebDataset writes them: a sample is what shares a name.

`000012.png` and `000012.cls` are one sample: a picture and its class, a number or a name (`.txt` is
read as `.cls` where there is no other). Its `.json`, if it has one, may name `label`, `patient`,
`slide` and `source_image`; nothing else of it is read. Every picture of every shard is a tile:
either all have a class or none.

Source: the WebDataset format, https://github.com/webdataset/webdataset (basename up to the first
point, extensions after it).
"""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath

from audits.patients import Spellings
from privgen import limits
from privgen.data import class_names
from privgen.data.kinds import is_picture_name
from privgen.data.owners import spellings_of
from privgen.data.picture_records import UNITS, picture_record
from privgen.data.tar_members import members, read_member
from privgen.data.tileset import TileRecord
from privgen.documents import DocumentError, parse_json
from privgen.errors import LayoutError

_CLASS = ("cls", "txt")


def read_shards(
    root: Path, shards: Sequence[Path], *, flat: bool
) -> tuple[tuple[TileRecord, ...], Mapping[str, Spellings]]:
    """Records of every picture of the shards, in their order.

    Args:
      root: folder that paths are relative to.
      shards: tar files in it.
      flat: pictures without a class are one class.

    Returns:
      The records, and how their owners' ids were written.

    Raises:
      OSError: a shard cannot be read.
      LayoutError: a shard is damaged or holds no picture, a sample has two pictures or a class that
        cannot be read, or some have a class and others none.
    """
    spellings = spellings_of(*UNITS)
    records: list[TileRecord] = []
    bare = 0
    for shard in shards:
        found = members(shard, head=0)
        if not found.whole:
            raise LayoutError(
                f"a shard must be whole: {shard.name} is truncated, damaged or packed. Copy it "
                "again, and unpack .gz."
            )
        samples: dict[str, dict[str, str]] = {}
        for name in found.heads:
            member = PurePosixPath(name)
            stem, _, extension = member.name.partition(".")
            samples.setdefault(str(member.parent / stem), {})[extension.lower()] = name
        before = len(records)
        for parts in samples.values():
            pictures = [name for name in parts.values() if is_picture_name(name)]
            if not pictures:
                continue
            if len(pictures) > 1:
                raise LayoutError(
                    f"a sample of a shard has one picture: {shard.name} has "
                    f"{limits.shown(pictures[0])} and {limits.shown(pictures[1])}. Write one."
                )
            where = f"{shard.name} {limits.shown(pictures[0])}"
            told = _told(where, parts, shard)
            label = told.get("label")
            bare += label is None
            path = f"{Path(os.path.relpath(shard, root)).as_posix()}/{pictures[0]}"
            name = class_names.FLAT_CLASS if label is None else str(label)
            records.append(picture_record(where, path, name, told, spellings))
        if len(records) == before:
            raise LayoutError(f"shard {shard.name} holds no picture. Leave it out.")
    if bare and (bare < len(records) or not flat):
        raise LayoutError(
            f"every picture of a shard needs a class, its .cls or the label of its .json: "
            f"{bare} of {len(records)} have none. Write it, or give a manifest.csv."
        )
    if refused := class_names.refusal_of_all(record.label for record in records):
        raise LayoutError(f"the shards of {root.name}: {refused}")
    return tuple(records), spellings


def _told(where: str, parts: Mapping[str, str], shard: Path) -> dict[str, object]:
    """What stands beside a picture: its label and its owners."""

    def text(name: str) -> str:
        return read_member(shard / name, shard, name, limits.TEXT_BYTES).decode()

    told: dict[str, object] = {}
    if "json" in parts:
        try:
            document = parse_json(text(parts["json"]))
        except (DocumentError, UnicodeDecodeError) as error:
            raise LayoutError(f"{where}: its .json is damaged: {limits.told(error)}.") from error
        if isinstance(document, dict):
            told = {key: document.get(key) for key in ("label", *UNITS)}
    ending = next((one for one in _CLASS if one in parts), None)
    if ending is not None and (ending == "cls" or told.get("label") is None):
        try:
            told["label"] = text(parts[ending]).strip()
        except UnicodeDecodeError as error:
            raise LayoutError(
                f"{where}: its .{ending} is no UTF-8 text. Write it again."
            ) from error
    label = told.get("label")
    if label is None:
        return told
    if isinstance(label, bool) or not isinstance(label, str | int):
        raise LayoutError(
            f"{where}: a label is a name or a whole number: got {limits.shown(label)}. Correct it."
        )
    if refused := class_names.refusal(str(label)):
        raise LayoutError(f"{where}: {refused}")
    told["label"] = class_names.plain(str(label))
    return told

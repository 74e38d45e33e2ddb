"""Names of classes, judged at the door by one rule.

A class becomes a folder of `privgen sample`, a member of archives, a cell of tables and a word of a
report that may name no file. So whoever brings labels (folders, manifests, tables, arrays,
checkpoints) asks here first, and what passes here is never refused later.

Names are in Unicode NFC; two that differ only in upper and lower case are one folder on many disks
and are refused.
"""

import re
import unicodedata
from collections.abc import Iterable

from privgen.limits import CLASSES, shown

FLAT_CLASS = "all"
"""Class of every tile of a set without classes."""

MOST_BYTES = 100
"""Longest name: file systems take 255 bytes, with what stands around it."""

SYSTEM_FOLDERS = frozenset(
    {"@eadir", "#recycle", "#snapshot", "$recycle.bin", "system volume information", "lost+found"}
)
"""Folders, lower-case, that operating systems and network drives leave beside tiles."""

RESERVED = SYSTEM_FOLDERS | frozenset(
    {"parts", "shards", "manifest.csv", "manifest.parquet", "tiling.json", "log.jsonl"}
    | {"sample.json", "__macosx", "thumbs.db", "desktop.ini"}
)
"""Names, lower-case, that stand beside class folders and are none."""

_MISSING = frozenset({"nan", "-nan", "<na>", "nat", "#n/a", "#na", "n/a", "#value!", "#ref!"})
_DEVICES = re.compile(r"(con|prn|aux|nul|com[0-9¹²³]|lpt[0-9¹²³])(\..*)?", re.IGNORECASE)
_FILE = re.compile(
    r"\w\.(png|jpe?g|tiff?|svs|ndpi|mrxs|scn|vms|bif|dcm|npz|npy|csv|pth?|safetensors)\b|\bfile:",
    re.IGNORECASE,
)
_UNSEEN = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})
_WAY_OUT = "Use letters, digits, - and _."


def plain(name: str) -> str:
    """A name in the form that it is kept in."""
    return unicodedata.normalize("NFC", name)


def fault_of(name: str) -> str | None:
    """What is wrong with a name, as the end of "a class name ..."; None where nothing is."""
    if not name.strip():
        return "must be usable as a folder's name, not blank"
    if len(name.encode(errors="surrogatepass")) > MOST_BYTES:
        return f"may have {MOST_BYTES} bytes"
    if any(unicodedata.category(one) in _UNSEEN for one in name):
        return "may hold no control or invisible characters"
    if "/" in name or "\\" in name:
        return "must be usable as a folder's name, without / and \\"
    if name != name.strip() or name[0] == "." or name[-1] == ".":
        return "may not begin with a point, end with one, or have space around it"
    if _FILE.search(name):
        return "may not look like a file's name"
    if name.casefold() in RESERVED or _DEVICES.fullmatch(name):
        return "must be usable as a folder's name on every system"
    if name.casefold() in _MISSING:
        return "may not be a word for a missing value"
    return None


def refusal(name: str) -> str | None:
    """One line that refuses a name, or None where it is fine."""
    fault = fault_of(name)
    return None if fault is None else f"a class name {fault}: got {shown(name)}. {_WAY_OUT}"


def refusal_of_all(names: Iterable[str]) -> str | None:
    """One line that refuses the names of a set's classes, or None where all are fine.

    Beside each name it judges them together: how many there are, and whether two are one folder.
    """
    known: dict[str, str] = {}
    for name in sorted(set(names)):
        refused = refusal(name)
        if refused is not None:
            return refused
        before = known.setdefault(plain(name).casefold(), name)
        if before != name:
            return (
                "class names must differ in more than upper and lower case: got "
                f"{shown(before)} and {shown(name)}. Write one class one way."
            )
    if len(known) > CLASSES:
        return f"a set may have {CLASSES} classes: got {len(known)}. Give fewer."
    return None

"""What can be said of a slide's file before anything opens it: rules that name nobody."""

from pathlib import Path

_BIO_FORMATS = "as OME-TIFF with QuPath or Bio-Formats (bfconvert)"
_MAKERS = "as TIFF or SVS with the maker's converter"
_PHILIPS = ("Philips iSyntax", "as TIFF with Philips' own export, or as OME-TIFF")

_OTHERS = {
    ".isyntax": _PHILIPS,
    ".i2syntax": _PHILIPS,
    ".vsi": ("Olympus VSI", _BIO_FORMATS),
    ".ets": ("Olympus VSI", _BIO_FORMATS),
    ".lif": ("Leica LIF", _BIO_FORMATS),
    ".nd2": ("Nikon ND2", _BIO_FORMATS),
    ".kfb": ("KFBio", _MAKERS),
    ".sdpc": ("TEKSQRAY SDPC", _MAKERS),
}
"""Formats of slides that OpenSlide has no reader for, by ending, and the way out of each.

A VSI file is a TIFF of its label and overview: opened as one, it would show what must not be read.
"""

_ISYNTAX = b"DPUfsImport"
"""Stands in the first lines of an iSyntax file, whatever its name."""


def unreadable(path: Path) -> str | None:
    """Why a file cannot even be looked at; None when it can."""
    try:
        if not path.exists():
            return "does not exist. Check the path."
        if not path.is_file():
            return "is not a file. Give the slide's own file, or a folder of one DICOM series."
        with path.open("rb"):
            return None
    except OSError as error:
        return f"cannot be read ({error.strerror}). Check its permissions."


def foreign(path: Path) -> str | None:
    """Why a slide of a format without a reader is refused, with its name; None for any other."""
    known = _OTHERS.get(path.suffix.lower())
    try:
        with path.open("rb") as stream:
            if _ISYNTAX in stream.read(4096):
                known = _PHILIPS
    except OSError:
        return None
    if known is None:
        return None
    return f"is a slide of {known[0]}, which OpenSlide cannot read. Export it {known[1]}."

"""What the metadata of an image says of its pixels: its colour profile (ICC), and how it is turned.

No image is opened here: `privgen.data.images` hands over the bytes and the decoded picture.
"""

import io
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageCms

from privgen.choices import Icc
from privgen.errors import TileError
from privgen.limits import ICC_BYTES, size, told

"""What to do with the colour profile of a file: bring its colours to sRGB, or leave them."""

_ORIENTATION = 274
_DAMAGE = (ImageCms.PyCMSError, OSError, ValueError)
_SAME_COLOUR = 2
"""Grey levels that sRGB profiles of different programs differ by."""


def orientation(exif: object) -> int:
    """What EXIF says of how a picture is turned, 1 to 8; 1 where it says nothing readable."""
    if not isinstance(exif, bytes):
        return 1
    read = Image.Exif()
    try:
        read.load(exif)
        found = read.get(_ORIENTATION, 1)
    except Exception:  # what Pillow raises on damaged EXIF, which viewers ignore too
        return 1
    return found if isinstance(found, int) and 1 <= found <= 8 else 1


def in_colour(
    image: Image.Image, profile: object, name: str, icc: Icc
) -> tuple[NDArray[np.uint8], bool]:
    """The pixels of a picture, and whether its colours are others under its profile.

    Args:
      image: RGB, decoded.
      profile: of the file, or nothing.
      name: what to call it in an error.
      icc: what to do with the profile.

    Raises:
      TileError: a profile is to be applied that is damaged, of no RGB image or too large.
    """
    if not isinstance(profile, bytes) or not profile:
        return np.array(image, dtype=np.uint8), False
    if icc == "ignore":
        try:
            other = len(profile) > ICC_BYTES or _to_srgb(profile)[1]
        except _DAMAGE:
            other = True
        return np.array(image, dtype=np.uint8), other
    if len(profile) > ICC_BYTES:
        raise TileError(
            name,
            f"its colour profile has {size(len(profile))}; one may have {size(ICC_BYTES)}. "
            "Ignore profiles with `icc=ignore`.",
        )
    try:
        transform, other = _to_srgb(profile)
        shown = ImageCms.applyTransform(image, transform) if other else image
    except _DAMAGE as error:
        raise TileError(
            name,
            f"its colour profile is damaged or of no RGB image: {told(error)}. Ignore profiles "
            "with `icc=ignore`.",
        ) from error
    return np.array(shown, dtype=np.uint8), other


@lru_cache(maxsize=16)
def _to_srgb(profile: bytes) -> tuple[ImageCms.ImageCmsTransform, bool]:
    """The transform of a profile to sRGB, and whether any colour of it is another there."""
    transform = ImageCms.buildTransform(
        ImageCms.ImageCmsProfile(io.BytesIO(profile)),
        ImageCms.createProfile("sRGB"),
        "RGB",
        "RGB",
        renderingIntent=ImageCms.Intent.RELATIVE_COLORIMETRIC,
    )
    levels = np.linspace(0, 255, 6, dtype=np.uint8)
    cube = np.stack(np.meshgrid(levels, levels, levels), axis=-1).reshape(6, 36, 3)
    moved = np.asarray(ImageCms.applyTransform(Image.fromarray(cube), transform))
    return transform, bool(np.abs(moved.astype(int) - cube).max() > _SAME_COLOUR)

"""Choices that several commands offer, each written once."""

from typing import Literal

OnBadTile = Literal["error", "skip"]
"""At a file that cannot be used as a tile: stop, or leave it out and count it."""

Icc = Literal["apply", "ignore"]
"""Colour profiles of image files: bring their colours to sRGB, or leave them."""

Balance = Literal["preserve", "uniform"]
"""Classes as frequent as in the data, or equally frequent."""

Harmonise = Literal["auto", "off"]
"""Roles of different files: bring them to one pipeline, or say where they differ."""

CanaryKind = Literal["artificial", "real"]
"""Canaries: patients painted by a program, or patients of the data."""

GROUP_BY_HELP = "Manifest column that names the patient: patient, slide or source_image."
ON_BAD_TILE_HELP = "Stop at an unusable image, or skip and count it."
ICC_HELP = "Colour profiles (ICC) of image files: bring their colours to sRGB, or not."
"""What `--help` says of options that several commands have."""

"""What `tiling.json` holds, key by key."""

from collections.abc import Mapping, Sequence
from typing import TypedDict


class SettingsDict(TypedDict):
    """Of `settings.TilingSettings`."""

    size: int
    mpp: float | None
    stride: int
    origin: int
    tolerance: float
    min_tissue: float
    min_bytes: int
    min_share: float
    output: str
    coordinates: bool
    annotation_frame: str


class RunSettings(SettingsDict):
    """The same with the stain normalisation, whose target tile is told by its digest."""

    stain: str | None
    stain_target: str | None


class AnnotationCounts(TypedDict):
    """What became of the annotations of all slides."""

    frames: Mapping[str, int]
    frames_assumed: int
    tiles_tied: int
    tiles_outside: int
    left_aside: Mapping[str, int]


class FailedSlide(TypedDict):
    """A slide that gave no tile, and why."""

    slide: str
    rule: str | None


class TilingCounts(TypedDict):
    """Of the finished parts; patients are None where none is known."""

    tiles: int
    candidates: int
    patients: int | None
    unstained: int
    classes: Mapping[str, int]
    annotations: AnnotationCounts | None
    levels_unseen: int


class TilingDocument(TilingCounts):
    """The whole document."""

    version: str
    settings: RunSettings
    key: str
    slides: int
    failed: Sequence[FailedSlide]

"""What a tiling run is asked for: equal settings give equal tiles.

Lengths are pixels of the finished tile. Presets reproduce how published studies cut their slides,
errors included; `docs/tiling.md` says what is wrong with them.
"""

import difflib
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Literal, cast, get_args

from privgen.errors import ConfigError
from privgen.tiling.document import SettingsDict
from privgen.tiling.frames import AnnotationFrame
from privgen.tiling.requests import TilingRequest

MAX_SIDE = 4096
"""Longest side of a tile."""

KIB = 1024

Output = Literal["folders", "tar"]


@dataclass(frozen=True, kw_only=True)
class TilingSettings:
    """Settings of one run.

    Attributes:
      size: side of a tile.
      mpp: micrometres per pixel of the tiles; None takes the slide's finest level as it is.
      stride: from one tile to the next; below `size` tiles share pixels.
      origin: left of and above the first tile.
      tolerance: a level this near to `mpp` is cut as it is, not resampled, as a fraction.
      min_tissue: least share of a tile that lies on the tissue mask; 0 leaves the mask out.
      min_bytes: least size of a tile as a PNG of zlib's default level; 0 leaves the rule out.
      min_share: least share of a tile that a region must cover to give it its class.
      output: class folders of PNG files, or tar shards.
      coordinates: tiles lie where a list says (`listed`), which also tells their scale.
      annotation_frame: where the coordinates of regions count from (`frames`).

    Raises:
      ConfigError: a value is out of range.
    """

    size: int = 256
    mpp: float | None = 0.5
    stride: int = 256
    origin: int = 0
    tolerance: float = 0.02
    min_tissue: float = 0.5
    min_bytes: int = 0
    min_share: float = 0.75
    output: Output = "folders"
    coordinates: bool = False
    annotation_frame: AnnotationFrame = "auto"

    def __post_init__(self) -> None:
        for name, low, high in _RANGES:
            value = getattr(self, name)
            if value is not None and not low <= value <= high:
                raise ConfigError(f"`{name}` must be {low:g} to {high:g}: got {value:g}.")
        if self.output not in ("folders", "tar"):
            raise ConfigError(f"output must be folders or tar: got {self.output!r}.")
        if self.annotation_frame not in get_args(AnnotationFrame):
            raise ConfigError(
                f"annotation_frame must be {', '.join(get_args(AnnotationFrame))}: got "
                f"{self.annotation_frame!r}."
            )

    def as_dict(self) -> SettingsDict:
        """JSON-able."""
        return cast(SettingsDict, asdict(self))


_RANGES: tuple[tuple[str, float, float], ...] = (
    ("size", 16, MAX_SIDE),
    ("mpp", 0.05, 100),
    ("stride", 1, 16 * MAX_SIDE),
    ("origin", 0, 16 * MAX_SIDE),
    ("tolerance", 0, 0.5),
    ("min_tissue", 0, 1),
    ("min_bytes", 0, 2**30),
    ("min_share", 0, 1),
)

PRESETS: Mapping[str, Mapping[str, float | None]] = {
    # DeepZoom with an overlap of 50 on every side: tiles start 50 px before their own 156 px. The
    # first row and column have no 50 px before them, so the first whole tile is the second.
    "deepfakes-2020": {
        "size": 256,
        "mpp": None,
        "stride": 156,
        "origin": 106,
        "min_tissue": 0.0,
        "min_bytes": 100 * KIB,
    },
}
"""Settings of published studies by name."""


_ASKED = ("size", "mpp", "stride", "min_tissue", "min_share", "annotation_frame")
_LISTED: Mapping[str, float | None] = {"coordinates": True, "mpp": None, "min_tissue": 0.0}
"""Where places are listed, the list has looked for tissue."""


def settings_of(asked: TilingRequest) -> TilingSettings:
    """What is asked for, over a preset, over the defaults.

    Args:
      asked: where it names no stride, tiles lie side by side; where it names coordinates, places
        and scale of the tiles are listed.

    Raises:
      ConfigError: an unknown preset, or a value out of range.
    """
    preset = asked.preset
    if preset is not None and preset not in PRESETS:
        near = difflib.get_close_matches(preset, PRESETS, n=1)
        hint = f" Did you mean {near[0]}?" if near else ""
        raise ConfigError(f"`preset` must be one of {', '.join(PRESETS)}: got {preset!r}.{hint}")
    wanted = {name: getattr(asked, name) for name in _ASKED} | {"output": asked.layout}
    chosen = {name: value for name, value in wanted.items() if value is not None}
    base = dict(PRESETS[preset]) if preset else {}
    if asked.coordinates is not None:
        given = [
            f"`{name}`" for name in ("mpp", "stride", "preset") if getattr(asked, name) is not None
        ]
        if given:
            raise ConfigError(
                "`coordinates` says where tiles lie and how large they are: got "
                f"{' and '.join(given)} beside it. Leave that out."
            )
        base = dict(_LISTED)
    if "size" in chosen and "stride" not in {*chosen, *base}:
        base["stride"] = chosen["size"]
    return TilingSettings(**{**base, **chosen})

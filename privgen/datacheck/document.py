"""What a check of a tile set gives, key by key; `describe_set` and `compare` say what it means."""

from collections.abc import Mapping, Sequence
from typing import Literal, TypedDict

Side = Literal["within_group", "across_groups", "across_classes"]
"""Where the two tiles of a pair stand; a pair across groups may cross classes too."""

SIDES: tuple[Side, ...] = ("within_group", "across_groups", "across_classes")
ACROSS: tuple[Literal["across_groups", "across_classes"], ...] = (
    "across_groups",
    "across_classes",
)


class Size(TypedDict):
    """How many tiles, of how many groups."""

    tiles: int
    groups: int


class Crossed(TypedDict):
    """Pairs by what they cross."""

    within_group: int
    across_groups: int
    across_classes: int


class Featureless(TypedDict):
    """Near-constant tiles, and pairs of equal ones."""

    tiles: int
    across_groups: int
    across_classes: int


class SharedPixels(TypedDict):
    """Tiles that lie over one another on their slide; None where no place is known."""

    pairs: Crossed | None
    tiles: int | None
    largest: float | None
    covered: float | None
    parted: int | None
    unknown: int


class GivenSplit(TypedDict):
    """The split that a manifest brings, and what several of its roles share, by what it is."""

    tiles: Mapping[str, int]
    without: int
    shared: Mapping[str, int | None]


class Skipped(TypedDict):
    """A file that was left out, and why."""

    path: str
    rule: str


class SetDescription(TypedDict):
    """What a tile set is."""

    layout: str
    group_unit: str
    tiles: int
    groups: int
    classes: Mapping[str, Size]
    repeated: Crossed
    featureless: Featureless
    overlap: SharedPixels
    split: Mapping[str, Size] | None
    roles: GivenSplit | None
    skipped: Sequence[Skipped]
    warnings: Sequence[str]


class PairDict(TypedDict):
    """One pair of tiles; how one lies on the other is None where nothing aligns."""

    kind: str
    tiles: Sequence[str]
    groups: Sequence[str]
    labels: Sequence[str]
    inliers: int
    agreement: float
    shared: float
    mirrored: bool | None
    rotation: float | None
    scale: float | None
    crosses_groups: bool
    crosses_classes: bool
    disagrees: bool


class StrayDict(TypedDict):
    """A tile that matches no other tile of its group."""

    tile: str
    group: str
    tiles_in_group: int
    matches: Sequence[str]


class FirstPairs(TypedDict):
    """How many pairs there are, and the first of them."""

    count: int
    first: Sequence[PairDict]


class FirstStrays(TypedDict):
    """How many strays there are, and the first of them."""

    count: int
    first: Sequence[StrayDict]


class Recovery(TypedDict):
    """Pairs of one group by the manifest, by the pixels, and by both."""

    known: int
    found: int
    both: int
    recall: float | None
    precision: float | None


class Recall(TypedDict):
    """Of an approximate search."""

    value: float
    low: float | None
    high: float | None
    n: int


class Near(TypedDict):
    """What the search found."""

    pairs: Mapping[str, Crossed]
    disagreements: FirstPairs
    strays: FirstStrays | None
    recovery: Recovery | None
    featureless: int
    recall: Recall | None


class CheckDocument(SetDescription):
    """The whole document; `near` is None where it was not searched."""

    near: Near | None

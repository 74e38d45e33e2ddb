"""What a watch measures at one moment, key by key; `watch.Watch.measure` says what it means."""

from collections.abc import Mapping
from typing import Final, TypedDict

FD: Final = "fd_effnet_lite2_pca64"
"""Key of the Frechet distances: the encoder, and principal components with their own covariance."""

FD_CLASS: Final = "fd_effnet_lite2_pca64/class"
"""Key of the same by class."""


class Distances(TypedDict):
    """Frechet distances between each two of the three roles."""

    synthetic_train: float
    synthetic_held_out: float
    train_held_out: float


class Copies(TypedDict):
    """The copy signal."""

    share: float
    p: float | None
    own_p: float
    fires: bool


class Membership(TypedDict):
    """The membership signal."""

    auroc: float
    low: float | None
    high: float | None
    p: float | None
    smallest_p: float
    unit: str
    members: int
    nonmembers: int
    fires: bool


Diversity = TypedDict("Diversity", {"smallest": float | None, "class": Mapping[str, float]})
"""Of synthetic tiles against train tiles."""

Line = TypedDict(
    "Line",
    {
        "tiles": Mapping[str, int],
        "fd_effnet_lite2_pca64": Distances,
        "fd_effnet_lite2_pca64/class": Mapping[str, Distances],
        "diversity": Diversity,
        "copies": Copies | None,
        "membership": Membership | None,
    },
)
"""A line of watch.jsonl, before its step."""

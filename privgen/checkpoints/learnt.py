"""The part of a checkpoint that learns."""

from typing import TypedDict

from torch import Tensor


class Controls(TypedDict):
    """State of the controls, of `training.adaptive.Adaptive`."""

    probability: float
    signs: float
    seen: int
    path_mean: float


class Learnt(TypedDict):
    """State dictionaries of the networks and of what trains them."""

    generator: dict[str, Tensor]
    average: dict[str, Tensor]
    discriminator: dict[str, Tensor]
    generator_optimizer: dict[str, object]
    discriminator_optimizer: dict[str, object]
    scaler: dict[str, object]
    adaptive: Controls

"""What adapts itself while a run goes on: probability of augmentation, mean path length.

Karras et al. 2020b, "Training generative adversarial networks with limited data"
(arXiv:2006.06676): how sure the discriminator is of real tiles, the mean of
`sign(logit)`, is held at a target by raising or lowering the probability of augmentation. Plain
numbers, so that a checkpoint keeps them exactly.
"""

from dataclasses import asdict, dataclass
from typing import cast

from privgen.checkpoints.learnt import Controls

EVERY = 4
"""Steps between two changes of the probability."""

MOST = 0.8
"""Highest probability; above it changes would show in the synthetic tiles (section 2.2)."""

PATH_DECAY = 0.01
"""Weight of a step in the running mean of path lengths (Karras et al. 2020)."""


@dataclass(kw_only=True)
class Adaptive:
    """State of the controls.

    Attributes:
      probability: of each kind of augmentation.
      signs, seen: sum of the mean signs since the last change, and of how many steps.
      path_mean: running mean of path lengths, pixels a unit of style.
    """

    probability: float = 0.0
    signs: float = 0.0
    seen: int = 0
    path_mean: float = 0.0

    def observe(self, mean_sign: float, *, batch: int, target: float, kimg: float) -> None:
        """Take in one step's mean sign of real logits; every few steps the probability moves.

        Args:
          mean_sign: in [-1, 1].
          batch: tiles per step.
          target: mean sign to hold.
          kimg: thousand images in which the probability can go from 0 to 1.
        """
        self.signs += mean_sign
        self.seen += 1
        if self.seen < EVERY:
            return
        step = EVERY * batch / (1000 * kimg)
        direction = 1.0 if self.signs / self.seen > target else -1.0
        self.probability = min(max(self.probability + direction * step, 0.0), MOST)
        self.signs, self.seen = 0.0, 0

    def lengthened(self, mean_length: float) -> None:
        """Take in a step's mean path length."""
        self.path_mean += PATH_DECAY * (mean_length - self.path_mean)

    def to_dict(self) -> Controls:
        """Plain values for a checkpoint."""
        return cast(Controls, asdict(self))

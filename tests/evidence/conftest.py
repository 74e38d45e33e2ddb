"""Tiles to embed, encoders, and tiles in every role."""

from tests.helpers.collected import evidence, holdout, synthetic, train
from tests.helpers.embedded import crops, lite0, one_thread, pixels

__all__ = ["crops", "evidence", "holdout", "lite0", "one_thread", "pixels", "synthetic", "train"]

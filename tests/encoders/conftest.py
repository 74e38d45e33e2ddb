"""Tiles to embed, and encoders."""

from tests.helpers.embedded import crops, lite0, one_thread, pixels

__all__ = ["crops", "lite0", "one_thread", "pixels"]

"""A slide with a pyramid, and the handles that open it."""

from tests.helpers.slide_handles import openings, pixels, pyramid

__all__ = ["openings", "pixels", "pyramid"]

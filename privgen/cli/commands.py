"""Every command, registered on the application by being imported."""

from privgen.cli import benefit, judging, recipes, samples, slides, tiles, training
from privgen.cli.base import app, data_app

__all__ = [
    "app",
    "benefit",
    "data_app",
    "judging",
    "recipes",
    "samples",
    "slides",
    "tiles",
    "training",
]

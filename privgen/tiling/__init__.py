"""Whole slides to tiles: what to cut, the cutting, and the files that come out."""

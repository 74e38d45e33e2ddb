"""Tiles in: images, layouts, splits, stain and the procedural phantom."""

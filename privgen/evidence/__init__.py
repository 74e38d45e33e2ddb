"""Tiles to evidence: encoders, symmetry orbits, planted copies, and what the audit is given."""

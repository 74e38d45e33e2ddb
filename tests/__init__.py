"""Tests of privgen and audits; what they share stands in `tests.helpers`."""

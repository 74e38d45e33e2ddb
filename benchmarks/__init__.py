"""Benchmarks; README.md says what each asks. A package, lest an installed one be taken for it."""

"""augment-bench: whether synthetic tiles help a classifier of real ones."""

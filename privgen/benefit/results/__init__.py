"""From trainings to what augment-bench says: figures, comparisons, caveats, conclusion."""

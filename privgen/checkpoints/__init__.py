"""Files of a training: checkpoints, generator files, and the ledger that names the tiles."""

"""From tiles, or a generator and its ledger, to a verdict and its report."""

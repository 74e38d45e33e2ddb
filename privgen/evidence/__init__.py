"""What an audit is given: scores of copies planted and found, one order, what to look at."""

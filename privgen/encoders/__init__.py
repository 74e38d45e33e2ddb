"""Networks that turn tiles into vectors: which there are, their weights, what is kept of them."""

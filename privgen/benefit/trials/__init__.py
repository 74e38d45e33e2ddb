"""One training of augment-bench: networks, what they are trained on, and carrying it out."""

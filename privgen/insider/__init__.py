"""Attacks for whoever holds the generator's weights, or its discriminator."""

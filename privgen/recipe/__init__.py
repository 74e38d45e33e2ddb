"""The audit of a recipe: train it many times on random halves of the patients, and compare."""

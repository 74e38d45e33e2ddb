"""Do synthetic tiles help a classifier? Classifier families and the protocol that compares them."""

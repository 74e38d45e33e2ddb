"""What must be said of tiles whose generator was trained on artificial patients too."""


def artificial_sentence(patients: int) -> str:
    """A sentence for whoever is given the tiles.

    Args:
      patients: artificial ones in training, 1 or more.
    """
    return (
        f"The generator was trained on {patients} artificial patients beside the real ones, so "
        "some of its tiles may show tissue that nobody has, or of another class than they are "
        "called."
    )

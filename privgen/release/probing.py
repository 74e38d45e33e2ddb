"""A few tiles of a generator, looked at before many are made or the generator is given away."""

import numpy as np

from privgen.data.constant import FEWEST, Constants
from privgen.sampling import LoadedGenerator


def probed(generator: LoadedGenerator, *, seed: int = 0, truncation: float = 1.0) -> Constants:
    """Draw `FEWEST` tiles of each class and refuse a generator that makes nothing.

    Args:
      generator: any.
      seed, truncation: as `LoadedGenerator.generate`.

    Returns:
      The count of constant tiles among them.

    Raises:
      ConfigError, RuntimeFailure: as `LoadedGenerator.generate`.
      InputError: a class is constant, as `Constants.refuse`.
    """
    numbers = np.arange(FEWEST * len(generator.classes)) // FEWEST
    tiles = generator.generate(seed, np.arange(len(numbers)), numbers, truncation=truncation)
    found = Constants()
    found.add(tiles, np.array(generator.classes)[numbers])
    found.refuse()
    return found

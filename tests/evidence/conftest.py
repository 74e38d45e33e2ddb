"""Tiles to embed: crops of two photographs, so that no data set is needed."""

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from sklearn.datasets import load_sample_image

from privgen.evidence.encoders import Encoder, load_encoder


@pytest.fixture(scope="session", autouse=True)
def two_threads() -> None:
    torch.set_num_threads(2)


@pytest.fixture(scope="session")
def crops() -> NDArray[np.uint8]:
    """24 different textured tiles of 64 pixels, shape (24, 64, 64, 3)."""
    tiles = []
    for name in ("china.jpg", "flower.jpg"):
        photo = load_sample_image(name)
        tiles += [photo[top : top + 64, left : left + 64] for top in (60, 180, 300)
                  for left in (40, 200, 360, 520)]
    return np.stack(tiles)


@pytest.fixture(scope="session")
def lite0() -> Encoder:
    return load_encoder("effnet_lite0", device="cpu")


@pytest.fixture(scope="session")
def pixels() -> Encoder:
    return load_encoder("pixels")

"""Tiles to embed: crops of two photographs, so that no data set is needed."""

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from sklearn.datasets import load_sample_image

from privgen.encoders.loading import Encoder, load_encoder


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def crops() -> NDArray[np.uint8]:
    """24 different textured tiles of 64 pixels, shape (24, 64, 64, 3)."""
    tiles = []
    for name in ("china.jpg", "flower.jpg"):
        photo = load_sample_image(name)
        tiles += [
            photo[top : top + 64, left : left + 64]
            for top in range(0, 360, 90)
            for left in range(0, 560, 80)
        ]
    textured = [tile for tile in tiles if tile.mean(axis=2).std() > 20]
    return np.stack(textured[:24])


@pytest.fixture(scope="session")
def lite0() -> Encoder:
    return load_encoder("effnet_lite0", device="cpu")


@pytest.fixture(scope="session")
def pixels() -> Encoder:
    return load_encoder("pixels")

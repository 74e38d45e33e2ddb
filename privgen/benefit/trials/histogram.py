"""The control that sees colours and no structure: logistic regression on RGB histograms.

On NCT-CRC-HE such a histogram names the tissue in more than 82 % of cases, because colour and class
go together there. A network below it has learned nothing that was worth a network.

Source: docs/methods.md#classifier-benefit.
"""

import numpy as np
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import recall_score

NAME = "colour histogram"

_LEVELS = 6  # a channel; 216 colours
_LEVEL_OF = np.arange(256, dtype=np.int32) * _LEVELS // 256
_STRENGTHS = (1.0, 10.0, 100.0)  # inverse regularisation, chosen on the validation split


def colour_histograms(tiles: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Square root of each colour's share of each tile, shape (n, 216); rows have norm 1."""
    shares = np.empty((len(tiles), _LEVELS**3))
    for share, tile in zip(shares, tiles, strict=True):
        red, green, blue = np.moveaxis(_LEVEL_OF[tile], -1, 0)
        colour = (red * _LEVELS + green) * _LEVELS + blue
        share[:] = np.bincount(colour.ravel(), minlength=len(share)) / colour.size
    return np.sqrt(shares)


def fit_histogram(
    *,
    train: NDArray[np.uint8],
    train_labels: NDArray[np.intp],
    validation: NDArray[np.uint8],
    validation_labels: NDArray[np.intp],
) -> LogisticRegression:
    """A classifier of `colour_histograms`, its regularisation chosen on the validation split.

    Args:
      train, validation: uint8 tiles, shape (n, side, side, 3).
      train_labels, validation_labels: 0..c-1, shape (n,); train holds every class, validation need
        not: the mean recall of those it holds is what the choice goes by.
    """
    x, x_validation = colour_histograms(train), colour_histograms(validation)
    models = [LogisticRegression(C=c, max_iter=5000).fit(x, train_labels) for c in _STRENGTHS]
    present = np.unique(validation_labels)

    def mean_recall(model: LogisticRegression) -> float:
        guess = model.predict(x_validation)
        return float(recall_score(validation_labels, guess, labels=present, average="macro"))

    return max(models, key=mean_recall)

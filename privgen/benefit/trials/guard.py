"""The guard of the test split: it is read once, and by classifiers that are finished.

Whoever looks at the test split twice can select on it, and a figure selected on the test split is
not an estimate of anything. So nobody is given test tiles: a finished classifier is handed to the
guard, which gives back its probabilities. Nobody is given the labels either, until every announced
classifier has been tested, so that none of them can have been chosen by them.

A run may be killed between a test and the writing of what it gave. The guard therefore notes on
disk, before it predicts, the SHA-256 of the weights it tests: the same weights may be tested again
by a run that goes on, others under the same name may not.

Source: docs/methods.md#classifier-benefit.
"""

import hashlib
import os
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from torch import nn

from privgen.errors import RuntimeFailure
from privgen.files import PRIVATE

Pixels = NDArray[np.uint8]
Predict = Callable[[nn.Module, Pixels], NDArray[np.float64]]

CLEAN = "clean"
"""The view of the test tiles as they are; the others are stress tests."""


class TestGuard:
    """The only holder of the test tiles of one run.

    Several processes may each have a guard of the same folder; the notes there are shared.
    """

    __test__ = False  # not a test case, whatever pytest makes of the name

    def __init__(
        self,
        views: Mapping[str, Pixels],
        *,
        notes: Path,
        announced: Iterable[str],
        labels: NDArray[np.intp] | None = None,
    ) -> None:
        """Guard test tiles.

        Args:
          views: the test tiles, as they are and under each stress, uint8 (n, side, side, 3) each.
          notes: private folder of this run, which must exist.
          announced: names of all classifiers that will ever be tested.
          labels: class number of each test tile, shape (n,); None in processes that only train.
        """
        self._views = views
        self._notes = notes
        self._announced = frozenset(announced)
        self._labels = labels
        self._served: set[str] = set()

    def test(
        self, name: str, classifier: nn.Module, predict: Predict
    ) -> dict[str, NDArray[np.float64]]:
        """Class probabilities of a finished classifier in every view, shape (n, classes) each.

        Raises:
          RuntimeFailure: it was not announced, was tested before, or other weights were under its
            name.
        """
        self._serve(name, weights_digest(classifier))
        return {view: predict(classifier, tiles) for view, tiles in self._views.items()}

    def test_pixels(
        self, name: str, classify: Callable[[Pixels], NDArray[np.float64]], digest: str
    ) -> NDArray[np.float64]:
        """The same for a classifier that is no network, on the tiles as they are.

        Args:
          name: as announced.
          classify: from tiles to probabilities.
          digest: of its fitted state.
        """
        self._serve(name, digest)
        return classify(self._views[CLEAN])

    def labels(self) -> NDArray[np.intp]:
        """The true classes, once every announced classifier has been tested.

        Raises:
          RuntimeFailure: some have not, and could still be selected by them.
        """
        waiting = sorted(name for name in self._announced if not self._note(name).exists())
        if waiting:
            raise RuntimeFailure(
                "nothing may be selected on the test split: its labels are shown when every "
                f"announced classifier has been tested, and {len(waiting)} have not (first: "
                f"{waiting[0]}). Select on the validation split."
            )
        assert self._labels is not None, "the process that announces classifiers has the labels"
        return self._labels

    def _note(self, name: str) -> Path:
        return self._notes / f"{hashlib.sha256(name.encode()).hexdigest()[:16]}.tested"

    def _serve(self, name: str, digest: str) -> None:
        if name not in self._announced:
            raise RuntimeFailure(
                f"the test split is read by announced classifiers only: {name} was not. "
                "Announce it before training starts."
            )
        if name in self._served or self._tested_otherwise(name, digest):
            raise RuntimeFailure(
                f"the test split is read once by each classifier: {name} asked for it again, or "
                "with other weights. Select on the validation split; a benchmark that was stopped "
                "and goes on must compute as it began, so on another machine give a new `out`."
            )
        self._served.add(name)

    def _tested_otherwise(self, name: str, digest: str) -> bool:
        """Whether other weights were tested under this name; notes these where none were."""
        note = self._note(name)
        try:
            handle = os.open(note, os.O_WRONLY | os.O_CREAT | os.O_EXCL, PRIVATE)
        except FileExistsError:
            noted = note.read_text(encoding="ascii")
            if len(noted) == len(digest):
                return noted != digest
            # Killed while it was noted: nothing had been predicted yet.
            handle = os.open(note, os.O_WRONLY | os.O_TRUNC)
        with os.fdopen(handle, "w", encoding="ascii") as stream:
            stream.write(digest)
            stream.flush()
            os.fsync(stream.fileno())
        return False


def weights_digest(classifier: nn.Module) -> str:
    """SHA-256 of all parameters and buffers, by name."""
    state = hashlib.sha256()
    for name, value in sorted(classifier.state_dict().items()):
        state.update(f"{name} {value.dtype} {tuple(value.shape)}".encode())
        state.update(np.ascontiguousarray(value.detach().cpu().numpy()).tobytes())
    return state.hexdigest()

import multiprocessing
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import nn

from privgen.benefit.trials.guard import TestGuard, weights_digest
from privgen.errors import RuntimeFailure

LABELS = np.array([0, 1, 2, 0])
VIEWS = {
    "clean": np.zeros((4, 16, 16, 3), dtype=np.uint8),
    "blur": np.full((4, 16, 16, 3), 9, dtype=np.uint8),
}
NAMES = ("first", "second")


def guard(notes: Path) -> TestGuard:
    return TestGuard(VIEWS, notes=notes, announced=NAMES, labels=LABELS)


def network(seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3))


def predict(classifier: nn.Module, tiles: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Tells which view it was shown."""
    return np.full((len(tiles), 3), float(tiles.max()))


def test_a_classifier_is_tested_once_in_every_view(tmp_path: Path) -> None:
    given = guard(tmp_path).test("first", network(), predict)
    assert list(given) == ["clean", "blur"]
    assert (given["clean"] == 0).all()
    assert (given["blur"] == 9).all()


def test_reading_the_test_split_twice_raises(tmp_path: Path) -> None:
    watched = guard(tmp_path)
    watched.test("first", network(), predict)
    for weights in (network(), network(1)):
        with pytest.raises(RuntimeFailure, match="read once by each classifier: first asked for"):
            watched.test("first", weights, predict)
    watched.test("second", network(), predict)


def test_a_classifier_that_was_not_announced_is_refused_and_sees_nothing(tmp_path: Path) -> None:
    shown: list[int] = []

    def spy(classifier: nn.Module, tiles: NDArray[np.uint8]) -> NDArray[np.float64]:
        shown.append(len(tiles))
        return predict(classifier, tiles)

    with pytest.raises(RuntimeFailure, match="announced classifiers only: third was not"):
        guard(tmp_path).test("third", network(), spy)
    assert shown == []
    assert list(tmp_path.iterdir()) == []


def test_selecting_on_the_test_split_raises(tmp_path: Path) -> None:
    watched = guard(tmp_path)
    with pytest.raises(RuntimeFailure, match=r"2 have not \(first: first\)"):
        watched.labels()
    watched.test("first", network(), predict)
    with pytest.raises(RuntimeFailure, match=r"nothing may be selected .* 1 have not .*second"):
        watched.labels()
    watched.test("second", network(), predict)
    assert np.array_equal(watched.labels(), LABELS)


def _in_another_process(notes: Path, refused: Callable[[], None]) -> None:
    try:
        guard(notes).test("first", network(1), predict)
    except RuntimeFailure:
        refused()


def test_other_weights_under_a_tested_name_raise_in_any_guard_of_the_folder(tmp_path: Path) -> None:
    guard(tmp_path).test("first", network(), predict)
    with pytest.raises(RuntimeFailure, match="read once"):
        guard(tmp_path).test("first", network(1), predict)
    context = multiprocessing.get_context("fork")
    refused = context.Event()
    process = context.Process(target=_in_another_process, args=(tmp_path, refused.set))
    process.start()
    process.join(30)
    assert refused.is_set()


def test_the_same_weights_may_be_tested_again_by_a_run_that_was_killed(tmp_path: Path) -> None:
    before = guard(tmp_path).test("first", network(), predict)
    after = guard(tmp_path).test("first", network(), predict)
    assert all(np.array_equal(before[view], after[view]) for view in VIEWS)


def test_a_kill_while_a_test_is_noted_opens_no_second_look(tmp_path: Path) -> None:
    guard(tmp_path).test("first", network(), predict)
    (note,) = tmp_path.iterdir()
    for torn in ("", note.read_text()[:7]):
        note.write_text(torn)
        guard(tmp_path).test("first", network(2), predict)
        with pytest.raises(RuntimeFailure, match="read once"):
            guard(tmp_path).test("first", network(3), predict)


def test_test_tiles_and_labels_are_no_public_attribute(tmp_path: Path) -> None:
    watched = guard(tmp_path)
    public = {name: getattr(watched, name) for name in dir(watched) if not name.startswith("_")}
    assert set(public) == {"labels", "test", "test_pixels"}
    assert all(callable(value) for value in public.values())


def test_a_classifier_of_pixels_is_guarded_alike(tmp_path: Path) -> None:
    watched = guard(tmp_path)
    given = watched.test_pixels("first", lambda tiles: np.ones((len(tiles), 3)), "a" * 64)
    assert given.shape == (4, 3)
    with pytest.raises(RuntimeFailure, match="read once"):
        watched.test_pixels("first", lambda tiles: np.ones((len(tiles), 3)), "a" * 64)
    with pytest.raises(RuntimeFailure, match="read once"):
        guard(tmp_path).test_pixels("first", lambda tiles: np.ones((len(tiles), 3)), "b" * 64)


def test_notes_are_private_and_name_no_classifier(tmp_path: Path) -> None:
    guard(tmp_path).test("first", network(), predict)
    (note,) = tmp_path.iterdir()
    assert note.stat().st_mode & 0o777 == 0o600
    assert "first" not in note.name
    assert note.read_text() == weights_digest(network())


def test_every_weight_and_every_average_changes_the_digest() -> None:
    digests = {weights_digest(network())}
    for name in network().state_dict():
        changed = network()
        changed.state_dict()[name].add_(1)
        digests.add(weights_digest(changed))
    assert len(digests) == 1 + len(network().state_dict())
    assert weights_digest(network()) in digests

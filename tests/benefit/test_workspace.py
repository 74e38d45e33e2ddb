from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from privgen.benefit.arms import Pool
from privgen.benefit.plan import Cell
from privgen.benefit.results.records import CellResult
from privgen.benefit.trials.fitting import CurvePoint
from privgen.benefit.trials.workspace import Workspace
from privgen.errors import OutputError

CELL = Cell(regime=0.1, model="resnet", arm="real+synthetic", ratio=0.5, seed=3, generator=1)
DECIDED = {"seeds": (0, 1), "recipe": {"updates": 3}, "test": "ab"}


def result(cell: Cell = CELL) -> CellResult:
    rng = np.random.default_rng(0)
    return CellResult(
        cell=cell,
        train_tiles=12,
        updates=3,
        chosen=2,
        curve=(
            CurvePoint(
                update=2,
                train_loss=1 / 3,
                validation_loss=0.1,
                validation_balanced_accuracy=2 / 7,
            ),
        ),
        train_accuracy=5 / 12,
        probabilities=rng.random((4, 3)),
        stressed={"hue": rng.random((4, 3)), "blur": rng.random((4, 3))},
    )


@pytest.fixture
def place(tmp_path: Path) -> Workspace:
    made = Workspace(tmp_path / "private")
    made.claim.make(DECIDED)
    return made


def test_a_result_is_read_back_to_the_last_bit(place: Workspace) -> None:
    saved = result()
    assert not place.done(CELL)
    place.save(saved)
    assert place.done(CELL)
    assert not place.done(replace(CELL, seed=4))
    found = place.load(CELL)
    for name in ("cell", "train_tiles", "updates", "chosen", "curve", "train_accuracy"):
        assert getattr(found, name) == getattr(saved, name)
    assert np.array_equal(found.probabilities, saved.probabilities)
    assert found.stressed.keys() == saved.stressed.keys()
    assert all(
        np.array_equal(found.stressed[view], saved.stressed[view]) for view in saved.stressed
    )


@pytest.mark.parametrize("kept", [0, 1, 100, -40])
def test_a_damaged_result_is_one_line_that_says_what_to_delete(place: Workspace, kept: int) -> None:
    place.save(result())
    (path,) = (place.folder / "cells").iterdir()
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(OutputError, match=r"is damaged \(\w+\). Delete it, and run") as raised:
        place.load(CELL)
    assert path.name in str(raised.value)
    assert "\n" not in str(raised.value)


def test_bytes_turned_over_in_a_result_are_found(place: Workspace) -> None:
    place.save(result())
    (path,) = (place.folder / "cells").iterdir()
    content = bytearray(path.read_bytes())
    for at in range(60, 200):
        content[at] ^= 0xFF
    path.write_bytes(content)
    with pytest.raises(OutputError, match="is damaged"):
        place.load(CELL)


def test_the_same_benchmark_takes_the_folder_up_again(place: Workspace) -> None:
    place.save(result())
    assert place.claim.decided is not None
    place.claim.make(DECIDED)
    assert place.done(CELL)


@pytest.mark.parametrize(
    ("changed", "named"),
    [
        ({"seeds": (0, 2)}, "seeds changed"),
        ({"recipe": {"updates": 4}}, "recipe changed"),
        ({"test": "cd", "seeds": (0,)}, "seeds, test changed"),
        ({"more": 1}, "more changed"),
    ],
)
def test_another_benchmark_is_refused_and_what_changed_is_named(
    place: Workspace, changed: dict[str, object], named: str
) -> None:
    with pytest.raises(OutputError, match=f"holds results of another benchmark: {named}"):
        place.claim.make(DECIDED | changed)
    place.claim.make(DECIDED)


def test_results_of_nobody_knows_what_are_refused(place: Workspace) -> None:
    (place.folder / "benchmark.json").unlink()
    assert place.claim.decided is None
    with pytest.raises(OutputError, match=r"holds results without benchmark\.json"):
        place.claim.make(DECIDED)


def test_what_is_written_is_for_its_owner_alone(place: Workspace) -> None:
    place.save(result())
    place.put("test", np.zeros((2, 3)))
    for path in (place.folder, *place.folder.rglob("*")):
        assert path.stat().st_mode & 0o777 == (0o700 if path.is_dir() else 0o600), path


def test_what_a_killed_writer_left_is_swept(place: Workspace) -> None:
    left = [place.folder / name / ".partial-x" for name in ("", "cells", "material", "tested")]
    for path in left:
        path.touch()
    place.claim.make(DECIDED)
    assert not any(path.exists() for path in left)


def test_a_pool_comes_back_with_what_the_filter_keeps(place: Workspace) -> None:
    tiles = np.random.default_rng(0).integers(0, 256, (5, 16, 16, 3), dtype=np.uint8)
    pool = Pool(real=np.array([0, 1]), synthetic=np.array([1, 0, 0]))
    place.put_pool(0.1, 0, tiles, pool)
    place.put_pool(0.1, 1, tiles, replace(pool, kept=np.array([True, False, True])))
    for generator, kept in ((0, None), (1, [True, False, True])):
        found, read = place.get_pool(0.1, generator)
        assert np.array_equal(found, tiles)
        assert np.array_equal(read.real, pool.real)
        assert np.array_equal(read.synthetic, pool.synthetic)
        assert (None if read.kept is None else read.kept.tolist()) == kept


def test_dropping_the_material_keeps_the_results(place: Workspace) -> None:
    place.save(result())
    place.put("test", np.zeros((2, 3)))
    place.end()
    assert not list(place.folder.rglob("*.npy"))
    assert place.done(CELL)


def test_a_damaged_record_of_what_was_decided_is_one_line(place: Workspace) -> None:
    for damage in ("{", "[1]"):
        (place.folder / "benchmark.json").write_text(damage)
        with pytest.raises(OutputError, match="is damaged"):
            place.claim.make(DECIDED)

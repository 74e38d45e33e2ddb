import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest

from privgen.benefit.generators import estimate_minutes, train_generators
from privgen.checkpoints.roles import match
from privgen.checkpoints.state import GENERATOR
from privgen.data.tileset import TileSet
from privgen.errors import CheckpointError, ConfigError
from privgen.sampling import load_generator
from privgen.training import loop
from tests.helpers.small_generators import TINY, Trained


def again(
    trained: Trained, folder: Path, train: TileSet | None = None, **changed: Any
) -> dict[float, tuple[Path, ...]]:
    return train_generators(
        trained.tiles,
        trained.parts,
        {0.25: train or trained.subsets[0.25]},
        options=TINY | changed,
        count=1,
        folder=folder,
    )


@pytest.fixture
def copy(trained: Trained, tmp_path: Path) -> Path:
    """The generator of the small regime, to be taken up again."""
    name = trained.runs[0.25][0].parent.name
    shutil.copytree(trained.folder / name, tmp_path / name)
    return tmp_path


@pytest.fixture
def no_training(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*arguments: object, **options: object) -> None:
        raise AssertionError("nothing is to be trained")

    monkeypatch.setattr(loop, "train", refuse)


@pytest.mark.parametrize("share", [0.25, 1.0])
def test_the_ledger_of_a_regimes_generator_says_who_saw_what(
    trained: Trained, share: float
) -> None:
    for run in trained.runs[share]:
        ledger = load_generator(run).ledger
        assert ledger is not None
        roles = match(ledger, trained.tiles).roles
        train = trained.subsets[share]
        assert set(roles["train"].digests) == set(train.digests)
        assert set(roles["reference"].digests) == set(trained.parts.validation.digests)
        assert set(trained.parts.test.groups) <= set(roles["holdout"].groups)
        assert not set(roles["holdout"].groups) & set(train.groups)
        assert "siblings" not in roles
    assert set(roles["holdout"].groups) | set(train.groups) | set(
        trained.parts.validation.groups
    ) == set(trained.tiles.groups)


def test_generators_of_a_regime_differ_in_their_seed(trained: Trained) -> None:
    first, second = (load_generator(run) for run in trained.runs[1.0])
    assert first.digest != second.digest
    seeds = [json.loads((run / "config.json").read_text())["seed"] for run in trained.runs[1.0]]
    assert seeds == [0, 1]


@pytest.mark.usefixtures("no_training")
def test_a_finished_generator_is_not_trained_again(trained: Trained, copy: Path) -> None:
    ((run,),) = again(trained, copy).values()
    assert load_generator(run).digest == load_generator(trained.runs[0.25][0]).digest


def test_a_generator_that_was_stopped_goes_on_to_the_same_weights(
    trained: Trained, copy: Path
) -> None:
    (run,) = next(copy.iterdir()).iterdir()
    (run / GENERATOR).unlink()
    max(run.glob("checkpoints/ckpt-*.pt")).unlink()
    ((gone_on,),) = again(trained, copy).values()
    assert gone_on == run
    assert load_generator(run).digest == load_generator(trained.runs[0.25][0]).digest


def test_a_run_that_left_no_checkpoint_is_begun_anew_and_only_once(
    trained: Trained, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    torn = tmp_path / trained.runs[0.25][0].parent.name / "00000-regime-0.25-cdcgan"
    torn.mkdir(parents=True)
    ((run,),) = again(trained, tmp_path).values()
    assert run.name.startswith("00001")
    monkeypatch.setattr(loop, "train", None)
    assert again(trained, tmp_path) == {0.25: (run,)}


@pytest.mark.usefixtures("no_training")
@pytest.mark.parametrize(
    ("changed", "rule"),
    [
        ({"kimg": 0.048}, r"changed: kimg: 0\.024 -> 0\.048"),
        ({"width": 8}, "width: 4 -> 8"),
        ({"batch": 4}, "batch: 8 -> 4"),
    ],
)
def test_a_generator_of_other_options_is_not_taken_for_this_one(
    trained: Trained, copy: Path, changed: dict[str, Any], rule: str
) -> None:
    with pytest.raises(ConfigError, match=rule):
        again(trained, copy, **changed)


@pytest.mark.usefixtures("no_training")
def test_a_generator_of_other_tiles_is_not_taken_for_this_one(trained: Trained, copy: Path) -> None:
    with pytest.raises(CheckpointError, match="trained on other tiles"):
        again(trained, copy, train=trained.subsets[1.0])


def test_generators_are_kept_private(trained: Trained) -> None:
    for run in trained.runs[1.0]:
        assert run.parent.stat().st_mode & 0o777 == 0o700
        for checkpoint in run.glob("checkpoints/*"):
            assert os.stat(checkpoint).st_mode & 0o777 == 0o600


def test_the_time_of_a_generator_grows_with_its_budget(trained: Trained) -> None:
    train = trained.subsets[1.0]
    short = estimate_minutes(train, TINY | {"kimg": 1.0})
    assert 0 < short < estimate_minutes(train, TINY | {"kimg": 50.0})

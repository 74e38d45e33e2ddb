"""Stopped, or spread over Dask workers: the figures of one undisturbed run.

Several processes of this machine are in tests/cli/test_augment_bench.py, where they are killed.
"""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from privgen.benefit.protocol import BenchReport
from privgen.benefit.trials import execution
from privgen.benefit.trials.execution import VIEWS, default_jobs
from privgen.benefit.trials.fitting import Trial
from privgen.benefit.trials.stress import STRESSES
from privgen.benefit.trials.workspace import Workspace
from privgen.compute.cores import cores
from privgen.errors import ConfigError, Interrupted, OutputError, RuntimeFailure
from tests.helpers.dask import cluster

Bench = Callable[..., BenchReport]


@pytest.fixture(scope="module")
def alone(bench: Bench) -> dict[str, Any]:
    """The report of a run that nothing happened to."""
    return bench().to_dict()


@pytest.fixture
def trainings(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """One entry for each classifier that is trained from here on."""
    fit, begun = execution.fit, list[int]()

    def counted(*arguments: Any, **options: Any) -> Any:
        begun.append(1)
        return fit(*arguments, **options)

    monkeypatch.setattr(execution, "fit", counted)
    return begun


def test_a_run_stopped_at_any_update_goes_on_to_the_same_report(
    bench: Bench,
    alone: dict[str, Any],
    trainings: list[int],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    updates = 0

    def stop_now_and_then(setting: object) -> None:
        nonlocal updates
        updates += 1
        if updates in (4, 5, 8):  # the second of the second training, and so on
            raise Interrupted("stopped")

    monkeypatch.setattr(execution, "_stay", stop_now_and_then)
    for _ in range(3):
        with pytest.raises(Interrupted):
            bench(folder=tmp_path)
        assert not (tmp_path / "material").exists()
    assert bench(folder=tmp_path).to_dict() == alone
    assert len(trainings) == 4 + 3  # those that were finished were not trained again


def test_a_finished_run_is_only_read_again(
    bench: Bench, alone: dict[str, Any], trainings: list[int], tmp_path: Path
) -> None:
    assert bench(folder=tmp_path).to_dict() == alone
    assert len(trainings) == 4
    assert bench(folder=tmp_path).to_dict() == alone
    assert len(trainings) == 4


def test_stopped_between_its_test_and_its_result_a_classifier_is_tested_again(
    bench: Bench, alone: dict[str, Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def stop(workspace: Workspace, result: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Workspace, "save", stop)
        with pytest.raises(KeyboardInterrupt):
            bench(folder=tmp_path)
    assert len(list((tmp_path / "tested").iterdir())) == 1
    assert bench(folder=tmp_path).to_dict() == alone


def test_a_tested_classifier_cannot_be_replaced_by_a_better_one(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    bench(folder=tmp_path)
    min((tmp_path / "cells").iterdir()).unlink()
    fit = execution.fit

    def better(model: Any, trial: Trial, **options: Any) -> Any:
        return fit(model, replace(trial, seed=99), **options)

    monkeypatch.setattr(execution, "fit", better)
    with pytest.raises(RuntimeFailure, match="read once by each classifier"):
        bench(folder=tmp_path)


def test_a_damaged_result_can_be_deleted_and_comes_again(
    bench: Bench, alone: dict[str, Any], tmp_path: Path
) -> None:
    bench(folder=tmp_path)
    path = min((tmp_path / "cells").iterdir())
    path.write_bytes(b"")
    with pytest.raises(OutputError, match="Delete it"):
        bench(folder=tmp_path)
    path.unlink()
    assert bench(folder=tmp_path).to_dict() == alone


@pytest.mark.parametrize(
    ("changed", "named"),
    [
        ({"updates": 3}, "recipe changed"),
        ({"seeds": (0, 2)}, "seeds changed"),
        ({"seed": 1}, "seed changed"),
    ],
)
def test_changed_options_are_refused_and_named(
    bench: Bench, trainings: list[int], tmp_path: Path, changed: dict[str, Any], named: str
) -> None:
    bench(folder=tmp_path, arms=("real",))
    with pytest.raises(OutputError, match=named):
        bench(folder=tmp_path, arms=("real",), **changed)
    assert len(trainings) == 2


def test_changed_tiles_are_refused_and_named(
    bench: Bench, material: Callable[..., dict[str, Any]], tmp_path: Path
) -> None:
    bench(folder=tmp_path, arms=("real",))
    (regime,) = material()["regimes"]
    (source,) = regime.generators
    fewer = replace(source, tiles=source.tiles.subset(range(60)))
    with pytest.raises(OutputError, match="synthetic tiles of regime 1, perfect 0 changed"):
        bench(folder=tmp_path, arms=("real",), regimes=(replace(regime, generators=(fewer,)),))


def test_a_second_run_into_the_same_folder_is_kept_out(
    bench: Bench, trainings: list[int], tmp_path: Path
) -> None:
    with (
        Workspace(tmp_path).claim.held(),
        pytest.raises(OutputError, match="another process is bench"),
    ):
        bench(folder=tmp_path)
    assert trainings == []
    bench(folder=tmp_path, arms=("real",))


@pytest.mark.slow
def test_dask_workers_elsewhere_give_the_report_of_one_process(
    bench: Bench, alone: dict[str, Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    there, here = tmp_path / "there", tmp_path / "here"
    there.mkdir()
    here.mkdir()
    monkeypatch.chdir(here)
    with cluster(there, "--no-nanny") as address, monkeypatch.context() as patch:

        def refuse(*arguments: object) -> None:
            raise AssertionError("the workers train")

        patch.setattr(execution, "carry_out", refuse)
        found = bench(scheduler=address, folder=Path("relative"))
    assert found.to_dict() == alone
    assert len(list((here / "relative" / "cells").iterdir())) == 4


def test_a_scheduler_that_is_not_there_is_refused(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("privgen.compute.dask.PATIENCE", 0.2)
    with pytest.raises(ConfigError, match="scheduler"):
        bench(scheduler="tcp://127.0.0.1:9", folder=tmp_path)


def test_test_tiles_are_seen_as_they_are_first_and_then_stressed() -> None:
    assert list(VIEWS) == ["clean", *STRESSES]


def test_a_job_a_core_and_one_on_a_gpu() -> None:
    assert default_jobs(torch.device("cpu")) == cores()
    assert default_jobs(torch.device("cuda")) == 1

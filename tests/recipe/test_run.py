"""A recipe tried many times: the same bits by one process and two, after a kill, and on Dask."""

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import privgen
from audits import AuditInputError
from privgen.errors import ConfigError, InputError, OutputError, RuntimeFailure
from privgen.recipe import runs
from privgen.recipe.run import RecipeAudit
from privgen.recipe.runs import MAIN
from privgen.recipe.workspace import Workspace
from tests.helpers.dask import cluster
from tests.helpers.processes import until
from tests.helpers.recipes import QUICK, SMALL

Audit = Callable[..., RecipeAudit]


def timeless(document: Any) -> Any:
    found = json.loads(json.dumps(document))
    del found["created"], found["recipe"]["training_minutes"]
    return found


def test_both_files_are_written_and_the_runs_are_forgotten(
    alone: tuple[Path, RecipeAudit],
) -> None:
    out, found = alone
    assert sorted(path.name for path in out.iterdir()) == ["report.html", "report.json"]
    private = out.with_name("out-private")
    assert private.stat().st_mode & 0o077 == 0
    assert not any((private / "runs").iterdir())
    assert sorted(path.name for path in (private / "looks").iterdir()) == [
        "real.npz",
        *(f"run-00{run}.npz" for run in range(4)),
    ]
    for path in (private / "looks").iterdir():
        assert path.stat().st_mode & 0o077 == 0
    assert json.loads((out / "report.json").read_text()) == json.loads(json.dumps(found.document))
    assert found.report.runs == 4
    assert found.report.patients == 8


def test_every_run_draws_its_classes_alike(alone: tuple[Path, RecipeAudit]) -> None:
    looks = [
        Workspace(alone[0].with_name("out-private")).load(f"run-00{run}")[0][MAIN]
        for run in range(4)
    ]
    assert {look.shape for look in looks} == {(32, looks[0].shape[1])}
    assert not np.array_equal(looks[0], looks[1])


def test_two_processes_give_the_bits_of_one(
    audit: Audit, alone: tuple[Path, RecipeAudit], tmp_path: Path
) -> None:
    found = audit(tmp_path / "out", jobs=2)
    assert timeless(found.document) == timeless(alone[1].document)


def test_a_command_repeated_judges_what_is_there(
    audit: Audit, alone: tuple[Path, RecipeAudit], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*arguments: object) -> None:
        raise AssertionError("everything is there")

    monkeypatch.setattr(runs, "_train_and_look", refuse)
    assert timeless(audit(alone[0]).document) == timeless(alone[1].document)


COMMAND = """
import sys, privgen
from tests.helpers.recipes import QUICK, SMALL
if __name__ == "__main__":
    privgen.audit_recipe(sys.argv[1], out=sys.argv[2], config=SMALL, **{**QUICK, "jobs": 2})
"""


@pytest.mark.slow
def test_killed_at_five_moments_the_report_is_that_of_one_run(
    folder: Path, audit: Audit, alone: tuple[Path, RecipeAudit], tmp_path: Path
) -> None:
    out, looks = tmp_path / "out", tmp_path / "out-private" / "looks"
    script = tmp_path / "again.py"
    script.write_text(COMMAND)
    line = [sys.executable, str(script), str(folder), str(out)]
    environment = {**os.environ, "PYTHONPATH": os.getcwd(), "OMP_NUM_THREADS": "1"}
    for wanted in range(1, 6):
        process = subprocess.Popen(
            line, env=environment, start_new_session=True, stderr=subprocess.DEVNULL
        )
        until(
            lambda wanted=wanted, process=process: (
                process.poll() is not None or len(list(looks.glob("[a-z]*.npz"))) >= wanted
            ),
            seconds=120,
        )
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    assert timeless(audit(out).document) == timeless(alone[1].document)


@pytest.mark.slow
def test_dask_workers_give_the_bits_of_one_process(
    audit: Audit, alone: tuple[Path, RecipeAudit], tmp_path: Path
) -> None:
    with cluster(tmp_path, "--nanny", "--no-nanny") as address:
        found = audit(tmp_path / "out", jobs=None, scheduler=address)
    assert timeless(found.document) == timeless(alone[1].document)


@pytest.mark.parametrize(
    ("config", "asked", "named"),
    [
        ({"kimg": 0.048}, {}, "asked, config changed"),
        ({}, {"runs": 6}, "runs, tossed changed"),
        ({}, {"count": 64}, "count changed"),
        ({"seed": 3}, {}, "tossed changed"),
        ({}, {"siblings": 0.1}, "siblings changed"),
    ],
)
def test_another_audit_into_the_same_folder_is_refused(
    audit: Audit, alone: tuple[Path, RecipeAudit], config: Any, asked: Any, named: str
) -> None:
    with pytest.raises(OutputError, match="holds runs of another audit") as refused:
        audit(alone[0], config=config, **asked)
    for word in named.removesuffix(" changed").split(", "):
        assert word in str(refused.value)


def test_other_code_is_refused(
    audit: Audit, alone: tuple[Path, RecipeAudit], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("privgen.recipe.frozen.code_digest", lambda: "0" * 64)
    with pytest.raises(OutputError, match="code changed"):
        audit(alone[0])


def test_tiles_that_were_added_in_between_are_refused(
    tiles: Any, alone: tuple[Path, RecipeAudit]
) -> None:
    with pytest.raises(OutputError, match="data"):
        privgen.audit_recipe(
            tiles.subset(np.arange(len(tiles) - 1)), out=alone[0], config=SMALL, **QUICK
        )


def test_a_run_that_diverges_says_which_and_loses_nothing(
    audit: Audit, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from privgen.errors import NonFiniteLossError

    trained = runs._trained

    def diverges(setting: Any, run: int, place: Path) -> Path:
        if run == 2:
            raise NonFiniteLossError("the loss became NaN at step 3.")
        return trained(setting, run, place)

    monkeypatch.setattr(runs, "_trained", diverges)
    with pytest.raises(RuntimeFailure, match="run 3 of 4 diverged"):
        audit(tmp_path / "out")
    kept = tmp_path / "out-private" / "looks"
    assert (kept / "run-001.npz").exists()
    assert not (tmp_path / "out" / "report.json").exists()


def test_a_damaged_run_can_be_deleted_and_comes_again(
    audit: Audit, alone: tuple[Path, RecipeAudit], tmp_path: Path
) -> None:
    out = tmp_path / "out"
    for name in ("out", "out-private"):
        shutil.copytree(alone[0].with_name(name), tmp_path / name)
    path = tmp_path / "out-private" / "looks" / "run-001.npz"
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(OutputError, match="Delete it"):
        audit(out)
    path.unlink()
    assert timeless(audit(out).document) == timeless(alone[1].document)


def test_what_is_private_stays_out_of_what_is_shared(audit: Audit, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="may not lie in what is shared"):
        audit(tmp_path / "out", private=tmp_path / "out" / "private")


@pytest.mark.parametrize(
    ("asked", "told"),
    [
        ({"runs": 2}, "`runs` must be from 4"),
        ({"runs": 5}, "pairs of runs: got `runs` 5"),
        ({"jobs": 1, "scheduler": "tcp://h:1"}, "got `scheduler` beside it"),
        ({"coins": "fair"}, "`coins` must be one of"),
    ],
)
def test_what_cannot_be_asked_is_refused(
    audit: Audit, tmp_path: Path, asked: Any, told: str
) -> None:
    with pytest.raises(ConfigError, match=told):
        audit(tmp_path / "out", **asked)
    assert not (tmp_path / "out").exists()


def test_few_patients_are_refused_before_anything_is_written(tiles: Any, tmp_path: Path) -> None:
    few = tiles.subset(np.flatnonzero(np.isin(tiles.groups, np.unique(tiles.groups)[:3])))
    with pytest.raises((InputError, AuditInputError), match="4 patients at least: got 3"):
        privgen.audit_recipe(few, out=tmp_path / "out", config=SMALL, **QUICK)
    assert not (tmp_path / "out").exists()


def test_the_report_is_a_notebooks_too(alone: tuple[Path, RecipeAudit]) -> None:
    assert alone[1].verdict.sentence in alone[1]._repr_html_()
    assert "RecipeAudit(" in repr(alone[1])

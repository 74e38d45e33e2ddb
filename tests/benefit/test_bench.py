"""From tile sets to a folder with a report, and everything that is not for sharing beside it."""

import csv
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from privgen.benefit import bench as benches
from privgen.benefit.bench import Bench, Planned, plan_bench
from privgen.benefit.requests import FULL, QUICK, Workload
from privgen.benefit.results.records import (
    Point,
)
from privgen.benefit.trials import execution
from privgen.data.tileset import TileSet
from privgen.errors import ConfigError, InputError, OutputError
from tests.helpers.small_generators import TINY

Textures = Callable[..., TileSet]
Plans = Callable[..., Planned]


@pytest.fixture(scope="module")
def planned(textures: Textures) -> Plans:
    """`planned(seeds=3)`: a few updates on textures, options changed as given."""

    def plan(**changed: Any) -> Planned:
        options: dict[str, Any] = {
            "data": textures("real", patients=12),
            "synthetic": textures("made0", patients=8, grouped=False),
            "models": ("mobilenet",),
            "ratios": (1.0,),
            "seeds": 2,
            "updates": 2,
            "evaluations": 2,
            "arms": ("real", "real+synthetic"),
            "device": "cpu",
            "jobs": 1,
            "audit": False,
        }
        return plan_bench(**options | changed)

    return plan


@pytest.fixture(scope="module")
def left(planned: Plans, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Bench]:
    """The folder of a finished run, and what it returned."""
    out = tmp_path_factory.mktemp("bench") / "out"
    return out, planned().run(out)


@pytest.fixture
def no_training(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*arguments: object, **options: object) -> None:
        raise AssertionError("nothing is to be trained")

    monkeypatch.setattr(execution, "fit", refuse)


def timeless(document: Any) -> dict[str, Any]:
    return {key: value for key, value in document.items() if key != "created"}


def table(out: Path) -> list[dict[str, str]]:
    return list(csv.DictReader((out / "cells.csv").read_text(encoding="utf-8").splitlines()))


def test_a_report_and_a_table_are_left(left: tuple[Path, Bench]) -> None:
    out, found = left
    assert {path.name for path in out.iterdir()} == {"cells.csv", "report.html", "report.json"}
    written = json.loads((out / "report.json").read_text())
    assert written == json.loads(json.dumps(found.document))
    assert written["audit"] is None
    assert written["augment_bench"] == json.loads(json.dumps(found.report.to_dict()))
    rows = table(out)
    assert [(row["arm"], row["seed"], row["generator"]) for row in rows] == [
        ("real", "0", ""),
        ("real", "1", ""),
        ("real+synthetic", "0", "0"),
        ("real+synthetic", "1", "0"),
    ]
    assert {row["updates"] for row in rows} == {"2"}


def test_the_table_has_the_means_of_the_report(left: tuple[Path, Bench]) -> None:
    out, found = left
    rows = table(out)
    for row, cells in zip(found.report.rows, (rows[:2], rows[2:]), strict=True):
        mean = sum(float(cell["balanced_accuracy"]) for cell in cells) / 2
        assert row.metrics["balanced_accuracy"].value == pytest.approx(mean)


def values(content: Any) -> Iterator[Any]:
    """Every list within."""
    if isinstance(content, list):
        yield content
    inner = content.values() if isinstance(content, dict) else content
    if isinstance(content, dict | list):
        for one in inner:
            yield from values(one)


def test_nothing_private_stands_in_what_is_shared(left: tuple[Path, Bench], planned: Plans) -> None:
    out, _ = left
    parts = planned().opened.parts
    for path in out.iterdir():
        text = path.read_text(encoding="utf-8")
        assert str(out.parent) not in text
        assert not any(patient in text for patient in (f"real{n}" for n in range(12)))
        assert not any(record.path in text for record in parts.test.records)
    lists = list(values(json.loads((out / "report.json").read_text())))
    assert lists
    smallest = min(len(parts.test), len(parts.validation))
    assert max(len(one) for one in lists) < smallest  # no list has a value for every tile
    assert len((out / "cells.csv").read_text().splitlines()) == 1 + 4


def test_what_is_private_lies_beside_for_its_owner_alone(left: tuple[Path, Bench]) -> None:
    out, _ = left
    hidden = out.with_name("out-private")
    assert len(list((hidden / "cells").iterdir())) == 4
    for path in (hidden, *hidden.rglob("*")):
        assert path.stat().st_mode & 0o777 == (0o700 if path.is_dir() else 0o600), path
    assert not (hidden / "material").exists()


@pytest.mark.usefixtures("no_training")
def test_a_finished_run_is_repeated_without_training(
    left: tuple[Path, Bench], planned: Plans
) -> None:
    out, found = left
    cells = (out / "cells.csv").read_bytes()
    (out / "report.json").unlink()
    again = planned().run(out)
    assert timeless(again.document) == timeless(found.document)
    assert timeless(json.loads((out / "report.json").read_text())) == json.loads(
        json.dumps(timeless(found.document))
    )
    assert (out / "cells.csv").read_bytes() == cells


@pytest.mark.usefixtures("no_training")
@pytest.mark.parametrize(
    ("changed", "named"),
    [
        ({"updates": 3}, "recipe changed"),
        ({"seeds": 3}, "seeds changed"),
        ({"arms": ("real",)}, "arms changed"),
        ({"seed": 1}, "seed"),
    ],
)
def test_another_benchmark_in_the_same_folder_is_refused(
    left: tuple[Path, Bench], planned: Plans, changed: dict[str, Any], named: str
) -> None:
    out, _ = left
    before = (out / "report.json").read_bytes()
    with pytest.raises(OutputError, match=named):
        planned(**changed).run(out)
    assert (out / "report.json").read_bytes() == before


@pytest.mark.usefixtures("no_training")
@pytest.mark.parametrize("prepared", [False, True])
def test_a_folder_of_something_else_is_refused(
    planned: Plans, tmp_path: Path, prepared: bool
) -> None:
    out, hidden = tmp_path / "out", tmp_path / "mine"
    out.mkdir()
    (out / "report.html").write_text("mine")
    if prepared:
        hidden.mkdir()
    with pytest.raises(OutputError, match=r"must be empty: .* holds report\.html"):
        planned().run(out, hidden)
    assert (out / "report.html").read_text() == "mine"
    assert not list(tmp_path.rglob("cells"))


@pytest.mark.usefixtures("no_training")
def test_a_dry_run_counts_and_writes_nothing(
    planned: Plans, textures: Textures, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    plan = planned(models=("mobilenet", "resnet"), seeds=3)
    found = plan.estimate()
    assert found["trainings"] == 2 * 2 * 3
    assert [one["trainings"] for one in found["models"].values()] == [6, 6]
    assert all(one["seconds_each"] > 0 for one in found["models"].values())
    total = sum(6 * one["seconds_each"] for one in found["models"].values())
    assert found["minutes"] == pytest.approx(total / 60)
    assert found["generator_minutes"] == 0
    parts = plan.opened.parts
    assert {name: one["tiles"] for name, one in found["regimes"].items()} == {
        "validation": len(parts.validation),
        "test": len(parts.test),
        "regime 1": len(parts.known),
    }
    assert list(tmp_path.iterdir()) == []


def test_the_time_of_generators_is_foretold(planned: Plans, real_folder: Path) -> None:
    plan = planned(
        data=real_folder,
        synthetic=None,
        training=TINY,
        generator_seeds=2,
        regimes=(0.5, 1.0),
        resolution=16,
    )
    found = plan.estimate()
    assert found["trainings"] == 2 * (2 + 2 * 2)
    assert found["generator_minutes"] > 0


def test_verdicts_stand_on_the_plane_and_their_warnings_in_the_report(
    planned: Plans, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    asked: list[dict[str, Any]] = []

    def judge(points: tuple[Point, ...], regimes: object, **options: Any) -> Any:
        asked.append(options)
        return points, ("could not be audited",)

    monkeypatch.setattr(benches, "audit_points", judge)
    plan = planned(audit=True)
    found = plan.run(tmp_path / "out")
    assert "could not be audited" in found.report.warnings
    ((asked_once),) = asked
    train = plan.opened.subsets[1.0]
    assert set(asked_once["outside"][1.0].groups).isdisjoint(train.groups)
    assert asked_once["out"] == tmp_path / "out"


@pytest.mark.slow
def test_generators_are_trained_for_each_regime_and_taken_up_again(
    planned: Plans, real_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def plan(**changed: Any) -> Planned:
        return planned(
            data=real_folder,
            synthetic=None,
            training=TINY | changed,
            generator_seeds=1,
            regimes=(0.5, 1.0),
            resolution=16,
        )

    out = tmp_path / "out"
    found = plan().run(out)
    for regime in found.report.regimes:
        assert regime.tiles == len(plan().opened.subsets[regime.share])
        assert [one.synthetic for one in regime.generators] == [regime.tiles]
    runs = sorted((tmp_path / "out-private" / "generators").glob("*/*"))
    assert len(runs) == 2
    # Their ledgers give the same benchmark back.
    again = planned(data=None, synthetic=None, generators=runs, regimes=(0.5, 1.0), resolution=16)
    for name in ("known", "validation", "test"):
        ours, theirs = (getattr(one.opened.parts, name) for one in (plan(), again))
        assert set(ours.digests) == set(theirs.digests)
    assert again.run(None).report.rows == found.report.rows
    monkeypatch.setattr(execution, "fit", None)
    assert timeless(plan().run(out).document) == timeless(found.document)
    with pytest.raises(ConfigError, match=r"changed: kimg: 0\.024 -> 0\.048"):
        plan(kimg=0.048).run(out)


@pytest.mark.parametrize(
    ("changed", "error", "rule"),
    [
        ({"models": ("resnt",)}, ConfigError, "Did you mean resnet?"),
        ({"jobs": 0}, ConfigError, "`jobs` must be 1 or more"),
        ({"updates": 0}, ConfigError, "`updates` must be 1 or more: got 0"),
        ({"ratios": ()}, ConfigError, "ratios must be one or more"),
        ({"seeds": 0}, ConfigError, "`seeds` must be"),
        ({"generator_seeds": 0}, ConfigError, "`generator_seeds` must be 1 or more: got 0"),
        ({"device": "quantum"}, ConfigError, "device"),
        ({"regimes": (0.1,)}, ConfigError, "all training tiles alone"),
    ],
)
def test_bad_options_are_refused_before_anything_starts(
    planned: Plans, changed: dict[str, Any], error: type[Exception], rule: str
) -> None:
    with pytest.raises(error, match=rule):
        planned(**changed)


def test_synthetic_tiles_that_lack_a_class_are_refused(
    planned: Plans, textures: Textures, tmp_path: Path
) -> None:
    made = textures("made0", patients=8, grouped=False, classes=("across", "check"))
    with pytest.raises(InputError, match="synthetic set synthetic tiles: down is missing"):
        planned(synthetic=made).run(tmp_path / "out")


@pytest.mark.parametrize(("quick", "effort"), [(False, FULL), (True, QUICK)])
def test_quick_trains_less_of_everything(planned: Plans, quick: bool, effort: Workload) -> None:
    plan = planned(quick=quick, seeds=None, ratios=None, updates=None).plan
    assert (len(plan.seeds), plan.ratios, plan.recipe.updates) == (
        effort.seeds,
        effort.ratios,
        effort.updates,
    )


def test_the_command_to_repeat_names_no_place(left: tuple[Path, Bench]) -> None:
    _, found = left
    command = found.document["reproduce"]["command"]
    assert command.startswith(
        "privgen augment-bench DATA --synthetic SYNTHETIC --models mobilenet "
    )
    assert "/" not in command

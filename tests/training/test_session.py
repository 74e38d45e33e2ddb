"""A session: which run goes on, which tiles are seen, what is refused before a folder is made."""

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import privgen
from privgen.checkpoints import state
from privgen.data.tileset import TileSet
from privgen.errors import CheckpointError, ConfigError, PrivgenError
from privgen.training import loop
from privgen.training.session import plan_session

OPTIONS: dict[str, Any] = {
    "family": "cdcgan-2025",
    "resolution": 32,
    "width": 4,
    "head_width": 4,
    "batch": 8,
    "kimg": 0.008,  # 1 step
    "watch_kimg": 0.0,
    "device": "cpu",
    "threads": 1,
}


@pytest.fixture(scope="module")
def tiles() -> TileSet:
    """16 patients with 4 tiles each, two of either class."""
    pixels = np.random.default_rng(0).integers(0, 256, (64, 32, 32, 3)).astype(np.uint8)
    patients = [f"p{k // 4}" for k in range(64)]
    return TileSet.from_arrays(pixels, ("str", "tum") * 32, patients=patients)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory, tiles: TileSet) -> Path:
    out = tmp_path_factory.mktemp("finished")
    return privgen.train(tiles, out=out, config=OPTIONS).parent.parent


def _unfinished(finished: Path, out: Path, *names: str) -> None:
    """Runs of these names that were killed after their last checkpoint."""
    for name in names:
        shutil.copytree(finished, out / name)
        (out / name / "generator.safetensors").unlink()


def _auto(tiles: TileSet, out: Path, **options: Any) -> Path:
    path = privgen.train(
        tiles, out=out, resume="auto", config={**OPTIONS, "kimg": 0.016, **options}
    )
    return path.parent.parent


def test_auto_starts_goes_on_with_the_newest_unfinished_run_and_then_starts_again(
    tmp_path: Path, tiles: TileSet, finished: Path
) -> None:
    _unfinished(finished, tmp_path, "00000-tiles-cdcgan-2025", "00003-tiles-cdcgan-2025")
    shutil.copytree(finished, tmp_path / "00004-tiles-cdcgan-2025")  # this one is finished
    found = [_auto(tiles, tmp_path).name[:5] for _ in range(3)]
    assert found == ["00003", "00000", "00005"]
    for folder in tmp_path.iterdir():
        steps = 1 if folder.name.startswith("00004") else 2
        assert state.load_checkpoint(folder).step == steps


def test_auto_starts_where_nothing_is(tmp_path: Path, tiles: TileSet) -> None:
    assert _auto(tiles, tmp_path / "new").name == "00000-tiles-cdcgan-2025"


def test_auto_ignores_other_tiles_and_runs_without_a_checkpoint(
    tmp_path: Path, tiles: TileSet, finished: Path
) -> None:
    names = ("00001-others-cdcgan-2025", "00002-tiles-cdcgan-2025")
    _unfinished(finished, tmp_path, *names)
    for checkpoint in (tmp_path / names[1] / "checkpoints").iterdir():
        checkpoint.unlink()
    assert _auto(tiles, tmp_path).name == "00003-tiles-cdcgan-2025"


@pytest.mark.parametrize("other", [{"seed": 5}, {"width": 8}, {"family": "cdcgan"}])
def test_auto_starts_anew_where_other_options_are_given(
    tmp_path: Path, tiles: TileSet, finished: Path, other: dict[str, Any]
) -> None:
    _unfinished(finished, tmp_path, "00000-tiles-cdcgan-2025")
    assert _auto(tiles, tmp_path, **other).name.startswith("00001-tiles-")


def test_a_resumed_run_keeps_its_split_and_says_what_differs(
    tiles: TileSet, finished: Path
) -> None:
    with pytest.raises(
        ConfigError,
        match=r"keep its split; changed: holdout: 0\.35 -> 0\.2; siblings: 0\.1 -> 0\.3",
    ):
        plan_session(tiles, options={}, resume=finished, holdout=0.2, siblings=0.3)
    plan_session(tiles, options={}, resume=finished, holdout=0.35, siblings=0.1)


def test_auto_needs_tiles(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"needs a folder of tiles, or `resume` RUN: got neither"):
        plan_session(None, options=OPTIONS, resume="auto", out=tmp_path)


@pytest.mark.parametrize("place", ["", "checkpoints", "checkpoints/ckpt-00000001.pt"])
def test_a_run_goes_on_in_its_own_folder_however_it_is_named(
    tmp_path: Path, tiles: TileSet, finished: Path, place: str
) -> None:
    folder = tmp_path / "00007-run"
    shutil.copytree(finished, folder)
    plan = plan_session(tiles, options={"kimg": 0.016}, resume=folder / place)
    assert plan.run(tmp_path / "elsewhere") == folder / "checkpoints" / "ckpt-00000002.pt"
    assert not (tmp_path / "elsewhere").exists()
    assert not (folder / "checkpoints" / "config.json").exists()


def test_a_checkpoint_outside_a_run_folder_is_not_gone_on_from(
    tmp_path: Path, tiles: TileSet, finished: Path
) -> None:
    (tmp_path / "inner").mkdir()
    lone = tmp_path / "inner" / "mine.pt"
    shutil.copy(finished / "checkpoints" / "ckpt-00000001.pt", lone)
    with pytest.raises(ConfigError, match=r"must lie in checkpoints/ of its run.*mine\.pt\. Move"):
        plan_session(tiles, options={}, resume=lone)


def test_a_resumed_run_keeps_its_own_keys_and_refuses_others_in_one_line(
    tiles: TileSet, finished: Path
) -> None:
    assert plan_session(tiles, options={}, resume=finished).config.width == 4
    before = {path: path.read_bytes() for path in finished.rglob("*") if path.is_file()}
    for options, kind, message in (
        ({"width": 8, "seed": 3}, ConfigError, r"changed: seed: 0 -> 3; width: 4 -> 8\. Take"),
        ({"family": "stylegan2"}, CheckpointError, r"cdcgan-2025 generator: got `family` styleg"),
        ({"resolutoin": 64}, ConfigError, r"did you mean resolution"),
    ):
        with pytest.raises(kind, match=message) as refused:
            plan_session(tiles, options=options, resume=finished).run(Path("unused"))
        assert "\n" not in str(refused.value)
    assert {path: path.read_bytes() for path in finished.rglob("*") if path.is_file()} == before


def _watched(
    tiles: TileSet, options: Mapping[str, Any], monkeypatch: pytest.MonkeyPatch, out: Path
) -> tuple[dict[str, set[str]], set[str]]:
    """Patients of each role, and those the loop is given to watch."""
    given: list[TileSet] = []

    def train(train: TileSet, config: Any, *, held_out: TileSet, **rest: Any) -> Path:
        given.append(held_out)
        return out

    monkeypatch.setattr(loop, "train", train)
    plan = plan_session(tiles, options={**OPTIONS, **options}, holdout=0.5)
    plan.run(out)
    roles = {role: set(part.groups.tolist()) for role, part in plan.roles.items()}
    return roles, set(given[0].groups.tolist())


def test_choosing_weights_takes_half_of_the_holdout_and_sees_nothing_of_the_other(
    tiles: TileSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    roles, watched = _watched(tiles, {}, monkeypatch, tmp_path)
    assert "reference" not in roles
    assert len(roles["holdout"]) == 8
    assert watched == roles["holdout"]
    for select_by in ("fd", "fd,leak"):
        options = {"select_by": select_by, "watch_kimg": 1.0}
        roles, watched = _watched(tiles, options, monkeypatch, tmp_path)
        assert (len(roles["holdout"]), len(roles["reference"])) == (4, 4)
        assert watched == roles["reference"]
        assert not watched & roles["holdout"]
        assert not watched & roles["train"]


def test_the_parts_of_the_split_are_in_the_ledger(tiles: TileSet) -> None:
    plan = plan_session(tiles, options={**OPTIONS, "select_by": "fd"}, holdout=0.5, siblings=0.0)
    assert plan.ledger.split == {"seed": 0, "holdout": 0.25, "reference": 0.25, "siblings": 0.0}
    listed = [entry.role for entry in plan.ledger.entries]
    assert {role: listed.count(role) for role in plan.roles} == {
        role: len(part) for role, part in plan.roles.items()
    }


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"device": "gpu7"}, "device 'gpu7' cannot be used"),
        ({"resolution": 64}, "at least as large as the resolution, 64 px"),
        ({"select_by": "fd"}, "select_by fd needs watch_kimg above 0"),
        ({"batch": 12, "accumulate": 2}, "batch 12, 1 processes, accumulate 2"),
        ({"path_weight": 1.0}, "need a generator with styles"),
    ],
)
def test_what_is_refused_leaves_no_run_folder(
    tiles: TileSet, tmp_path: Path, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(PrivgenError, match=message) as refused:
        privgen.train(tiles, out=tmp_path, config={**OPTIONS, **options})
    assert refused.value.exit_code == 2
    assert "\n" not in str(refused.value)
    assert list(tmp_path.iterdir()) == []


def test_a_dry_run_says_what_would_be_done_and_writes_nothing(
    tiles: TileSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    plan = plan_session(tiles, options={**OPTIONS, "kimg": 0.08})
    assert plan.estimate()["steps"] == 10
    assert plan.summary.startswith("arrays: train ")
    assert "holdout" in plan.summary
    assert "patients" in plan.summary
    assert list(tmp_path.iterdir()) == []

"""Training with canaries: who is shown, what the ledger says, who is told."""

import json
import shlex
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import privgen
from privgen.checkpoints.ledger import Ledger
from privgen.checkpoints.state import GENERATOR, load_checkpoint, load_generator_state
from privgen.data import canaries as canaries_module
from privgen.data.tileset import TileSet
from privgen.errors import CheckpointError, ConfigError, InputError
from privgen.release.exporting import CARD, export
from privgen.release.folder import PARAMETERS, write_samples
from privgen.sampling import load_generator
from privgen.training.requirements import training_arrays
from privgen.training.session import plan_session

OPTIONS: dict[str, Any] = {
    "family": "cdcgan",
    "discriminator": "own",
    "resolution": 32,
    "width": 8,
    "head_width": 8,
    "batch": 8,
    "kimg": 0.016,
    "watch_kimg": 0.0,
    "device": "cpu",
    "threads": 1,
}


@pytest.fixture(scope="module")
def tiles() -> TileSet:
    """40 patients with 4 tiles each; one tile in four is tumour."""
    pixels = np.random.default_rng(0).integers(0, 256, (160, 32, 32, 3)).astype(np.uint8)
    patients = [f"p{k // 4:02d}" for k in range(160)]
    return TileSet.from_arrays(pixels, ("str", "str", "str", "tum") * 40, patients=patients)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, tiles: TileSet) -> Path:
    out = tmp_path_factory.mktemp("canaries")
    return privgen.train(tiles, out=out, config=OPTIONS, canaries=12).parent.parent


def test_artificial_canaries_change_no_role_and_are_shown_by_their_coins(tiles: TileSet) -> None:
    plain = plan_session(tiles, options=OPTIONS)
    session = plan_session(tiles, options=OPTIONS, canaries=12)
    assert session.ledger.entries == plain.ledger.entries
    canaries = session.ledger.canaries
    assert canaries is not None
    assert "12 artificial canaries" in session.summary
    pixels, labels = training_arrays(session.roles["train"], session.config, canaries)
    real, _ = training_arrays(session.roles["train"], session.config)
    painted, theirs = canaries.training_tiles()
    assert np.array_equal(pixels[: len(real)], real)
    assert np.array_equal(pixels[len(real) :], painted)
    assert np.array_equal(labels[len(real) :], theirs)
    assert len(painted) == canaries.tiles * sum(canaries.included)


def test_real_canaries_leave_the_holdout_by_their_coins(tiles: TileSet) -> None:
    plain = plan_session(tiles, options=OPTIONS)
    session = plan_session(tiles, options=OPTIONS, canaries=8, canaries_from="real")
    canaries = session.ledger.canaries
    assert canaries is not None
    inside = {p for p, coin in zip(canaries.patients, canaries.included, strict=True) if coin}
    outside = set(canaries.patients) - inside
    before, after = (set(s.roles["holdout"].groups.tolist()) for s in (plain, session))
    assert set(canaries.patients) <= before
    assert after == before - inside
    assert inside <= set(session.roles["train"].groups.tolist())
    assert outside <= after
    assert session.ledger.artificial == 0


def test_the_ledger_survives_and_says_nothing_where_there_are_none(tiles: TileSet) -> None:
    for asked in ({}, {"canaries": 8}, {"canaries": 8, "canaries_from": "real"}):
        ledger = plan_session(tiles, options=OPTIONS, **asked).ledger
        assert Ledger.from_json(ledger.to_json()) == ledger
        assert ("canaries" in json.loads(ledger.to_json())) == bool(asked)


def test_a_ledger_with_false_canaries_is_refused(tiles: TileSet) -> None:
    ledger = plan_session(tiles, options=OPTIONS, canaries=8, canaries_from="real").ledger
    for change in (
        {"patients": ["nobody", *"abcdefg"]},
        {"kind": 7},
        {"more": 1},
        {"included": 3},
        {"included": [not coin for coin in ledger.canaries.included]},  # type: ignore[union-attr]
    ):
        values = json.loads(ledger.to_json())
        values["canaries"].update(change)
        with pytest.raises(CheckpointError, match="ledger is damaged"):
            Ledger.from_json(json.dumps(values))


def test_a_resumed_run_keeps_its_canaries(tmp_path: Path, tiles: TileSet, run: Path) -> None:
    longer = {**OPTIONS, "kimg": 0.024}
    whole = privgen.train(tiles, out=tmp_path, config=longer, canaries=12)
    half = privgen.train(tiles, out=tmp_path, config=OPTIONS, canaries=12).parent.parent
    resumed = privgen.train(tiles, out=tmp_path, config=longer, resume=half)
    ours, theirs = load_checkpoint(resumed), load_checkpoint(whole)
    assert ours.ledger == theirs.ledger
    assert ours.average.keys() == theirs.average.keys()
    assert all((ours.average[name] == theirs.average[name]).all() for name in ours.average)
    with pytest.raises(ConfigError, match="canaries: 12 -> 16"):
        plan_session(tiles, options=longer, resume=half, canaries=16)
    with pytest.raises(ConfigError, match="canaries_from: artificial -> real"):
        plan_session(tiles, options=longer, resume=half, canaries_from="real")


def test_the_printed_command_names_them(tiles: TileSet) -> None:
    words = shlex.split(plan_session(tiles, options=OPTIONS, canaries=12).command(1.0))
    assert words[words.index("--canaries") + 1] == "12"
    assert "--canaries" not in plan_session(tiles, options=OPTIONS).command(1.0)


def test_shares_of_classes_are_those_of_real_tiles(run: Path, tiles: TileSet) -> None:
    checkpoint = load_checkpoint(run)
    train = reopen_in_memory(checkpoint.ledger, tiles)
    shares = [(train.labels == name).mean() for name in checkpoint.classes]
    assert checkpoint.class_share == pytest.approx(shares)


def reopen_in_memory(ledger: Ledger, tiles: TileSet) -> TileSet:
    paths = {entry.path for entry in ledger.entries if entry.role == "train"}
    return tiles.subset([k for k, record in enumerate(tiles.records) if record.path in paths])


def test_whoever_gets_the_generator_or_its_tiles_is_told(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ledger = load_checkpoint(run).ledger
    assert ledger.artificial > 0
    assert load_generator_state(run / GENERATOR).artificial == ledger.artificial
    write_samples(load_generator(run / GENERATOR), tmp_path / "tiles", count=8, seed=0)
    parameters = json.loads((tmp_path / "tiles" / PARAMETERS).read_text())
    assert parameters["artificial_patients"] == ledger.artificial
    assert f"trained on {ledger.artificial} artificial patients" in capsys.readouterr().err
    export(run, tmp_path / "card")
    assert f"{ledger.artificial} artificial patients" in (tmp_path / "card" / CARD).read_text()


@pytest.mark.parametrize(
    ("asked", "error", "reason"),
    [
        ({"canaries": 7}, ConfigError, "canaries must be 8 or more, or none: got 7"),
        ({"canaries": -1}, ConfigError, "canaries"),
        ({"canaries": 1001}, ConfigError, "canaries"),
        ({"canaries_from": "real"}, ConfigError, "got none"),
        ({"canaries": 8, "canaries_from": "imagined"}, ConfigError, "canaries_from"),
        ({"canaries": 13, "canaries_from": "real"}, InputError, "patients held out"),
        ({"canaries_from": "real", "resume": "auto"}, ConfigError, "got none"),
    ],
)
def test_what_cannot_be_canaries_is_refused(
    asked: dict[str, Any], error: type[Exception], reason: str, tiles: TileSet
) -> None:
    with pytest.raises(error, match=reason):
        plan_session(tiles, options=OPTIONS, **asked)


def test_tiles_without_patients_have_no_real_canaries() -> None:
    pixels = np.random.default_rng(1).integers(0, 256, (80, 32, 32, 3)).astype(np.uint8)
    tiles = TileSet.from_arrays(pixels, ("str", "tum") * 40)
    with pytest.raises(InputError, match="these tiles name none"):
        plan_session(tiles, options=OPTIONS, canaries=8, canaries_from="real")


def test_coins_and_patterns_follow_from_the_data_too(tiles: TileSet) -> None:
    pixels = tiles.load().copy()
    pixels[0, 0, 0] ^= 1
    other = TileSet.from_arrays(pixels, tiles.labels, patients=tiles.groups)
    one, same, another = (
        plan_session(data, options=OPTIONS, canaries=64).ledger.canaries
        for data in (tiles, tiles, other)
    )
    assert one is not None
    assert another is not None
    assert one == same
    assert one.included != another.included
    assert one.seed != another.seed


def test_classes_are_as_frequent_among_canaries_as_in_training(tiles: TileSet) -> None:
    session = plan_session(tiles, options=OPTIONS, canaries=32)
    canaries, train = session.ledger.canaries, session.roles["train"]
    assert canaries is not None
    for number, name in enumerate(train.classes):
        share = np.mean(np.array(canaries.labels) == number)
        assert share == pytest.approx((train.labels == name).mean(), abs=1 / 256)
    assert all(len(set(canaries.labels[k * 8 : k * 8 + 8])) == 2 for k in range(32))


def test_auto_resumes_only_a_run_with_the_same_canaries(tmp_path: Path, tiles: TileSet) -> None:
    def auto(**asked: Any) -> Path:
        config = {**OPTIONS, "kimg": 0.024}
        return privgen.train(tiles, out=tmp_path, config=config, resume="auto", **asked)

    begun = privgen.train(tiles, out=tmp_path, config=OPTIONS, canaries=12).parent.parent
    (begun / GENERATOR).unlink()
    assert auto().parent.parent != begun
    assert auto(canaries=16).parent.parent != begun
    assert auto(canaries=12).parent.parent == begun


def test_a_run_whose_canaries_are_painted_otherwise_is_not_resumed(
    run: Path, tiles: TileSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(canaries_module, "_DEPTH", 0.5)
    with pytest.raises(CheckpointError, match="painted otherwise here"):
        privgen.train(tiles, out=tmp_path, config={**OPTIONS, "kimg": 0.024}, resume=run)


def test_the_last_patient_of_a_class_stays_in_the_holdout() -> None:
    pixels = np.random.default_rng(2).integers(0, 256, (160, 32, 32, 3)).astype(np.uint8)
    patients = [f"p{k // 4:02d}" for k in range(160)]
    labels = ["rare" if k in (3, 4, 5, 7, 11) else "str" for k in range(160)]
    tiles = TileSet.from_arrays(pixels, labels, patients=patients)
    for seed in range(12):
        session = plan_session(
            tiles, options={**OPTIONS, "seed": seed}, canaries=8, canaries_from="real"
        )
        assert set(session.roles["holdout"].classes) == {"rare", "str"}

"""Checkpoints and generator files: what they hold, what they never hold, what is refused."""

import errno
import json
import os
import pickle
import stat
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from privgen import files
from privgen.checkpoints import state
from privgen.checkpoints.ledger import (
    Ledger,
    LedgerEntry,
)
from privgen.checkpoints.state import (
    Checkpoint,
    GeneratorState,
)
from privgen.config import TrainConfig
from privgen.errors import CheckpointError, DiskFullError, SealError

LEDGER = Ledger(
    root="/hospital/secret-study",
    layout="class folders",
    group_unit="patient",
    split={"seed": 3, "holdout": 0.35},
    entries=(
        LedgerEntry(
            role="train", path="tum/smith_7.png", sha256="ab" * 32, label="tum", group="smith"
        ),
        LedgerEntry(role="holdout", path="a.png", sha256="cd" * 32, label="str", group="jones"),
    ),
)


@pytest.fixture
def checkpoint() -> Checkpoint:
    network = torch.nn.Linear(3, 2)
    optimizer = torch.optim.Adam(network.parameters())
    network(torch.ones(1, 3)).sum().backward()
    optimizer.step()
    return Checkpoint(
        config=TrainConfig(resolution=32, width=8, kimg=1.0),
        classes=("str", "tum"),
        class_share=(0.25, 0.75),
        step=12,
        seconds=3.5,
        processes=1,
        running={"diversity": 2.0, "diversity#": 1.0},
        selected={},
        generator=network.state_dict(),
        average=network.state_dict(),
        discriminator={},
        generator_optimizer=optimizer.state_dict(),
        discriminator_optimizer={},
        scaler={},
        adaptive={"probability": 0.25, "signs": 0.5, "seen": 1, "path_mean": 0.0},
        ledger=LEDGER,
    )


def _resaved(path: Path, **changes: Any) -> Path:
    content = torch.load(path, weights_only=True)
    torch.save({**content, **changes}, path)
    return path


def test_a_checkpoint_comes_back_as_it_was(tmp_path: Path, checkpoint: Checkpoint) -> None:
    path = state.checkpoint_path(tmp_path, 12)
    state.save_checkpoint(path, checkpoint)
    back = state.load_checkpoint(path)
    assert replace(back, generator={}, average={}, generator_optimizer={}) == replace(
        checkpoint, generator={}, average={}, generator_optimizer={}
    )
    assert torch.equal(back.generator["weight"], checkpoint.generator["weight"])
    moments = back.generator_optimizer["state"][0]["exp_avg"]
    assert torch.equal(moments, checkpoint.generator_optimizer["state"][0]["exp_avg"])


def test_a_checkpoint_is_readable_by_its_owner_alone(
    tmp_path: Path, checkpoint: Checkpoint
) -> None:
    state.save_checkpoint(tmp_path / "c.pt", checkpoint)
    assert stat.S_IMODE(os.stat(tmp_path / "c.pt").st_mode) == 0o600


def test_the_ledger_survives_json() -> None:
    assert Ledger.from_json(LEDGER.to_json()) == LEDGER
    with pytest.raises(CheckpointError, match="ledger is damaged"):
        Ledger.from_json('{"entries": [{"role": "train"}]}')


def test_a_generator_file_holds_nothing_about_the_tiles(
    tmp_path: Path, checkpoint: Checkpoint
) -> None:
    state.save_checkpoint(tmp_path / "c.pt", checkpoint)
    state.save_generator(tmp_path / "g.safetensors", state.load_generator_state(tmp_path / "c.pt"))
    content = (tmp_path / "g.safetensors").read_bytes()
    assert b"tum" in content  # class names are needed for sampling
    for secret in (b"hospital", b"smith", b"jones", b".png", b"abab", b"cdcd", b"seed", b"ledger"):
        assert secret not in content
    back = state.load_generator_state(tmp_path / "g.safetensors")
    assert back.classes == ("str", "tum")
    assert back.class_share == (0.25, 0.75)
    assert (back.config.resolution, back.config.width) == (32, 8)
    assert torch.equal(back.tensors["weight"], checkpoint.average["weight"])


def test_the_name_of_a_file_does_not_matter(tmp_path: Path, checkpoint: Checkpoint) -> None:
    state.save_checkpoint(tmp_path / "c.safetensors", checkpoint)
    state.save_generator(tmp_path / "g.pt", state.load_generator_state(tmp_path / "c.safetensors"))
    assert state.load_generator_state(tmp_path / "g.pt").classes == ("str", "tum")


class _Bomb:
    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, ("pwned",)


def test_a_plain_pickle_is_refused_without_being_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "c.pt").write_bytes(pickle.dumps(_Bomb()))
    for load in (state.load_checkpoint, state.load_generator_state):
        with pytest.raises(CheckpointError, match="plain pickle, which can run code"):
            load(tmp_path / "c.pt")
    assert not (tmp_path / "pwned").exists()


def test_a_zip_that_holds_code_is_refused_without_being_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save({"format": state.CHECKPOINT_FORMAT, "bomb": _Bomb()}, tmp_path / "c.pt")
    with pytest.raises(CheckpointError, match="more than tensors and plain values"):
        state.load_checkpoint(tmp_path / "c.pt")
    assert not (tmp_path / "pwned").exists()


def test_a_truncated_checkpoint_is_refused(tmp_path: Path, checkpoint: Checkpoint) -> None:
    path = tmp_path / "c.pt"
    state.save_checkpoint(path, checkpoint)
    path.write_bytes(path.read_bytes()[:-300])
    with pytest.raises(CheckpointError, match="truncated, damaged"):
        state.load_checkpoint(path)


def test_a_truncated_generator_file_is_refused(tmp_path: Path, checkpoint: Checkpoint) -> None:
    state.save_checkpoint(tmp_path / "c.pt", checkpoint)
    path = tmp_path / "g.safetensors"
    state.save_generator(path, state.load_generator_state(tmp_path / "c.pt"))
    path.write_bytes(path.read_bytes()[:-4])
    with pytest.raises(CheckpointError, match="damaged"):
        state.load_generator_state(path)


def test_another_version_is_refused_by_number(tmp_path: Path, checkpoint: Checkpoint) -> None:
    state.save_checkpoint(tmp_path / "c.pt", checkpoint)
    _resaved(tmp_path / "c.pt", version=99)
    with pytest.raises(CheckpointError, match="format version 99, this privgen reads version 3"):
        state.load_checkpoint(tmp_path / "c.pt")


def _edited(path: Path, change: Callable[[dict[str, Any]], None]) -> Path:
    """A checkpoint whose ledger somebody edited."""
    ledger = json.loads(torch.load(path, weights_only=True)["ledger"])
    change(ledger)
    return _resaved(path, ledger=json.dumps(ledger))


def _exchange_roles(ledger: dict[str, Any]) -> None:
    one, other = ledger["entries"]
    one["role"], other["role"] = other["role"], one["role"]


EDITS: Mapping[str, Callable[[dict[str, Any]], None]] = {
    "roles exchanged": _exchange_roles,
    "a tile struck out": lambda ledger: ledger["entries"].pop(),
    "a tile added": lambda ledger: ledger["entries"].append(ledger["entries"][0]),
    "a patient renamed": lambda ledger: ledger["entries"][0].update(group="brown"),
    "a digest changed": lambda ledger: ledger["entries"][0].update(sha256="00" * 32),
    "a class changed": lambda ledger: ledger["entries"][0].update(label="str"),
    "grouped otherwise": lambda ledger: ledger.update(group_unit="tile"),
    "bad tiles skipped": lambda ledger: ledger.update(on_bad_tile="skip"),
}


@pytest.mark.parametrize("edit", EDITS)
def test_an_edited_ledger_is_refused(tmp_path: Path, checkpoint: Checkpoint, edit: str) -> None:
    state.save_checkpoint(tmp_path / "c.pt", checkpoint)
    _edited(tmp_path / "c.pt", EDITS[edit])
    for load in (state.load_checkpoint, state.load_generator_state):
        with pytest.raises(SealError, match="must be the one its weights were trained under"):
            load(tmp_path / "c.pt")


def test_a_seal_that_was_struck_out_is_missed(tmp_path: Path, checkpoint: Checkpoint) -> None:
    path = tmp_path / "c.pt"
    state.save_checkpoint(path, checkpoint)
    content = torch.load(path, weights_only=True)
    del content["seal"]
    torch.save(content, path)
    with pytest.raises(SealError, match="does not match its seal"):
        state.load_checkpoint(path)
    with pytest.raises(CheckpointError, match="format version 2, this privgen reads version 3"):
        state.load_checkpoint(_resaved(path, version=2))


def test_a_ledger_beside_the_weights_of_another_run_is_refused(
    tmp_path: Path, checkpoint: Checkpoint
) -> None:
    state.save_checkpoint(tmp_path / "a.pt", checkpoint)
    other = {name: tensor + 1 for name, tensor in checkpoint.average.items()}
    ledger = replace(LEDGER, entries=LEDGER.entries[::-1])
    state.save_checkpoint(tmp_path / "b.pt", replace(checkpoint, average=other, ledger=ledger))
    theirs = torch.load(tmp_path / "b.pt", weights_only=True)
    for moved in ("ledger", "seal"):
        _resaved(tmp_path / "a.pt", **{moved: theirs[moved]})
        with pytest.raises(SealError):
            state.load_checkpoint(tmp_path / "a.pt")
    _resaved(tmp_path / "a.pt", average=theirs["average"])  # now all three are b's
    assert state.load_checkpoint(tmp_path / "a.pt").ledger == ledger


def test_spaces_and_the_order_of_keys_are_no_edit(tmp_path: Path, checkpoint: Checkpoint) -> None:
    path = tmp_path / "c.pt"
    state.save_checkpoint(path, checkpoint)
    values = json.loads(checkpoint.ledger.to_json())
    written = json.dumps(dict(reversed(values.items())), indent=3)
    assert state.load_checkpoint(_resaved(path, ledger=written)).ledger == checkpoint.ledger


def test_an_edited_newest_checkpoint_is_not_passed_over_for_an_older_one(
    tmp_path: Path, checkpoint: Checkpoint
) -> None:
    for step in (5, 12):
        path = state.checkpoint_path(tmp_path, step)
        state.save_checkpoint(path, replace(checkpoint, step=step))
    _edited(path, _exchange_roles)
    with pytest.raises(SealError, match="00000012"):
        state.load_checkpoint(tmp_path)


def test_a_checkpoint_that_lacks_a_part_is_refused(tmp_path: Path, checkpoint: Checkpoint) -> None:
    path = tmp_path / "c.pt"
    state.save_checkpoint(path, checkpoint)
    content = torch.load(path, weights_only=True)
    del content["average"]
    torch.save(content, path)
    with pytest.raises(CheckpointError, match="damaged checkpoint: 'average'"):
        state.load_checkpoint(path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "neither a checkpoint nor a generator file"),
        (b"<html>404</html>", "neither a checkpoint nor a generator file"),
        (b"\x89PNG\r\n\x1a\n", "neither a checkpoint nor a generator file"),
    ],
)
def test_a_file_of_another_kind_is_refused(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "c.pt").write_bytes(content)
    with pytest.raises(CheckpointError, match=message):
        state.load_checkpoint(tmp_path / "c.pt")
    with pytest.raises(CheckpointError, match=message):
        state.load_generator_state(tmp_path / "c.pt")


def test_a_pytorch_file_of_another_program_is_refused(tmp_path: Path) -> None:
    torch.save({"weight": torch.ones(2)}, tmp_path / "c.pt")
    with pytest.raises(CheckpointError, match="not a privgen checkpoint"):
        state.load_checkpoint(tmp_path / "c.pt")
    assert set(state.load_weights(tmp_path / "c.pt")) == {"weight"}


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    for load in (state.load_checkpoint, state.load_generator_state, state.load_weights):
        with pytest.raises(CheckpointError, match=r"cannot read .*none\.pt"):
            load(tmp_path / "none.pt")


def test_weights_must_be_tensors(tmp_path: Path) -> None:
    torch.save({"weight": "text"}, tmp_path / "w.pt")
    with pytest.raises(CheckpointError, match="dictionary of tensors"):
        state.load_weights(tmp_path / "w.pt")


def test_a_run_folder_gives_its_newest_readable_checkpoint(
    tmp_path: Path, checkpoint: Checkpoint
) -> None:
    folder = tmp_path / "checkpoints"
    folder.mkdir()
    for step in (5, 12, 20):
        state.save_checkpoint(state.checkpoint_path(folder, step), replace(checkpoint, step=step))
    newest = state.checkpoint_path(folder, 20)
    newest.write_bytes(newest.read_bytes()[:100])
    assert state.load_checkpoint(tmp_path).step == 12
    assert state.load_generator_state(tmp_path).classes == ("str", "tum")
    with pytest.raises(CheckpointError, match="no checkpoint in"):
        state.load_checkpoint(files.empty_folder(tmp_path / "other"))


def test_a_disk_that_fills_up_leaves_the_previous_checkpoint_valid(
    tmp_path: Path, checkpoint: Checkpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "c.pt"
    state.save_checkpoint(path, checkpoint)

    def full(_handle: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(files.os, "fsync", full)
    with pytest.raises(DiskFullError, match="what was there before is unchanged"):
        state.save_checkpoint(path, replace(checkpoint, step=13))
    assert state.load_checkpoint(path).step == 12
    assert [p.name for p in tmp_path.iterdir()] == ["c.pt"]


def test_too_little_space_is_seen_before_writing(
    tmp_path: Path, checkpoint: Checkpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Usage:
        free = 10

    monkeypatch.setattr(files.shutil, "disk_usage", lambda _folder: Usage)
    with pytest.raises(DiskFullError, match="not enough space"):
        state.save_checkpoint(tmp_path / "c.pt", checkpoint)
    assert list(tmp_path.iterdir()) == []


def test_a_header_length_that_looks_like_a_pickle_is_no_pickle(tmp_path: Path) -> None:
    for length in range(1, 40):
        kept = GeneratorState(
            config=TrainConfig(),
            classes=("c" * 8 * length,),
            class_share=(1.0,),
            tensors={"a": torch.ones(1)},
        )
        state.save_generator(tmp_path / "g", kept)
        if (tmp_path / "g").read_bytes()[:1] == b"\x80":
            break
    else:
        pytest.fail("no header of such a length was made")
    assert state.load_generator_state(tmp_path / "g").classes == kept.classes
    with pytest.raises(CheckpointError, match="neither a checkpoint"):
        state.load_checkpoint(tmp_path / "g")


def test_a_safetensors_file_of_another_program_is_refused(tmp_path: Path) -> None:
    import safetensors.torch

    path = tmp_path / "g.safetensors"
    safetensors.torch.save_file({"a": torch.ones(1)}, path)
    with pytest.raises(CheckpointError, match="safetensors file of another program"):
        state.load_generator_state(path)
    described = json.dumps({"format": "other"})
    safetensors.torch.save_file({"a": torch.ones(1)}, path, metadata={"privgen": described})
    with pytest.raises(CheckpointError, match="not a privgen generator"):
        state.load_generator_state(path)


def test_a_generator_file_of_an_unknown_configuration_is_refused(tmp_path: Path) -> None:
    kept = GeneratorState(
        config=TrainConfig(), classes=("a",), class_share=(1.0,), tensors={"a": torch.ones(1)}
    )
    state.save_generator(tmp_path / "g", kept)
    content = (tmp_path / "g").read_bytes().replace(b"resolution", b"resolutiom")
    (tmp_path / "g").write_bytes(content)
    with pytest.raises(CheckpointError, match="did you mean resolution"):
        state.load_generator_state(tmp_path / "g")

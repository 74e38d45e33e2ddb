"""Checkpoints and generator files that somebody made by hand: one line, and nothing is built."""

import json
import resource
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch

from privgen import limits
from privgen.checkpoints import state, untrusted
from privgen.checkpoints.ledger import (
    Ledger,
    LedgerEntry,
)
from privgen.checkpoints.state import (
    Checkpoint,
    GeneratorState,
)
from privgen.config import TrainConfig
from privgen.errors import CheckpointError, SealError
from privgen.models import FAMILIES, build_generator
from privgen.sampling import load_generator

ENTRY = LedgerEntry(role="train", path="a/1.png", sha256="ab" * 32, label="str", group="p")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a checkpoint and a generator file that load."""
    folder = tmp_path_factory.mktemp("made")
    config = TrainConfig(resolution=32, width=8, style_dim=16, kimg=1.0)
    tensors = build_generator(config, 2).state_dict()
    checkpoint = Checkpoint(
        config=config,
        classes=("str", "tum"),
        class_share=(0.25, 0.75),
        step=12,
        seconds=3.5,
        processes=1,
        running={},
        selected={},
        generator=tensors,
        average=tensors,
        discriminator={},
        generator_optimizer={},
        discriminator_optimizer={},
        scaler={},
        adaptive={},
        ledger=Ledger(
            root=None, layout="x", group_unit="patient", split={"seed": 1}, entries=(ENTRY,)
        ),
    )
    state.save_checkpoint(folder / "c.pt", checkpoint)
    state.save_generator(
        folder / "g.safetensors",
        GeneratorState(
            config=config, classes=("str", "tum"), class_share=(0.25, 0.75), tensors=tensors
        ),
    )
    return folder


def test_what_privgen_wrote_loads(made: Path) -> None:
    assert load_generator(made / "c.pt").classes == ("str", "tum")


def doubled(levels: int) -> list[Any]:
    value: list[Any] = ["lol"] * 2
    for _ in range(levels):
        value = [value, value]
    return value


def nested(levels: int) -> list[Any]:
    value: list[Any] = []
    for _ in range(levels):
        value = [value]
    return value


def own() -> list[Any]:
    value: list[Any] = []
    value.append(value)
    return value


def config(**changes: object) -> Callable[[dict[str, Any]], None]:
    return lambda content: content["config"].update(changes)


def content(**changes: object) -> Callable[[dict[str, Any]], None]:
    return lambda whole: whole.update(changes)


def ledger(**changes: object) -> Callable[[dict[str, Any]], None]:
    def change(whole: dict[str, Any]) -> None:
        values = json.loads(whole["ledger"])
        values.update(changes)
        whole["ledger"] = json.dumps(values)

    return change


def entry(**changes: object) -> Callable[[dict[str, Any]], None]:
    values = {"role": "train", "path": "a", "sha256": "b", "label": "str", "group": "p"}
    return ledger(entries=[{**values, **changes}])


HUGE = 10**400
HOSTILE: dict[str, Callable[[dict[str, Any]], None]] = {
    "config doubles itself": config(resolution=doubled(12)),
    "config doubles itself often": config(resolution=doubled(14)),
    "a list in itself": config(resolution=own()),
    "deep": config(resolution=nested(100)),
    "very many digits": config(minutes=HUGE),
    "negative width": config(width=-8),
    "width of words": config(width="8"),
    "width that is no number": config(kimg=float("nan")),
    "unknown key": config(**{"x" * 10_000: 1}),
    "config is a list": content(config=[1]),
    "wide network": config(width=512, style_dim=4096),
    "another resolution": config(resolution=256),
    "unknown family": config(family="os"),
    "family is a path": config(family="../x"),
    "class is a path": content(classes=["../../escape", "tum"]),
    "class is a picture": content(classes=["v1.png", "tum"]),
    "classes are numbers": content(classes=[1, 2]),
    "classes are a text": content(classes="ab"),
    "one class twice": content(classes=["a", "a"]),
    "no class": content(classes=[], class_share=[]),
    "many classes": content(classes=[str(n) for n in range(9999)], class_share=[1 / 9999] * 9999),
    "negative share": content(class_share=[-1.0, 2.0]),
    "shares that are no numbers": content(class_share=[float("nan"), 1.0]),
    "share of words": content(class_share=["a", 1.0]),
    "one share": content(class_share=[1.0]),
    "shares above one": content(class_share=[1.0, 1.0]),
    "negative step": content(step=-1),
    "huge step": content(step=HUGE),
    "step of a fraction": content(step=1.5),
    "seconds that are no number": content(seconds=float("nan")),
    "selected words": content(selected={"step": "x"}),
    "average is a list": content(average=[1]),
    "average of words": content(average={"a": "b"}),
    "sparse tensor": content(average={"a": torch.eye(3).to_sparse()}),
    "tensor larger than its storage": content(average={"a": torch.zeros(1).expand(10**12)}),
    "ledger is a list": content(ledger=[1]),
    "ledger is deep": content(ledger="[" * 100_000),
    "ledger is a number": content(ledger="1" * 5000),
    "ledger without entries": content(ledger="{}"),
    "entries are numbers": ledger(entries=[1]),
    "entries are a number": ledger(entries=7),
    "split of words": ledger(split={"seed": "x"}),
    "split without end": ledger(split={"seed": 1e999}),
    "unknown grouping": ledger(group_unit="hospital"),
    "root is a list": ledger(root=[1]),
    "role that is none": entry(role="boss"),
    "label is a path": entry(label="../x"),
    "group is a list": entry(group=["a"]),
    "path is a number": entry(path=7),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_checkpoint_is_one_short_line_and_builds_nothing(
    name: str, made: Path, tmp_path: Path
) -> None:
    whole = torch.load(made / "c.pt", weights_only=True)
    HOSTILE[name](whole)
    torch.save(whole, tmp_path / "h.pt")
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(CheckpointError) as caught:
        load_generator(tmp_path / "h.pt")
    sealed = name in ("another resolution", "unknown family", "family is a path")
    assert isinstance(caught.value, SealError) is sealed, "others are refused before their seal"
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100 * 1024
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 1000


DESCRIBED: dict[str, Any] = {
    "kimg is endless": {"kimg": 1e999},
    "kimg of 400 digits": {"kimg": HUGE},
    "kimg of words": {"kimg": "x"},
    "classes are numbers": {"classes": [1, 2]},
    "class is a path": {"classes": ["a/b", "c"]},
    "shares": {"class_share": [None, 1]},
    "config is a list": {"config": [1]},
    "wide": {"config": {"family": "cdcgan", "resolution": 32, "width": 512, "style_dim": 4096}},
    "huge": {"config": {"family": "cdcgan", "resolution": 32, "width": HUGE}},
    "deep": {"config": nested(300)},
    "version": {"version": "9" * 5000},
}


@pytest.mark.parametrize("name", DESCRIBED)
def test_a_hostile_generator_file_is_one_short_line(name: str, made: Path, tmp_path: Path) -> None:
    with safetensors.safe_open(str(made / "g.safetensors"), framework="pt") as file:
        described = json.loads(file.metadata()["privgen"])
        tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
    described.update(DESCRIBED[name])
    safetensors.torch.save_file(
        tensors, tmp_path / "h.safetensors", metadata={"privgen": json.dumps(described)}
    )
    with pytest.raises(CheckpointError) as caught:
        load_generator(tmp_path / "h.safetensors")
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 1000


@pytest.mark.parametrize("name", ["c.pt", "g.safetensors"])
def test_damage_anywhere_is_a_checkpoint_error_or_harmless(
    name: str, made: Path, tmp_path: Path
) -> None:
    data = (made / name).read_bytes()
    random = np.random.default_rng(0)
    ends = (4096, len(data), 3000)
    places = [random.choice(end, 40) for end in ends]
    places[2] = len(data) - 1 - places[2]
    for at in np.concatenate(places):
        mutant = bytearray(data)
        mutant[at] ^= int(random.integers(1, 256))
        (tmp_path / name).write_bytes(bytes(mutant))
        try:
            load_generator(tmp_path / name)
        except CheckpointError as error:
            message = str(error)
            assert "\n" not in message


def test_packed_and_overlapping_members_are_refused(made: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(made / "c.pt") as source:
        members = {info.filename: source.read(info) for info in source.infolist()}
    with zipfile.ZipFile(tmp_path / "p.pt", "w", zipfile.ZIP_DEFLATED) as packed:
        for member, data in members.items():
            packed.writestr(member, data)
    with pytest.raises(CheckpointError, match="its members are packed"):
        load_generator(tmp_path / "p.pt")


def test_checkpoints_are_read_up_to_their_limits(
    made: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = made / "c.pt"
    with zipfile.ZipFile(path) as file:
        members = len(file.infolist())
    for limit, own_value in (
        ("CHECKPOINT_BYTES", path.stat().st_size),
        ("CHECKPOINT_MEMBERS", members),
    ):
        for most in (own_value + 1, own_value):
            monkeypatch.setattr(limits, limit, most)
            load_generator(path)
        monkeypatch.setattr(limits, limit, own_value - 1)
        with pytest.raises(CheckpointError, match="a checkpoint may have"):
            load_generator(path)
        monkeypatch.undo()


def test_plain_values_are_counted_as_often_as_they_are_reached(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    value = doubled(3)  # 1 + 2 + 4 + 8 lists and 16 words
    for most, fits in ((32, True), (31, True), (30, False)):
        monkeypatch.setattr(limits, "PLAIN_VALUES", most)
        if fits:
            untrusted.require_plain(value, 0)
        else:
            with pytest.raises(ValueError, match="more than 30 values"):
                untrusted.require_plain(value, 0)
    monkeypatch.undo()
    for depth, fits in ((15, True), (16, True), (17, False)):
        if fits:
            untrusted.require_plain(nested(depth - 1), 0)
        else:
            with pytest.raises(ValueError, match="nested more than 16 deep"):
                untrusted.require_plain(nested(depth - 1), 0)


@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_can_be_laid_out_without_memory(family: str) -> None:
    side = 224 if family == "cdcgan-2025" else 32
    with torch.device("meta"):
        network = build_generator(TrainConfig(family=family, resolution=side, width=8), 2)
    assert {tensor.device.type for tensor in network.state_dict().values()} == {"meta"}

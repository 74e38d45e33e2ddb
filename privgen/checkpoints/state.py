"""Checkpoints (private, resumable) and generator files (to share): the only door to `torch.load`.

A checkpoint `.pt` is a zip archive of tensors and plain values: everything a run needs to go on
exactly, and the ledger of who was in training. It is written with mode 0600 and names every member.
A seal ties the ledger to the weights (`privgen.checkpoints.seal`); without one, or with one that
does not fit, the file is refused.
A generator file `.safetensors` holds the averaged weights and a few lines of JSON; no ledger, no
path, no name of a patient, nothing of the discriminator.

Every file is told by its first bytes before it is opened, never by its name: a zip archive is read
with `torch.load(weights_only=True)`, which refuses everything but tensors and plain values; a
safetensors header is read by its own library, which cannot run code; anything else is refused.
"""

import io
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, BinaryIO, cast

import safetensors
import safetensors.torch
import torch
from torch import Tensor

from privgen.checkpoints import untrusted
from privgen.checkpoints.learnt import Controls
from privgen.checkpoints.ledger import Ledger
from privgen.checkpoints.seal import seal_of, weights_digest
from privgen.config import TrainConfig
from privgen.documents import parse_json
from privgen.errors import CheckpointError, ConfigError, SealError
from privgen.files import PRIVATE, atomic_write, require_free_space
from privgen.limits import CANARIES, Bounded, shown, told

CHECKPOINT_VERSION = 3
"""Version of checkpoints, which have a seal since 3; a file of another version is refused."""

GENERATOR_VERSION = 2
"""Version of generator files; a file of another version is refused."""

CHECKPOINT_FORMAT = "privgen-checkpoint"
GENERATOR_FORMAT = "privgen-generator"

GENERATOR = "generator.safetensors"
"""Name of the file to share."""

CHECKPOINTS = "checkpoints"
"""Name of the folder of the checkpoints in a run folder."""


_ZIP = b"PK\x03\x04"
_PICKLE = b"\x80"
_HEADER_LIMIT = 100 * 2**20
_NAME = "ckpt-{step:08d}.pt"
_SELECTED = "selected-{step:08d}.pt"
_GENERATOR_KEYS = ("family", "resolution", "width", "style_dim")


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """Everything a run needs to go on.

    Attributes:
      config: of the run.
      classes: names, in the order of the class numbers.
      class_share: share of each class among the tiles trained on, adds up to 1.
      step: optimiser steps made.
      seconds: training time used.
      processes: how many trained together.
      running: sums and counts of what is logged since the last log line.
      selected: step and figure of the weights chosen so far, see `training.watch`; empty for none.
      generator, average, discriminator: state dictionaries.
      generator_optimizer, discriminator_optimizer, scaler: state dictionaries.
      adaptive: state of the controls, see `training.adaptive`.
      ledger: who was in training.
      code: digest of the code that trained it (`checkpoints.code`); "" before it was written down.
    """

    config: TrainConfig
    classes: tuple[str, ...]
    class_share: tuple[float, ...]
    step: int
    seconds: float
    processes: int
    running: dict[str, float]
    selected: dict[str, float]
    generator: dict[str, Tensor]
    average: dict[str, Tensor]
    discriminator: dict[str, Tensor]
    generator_optimizer: dict[str, object]
    discriminator_optimizer: dict[str, object]
    scaler: dict[str, object]
    adaptive: Controls
    ledger: Ledger
    code: str = ""


@dataclass(frozen=True, kw_only=True)
class GeneratorState:
    """What sampling needs; from a checkpoint or a generator file.

    Attributes:
      config: family, resolution and widths as trained; other keys at their defaults when the file
        is a generator file.
      classes: names, in the order of the class numbers.
      class_share: share of each class as trained.
      tensors: state dictionary of the averaged generator.
      kimg: thousand real tiles shown to the discriminator so far.
      ledger: who was in training; None in a generator file.
      artificial: artificial patients (`data.canaries`) it was trained on; its tiles may show them.
    """

    config: TrainConfig
    classes: tuple[str, ...]
    class_share: tuple[float, ...]
    tensors: dict[str, Tensor]
    kimg: float = 0.0
    ledger: Ledger | None = None
    artificial: int = 0


def checkpoint_path(folder: Path, step: int) -> Path:
    """Where the checkpoint of a step stands: `folder/ckpt-00000123.pt`."""
    return folder / _NAME.format(step=step)


def selected_path(folder: Path, step: int) -> Path:
    """Where the checkpoint stands that was selected at a step: `folder/selected-00000123.pt`."""
    return folder / _SELECTED.format(step=step)


def save_checkpoint(path: Path, checkpoint: Checkpoint) -> None:
    """Write a checkpoint, atomically, readable by its owner alone.

    Raises:
      DiskFullError: no space; what stood at `path` or beside it is unchanged.
      OutputError: the folder cannot be written.
    """
    ledger = checkpoint.ledger.to_json()
    content: dict[str, object] = {
        "format": CHECKPOINT_FORMAT,
        "version": CHECKPOINT_VERSION,
        **{key.name: getattr(checkpoint, key.name) for key in fields(Checkpoint)},
        "config": checkpoint.config.to_dict(),
        "classes": list(checkpoint.classes),
        "class_share": list(checkpoint.class_share),
        "ledger": ledger,
        "seal": _seal(checkpoint, ledger),
    }
    buffer = io.BytesIO()
    torch.save(content, buffer)
    size = buffer.getbuffer().nbytes
    require_free_space(path.parent, size)
    with atomic_write(path, mode=PRIVATE, needed=size) as stream:
        stream.write(buffer.getbuffer())


def load_checkpoint(path: Path) -> Checkpoint:
    """Read a checkpoint, tensors on the CPU.

    Args:
      path: a `.pt` file; or a run folder or its `checkpoints` folder, for its newest readable one.

    Raises:
      CheckpointError: missing, truncated, a pickle, of another version, or not a checkpoint.
      SealError: the ledger is not the one the weights were trained under.
    """
    if path.is_dir():
        return _newest(path)
    content = _read_zip(path)
    if content.get("format") != CHECKPOINT_FORMAT:
        raise CheckpointError(f"{path} is a PyTorch file, but not a privgen checkpoint")
    _require_version(path, content.get("version"), CHECKPOINT_VERSION)
    try:
        checkpoint = _checked(content)
        sealed = content.get("seal") == _seal(checkpoint, content["ledger"])
    except CheckpointError:
        raise
    except (KeyError, TypeError, ValueError, AttributeError, RuntimeError, ConfigError) as error:
        raise CheckpointError(f"{path} is a damaged checkpoint: {told(error)}") from error
    if not sealed:
        raise SealError(
            f"the ledger in {path} must be the one its weights were trained under: it does not "
            "match its seal, so one of the two was changed afterwards. Give the checkpoint as "
            "privgen train wrote it."
        )
    return checkpoint


def _checked(content: Mapping[str, object]) -> Checkpoint:
    """The checkpoint, each field of its type and in its range."""
    values = {key.name: content[key.name] for key in fields(Checkpoint) if key.name != "code"}
    config = TrainConfig.from_dict(untrusted.mapping_of(values["config"], "its config"))
    classes = untrusted.classes_of(values["classes"])
    return Checkpoint(
        config=config,
        classes=classes,
        class_share=untrusted.shares_of(values["class_share"], classes),
        step=untrusted.whole(values["step"], "its step", 0, 2**53),
        seconds=untrusted.number(values["seconds"], "its seconds", 0.0),
        processes=untrusted.whole(values["processes"], "its processes", 1, 2**20),
        selected=untrusted.numbers_of(values["selected"], "what it selected,"),
        generator=untrusted.tensors_of(values["generator"], "its generator"),
        average=untrusted.tensors_of(values["average"], "its average"),
        discriminator=untrusted.tensors_of(values["discriminator"], "its discriminator"),
        running=cast(dict[str, float], untrusted.mapping_of(values["running"], "its running")),
        generator_optimizer=untrusted.mapping_of(
            values["generator_optimizer"], "its generator_optimizer"
        ),
        discriminator_optimizer=untrusted.mapping_of(
            values["discriminator_optimizer"], "its discriminator_optimizer"
        ),
        scaler=untrusted.mapping_of(values["scaler"], "its scaler"),
        adaptive=cast(Controls, untrusted.mapping_of(values["adaptive"], "its adaptive")),
        ledger=_ledger(values["ledger"]),
        code=_code(content.get("code", "")),
    )


def _code(text: object) -> str:
    if not isinstance(text, str) or len(text) > 64:
        raise ValueError("its code is no digest")
    return text


def _ledger(text: object) -> Ledger:
    if not isinstance(text, str):
        raise ValueError("its ledger is no text")
    return Ledger.from_json(text)


def _seal(checkpoint: Checkpoint, ledger: str) -> str:
    return seal_of(
        ledger,
        weights_digest(
            family=checkpoint.config.family,
            resolution=checkpoint.config.resolution,
            classes=checkpoint.classes,
            class_share=checkpoint.class_share,
            tensors=checkpoint.average,
        ),
    )


def _inner(folder: Path) -> Path:
    inner = folder / CHECKPOINTS
    return inner if inner.is_dir() else folder


def _newest(folder: Path) -> Checkpoint:
    found = sorted(_inner(folder).glob("ckpt-*.pt"), reverse=True)
    problem = None
    for path in found:
        try:
            return load_checkpoint(path)
        except SealError:
            raise  # an older one would be another generator, and nobody would know
        except CheckpointError as error:
            problem = problem or error
    if problem is not None:
        raise problem
    raise CheckpointError(f"no checkpoint in {folder}. Give a run folder of `privgen train`.")


def sampled_checkpoint(path: Path) -> Path:
    """Of a run folder the checkpoint its newest one names as selected; else `path` itself.

    Raises:
      CheckpointError: there is no readable checkpoint, or the selected one is gone.
    """
    if not path.is_dir() or not (selected := _newest(path).selected):
        return path
    chosen = selected_path(_inner(path), int(selected["step"]))
    if not chosen.exists():
        raise CheckpointError(
            f"{chosen} is missing: it holds the weights that the run in {path} selected. Put it "
            "back, or give one of the run's other checkpoints."
        )
    return chosen


def save_generator(path: Path, state: GeneratorState) -> None:
    """Write the file to share: averaged weights, class names and shares, nothing about the tiles.

    Raises:
      DiskFullError, OutputError: as `save_checkpoint`.
    """
    config = state.config.to_dict()
    described = {
        "format": GENERATOR_FORMAT,
        "version": GENERATOR_VERSION,
        "config": {key: config[key] for key in _GENERATOR_KEYS},
        "classes": list(state.classes),
        "class_share": list(state.class_share),
        "kimg": state.kimg,
    }
    if state.artificial:
        described["artificial"] = state.artificial
    tensors = {name: tensor.contiguous() for name, tensor in state.tensors.items()}
    content = safetensors.torch.save(tensors, metadata={"privgen": json.dumps(described)})
    require_free_space(path.parent, len(content))
    with atomic_write(path, needed=len(content)) as stream:
        stream.write(content)


def load_generator_state(path: Path) -> GeneratorState:
    """Read what sampling needs from a checkpoint or a generator file, told by the first bytes.

    Args:
      path: a file; or a run folder, for the checkpoint it selected, or else its newest.

    Raises:
      CheckpointError: as `load_checkpoint`.
    """
    path = sampled_checkpoint(path)
    if path.is_dir() or not _is_safetensors(_first_bytes(path)):
        checkpoint = load_checkpoint(path)
        return GeneratorState(
            config=checkpoint.config,
            classes=checkpoint.classes,
            class_share=checkpoint.class_share,
            tensors=checkpoint.average,
            kimg=checkpoint.step * checkpoint.config.batch / 1000,
            ledger=checkpoint.ledger,
            artificial=checkpoint.ledger.artificial,
        )
    try:
        with safetensors.safe_open(str(path), framework="pt") as archive:
            described = parse_json((archive.metadata() or {})["privgen"])
            tensors = {name: archive.get_tensor(name) for name in archive.keys()}  # noqa: SIM118
    except Exception as error:  # its library and PyTorch raise many kinds
        raise CheckpointError(
            f"{path} is damaged, or a safetensors file of another program: {told(error)}"
        ) from error
    if not isinstance(described, dict) or described.get("format") != GENERATOR_FORMAT:
        raise CheckpointError(f"{path} is a safetensors file, but not a privgen generator")
    _require_version(path, described.get("version"), GENERATOR_VERSION)
    try:
        untrusted.require_plain(tensors, path.stat().st_size)
        classes = untrusted.classes_of(described["classes"])
        return GeneratorState(
            config=TrainConfig.from_dict(untrusted.mapping_of(described["config"], "its config")),
            classes=classes,
            class_share=untrusted.shares_of(described["class_share"], classes),
            tensors=tensors,
            kimg=untrusted.number(described["kimg"], "its kimg", 0.0),
            artificial=untrusted.whole(
                described.get("artificial", 0), "its artificial patients", 0, CANARIES
            ),
        )
    except (KeyError, TypeError, ValueError, ConfigError) as error:
        raise CheckpointError(f"{path} is a damaged generator file: {told(error)}") from error


def load_weights(path: Path) -> dict[str, Tensor]:
    """Read a plain state dictionary published as a PyTorch file, of any age.

    Files from before PyTorch 1.6 are bare pickles; `weights_only` reads those too, by an
    interpreter that knows tensors and plain values and nothing else.

    Raises:
      CheckpointError: the file is missing, or does not hold a dictionary of tensors.
    """
    _first_bytes(path)
    state = _read_restricted(path)
    if not all(isinstance(value, Tensor) for value in state.values()):
        raise CheckpointError(f"{path} must hold a dictionary of tensors")
    return state


def _first_bytes(path: Path) -> bytes:
    try:
        with path.open("rb") as stream:
            return stream.read(9)
    except OSError as error:
        raise CheckpointError(f"cannot read {path}: {error.strerror or error}") from error


def _is_safetensors(start: bytes) -> bool:
    """Eight bytes of header length, then a JSON object; the length may look like anything."""
    return start[8:9] == b"{" and int.from_bytes(start[:8], "little") <= _HEADER_LIMIT


def _read_zip(path: Path) -> dict[str, Any]:
    """The dictionary in a PyTorch zip file, tensors and plain values only."""
    start = _first_bytes(path)
    if start.startswith(_PICKLE) and not _is_safetensors(start):
        raise CheckpointError(
            f"{path} is a plain pickle, which can run code when it is opened, so it is refused. "
            "Give a checkpoint or generator file written by privgen."
        )
    if not start.startswith(_ZIP):
        raise CheckpointError(
            f"{path} is neither a checkpoint nor a generator file: it starts with {start[:4]!r}. "
            "Give a file written by privgen train."
        )
    return _read_restricted(path)


def _read_restricted(path: Path) -> dict[str, Any]:
    try:
        # From an open file: given a path, torch.load picks a reader by the file's name.
        with path.open("rb") as stream:
            if stream.read(len(_ZIP)) == _ZIP:
                untrusted.require_zip(path)
                source: BinaryIO = stream
            else:  # a bare pickle's texts say how long they are, and are read in one
                length = path.stat().st_size
                source = cast(BinaryIO, Bounded(stream, length, "a value in a pickle"))
            stream.seek(0)
            content = torch.load(source, map_location="cpu", weights_only=True)
            untrusted.require_plain(content, path.stat().st_size)
    except Exception as error:  # torch raises many kinds for damaged or hostile files
        reason = told(re.split(r"[.\n]", str(error).strip(), maxsplit=1)[0])
        raise CheckpointError(
            f"{path} is truncated, damaged, or holds more than tensors and plain values: {reason}"
        ) from error
    if not isinstance(content, dict):
        raise CheckpointError(f"{path} must hold a dictionary: got {type(content).__name__}")
    return content


def _require_version(path: Path, version: object, known: int) -> None:
    if version != known:
        raise CheckpointError(
            f"{path} has format version {shown(version)}, this privgen reads version {known}. "
            "Use the privgen release that wrote it."
        )

"""Doors of checkpoints, generator files, weights, configurations, policies and reports."""

import json
import runpy
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import Any

import torch

from benchmarks.fuzz import shape_archives, shape_texts
from benchmarks.fuzz.door import Door
from privgen.checkpoints import state
from privgen.checkpoints.ledger import (
    Ledger,
    LedgerEntry,
)
from privgen.checkpoints.seal import seal_of, weights_digest
from privgen.checkpoints.state import (
    Checkpoint,
    GeneratorState,
)
from privgen.config import TrainConfig, read_toml
from privgen.models import build_generator
from privgen.policy import read_policy
from privgen.release.exporting import audit_facts
from privgen.sampling import LoadedGenerator, load_generator, loaded

_CLASSES, _SHARES = ("str", "tum"), (0.25, 0.75)
_TRAIN = 3
_EXAMPLES = Path(__file__).resolve().parents[2] / "tests" / "helpers" / "report_examples.py"

_TOML = """\
family = "cdcgan"
resolution = 64
batch = 16
kimg = 1.5
loss = "hinge"
seed = 3
augment = 0.5
"""
_POLICY = """\
significance = 0.05
gates = ["copying", "tile membership"]
copying_mdl80 = 0.01
copying_kinds = ["exact", "stain"]
fractions = [0.01, 0.1]
"""


def _config() -> TrainConfig:
    return TrainConfig(resolution=32, width=4, style_dim=8, kimg=1.0)


@cache
def _tensors() -> dict[str, torch.Tensor]:
    torch.manual_seed(0)
    return dict(build_generator(_config(), len(_CLASSES)).state_dict())


def _ledger() -> Ledger:
    entries = tuple(
        LedgerEntry(
            role=role, path=f"{n}.png", sha256="ab" * 32, label=_CLASSES[n % 2], group=f"p{n}"
        )
        for n, role in enumerate(("train",) * _TRAIN + ("holdout",) * 2)
    )
    return Ledger(root=None, layout="x", group_unit="patient", split={"seed": 1}, entries=entries)


def _checkpoints(folder: Path) -> list[bytes]:
    checkpoint = Checkpoint(
        config=_config(),
        classes=_CLASSES,
        class_share=_SHARES,
        step=12,
        seconds=3.5,
        processes=1,
        running={"loss": 1.0},
        selected={},
        generator=_tensors(),
        average=_tensors(),
        discriminator={"a": torch.zeros(2)},
        generator_optimizer={"step": 1},
        discriminator_optimizer={},
        scaler={},
        adaptive={},
        ledger=_ledger(),
    )
    state.save_checkpoint(folder / "c.pt", checkpoint)
    return [(folder / "c.pt").read_bytes()]


def _state() -> GeneratorState:
    return GeneratorState(
        config=_config(), classes=_CLASSES, class_share=_SHARES, tensors=_tensors()
    )


def _generators(folder: Path) -> list[bytes]:
    state.save_generator(folder / "g.safetensors", _state())
    return [(folder / "g.safetensors").read_bytes()]


def _weights(folder: Path) -> list[bytes]:
    content = {"a.weight": torch.ones(3, 2), "a.bias": torch.zeros(3)}
    torch.save(content, folder / "new.pth")
    torch.save(content, folder / "old.pth", _use_new_zipfile_serialization=False)
    return [(folder / name).read_bytes() for name in ("new.pth", "old.pth")]


def _sealed(content: dict[str, Any]) -> dict[str, Any]:
    texts = all(isinstance(name, str) for name in content["classes"])
    shares = all(isinstance(share, float) for share in content["class_share"])
    if not (texts and shares) or sum(one.numel() for one in content["average"].values()) > 10**6:
        raise ValueError("what is larger than the file has no digest")
    digest = weights_digest(
        family=content["config"]["family"],
        resolution=content["config"]["resolution"],
        classes=tuple(content["classes"]),
        class_share=tuple(content["class_share"]),
        tensors=content["average"],
    )
    return {**content, "seal": seal_of(content["ledger"], digest)}


@cache
def _generator() -> LoadedGenerator:
    return loaded(_state(), source=Path("g"))


@cache
def _example() -> dict[str, Any]:
    made: dict[str, Any] = runpy.run_path(str(_EXAMPLES))
    return made


def _reports(folder: Path) -> list[bytes]:
    generator = _generator()
    named = _example()["leak"]()
    named["audit"]["counts"]["train"]["tiles"] = _TRAIN
    named["generator"] = {
        "digest": generator.digest,
        "truncation": 0.7,
        "family": generator.family,
        "resolution": generator.resolution,
        "kimg": generator.kimg,
        "classes": list(generator.classes),
    }
    others = [
        _example()[name]() | {"generator": None} for name in ("no_leak_found", "inconclusive")
    ]
    return [json.dumps(report).encode() for report in (named, *others)]


def doors() -> Iterable[Door]:
    """Checkpoints, generator files, weights, configurations, policies and reports."""
    yield Door(
        name="checkpoint",
        file="c.pt",
        seeds=_checkpoints,
        open=load_generator,
        shapes=(shape_archives.archive, shape_archives.checkpoint(_sealed)),
    )
    yield Door(
        name="generator file",
        file="g.safetensors",
        seeds=_generators,
        open=load_generator,
        shapes=(shape_archives.safetensors_file,),
    )
    yield Door(
        name="weights",
        file="w.pth",
        seeds=_weights,
        open=state.load_weights,
        shapes=(shape_archives.archive,),
    )
    yield Door(
        name="configuration",
        file="train.toml",
        seeds=lambda folder: [_TOML.encode()],
        open=lambda path: TrainConfig.from_dict(read_toml(path)),
        shapes=(shape_texts.toml_document,),
    )
    yield Door(
        name="policy",
        file="policy.toml",
        seeds=lambda folder: [_POLICY.encode()],
        open=read_policy,
        shapes=(shape_texts.toml_document,),
    )
    yield Door(
        name="report",
        file="report.json",
        seeds=_reports,
        open=lambda path: audit_facts(path, _generator(), _ledger()),
        shapes=(shape_texts.json_document,),
    )

"""From tiles, or a generator and its ledger, to a verdict and its report.

`audit` takes anybody's images: folders, tile sets, arrays, or a function that makes them.
`audit_generator` takes one of privgen's own files and finds the real tiles through its ledger. Both
gather the evidence, let `audits` judge it, and return the report as data; nothing is written until
`Audit.write`.
"""

import base64
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

import audits
from audits.copying import below, copy_scores, tail_thresholds
from privgen.data import images
from privgen.data.layouts import open_tiles
from privgen.data.splits import require_disjoint
from privgen.data.tileset import TileSet
from privgen.errors import InputError
from privgen.evidence.collect import Evidence, collect
from privgen.evidence.encoders import load_encoder
from privgen.files import write_json
from privgen.reporting import html
from privgen.roles import reopen
from privgen.sampling import LoadedGenerator, load_generator, sample

Pixels = NDArray[np.uint8]
RealSource = TileSet | Path | str
SyntheticSource = RealSource | Pixels | Callable[[int], Pixels]
OnBadTile = Literal["error", "skip"]

DEFAULT_COUNT = 1000
"""Synthetic tiles drawn from a generator or a function."""

_GRID_COLUMNS = 8


@dataclass(frozen=True, kw_only=True)
class Audit:
    """One finished audit.

    Attributes:
      report: what `audits` found.
      document: the whole of report.json; aggregates only.
    """

    report: audits.AuditReport
    document: Mapping[str, Any]

    @property
    def verdict(self) -> audits.Verdict:
        return self.report.verdict

    def write(self, folder: Path) -> None:
        """Write report.json and report.html into `folder`, which must exist."""
        write_report(self.document, folder)


def write_report(document: Mapping[str, Any], folder: Path) -> None:
    """Validate a report document and write it as report.json and report.html.

    Raises:
      OutputError, DiskFullError: it cannot be written.
    """
    html.validate(document)
    write_json(folder / "report.json", document)
    html.write(document, folder / "report.html")


def audit(
    *,
    train: RealSource,
    holdout: RealSource,
    synthetic: SyntheticSource,
    siblings: RealSource | None = None,
    reference: RealSource | None = None,
    encoder: str = "effnet_lite0",
    fidelity_encoders: Sequence[str] = (),
    policy: audits.Policy | None = None,
    seed: int = 0,
    count: int = DEFAULT_COUNT,
    group_by: str | None = None,
    on_bad_tile: OnBadTile = "error",
) -> Audit:
    """Audit synthetic tiles against the real tiles they were made from and real tiles of other patients.

    Args:
      train: tiles the generator was trained on.
      holdout: tiles of patients it never met.
      synthetic: a folder, a tile set, an array uint8 (n, h, w, 3), or a function of n that makes
        one.
      siblings: tiles of the training slides that were held back; without them tile membership
        cannot be measured.
      reference: tiles of further patients.
      encoder: as `evidence.encoders.load_encoder`.
      fidelity_encoders: further encoders for the fidelity block, such as "inception_fid" for FID.
      policy: what gates, and how small a leak must be visible.
      seed: of every random draw.
      count: tiles asked of a function.
      group_by: column that names the patient, where folders carry a manifest.
      on_bad_tile: "error", or "skip" to leave unusable files out and count them.

    Raises:
      InputError: a source cannot be read, or roles share patients, digests or pixels.
      audits.AuditInputError: too little to audit.
    """
    real = {"train": train, "siblings": siblings, "holdout": holdout, "reference": reference}
    roles = {
        role: _real_tiles(source, group_by, on_bad_tile)
        for role, source in real.items()
        if source is not None
    }
    made = _synthetic_tiles(synthetic, count, on_bad_tile)
    return _judge(roles, made, encoder, fidelity_encoders, policy, seed, generator=None)


def audit_generator(
    generator: Path | str,
    *,
    data: RealSource | None = None,
    train: RealSource | None = None,
    holdout: RealSource | None = None,
    siblings: RealSource | None = None,
    encoder: str = "effnet_lite0",
    fidelity_encoders: Sequence[str] = (),
    policy: audits.Policy | None = None,
    seed: int = 0,
    count: int = DEFAULT_COUNT,
    group_by: str | None = None,
    on_bad_tile: OnBadTile = "error",
) -> Audit:
    """Audit one of privgen's own generators.

    A private checkpoint's ledger says which tiles it was trained on; a shareable generator file has
    no ledger, so `train` and `holdout` must be given.

    Args:
      generator: a `.pt` checkpoint or a `.safetensors` generator file.
      data: where the training data are now, when they have moved since training.
      train, holdout, siblings: instead of the ledger.
      encoder, fidelity_encoders, policy, seed, count, group_by, on_bad_tile: as in `audit`.

    Raises:
      InputError: the file is none of privgen's, or the data are not those of its ledger.
    """
    loaded = load_generator(Path(generator))
    if train is not None and holdout is not None:
        given = {"train": train, "siblings": siblings, "holdout": holdout}
        roles = {
            role: _real_tiles(source, group_by, on_bad_tile)
            for role, source in given.items()
            if source is not None
        }
    elif loaded.ledger is not None:
        roles = reopen(loaded.ledger, data)
    else:
        raise InputError(
            f"{Path(generator).name} is a shareable generator file and does not say what it was "
            "trained on: "
            "give --train and --holdout, or the private .pt checkpoint."
        )
    tiles, labels = sample(loaded, count, seed=seed)
    made = TileSet.from_arrays(tiles, labels, layout="sampled from the generator")
    return _judge(roles, made, encoder, fidelity_encoders, policy, seed, generator=loaded)


def _real_tiles(source: RealSource, group_by: str | None, on_bad_tile: OnBadTile) -> TileSet:
    if isinstance(source, TileSet):
        return source
    return open_tiles(Path(source), group_by=group_by, on_bad_tile=on_bad_tile, min_classes=1)


def _synthetic_tiles(source: SyntheticSource, count: int, on_bad_tile: OnBadTile) -> TileSet:
    if isinstance(source, TileSet):
        return source
    if isinstance(source, str | Path):
        return open_tiles(Path(source), on_bad_tile=on_bad_tile, flat=True)
    tiles = source if isinstance(source, np.ndarray) else source(count)
    return TileSet.from_arrays(tiles, ["all"] * len(tiles))


def _judge(
    roles: Mapping[str, TileSet],
    synthetic: TileSet,
    encoder: str,
    fidelity_encoders: Sequence[str],
    policy: audits.Policy | None,
    seed: int,
    *,
    generator: LoadedGenerator | None,
) -> Audit:
    require_disjoint(**roles)
    evidence = collect(
        **roles,
        synthetic=synthetic,
        encoder=load_encoder(encoder),
        fidelity_encoders=[load_encoder(name) for name in fidelity_encoders],
        seed=seed,
    )
    report = audits.audit(evidence.data, policy=policy, rng=seed, features=evidence.features)
    document = {
        "schema": "privgen-report/1",
        "privgen_version": version("privgen"),
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "data": _described(roles, synthetic, evidence.side),
        "generator": None if generator is None else _generator_facts(generator),
        "audit": report.to_dict(),
        "augment_bench": None,
        "reproduce": {"command": _command(generator, encoder, seed, len(synthetic)), "seed": seed},
        "samples_png": None
        if generator is None
        else _sample_grid(synthetic, evidence, report.verdict),
    }
    return Audit(report=report, document=document)


def _described(roles: Mapping[str, TileSet], synthetic: TileSet, side: int) -> dict[str, Any]:
    every = {**roles, "synthetic": synthetic}
    train = roles["train"]
    classes = sorted({label for tiles in every.values() for label in tiles.classes})
    return {
        "layout": train.layout,
        "group_unit": train.group_unit,
        "roles": {
            role: {
                "tiles": len(tiles),
                "patients": 0 if role == "synthetic" else len(np.unique(tiles.groups)),
            }
            for role, tiles in every.items()
        },
        "classes": {
            label: {role: int((tiles.labels == label).sum()) for role, tiles in every.items()}
            for label in classes
        },
        "audit_side_px": side,
        "skipped": sum(len(tiles.skipped) for tiles in every.values()),
    }


def _generator_facts(generator: LoadedGenerator) -> dict[str, Any]:
    return {
        "family": generator.family,
        "resolution": generator.resolution,
        "kimg": generator.kimg,
        "classes": list(generator.classes),
    }


def _command(generator: LoadedGenerator | None, encoder: str, seed: int, count: int) -> str:
    """The command line without its paths: a report names no place."""
    if generator is not None:
        return (
            f"privgen audit --generator CHECKPOINT --count {count} --encoder {encoder} --seed "
            f"{seed}"
        )
    return (
        "privgen audit --train TRAIN --holdout HOLDOUT --synthetic SYNTHETIC "
        f"--encoder {encoder} --seed {seed}"
    )


def _sample_grid(synthetic: TileSet, evidence: Evidence, verdict: audits.Verdict) -> str | None:
    """Base64 PNG of some synthetic tiles, classes in rows; none of those that come near a train tile.

    After a copying LEAK no tile is shown: the picture would be part of the leak.
    """
    copying = next(harm for harm in verdict.harms if harm.harm is audits.Harm.COPYING)
    if copying.outcome is audits.Outcome.LEAK:
        return None
    close = near_train(evidence.data)
    rows = []
    for label in synthetic.classes:
        unsuspicious = np.flatnonzero((synthetic.labels == label) & ~close)[:_GRID_COLUMNS]
        if len(unsuspicious) == _GRID_COLUMNS:
            rows.append(unsuspicious)
    if not rows:
        return None
    shown = synthetic.subset(np.concatenate(rows)).load()
    sheet = images.contact_sheet(shown, columns=_GRID_COLUMNS)
    return base64.b64encode(images.encode_png(sheet)).decode()


def near_train(data: audits.AuditData) -> NDArray[np.bool_]:
    """Synthetic tiles in the tail of any copy test, or equal to a train tile; shape (s,).

    These stay out of every picture, whatever the verdict.
    """
    scores = copy_scores(data.synthetic.embeddings, data.train.embeddings)
    control = copy_scores(data.holdout.embeddings, data.train.embeddings)
    close = below(scores.nearest, tail_thresholds(control.nearest)[-1])
    close |= below(scores.ratio, tail_thresholds(control.ratio)[-1])
    if data.synthetic.fingerprints is not None and data.train.fingerprints is not None:
        close |= np.isin(data.synthetic.fingerprints, data.train.fingerprints)
    return close

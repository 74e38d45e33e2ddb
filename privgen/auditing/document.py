"""What an audit's report.json says beside the findings: the data, the generator, the command."""

from collections.abc import Mapping
from dataclasses import replace
from importlib.metadata import version

import numpy as np

import audits
from privgen.auditing.requests import AuditOptions, AuditSubject
from privgen.auditing.weaker import skipped_files
from privgen.data.tileset import TileSet
from privgen.evidence.collect import Evidence
from privgen.reporting.disclosure import withheld
from privgen.reporting.sections import DataDict, GeneratorDict, ReportFacts
from privgen.requests import command_line
from privgen.sampling import LoadedGenerator


def audit_document(
    what: AuditSubject,
    how: AuditOptions,
    report: audits.AuditReport,
    *,
    roles: Mapping[str, TileSet],
    synthetic: TileSet,
    evidence: Evidence,
    generator: LoadedGenerator | None,
) -> ReportFacts:
    """A report document that holds an audit alone; what is missing in it is for the caller to add.

    Args:
      what, how: as asked for, everything decided.
      report: what was found.
      roles, synthetic: the tiles.
      evidence: of the same tiles.
      generator: that made the synthetic tiles, if it is known.
    """
    truncation = getattr(what, "truncation", 1.0)
    return {
        "schema": "privgen-report/1",
        "privgen_version": version("privgen"),
        "data": _described(roles, synthetic, evidence),
        "generator": None if generator is None else _generator_facts(generator, truncation),
        "audit": report.to_dict(),
        "augment_bench": None,
        "reproduce": {"command": _command(what, how), "seed": how.seed},
    }


def _described(roles: Mapping[str, TileSet], synthetic: TileSet, evidence: Evidence) -> DataDict:
    every = {**roles, "synthetic": synthetic}
    train = roles["train"]
    classes = sorted({label for tiles in every.values() for label in tiles.classes})
    counts = {
        role: {label: int((tiles.labels == label).sum()) for label in classes}
        for role, tiles in every.items()
    }
    given = {
        role: count if role == "synthetic" else withheld(count) for role, count in counts.items()
    }
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
        "classes": {label: {role: given[role][label] for role in every} for label in classes},
        "audit_side_px": evidence.side,
        "skipped": skipped_files(roles, synthetic),
        "pipeline": evidence.pipeline.facts,
    }


def _generator_facts(generator: LoadedGenerator, truncation: float) -> GeneratorDict:
    return {
        "digest": generator.digest,
        "truncation": truncation,
        "family": generator.family,
        "resolution": generator.resolution,
        "kimg": generator.kimg,
        "classes": list(generator.classes),
    }


def _command(what: AuditSubject, how: AuditOptions) -> str:
    """The command that makes this report again, without its paths: a report names no place."""
    # A specification may end in the path of a file.
    kind, _, rest = how.encoder.partition(":")
    printable = replace(how, encoder=f"{kind}:FILE" if rest else kind)
    return command_line("audit", what, printable)

"""augment-bench from folders and checkpoints: open, train generators, compare, audit, report."""

from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from audits.sections import RoleCounts
from privgen.benefit.arms import ARMS
from privgen.benefit.estimate import estimate
from privgen.benefit.generators import estimate_minutes
from privgen.benefit.plan import BenchPlan
from privgen.benefit.privacy import audit_points
from privgen.benefit.protocol import BenchReport, carry_out
from privgen.benefit.requests import BenchRequest
from privgen.benefit.sources import OpenedBench, make_regimes, open_request
from privgen.benefit.trials.fitting import Recipe
from privgen.benefit.trials.workspace import Workspace
from privgen.compute.devices import choose_device
from privgen.data.tileset import TileSet
from privgen.errors import ConfigError
from privgen.files import empty_folder, private_beside
from privgen.phases import phase
from privgen.reporting import notebook
from privgen.reporting.bench_sections import EstimatedBench
from privgen.reporting.cells_csv import write_cells
from privgen.reporting.sections import ReportDict
from privgen.reporting.writing import write_report
from privgen.requests import command_line, made

if TYPE_CHECKING:
    import pandas as pd

_BATCH = 32


@dataclass(frozen=True, kw_only=True, repr=False)
class Bench:
    """A benchmark that was carried out.

    Attributes:
      report: aggregates.
      document: the whole of report.json.
    """

    report: BenchReport
    document: ReportDict

    def __repr__(self) -> str:
        return f"Bench({self.report.conclusion})"

    def _repr_html_(self) -> str:
        rows = {f"caveat {n}": text for n, text in enumerate(self.report.warnings, start=1)}
        return notebook.table_html(self.report.conclusion, rows)

    def to_pandas(self) -> "pd.DataFrame":
        """Every model in every arm of every regime, as a data frame.

        Raises:
          InputError: pandas is not installed.
        """
        return notebook.frame([asdict(row) for row in self.report.rows])


@dataclass(frozen=True, kw_only=True, eq=False)
class Planned:
    """A benchmark that is ready to start; nothing is written yet.

    Attributes:
      opened: the real tiles, and what was asked for.
      plan: of the trainings.
    """

    opened: OpenedBench
    plan: BenchPlan

    def estimate(self) -> EstimatedBench:
        """Trainings and about how long they take, measured from a few updates; writes nothing."""
        opened, request = self.opened, self.opened.request
        found = estimate(
            self.plan,
            opened.generator_counts(),
            train=opened.subsets[max(opened.subsets)],
            validation=len(opened.parts.validation),
            test=len(opened.parts.test),
            side=request.resolution,
            jobs=request.jobs,
        )
        minutes = 0.0
        options = request.train_options
        if options is not None:
            minutes = request.generators_per_regime * sum(
                estimate_minutes(train, options) for train in opened.subsets.values()
            )
        return {**found, "generator_minutes": minutes, "regimes": _sizes(opened)}

    def run(self, out: Path | str | None = None, private: Path | str | None = None) -> Bench:
        """Carry it out, or go on where a run of the same benchmark into `out` was stopped.

        Args:
          out: gets report.html, report.json, cells.csv and audits/; nothing is written when None.
          private: keeps what is not for sharing; default `out` + "-private".

        Raises:
          InputError: tiles, generators or folders cannot be used.
          RuntimeFailure, Interrupted: it stopped; every finished training is kept.
        """
        out = None if out is None else Path(out)
        opened, plan, request = self.opened, self.plan, self.opened.request
        if request.scheduler is not None and out is None:
            raise ConfigError(
                "`scheduler` needs a folder that its workers see: got none. Give `out`."
            )
        hidden = None if out is None else _prepared(out, private)
        with phase("tiles of every regime"):
            regimes = make_regimes(
                opened, ratio=max(plan.ratios), filters=plan.filters, folder=hidden
            )
        finished = carry_out(
            plan,
            regimes=regimes,
            validation=opened.parts.validation,
            test=opened.parts.test,
            side=request.resolution,
            jobs=request.jobs,
            scheduler=request.scheduler,
            folder=hidden,
        )
        report = finished.report
        report = replace(report, warnings=(*opened.warnings, *report.warnings))
        if request.audit:
            points, warnings = audit_points(
                report.plane,
                regimes,
                outside=opened.outside,
                kept=finished.kept,
                ratio=plan.primary_ratio,
                seed=plan.seed,
                out=out,
                private=hidden,
            )
            report = replace(report, plane=points, warnings=(*report.warnings, *warnings))
        document = bench_document(report, command_line("augment-bench", _printable(request)))
        if out is not None:
            write_cells(finished.columns, finished.rows, out / "cells.csv")
            write_report(document, out)
        return Bench(report=report, document=document)


def _prepared(out: Path, private: Path | str | None) -> Path:
    """Make both folders of a run, or take those of the run to go on with; the private one."""
    hidden = private_beside(out) if private is None else Path(private)
    if hidden.resolve().is_relative_to(out.resolve()):
        raise ConfigError(
            f"what is private may not lie in what is shared: `private` {hidden} is in `out` {out}. "
            "Give a folder beside it."
        )
    if Workspace(hidden).claim.decided is None:
        empty_folder(out)
    hidden.mkdir(mode=0o700, parents=True, exist_ok=True)
    out.mkdir(parents=True, exist_ok=True)
    return hidden


def plan_bench(data: Path | str | TileSet | None = None, /, **options: Any) -> Planned:
    """Prepare a benchmark: do synthetic tiles help classifiers of real ones, patients kept apart?

    A generator's own ledger decides: classifiers train on its training tiles, because a generator
    trained on more would carry real tiles in by the back door, and are tested on patients it never
    met. With a synthetic folder, or where generators are trained here, the real tiles are split.

    Args:
      data: real tiles; with `generators`, where they are now; procedural tiles when None.
      options: fields of `BenchRequest`; None is a value that was not given.

    Raises:
      ConfigError: an option is unknown, out of range, or does not go with another.
      InputError: tiles cannot be used.
    """
    return plan_request(made(BenchRequest, {"data": data, **options}))


def plan_request(request: BenchRequest) -> Planned:
    """`plan_bench` of a request."""
    effort = request.effort
    plan = BenchPlan(
        models=tuple(request.models),
        ratios=effort.ratios if request.ratios is None else tuple(map(float, request.ratios)),
        seeds=tuple(range(request.seeds or effort.seeds)),
        arms=tuple(ARMS) if request.arms is None else tuple(request.arms),
        recipe=Recipe(
            updates=request.updates or effort.updates,
            batch=_BATCH,
            evaluations=request.evaluations,
        ),
        size=request.size,
        weights=tuple(sorted(_pair(one) for one in request.weights)),
        device=request.device,
        seed=request.seed,
    )
    choose_device(request.device)
    return Planned(opened=open_request(request), plan=plan)


def _pair(weights: str) -> tuple[str, str]:
    model, _, spec = weights.partition("=")
    return model, spec


def _printable(request: BenchRequest) -> BenchRequest:
    """The request without paths in what is printed as it is."""
    return replace(request, weights=tuple(one.partition(":")[0] for one in request.weights))


def _sizes(opened: OpenedBench) -> dict[str, RoleCounts]:
    parts = {"validation": opened.parts.validation, "test": opened.parts.test}
    parts |= {f"regime {share:g}": train for share, train in opened.subsets.items()}
    return {
        name: {"tiles": len(tiles), "patients": len(np.unique(tiles.groups))}
        for name, tiles in parts.items()
    }


def bench_document(report: BenchReport, command: str) -> ReportDict:
    """A report document that holds the bench alone."""
    return {
        "schema": "privgen-report/1",
        "privgen_version": version("privgen"),
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "weaker_than_default": [],
        "data": None,
        "generator": None,
        "audit": None,
        "augment_bench": report.to_dict(),
        "reproduce": {"command": command, "seed": report.seed},
        "samples_png": None,
    }

"""augment-bench from folders and checkpoints: open, train generators, compare, audit, report."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from privgen.benefit.arms import ARMS
from privgen.benefit.estimate import estimate
from privgen.benefit.generators import estimate_minutes
from privgen.benefit.plan import RATIOS, Plan
from privgen.benefit.privacy import audit_points
from privgen.benefit.protocol import BenchReport, carry_out
from privgen.benefit.sources import OnBadTile, Opened, Request, make_regimes, open_request
from privgen.benefit.trials.classifiers import FAMILIES
from privgen.benefit.trials.fitting import Recipe
from privgen.benefit.trials.workspace import Workspace
from privgen.compute.devices import choose_device
from privgen.data.tileset import TileSet
from privgen.errors import ConfigError
from privgen.files import empty_folder, private_beside
from privgen.phases import phase
from privgen.reporting.cells_csv import write_cells
from privgen.reporting.writing import write_report


@dataclass(frozen=True, kw_only=True)
class Effort:
    """How much is trained where nothing else is asked for.

    Attributes:
      seeds: classifier seeds.
      generator_seeds: generators for each regime.
      ratios: synthetic tiles for each real one.
      updates: optimiser updates of every training.
    """

    seeds: int
    generator_seeds: int
    ratios: tuple[float, ...]
    updates: int


FULL = Effort(seeds=5, generator_seeds=2, ratios=RATIOS, updates=80)
QUICK = Effort(seeds=3, generator_seeds=1, ratios=(1.0,), updates=24)
_BATCH, _EVALUATIONS = 32, 3


@dataclass(frozen=True, kw_only=True)
class Bench:
    """A benchmark that was carried out.

    Attributes:
      report: aggregates.
      document: the whole of report.json.
    """

    report: BenchReport
    document: Mapping[str, Any]


@dataclass(frozen=True, kw_only=True, eq=False)
class Planned:
    """A benchmark that is ready to start; nothing is written yet.

    Attributes:
      opened: the real tiles.
      plan: of the trainings.
      audit: whether generators are audited.
      jobs, scheduler: who trains.
    """

    opened: Opened
    plan: Plan
    audit: bool
    jobs: int | None
    scheduler: str | None

    def estimate(self) -> dict[str, Any]:
        """Trainings and about how long they take, measured from a few updates; writes nothing."""
        opened, request = self.opened, self.opened.request
        found = estimate(
            self.plan,
            opened.generator_counts(),
            train=opened.subsets[max(opened.subsets)],
            validation=len(opened.parts.validation),
            test=len(opened.parts.test),
            side=request.side,
            jobs=self.jobs,
        )
        minutes = 0.0
        if request.train is not None:
            minutes = request.generator_seeds * sum(
                estimate_minutes(train, request.train) for train in opened.subsets.values()
            )
        return {**found, "generator_minutes": minutes, "regimes": _sizes(opened)}

    def run(self, out: Path | None, private: Path | None = None) -> Bench:
        """Carry it out, or go on where a run of the same benchmark into `out` was stopped.

        Args:
          out: gets report.html, report.json, cells.csv and audits/; nothing is written when None.
          private: keeps what is not for sharing; default `out` + "-private".

        Raises:
          InputError: tiles, generators or folders cannot be used.
          RuntimeFailure, Interrupted: it stopped; every finished training is kept.
        """
        hidden = None
        if out is not None:
            hidden = private or private_beside(out)
            if hidden.resolve().is_relative_to(out.resolve()):
                raise ConfigError(
                    f"what is private may not lie in what is shared: --private {hidden} is in "
                    f"--out {out}. Give a folder beside it."
                )
            if not Workspace(hidden).begun:
                empty_folder(out)
            hidden.mkdir(mode=0o700, parents=True, exist_ok=True)
            out.mkdir(parents=True, exist_ok=True)
        opened, plan = self.opened, self.plan
        with phase("tiles of every regime"):
            regimes = make_regimes(
                opened, ratio=max(plan.ratios), filters=plan.filters, folder=hidden
            )
        finished = carry_out(
            plan,
            regimes=regimes,
            validation=opened.parts.validation,
            test=opened.parts.test,
            side=opened.request.side,
            jobs=self.jobs,
            scheduler=self.scheduler,
            folder=hidden,
        )
        report = finished.report
        report = replace(report, warnings=(*opened.warnings, *report.warnings))
        if self.audit:
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
        document = bench_document(report, _command(self))
        if out is not None:
            write_cells(finished.columns, finished.rows, out / "cells.csv")
            write_report(document, out)
        return Bench(report=report, document=document)


def plan_bench(
    data: Path | str | TileSet | None = None,
    *,
    synthetic: Path | str | TileSet | None = None,
    generators: Sequence[Path | str] = (),
    train_generator: Mapping[str, Any] | None = None,
    generator_seeds: int | None = None,
    regimes: Sequence[float] = (1.0,),
    models: Sequence[str] = FAMILIES,
    ratios: Sequence[float] | None = None,
    seeds: int | None = None,
    updates: int | None = None,
    evaluations: int = _EVALUATIONS,
    arms: Sequence[str] = tuple(ARMS),
    resolution: int | None = None,
    size: str = "small",
    weights: Mapping[str, str] | None = None,
    device: str = "auto",
    jobs: int | None = None,
    scheduler: str | None = None,
    quick: bool = False,
    audit: bool = True,
    group_by: str | None = None,
    on_bad_tile: OnBadTile = "error",
    seed: int = 0,
) -> Planned:
    """Prepare a benchmark: do synthetic tiles help classifiers of real ones, patients kept apart?

    A generator's own ledger decides: classifiers train on its training tiles, because a generator
    trained on more would carry real tiles in by the back door, and are tested on patients it never
    met. With a synthetic folder, or where generators are trained here, the real tiles are split.

    Args:
      data: real tiles; with `generators`, where they are now; procedural tiles when None.
      synthetic: anybody's tiles with the real classes; for the regime of all training tiles.
      generators: private checkpoints, one or more for each regime.
      train_generator: options of generators to train for each regime, fields of `TrainConfig`.
      generator_seeds: generators trained for each regime; `FULL`'s or `QUICK`'s when None.
      regimes: shares of the real training tiles.
      models, arms, size, weights, device, jobs, scheduler: as `protocol.augment_bench`.
      ratios, seeds, updates: likewise; `FULL`'s or `QUICK`'s when None.
      evaluations: checkpoints compared on the validation split.
      resolution: side at which classifiers see tiles, pixels; the tiles' own when None.
      quick: less of everything, for a first look.
      audit: whether the generators' tiles are audited for leaks too.
      group_by, on_bad_tile: as `open_tiles`.
      seed: of splits, sampling and training.

    Raises:
      InputError: options or tiles cannot be used.
    """
    effort = QUICK if quick else FULL
    if jobs is not None and jobs < 1:
        raise ConfigError(f"jobs must be 1 or more: got {jobs}.")
    plan = Plan(
        models=tuple(models),
        ratios=effort.ratios if ratios is None else tuple(ratios),
        seeds=tuple(range(effort.seeds if seeds is None else seeds)),
        arms=tuple(arms),
        recipe=Recipe(
            updates=effort.updates if updates is None else updates,
            batch=_BATCH,
            evaluations=evaluations,
        ),
        size=size,
        weights=tuple(sorted((weights or {}).items())),
        device=device,
        seed=seed,
    )
    request = Request(
        data=data,
        synthetic=synthetic,
        generators=tuple(Path(path) for path in generators),
        train=train_generator,
        generator_seeds=effort.generator_seeds if generator_seeds is None else generator_seeds,
        regimes=tuple(regimes),
        side=resolution,
        group_by=group_by,
        on_bad_tile=on_bad_tile,
        seed=seed,
    )
    choose_device(device)
    return Planned(
        opened=open_request(request), plan=plan, audit=audit, jobs=jobs, scheduler=scheduler
    )


def _sizes(opened: Opened) -> dict[str, dict[str, int]]:
    parts = {"validation": opened.parts.validation, "test": opened.parts.test}
    parts |= {f"regime {share:g}": train for share, train in opened.subsets.items()}
    return {
        name: {"tiles": len(tiles), "patients": len(np.unique(tiles.groups))}
        for name, tiles in parts.items()
    }


def _command(planned: Planned) -> str:
    """The command line without its paths: a report names no place."""
    plan, request = planned.plan, planned.opened.request
    words = ["privgen augment-bench"]
    if request.data is not None or request.generators:
        words.append("DATA")
    if request.generators:
        words += ["--generator CHECKPOINT"] * len(request.generators)
    elif request.train is not None:
        words.append(f"--train-generator {request.train.get('family', 'cdcgan')}")
    elif request.synthetic is not None:
        words.append("--synthetic SYNTHETIC")
    if request.train is not None and "kimg" in request.train:
        words.append(f"--generator-kimg {request.train['kimg']:g}")
    if request.synthetic is None and not request.generators:
        words.append(f"--generator-seeds {request.generator_seeds}")
    words += [
        f"--regimes {_joined(request.regimes)}",
        f"--models {','.join(plan.models)}",
        f"--ratios {_joined(plan.ratios)}",
        f"--seeds {len(plan.seeds)}",
        f"--updates {plan.recipe.updates}",
        f"--size {plan.size}",
    ]
    words += [f"--weights {model}={spec.partition(':')[0]}" for model, spec in plan.weights]
    further: dict[str, bool] = {
        f"--arms {','.join(plan.arms)}": plan.arms != tuple(ARMS),
        f"--resolution {request.side}": request.side is not None,
        f"--device {plan.device}": plan.device != "auto",
        f"--group-by {request.group_by}": request.group_by is not None,
        f"--on-bad-tile {request.on_bad_tile}": request.on_bad_tile != "error",
        "--no-audit": not planned.audit,
    }
    words += [option for option, given in further.items() if given]
    return " ".join([*words, f"--seed {plan.seed}"])


def _joined(numbers: Sequence[float]) -> str:
    return ",".join(f"{number:g}" for number in numbers)


def bench_document(report: BenchReport, command: str) -> dict[str, Any]:
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

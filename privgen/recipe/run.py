"""`privgen audit-recipe`: freeze a recipe, toss coins, train many times, judge, report."""

from collections.abc import Mapping
from contextlib import closing
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np

import audits
from audits.coins import Coins, Design
from audits.family import ARMS
from audits.recipe import RecipeReport, judge_recipe, recipe_levels
from audits.recipe_power import PlannedPower, planned_power
from audits.recipe_scores import RECIPE_ATTACKS
from audits.recipe_sections import PlannedDict
from privgen import console
from privgen.compute.cores import cores
from privgen.compute.devices import choose_device
from privgen.compute.jobs import carry_out, carry_out_on_dask
from privgen.config import TrainConfig
from privgen.encoders.loading import load_encoder
from privgen.errors import ConfigError, DiskFullError, Interrupted, OutputError
from privgen.files import empty_folder, private_beside
from privgen.insider.attacks import with_knowledge
from privgen.insider.inversion import Effort
from privgen.phases import duration, phase
from privgen.policy import read_policy
from privgen.recipe.document import recipe_document
from privgen.recipe.frozen import FrozenRecipe, freeze
from privgen.recipe.opening import Patients, open_patients
from privgen.recipe.requests import RecipeRequest
from privgen.recipe.runs import WHITE_BOX, Setting, carry_out_piece, name_of
from privgen.recipe.tiles import gathered
from privgen.recipe.workspace import Workspace
from privgen.reporting import notebook
from privgen.reporting.recipe_sections import EstimatedRecipe
from privgen.reporting.sections import ReportDict
from privgen.reporting.writing import write_report
from privgen.requests import made
from privgen.training import dry_run

if TYPE_CHECKING:
    import pandas as pd

_MORE_RUNS = 8


@dataclass(frozen=True, kw_only=True, repr=False)
class RecipeAudit:
    """A recipe that was audited.

    Attributes:
      report: what `audits` found; aggregates only.
      document: the whole of report.json.
    """

    report: RecipeReport
    document: ReportDict

    @property
    def verdict(self) -> audits.Verdict:
        return self.report.verdict

    def __repr__(self) -> str:
        return f"RecipeAudit({self.verdict.sentence})"

    def _repr_html_(self) -> str:
        harms = {
            verdict.harm.value: f"{verdict.outcome.value}: {verdict.reason}"
            for verdict in self.verdict.harms
        }
        return notebook.table_html(self.verdict.sentence, harms)

    def to_pandas(self) -> "pd.DataFrame":
        """Every statistic, as a data frame.

        Raises:
          InputError: pandas is not installed.
        """
        return notebook.frame([asdict(result) for result in self.report.results])


@dataclass(frozen=True, kw_only=True, eq=False)
class PlannedRecipe:
    """A recipe's audit that is ready to start; nothing is written yet.

    Attributes:
      request: as asked for.
      options: of training, as asked for.
      patients: whose tiles are used.
      coins: as tossed.
      policy: in force.
      compared: recipes that are tried on these coins, this one among them.
    """

    request: RecipeRequest
    options: Mapping[str, Any]
    patients: Patients
    coins: Coins
    policy: audits.Policy
    compared: int = 1

    @property
    def seed(self) -> int:
        return int(self.options.get("seed", 0))

    def freeze(self) -> FrozenRecipe:
        """The recipe, its minutes turned into kimg by a measurement."""
        split = self.patients.split(self.coins.included[0])
        return freeze(self.options, self.patients.tiles.subset(split.train))

    def powers(self) -> list[PlannedPower]:
        """What these runs could see, and what eight more would buy."""
        design = self.coins.design
        arms = ARMS if self.patients.held_back.any() else ARMS[1:]
        attacks = RECIPE_ATTACKS + ((WHITE_BOX,) if self.request.insider else ())
        level = recipe_levels(arms, self.policy.significance, attacks)[ARMS[1]]
        rng = np.random.default_rng(self.seed)
        return [
            planned_power(
                Design(scheme=design.scheme, runs=runs, class_tiles=design.class_tiles),
                self.patients.strata,
                excess=self.policy.membership_excess,
                level=level,
                rng=rng,
            )
            for runs in (design.runs, design.runs + _MORE_RUNS)
        ]

    @property
    def effort(self) -> Effort:
        """How hard an insider searches for each tile."""
        return Effort.for_tiles(len(self.patients.tiles))

    def jobs(self, recipe: FrozenRecipe) -> int:
        """Trainings at a time on this machine."""
        if self.request.jobs is not None:
            return self.request.jobs
        return cores() if choose_device(recipe.config.device).type == "cpu" else 1

    def estimate(self) -> EstimatedRecipe:
        """Minutes, kimg and power, from a few timed steps and a simulation; writes nothing."""
        recipe = self.freeze()
        split = self.patients.split(self.coins.included[0])
        timed = dry_run.plan(self.patients.tiles.subset(split.train), recipe.config)
        each = float(recipe.config.kimg or 0.0) * 1000 / timed["images_per_second"] / 60
        at_once = self.jobs(recipe)
        return {
            "patients": self.patients.count,
            "runs": self.request.runs,
            "kimg": float(recipe.config.kimg or 0.0),
            "minutes_each": each,
            "minutes": each * -(-self.request.runs // at_once),
            "at_once": at_once,
            "power": [_plain(one) for one in self.powers()],
        }

    def run(self, out: Path | str, private: Path | str | None = None) -> RecipeAudit:
        """Carry it out, or go on where the same audit into `out` was stopped.

        Args:
          out: gets report.html and report.json.
          private: keeps the runs; default `out` + "-private".

        Raises:
          InputError: folders cannot be used, or hold another audit.
          RuntimeFailure, Interrupted: it stopped; every finished run is kept.
        """
        out = Path(out)
        hidden = private_beside(out) if private is None else Path(private)
        if hidden.resolve().is_relative_to(out.resolve()):
            raise ConfigError(
                "what is private may not lie in what is shared: `private` "
                f"{hidden} is in `out` {out}. Give a folder beside it."
            )
        workspace = Workspace(hidden)
        if workspace.claim.decided is None:
            empty_folder(out)
        with workspace.claim.held():
            recipe = self._settled(workspace)
            workspace.claim.make(self._decided(recipe))
            workspace.forget_finished(range(self.request.runs))
            setting = Setting(
                folder=hidden,
                recipe=recipe,
                patients=self.patients,
                included=self.coins.included,
                count=self.request.count,
                encoder=self.request.encoder,
                effort=self.effort if self.request.insider else None,
            )
            self._train(setting, self.jobs(recipe))
            found = gathered(setting, self.coins)
        with phase("judging"):
            report = judge_recipe(found.data, policy=self.policy, seed=self.seed)
            report = replace(
                report,
                results=with_knowledge(report.results, self.effort),
                warnings=(*report.warnings, *self.patients.remarks),
            )
            powers = self.powers()
        document = recipe_document(
            self.request,
            recipe,
            report,
            powers=[_plain(one) for one in powers],
            data=self.patients.digest,
            compared=self.compared,
            training_minutes=found.seconds / 60,
        )
        try:
            out.mkdir(parents=True, exist_ok=True)
            write_report(document, out)
        except (OutputError, DiskFullError):
            console.warn(f"the report could not be written. {report.verdict.sentence}")
            raise
        return RecipeAudit(report=report, document=document)

    def _settled(self, workspace: Workspace) -> FrozenRecipe:
        """The recipe; an audit that goes on keeps the kimg that its minutes were measured to be."""
        begun = workspace.claim.decided
        measured = self.options.get("kimg") is None or self.options.get("minutes") is not None
        if begun is None or begun.get("asked") != self._asked or not measured:
            return self.freeze()
        config = begun["config"]
        kimg = config.get("kimg") if isinstance(config, dict) else None
        return freeze({**self.options, "minutes": None, "kimg": kimg}, self.patients.tiles)

    @property
    def _asked(self) -> dict[str, object]:
        """The budget as it was asked for, which decides whether a measured kimg is kept."""
        return {key: self.options.get(key) for key in ("kimg", "minutes")}

    def _decided(self, recipe: FrozenRecipe) -> dict[str, object]:
        request = self.request
        return {
            "asked": self._asked,
            "config": recipe.config.to_dict(),
            "code": recipe.code,
            "data": self.patients.digest,
            "patients": self.patients.count,
            "parts": self.patients.parts,
            "runs": request.runs,
            "coins": request.coins,
            "tossed": self.coins.included.astype(int).tolist(),
            "siblings": request.siblings,
            "count": request.count,
            "insider": self.effort.gradient_steps if request.insider else 0,
            "encoder": load_encoder(request.encoder).digest,
        }

    def _train(self, setting: Setting, jobs: int) -> None:
        pieces = setting.pieces
        left = [piece for piece in pieces if not setting.workspace.done(name_of(piece))]
        if left and len(left) < len(pieces):
            console.note(f"{len(pieces) - len(left)} of {len(pieces)} pieces were done before.")
        scheduler, config = self.request.scheduler, setting.recipe.config
        if left:
            console.note(
                f"{config.family}, {config.kimg:g} kimg, {self.request.runs} runs on random parts "
                f"of {self.patients.count} patients, "
                + (f"by {scheduler}" if scheduler else f"{jobs} at a time")
            )
        done = sum(piece is not None and piece not in left for piece in pieces)
        with phase("runs of the recipe", total=self.request.runs, done=done) as training:
            working = (
                carry_out_on_dask(
                    carry_out_piece,
                    setting,
                    left,
                    scheduler=scheduler,
                    folder=setting.folder,
                    called=name_of,
                )
                if scheduler
                else carry_out(carry_out_piece, setting, left, jobs=jobs, interrupt=True)
            )
            try:
                with closing(working):
                    for piece in working:
                        if piece is not None:
                            training.advance()
            except (KeyboardInterrupt, Interrupted) as stop:
                raise Interrupted(
                    f"stopped after {duration(training.elapsed)}; finished runs are kept. Run the "
                    "same command again to go on."
                ) from stop


def _plain(power: PlannedPower) -> PlannedDict:
    return cast(PlannedDict, asdict(power))


def plan_recipe(request: RecipeRequest, options: Mapping[str, Any], /) -> PlannedRecipe:
    """Prepare a recipe's audit; reads everything, writes nothing.

    Args:
      request: the tiles, and how runs are made and compared.
      options: fields of `TrainConfig`; its seed is also that of the coins.

    Raises:
      ConfigError, InputError: as the request, `freeze` and `open_patients`.
      audits.AuditInputError: no coins can be tossed for these patients.
    """
    policy = request.policy
    settled = read_policy(Path(policy)) if isinstance(policy, str | Path) else policy
    seed = made(TrainConfig, {"seed": options.get("seed", 0)}).seed
    patients = open_patients(request, seed=seed)
    return PlannedRecipe(
        request=request,
        options=dict(options),
        patients=patients,
        coins=patients.toss(request, seed),
        policy=settled or audits.Policy(),
    )


def audit_recipe(
    data: Any = None,
    /,
    *,
    out: Path | str,
    config: Mapping[str, Any] | None = None,
    private: Path | str | None = None,
    **asked: Any,
) -> RecipeAudit:
    """Try a recipe on random parts of the patients, many times, and say whether it gives them away.

    Args:
      data: a folder, manifest, archive or tile set with patients.
      out: gets report.html and report.json; runs are kept in `private` until they are judged.
      config: fields of `TrainConfig`, such as `{"resolution": 64, "kimg": 4}`.
      private: default `out` + "-private".
      asked: further fields of `RecipeRequest`: runs, coins, count, siblings, encoder, insider,
        policy, group_by, on_bad_tile, icc, jobs, scheduler.

    Raises:
      InputError: data, options or folders cannot be used.
      RuntimeFailure, Interrupted: it stopped; finished runs are kept.
    """
    request = made(RecipeRequest, {"data": data, **asked})
    return plan_recipe(request, config or {}).run(out, private)

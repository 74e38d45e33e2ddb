"""From the tiles of an audit to its verdict and report: evidence, judgement, document."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from torch import nn

import audits
from audits.battery import Judged, judge
from audits.copy_evidence import ALIGNED
from privgen import console
from privgen.auditing.document import audit_document
from privgen.auditing.finished import Audit
from privgen.auditing.gallery import near_train, sample_grid
from privgen.auditing.requests import AuditOptions, AuditSubject, GeneratorAudit
from privgen.auditing.weaker import weaker_than_default
from privgen.copysearch.searching import Search
from privgen.data.canaries import Canaries
from privgen.data.tileset import TileSet
from privgen.encoders.cache import EmbeddingCache
from privgen.encoders.loading import load_encoder
from privgen.errors import WeightsError
from privgen.evidence.canaries import canary_scores
from privgen.evidence.collect import Evidence, collect, plain_features
from privgen.evidence.order import in_order
from privgen.evidence.perceptual import perceptual_diversity
from privgen.evidence.suspects import choose
from privgen.insider.attacks import ROLES, insider_scores, with_knowledge
from privgen.insider.inversion import Effort
from privgen.phases import phase
from privgen.recipe.document import BroughtRecipe
from privgen.reporting import suspects
from privgen.reporting.sections import ReportDict
from privgen.sampling import LoadedGenerator

Features = Mapping[str, Mapping[str, NDArray[np.float32]]]


@dataclass(frozen=True, kw_only=True)
class OpenedAudit:
    """The tiles of an audit, and the generator where there is one.

    Attributes:
      roles: real tiles by role.
      synthetic: what is audited.
      generator: that made them; None for tiles from elsewhere.
      discriminator: for insider attacks, from a checkpoint.
      canaries: of its training, where its ledger names any.
      warnings: what limits the audit, sentences for the report.
    """

    roles: Mapping[str, TileSet]
    synthetic: TileSet
    generator: LoadedGenerator | None = None
    discriminator: nn.Module | None = None
    canaries: Canaries | None = None
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Settled:
    """An audit with everything decided that was left open."""

    what: AuditSubject
    how: AuditOptions
    policy: audits.Policy | None
    cache: EmbeddingCache | None
    search: Search | None
    recipe: BroughtRecipe | None
    opened: OpenedAudit


def judged(settled: Settled) -> Audit:
    """Collect the evidence, let `audits` judge it, and put the report together."""
    what, how, opened = settled.what, settled.how, settled.opened
    roles, synthetic = in_order(opened.roles, opened.synthetic)
    settled = replace(settled, opened=replace(opened, roles=roles, synthetic=synthetic))
    evidence = collect(
        train=roles["train"],
        holdout=roles["holdout"],
        siblings=roles.get("siblings"),
        reference=roles.get("reference"),
        synthetic=synthetic,
        encoder=load_encoder(how.encoder),
        seed=how.seed,
        search=settled.search,
        cache=settled.cache,
        harmonise=how.harmonise,
    )
    warnings = [*evidence.pipeline.warnings, *opened.warnings]
    if settled.recipe is not None:
        warnings += [f"Recipe: {one}" for one in settled.recipe.section["audit"]["warnings"]]
    found = _with_diversity(_judged(settled, evidence, warnings), settled, warnings)
    report = replace(found.report, warnings=(*found.report.warnings, *warnings))
    picture = None
    if opened.generator is not None:
        close = near_train(evidence.data, found.copies)
        picture = sample_grid(synthetic, close, report.verdict)
    created = datetime.now(UTC).isoformat(timespec="seconds")
    document: ReportDict = {
        **audit_document(
            what,
            how,
            report,
            roles=roles,
            synthetic=synthetic,
            evidence=evidence,
            generator=opened.generator,
        ),
        "created": created,
        "weaker_than_default": [
            setting.to_dict()
            for setting in weaker_than_default(what, how, roles, synthetic, settled.policy)
        ],
        "samples_png": picture,
    }
    if settled.recipe is not None:
        document["recipe"] = settled.recipe.section
    if not how.reveal_suspects:
        return Audit(report=report, document=document)
    proof = next(result for result in report.results if result.name == ALIGNED)
    page = suspects.render(
        choose(evidence, proof, found.copies),
        synthetic=synthetic,
        train=roles["train"],
        side=evidence.side,
        created=created,
    )
    return Audit(report=report, document=document, suspects=page)


def _judged(settled: Settled, evidence: Evidence, warnings: list[str]) -> Judged:
    """The battery, with insider attacks and FID where they were asked for."""
    what, how, opened = settled.what, settled.how, settled.opened
    looks = {role: evidence.harmonised(tiles) for role, tiles in opened.roles.items()}
    features = {**evidence.features, **_inception(settled, evidence, looks, warnings)}
    outside: Sequence[audits.OutsideScores] = []
    tried = sum(len(opened.roles[role]) for role in ROLES if role in opened.roles)
    insider = what.insider if isinstance(what, GeneratorAudit) else False
    effort = insider if isinstance(insider, Effort) else Effort.for_tiles(tried)
    if insider and opened.generator is not None:
        outside = insider_scores(
            opened.generator,
            opened.discriminator,
            looks,
            ids={role: tiles.ids for role, tiles in evidence.data.roles().items()},
            seed=how.seed,
            effort=effort,
        )
    canaries = None
    if opened.canaries is not None:
        canaries = canary_scores(opened.canaries, evidence)
    with phase("judging"):
        found = judge(
            evidence.data,
            policy=settled.policy,
            rng=how.seed,
            features=features,
            outside=outside,
            recipe=None if settled.recipe is None else settled.recipe.verdicts,
            canaries=canaries,
        )
    results = with_knowledge(found.report.results, effort)
    return replace(found, report=replace(found.report, results=results))


def _inception(
    settled: Settled, evidence: Evidence, looks: Mapping[str, TileSet], warnings: list[str]
) -> Features:
    """What FID needs, where it was asked for; weights that cannot be had become a warning."""
    how = settled.how
    if not (how.fid or how.fid_weights):
        return {}
    try:
        spec = f"inception_fid:{how.fid_weights}" if how.fid_weights else "inception_fid"
        seen = evidence.harmonised(settled.opened.synthetic)
        return plain_features(load_encoder(spec), looks, seen, side=evidence.side)
    except WeightsError as error:
        console.warn(f"no FID: {error}")
        warnings.append("FID was asked for, but its Inception weights could not be had.")
        return {}


def _with_diversity(found: Judged, settled: Settled, warnings: list[str]) -> Judged:
    """LPIPS added, where it was asked for; weights that cannot be had become a warning."""
    how, opened = settled.how, settled.opened
    if not (how.lpips or how.lpips_weights):
        return found
    try:
        extra = perceptual_diversity(
            opened.synthetic,
            opened.roles["holdout"],
            weights=Path(how.lpips_weights) if how.lpips_weights else True,
            seed=how.seed,
        )
    except WeightsError as error:
        console.warn(f"no LPIPS: {error}")
        warnings.append("LPIPS was asked for, but its backbone's weights could not be had.")
        return found
    results = (*found.report.results, *extra)
    return replace(found, report=replace(found.report, results=results))

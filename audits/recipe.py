"""The audit of a recipe by repeated training: tests, controls, bounds and the verdict.

The family is every attack in every arm and the test of single patients, declared before the scores
are seen, and adjusted together by the re-tossed coins that they share; the primary attack has twice
the weight of another test. Descriptions, controls and
epsilon bounds stand outside it.

Source: docs/methods.md#repeated-training.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from hashlib import sha256
from typing import cast

import numpy as np

from audits.family import PRIMARY_ATTACK, arm_name, levels
from audits.inputs import Floats
from audits.policy import Policy
from audits.recipe_arms import Arm, arms_of
from audits.recipe_planted import PlantedPoint, planted_power, smallest_found
from audits.recipe_quality import recipe_quality
from audits.recipe_results import (
    adjusted,
    attack_test,
    epsilon_bounds,
    other_looks,
    retossed_control,
    single_patients,
)
from audits.recipe_rules import STANDING_OUT, RecipeCase, recipe_verdict
from audits.recipe_scores import PATIENT, RECIPE_ATTACKS, TILE, RecipeData
from audits.recipe_sections import RecipeAuditDict, Scheme
from audits.repeated import Retossed, centred
from audits.results import AuditResult, Harm, HarmVerdict, Outcome, Verdict
from audits.sections import PolicyDict

FEWEST_DRAWN = 8
"""With fewer patients no line of a single one is drawn."""

_WEIGHTS = {PRIMARY_ATTACK: 1.0}
_OTHER_WEIGHT = 0.5
_JITTER = 0.1


@dataclass(frozen=True, kw_only=True)
class RecipeReport:
    """What repeated training found; aggregates only.

    Attributes:
      verdict: on both arms of membership; copying is for the audit of a release.
      warnings: what limits it.
      results: tests of the family, then controls, descriptions and epsilon bounds.
      planted: the power curve of planted leaks.
      mdl80: of each arm the smallest share that was found with power .8; None for none tried.
      lines: of each patient the mean score of her out-runs and of her in-runs, in standard
        deviations, without run effects, in a random order and blurred; None below 8 patients.
      scheme: how coins were tossed.
      coins: independent fair ones; 0 where there are none.
      runs, patients, tiles, held_back, synthetic: counts; synthetic tiles are a run's.
      group_unit, encoder, policy, seed: as `AuditReport`.
    """

    verdict: Verdict
    warnings: tuple[str, ...]
    results: tuple[AuditResult, ...]
    planted: tuple[PlantedPoint, ...]
    mdl80: Mapping[str, float | None]
    lines: tuple[tuple[float, float], ...] | None
    scheme: Scheme
    coins: int
    runs: int
    patients: int
    tiles: int
    held_back: int
    synthetic: int
    group_unit: str
    encoder: str
    policy: PolicyDict
    seed: int

    def to_dict(self) -> RecipeAuditDict:
        """Plain JSON-able data, keys as the attributes."""
        return cast(RecipeAuditDict, asdict(self))


def recipe_levels(
    arms: Sequence[str], significance: float, attacks: Sequence[str] = RECIPE_ATTACKS
) -> dict[str, float]:
    """Level of each test of the family at Holm's first step."""
    return levels(_weights(arms, attacks), significance)


def _weights(arms: Sequence[str], attacks: Sequence[str]) -> dict[str, float]:
    weights = {
        arm_name(arm, attack): _WEIGHTS.get(attack, _OTHER_WEIGHT)
        for arm in arms
        for attack in attacks
    }
    return weights | {STANDING_OUT: _OTHER_WEIGHT}


def judge_recipe(data: RecipeData, *, policy: Policy | None = None, seed: int = 0) -> RecipeReport:
    """Judge the runs of one recipe.

    Args:
      data: coins, embeddings and patients.
      policy: significance, excess to exclude and harms that gate; the default policy when None.
      seed: of re-tossed coins and every other draw.

    Raises:
      AuditInputError: attacks that cannot be run on so few tiles.

    Source: docs/methods.md#repeated-training.
    """
    policy = policy or Policy()
    tossed, drawn, planted_rng, blur, looks = np.random.default_rng(seed).spawn(5)
    retossed = Retossed.of(data.coins, tossed)
    arms = arms_of(data, retossed)
    weights = _weights(list(arms), data.attacks)
    level = levels(weights, policy.significance)
    scores = {attack: data.scores(attack, drawn) for attack in data.attacks}
    primary = scores[PRIMARY_ATTACK]
    tested = [
        attack_test(arm, attack, scores[attack][name], data.group_unit)
        for name, arm in arms.items()
        for attack in data.attacks
    ]
    tested.append(single_patients(data, arms[PATIENT], primary[PATIENT], level=level[STANDING_OUT]))
    tests = adjusted(tested, weights, policy.significance, exact=retossed.exact)
    described = [
        *(retossed_control(test) for test in tests if test.name in arms),
        *other_looks(data, arms[PATIENT]),
        *epsilon_bounds(data, arms[PATIENT], primary[PATIENT]),
        *(recipe_quality(data, *data.quality, looks) if data.quality else []),
    ]
    planted = planted_power(data, retossed, level, planted_rng)
    harms = tuple(
        recipe_verdict(
            RecipeCase(
                harm=harm,
                results=[one for one in tests if one.harm is harm],
                policy=policy,
                levels=level,
            )
        )
        for harm in (Harm.TILE_MEMBERSHIP, Harm.PATIENT_MEMBERSHIP)
    )
    return RecipeReport(
        verdict=_overall(harms, policy, data, tuple(weights)),
        warnings=_warnings(data),
        results=(*tests, *described),
        planted=planted,
        mdl80=smallest_found(planted),
        lines=_lines(arms[PATIENT], primary[PATIENT], blur),
        scheme=data.coins.design.scheme,
        coins=data.coins.design.coins,
        runs=data.coins.design.runs,
        patients=data.coins.design.patients,
        tiles=len(data.patients),
        held_back=int(data.held_back.sum()),
        synthetic=len(data.look.synthetic[0]),
        group_unit=data.group_unit,
        encoder=data.encoder,
        policy=policy.to_dict(),
        seed=seed,
    )


def _lines(
    arm: Arm, scores: Floats, rng: np.random.Generator
) -> tuple[tuple[float, float], ...] | None:
    """Out- and in-mean of every patient, blurred and in an order that nobody can draw again.

    The seed of the report is public: what is drawn also depends on the scores, which are not.
    """
    residuals, included = centred(scores, arm.strata), arm.included
    both = included.any(axis=0) & ~included.all(axis=0)
    if both.sum() < FEWEST_DRAWN:
        return None
    secret = sha256(residuals.tobytes()).digest()
    rng = np.random.default_rng([int(rng.integers(2**32)), *secret])
    spread = float(residuals.std()) or 1.0
    pairs = np.array(
        [
            (own[~inside].mean() / spread, own[inside].mean() / spread)
            for own, inside in zip(residuals.T[both], included.T[both], strict=True)
        ]
    )
    pairs = rng.permutation(pairs + _JITTER * rng.standard_normal(pairs.shape))
    return tuple((round(float(out), 2), round(float(into), 2)) for out, into in pairs)


def _warnings(data: RecipeData) -> tuple[str, ...]:
    design, found = data.coins.design, list[str]()
    if TILE not in data.arms:
        found.append(
            "Too few tiles were held back from every run: tile membership is not measured."
        )
    if not data.held_back.any():
        found.append(
            "No tile was held back: patients are told by the very tiles that were trained on."
        )
    for arm, chosen in data.arms.items():
        if not chosen.all():
            found.append(
                f"{int((~chosen).sum())} of {len(chosen)} {data.group_unit.replace('_', ' ')}s "
                f"have too few tiles for {arm.replace('_', ' ')} and are left out of it."
            )
    if design.restricting:
        found.append(
            "Coins were tossed again where a run had no tiles of some class "
            f"({design.acceptance:.0%} of {design.scheme} tosses are taken): who has tiles of rare "
            "classes is not free to be in or out."
        )
    if not design.coins:
        found.append("Balanced runs toss no independent coins: there are no epsilon bounds.")
    elif design.accepted < 1e-4:
        found.append(
            "Coins were restricted so much that no epsilon can be bounded: join or leave out rare "
            "classes."
        )
    return tuple(found)


def _overall(
    harms: tuple[HarmVerdict, ...], policy: Policy, data: RecipeData, names: tuple[str, ...]
) -> Verdict:
    deciding = [verdict for verdict in harms if verdict.gates] or list(harms)
    worst = next(
        outcome
        for outcome in (Outcome.LEAK, Outcome.INCONCLUSIVE, Outcome.NO_LEAK_FOUND)
        if outcome in [verdict.outcome for verdict in deciding]
    )
    which = ", ".join(one.harm.value for one in deciding if one.outcome is worst)
    design = data.coins.design
    tried = (
        f"the recipe was tried {design.runs} times on random parts of {design.patients} "
        f"{data.group_unit.replace('_', ' ')}s"
    )
    said = {
        Outcome.LEAK: f"LEAK: {which}; {tried}.",
        Outcome.INCONCLUSIVE: f"INCONCLUSIVE: {which} could not be settled; {tried}.",
        Outcome.NO_LEAK_FOUND: (
            f"NO LEAK FOUND (membership AUROC excess > {policy.membership_excess:g} excluded; "
            f"{tried}; copying was not asked)."
        ),
    }
    return Verdict(
        outcome=worst,
        sentence=said[worst],
        harms=harms,
        significance=policy.significance,
        family=names,
    )

"""What an audit says: estimates, test results, verdicts, and the report that holds them.

Conventions: a number never travels alone (`Estimate`); fractions, never percentages; everything
here is plain data that turns into JSON without NaN.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from html import escape
from typing import Any, cast

from audits.sections import AuditDict, PolicyDict, RoleCounts


class Outcome(StrEnum):
    """A verdict, for one harm or for the release as a whole."""

    LEAK = "LEAK"
    NO_LEAK_FOUND = "NO LEAK FOUND"
    INCONCLUSIVE = "INCONCLUSIVE"

    @property
    def exit_code(self) -> int:
        """0 no leak found, 1 leak, 4 inconclusive."""
        return {Outcome.NO_LEAK_FOUND: 0, Outcome.LEAK: 1, Outcome.INCONCLUSIVE: 4}[self]


class Harm(StrEnum):
    """What a leak would do to a patient."""

    COPYING = "copying"
    TILE_MEMBERSHIP = "tile membership"
    PATIENT_MEMBERSHIP = "patient membership"


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """A value with its uncertainty and what it was counted over.

    Attributes:
      value: the point estimate.
      low, high: confidence limits; None only where no interval exists, and then `unit` says why.
      confidence: level of the interval, .95 unless said otherwise.
      n: how many units it rests on.
      unit: what was counted: "tile", "patient", "slide", "draw", ...
    """

    value: float
    low: float | None
    high: float | None
    confidence: float = 0.95
    n: int
    unit: str


@dataclass(frozen=True, kw_only=True)
class AuditResult:
    """One statistic, and its test when it has one.

    Attributes:
      name: registered name; it fixes every parameter of the test.
      harm: the harm it speaks of, or None for context such as fidelity and controls.
      statistic: what was measured.
      p_value: one-sided p, before adjustment; None for a description.
      p_adjusted: after Holm over the pre-registered family; None when outside the family.
      rejected: whether the adjusted p is at most the significance; for canaries, whether their p
        is; for a proof, whether there is one; None for all else.
      details: parameters and counts behind the number, JSON-able.
      note: one sentence for the reader, when the number could mislead.
    """

    name: str
    harm: Harm | None
    statistic: Estimate
    p_value: float | None = None
    p_adjusted: float | None = None
    rejected: bool | None = None
    details: Mapping[str, Any] = field(default_factory=dict)
    note: str = ""


@dataclass(frozen=True, kw_only=True)
class PowerPoint:
    """Share of planted data sets in which the copy tests, as registered, cried LEAK.

    Attributes:
      kind: kind of planted copy: "exact", "symmetry", "odd_rotation", "stain", ...
      fraction: share of synthetic tiles that were replaced by copies.
      copies: the same as a count.
      power: Estimate over draws.
    """

    kind: str
    fraction: float
    copies: int
    power: Estimate


@dataclass(frozen=True, kw_only=True)
class HarmVerdict:
    """The verdict on one harm.

    Attributes:
      harm: which.
      outcome: LEAK, NO LEAK FOUND or INCONCLUSIVE.
      reason: one sentence: which test rejected, or what bound was reached, or what was missing.
      remedy: what would settle it; empty unless INCONCLUSIVE.
      gates: whether this harm decides the overall verdict: the policy names it, or a copy is
        proven.
    """

    harm: Harm
    outcome: Outcome
    reason: str
    remedy: str = ""
    gates: bool = True


@dataclass(frozen=True, kw_only=True, repr=False)
class Verdict:
    """The overall verdict: the worst of the harms that decide.

    Attributes:
      outcome: overall.
      sentence: the one line to sign: what was found, the bound and the kinds of copies it covers
        when nothing was, and what the policy did not ask.
      harms: one verdict per harm.
      significance: family-wise error rate of the registered family.
      family: names of the tests in it, declared before the data were seen.
    """

    outcome: Outcome
    sentence: str
    harms: tuple[HarmVerdict, ...]
    significance: float
    family: tuple[str, ...]

    def __repr__(self) -> str:
        return f"Verdict({self.sentence})"

    def _repr_html_(self) -> str:
        rows = "".join(
            f"<tr><td>{escape(one.harm.value)}</td><td>{escape(one.outcome.value)}</td>"
            f"<td>{escape(one.reason)}</td></tr>"
            for one in self.harms
        )
        return f"<div><strong>{escape(self.sentence)}</strong><table>{rows}</table></div>"


@dataclass(frozen=True, kw_only=True)
class AuditReport:
    """Everything one audit found; aggregates only, nothing about a single real tile.

    Attributes:
      verdict: first thing to read.
      warnings: what limits it; second thing to read.
      results: every statistic: proofs, tests of the family, controls, then context.
      power: the power curve of the copy tests, all kinds and fractions.
      mdl80: for each kind of planted copy, the smallest share of copies found with power .8 (None:
        none of the shares tried).
      counts: tiles and patients of each role.
      group_unit: what "patient" really is in these data: "patient", "slide", "source_image" or
        "tile".
      encoder: name of the embedding.
      policy: the policy in force.
      seed: of every random draw; None when the caller passed a generator.
    """

    verdict: Verdict
    warnings: tuple[str, ...]
    results: tuple[AuditResult, ...]
    power: tuple[PowerPoint, ...]
    mdl80: Mapping[str, float | None]
    counts: Mapping[str, RoleCounts]
    group_unit: str
    encoder: str
    policy: PolicyDict
    seed: int | None

    def to_dict(self) -> AuditDict:
        """Plain JSON-able data, keys as the attributes."""
        return cast(AuditDict, asdict(self))

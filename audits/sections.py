"""The section of an audit in a report, key by key: what `AuditReport.to_dict` gives.

Keys are the attributes of the classes in `results` and `policy`, which say what they mean. Lists
may be tuples: what counts is the JSON they become.
"""

from collections.abc import Mapping, Sequence
from typing import Literal, NotRequired, TypedDict

OutcomeName = Literal["LEAK", "NO LEAK FOUND", "INCONCLUSIVE"]
MembershipBy = Literal["release", "recipe", "both"]
HarmName = Literal["copying", "tile membership", "patient membership"]

FEWEST_CANARIES = 8
"""Fewest canaries: with fewer, fair coins leave a side all but empty too often."""

FEWEST_A_SIDE = 2
"""Fewest canaries in training, and fewest kept out; other tosses are tossed again."""

Figure = float | bool | None
Detail = Figure | str | Sequence[Mapping[str, Figure]]
"""A parameter or count behind a number; lists hold rows of named numbers."""


class EstimateDict(TypedDict):
    """Of `results.Estimate`."""

    value: float
    low: float | None
    high: float | None
    confidence: float
    n: int
    unit: str


class ResultDict(TypedDict):
    """Of `results.AuditResult`."""

    name: str
    harm: HarmName | None
    statistic: EstimateDict
    p_value: float | None
    p_adjusted: float | None
    rejected: bool | None
    details: Mapping[str, Detail]
    note: str


class PowerDict(TypedDict):
    """Of `results.PowerPoint`."""

    kind: str
    fraction: float
    copies: int
    power: EstimateDict


class HarmDict(TypedDict):
    """Of `results.HarmVerdict`."""

    harm: HarmName
    outcome: OutcomeName
    reason: str
    remedy: str
    gates: bool


class VerdictDict(TypedDict):
    """Of `results.Verdict`."""

    outcome: OutcomeName
    sentence: str
    harms: Sequence[HarmDict]
    significance: float
    family: Sequence[str]


class RoleCounts(TypedDict):
    """How many there are of a role; nobody is a patient of synthetic tiles."""

    tiles: int
    patients: int


class PolicyDict(TypedDict):
    """Of `policy.Policy`."""

    significance: float
    gates: Sequence[HarmName]
    copying_mdl80: float
    copying_kinds: Sequence[str]
    membership_excess: float
    attacks: Sequence[str]
    fractions: Sequence[float]
    membership: NotRequired[MembershipBy]


class AuditDict(TypedDict):
    """Of `results.AuditReport`."""

    verdict: VerdictDict
    warnings: Sequence[str]
    results: Sequence[ResultDict]
    power: Sequence[PowerDict]
    mdl80: Mapping[str, float | None]
    counts: Mapping[str, RoleCounts]
    group_unit: str
    encoder: str
    policy: PolicyDict
    seed: int | None

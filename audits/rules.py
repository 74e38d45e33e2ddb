"""Ordered rules: the first whose condition holds gives the verdict on a harm.

A rule is one row of a table: its name, when it holds, what it decides, and the sentences it says.
The tables stand in `copying_rules` and `membership_rules`; `as_markdown` prints them for the docs.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

from audits.policy import Policy
from audits.results import Harm, HarmVerdict, Outcome


class Case(Protocol):
    """What a table judges.

    Attributes:
      harm: that is judged.
      policy: in force.
    """

    @property
    def harm(self) -> Harm: ...

    @property
    def policy(self) -> Policy: ...


Judged = TypeVar("Judged", bound=Case)


def _nothing(case: object) -> str:
    return ""


@dataclass(frozen=True, kw_only=True)
class Rule(Generic[Judged]):
    """One row.

    Attributes:
      name: two or three words.
      when: the condition, for readers.
      holds: the condition.
      outcome: what it decides.
      reason: the sentence of the verdict.
      remedy: what would settle it; empty unless INCONCLUSIVE.
      decides: whether it decides the overall verdict whatever the policy asks about.
    """

    name: str
    when: str
    holds: Callable[[Judged], bool]
    outcome: Outcome
    reason: Callable[[Judged], str]
    remedy: Callable[[Judged], str] = _nothing
    decides: bool = False


def first_that_holds(rules: Sequence[Rule[Judged]], case: Judged) -> Rule[Judged]:
    """The rule that judges a case; the last rule of a table holds always."""
    return next(rule for rule in rules if rule.holds(case))


def verdict_by(rules: Sequence[Rule[Judged]], case: Judged) -> HarmVerdict:
    """The verdict of a table on a case."""
    rule = first_that_holds(rules, case)
    return HarmVerdict(
        harm=case.harm,
        outcome=rule.outcome,
        reason=rule.reason(case),
        remedy=rule.remedy(case),
        gates=rule.decides or case.harm in case.policy.gates,
    )


def as_markdown(rules: Sequence[Rule[Judged]]) -> str:
    """The table as Markdown, in the order in which rules are tried."""
    rows = [f"| {n} | {rule.name} | {rule.when} | {rule.outcome} |" for n, rule in _numbered(rules)]
    return "\n".join(["| # | rule | when | verdict |", "|---|---|---|---|", *rows])


def _numbered(rules: Sequence[Rule[Judged]]) -> list[tuple[int, Rule[Judged]]]:
    return list(enumerate(rules, start=1))

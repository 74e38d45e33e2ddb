"""From test results to a verdict for each harm; `sentence.py` puts them together.

A harm that no test rejects passes only when the audit could have seen a leak as small as the policy
demands; otherwise it is INCONCLUSIVE, and the verdict says what would settle it. The rules stand in
two tables, `copying_rules` and `membership_rules`, tried from the top.

Source: docs/methods.md#verdict.
"""

from audits.copying_rules import COPYING_RULES, CopyingCase
from audits.membership_rules import MEMBERSHIP_RULES, MembershipCase
from audits.results import HarmVerdict
from audits.rules import verdict_by


def copying_verdict(case: CopyingCase) -> HarmVerdict:
    """The verdict on copying; a proof decides even where the policy does not gate on copying."""
    return verdict_by(COPYING_RULES, case)


def membership_verdict(case: MembershipCase) -> HarmVerdict:
    """The verdict on one arm of membership, over all attacks that gate."""
    return verdict_by(MEMBERSHIP_RULES, case)

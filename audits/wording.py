"""Turns of phrase that several sentences of a verdict share."""

from audits.results import AuditResult

SPLIT_AGAIN = "Split patients of one source at random into train and holdout; train again."
SAME_WAY = (
    "Give train, holdout and synthetic tiles that were cut, scaled and stored in the same way."
)
LESS_LEARNT = "Train for less long, or on more patients, and audit again."
NAME_PATIENTS = "Say which tiles are of one patient."


def inside(sentence: str) -> str:
    """A sentence as the end of another."""
    return f"{sentence[0].lower()}{sentence[1:]}"


def interval(result: AuditResult) -> str:
    """A statistic with its interval."""
    e = result.statistic
    low, high = e.low if e.low is not None else e.value, e.high if e.high is not None else e.value
    return f"{e.value:.3g} [{low:.3g}, {high:.3g}]"

"""Counts of real tiles and patients that a shared page may give.

A count of 1 to 4 can point at somebody. Nor may the total of a column betray it: where one cell
alone is withheld, the next smallest goes with it. Sizes of whole roles are given as they are.

Source: Hundepool et al. 2012, "Statistical Disclosure Control" (minimum frequency and secondary
suppression).
"""

from collections.abc import Mapping

SMALLEST = 5
"""Smallest count of tiles or patients in a class that is given as it is."""


def betrays(count: int) -> bool:
    """Whether a count is so small that it could point at somebody."""
    return 0 < count < SMALLEST


def coarse(count: int) -> str:
    """A count as text, or "<5"."""
    return f"<{SMALLEST}" if betrays(count) else f"{count:,}"


def withheld(counts: Mapping[str, int]) -> dict[str, int | None]:
    """Counts by class whose sum is known elsewhere; None for those that are not to be given.

    Args:
      counts: by class.
    """
    hidden = {label for label, count in counts.items() if betrays(count)}
    left = [label for label, count in counts.items() if count and label not in hidden]
    if len(hidden) == 1 and left:
        hidden.add(min(left, key=lambda label: (counts[label], label)))
    return {label: None if label in hidden else count for label, count in counts.items()}

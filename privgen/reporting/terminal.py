"""The few lines a person at the terminal should read before opening the report."""

from collections.abc import Mapping
from typing import Any

from privgen import console
from privgen.reporting import words


def print_summary(audit: Mapping[str, Any]) -> None:
    """Show an audit: harms, registered tests, planted copies, warnings, and the verdict last.

    Args:
      audit: `AuditReport.to_dict()`.
    """
    verdict = audit["verdict"]
    console.table(
        "Harms",
        ["harm", "verdict", "why"],
        [[v["harm"], v["outcome"], v["reason"]] for v in verdict["harms"]],
    )
    console.table(
        f"Registered tests (Holm over {len(verdict['family'])})",
        ["test", "estimate (95 % interval)", "n", "p", "adjusted p"],
        [
            [
                result["name"],
                words.interval(result["statistic"]),
                words.counted(result["statistic"], audit["group_unit"]),
                words.p_value(result["p_value"]),
                words.p_value(result["p_adjusted"]),
            ]
            for result in audit["results"]
            if result["name"] in verdict["family"]
        ],
    )
    found = ", ".join(
        f"{kind} {'not seen' if share is None else words.number(share)}"
        for kind, share in audit["mdl80"].items()
    )
    console.note(f"smallest share of planted copies found with power .8: {found}")
    for warning in audit["warnings"]:
        console.warn(warning)
    for harm in verdict["harms"]:
        if harm["remedy"]:
            console.note(f"to settle {harm['harm']}: {harm['remedy']}")
    console.note(verdict["sentence"])


def print_bench(content: Mapping[str, Any]) -> None:
    """Show balanced accuracy of every arm, and its difference from real tiles alone.

    Args:
      content: `BenchReport.to_dict()`.
    """
    console.table(
        "augment-bench: balanced accuracy on test patients",
        ["family", "arm", "balanced accuracy (95 % interval)"],
        [
            [row["family"], row["arm"], words.interval(row["metrics"]["balanced_accuracy"])]
            for row in content["rows"]
        ],
    )
    console.table(
        "Difference from real tiles alone",
        ["family", "arm", "difference (95 % interval)", "adjusted p", ""],
        [
            [
                difference["family"],
                difference["arm"],
                words.interval(difference["estimate"]),
                words.p_value(difference["p_holm"]),
                difference["verdict"],
            ]
            for difference in content["differences"]
        ],
    )
    for warning in content["warnings"]:
        console.warn(warning)

"""What results show of themselves in a notebook: small tables as HTML, figures, data frames.

Names come from files, so every text is escaped. pandas is optional and loaded when it is asked for.
"""

from collections.abc import Mapping, Sequence
from html import escape
from typing import TYPE_CHECKING, Any

from matplotlib.figure import Figure

from audits.kinds import kind_name
from audits.results import AuditReport, AuditResult, Estimate
from privgen.errors import InputError
from privgen.reporting import svg, words

if TYPE_CHECKING:
    import pandas as pd

_WIDTH = 8.4
_NEEDED = 0.8


def table_html(title: str, rows: Mapping[str, object]) -> str:
    """A title and a table of two columns."""
    cells = "".join(
        f"<tr><th style='text-align:left'>{escape(str(name))}</th>"
        f"<td style='text-align:left'>{escape(str(value))}</td></tr>"
        for name, value in rows.items()
    )
    return f"<div><strong>{escape(title)}</strong><table>{cells}</table></div>"


def frame(rows: Sequence[Mapping[str, object]]) -> "pd.DataFrame":
    """Rows as a data frame.

    Raises:
      InputError: pandas is not installed.
    """
    try:
        import pandas as pd
    except ImportError as error:
        raise InputError(
            "tables as data frames need pandas, which is not installed: pip install "
            "'privgen[pandas]'."
        ) from error
    return pd.DataFrame(rows)


def results_frame(report: AuditReport) -> "pd.DataFrame":
    """Every statistic of an audit, one per row."""
    return frame([_result_row(result) for result in report.results])


def power_frame(report: AuditReport) -> "pd.DataFrame":
    """The power curve: a row for each kind of copy and share."""
    return frame(
        [
            {
                "kind": point.kind,
                "fraction": point.fraction,
                "copies": point.copies,
                **_estimate(point.power, "power"),
            }
            for point in report.power
        ]
    )


def _result_row(result: AuditResult) -> dict[str, object]:
    return {
        "name": result.name,
        "harm": None if result.harm is None else result.harm.value,
        **_estimate(result.statistic, "value"),
        "p_value": result.p_value,
        "p_adjusted": result.p_adjusted,
        "rejected": result.rejected,
        "note": result.note,
    }


def _estimate(estimate: Estimate, name: str) -> dict[str, object]:
    return {
        name: estimate.value,
        "low": estimate.low,
        "high": estimate.high,
        "n": estimate.n,
        "unit": estimate.unit,
    }


def plot_power(report: AuditReport) -> Figure:
    """Power against the share of copies, a line for each kind that the policy asks about."""
    asked = set(report.policy["copying_kinds"])
    with svg.style():
        figure, axes = _figure()
        for kind in dict.fromkeys(point.kind for point in report.power):
            points = [point for point in report.power if point.kind == kind]
            axes.plot(
                [point.fraction for point in points],
                [point.power.value for point in points],
                marker="o" if kind in asked else "",
                linewidth=1.8 if kind in asked else 0.8,
                color=None if kind in asked else svg.SOFT,
                label=kind_name(kind) if kind in asked else "_",
            )
        axes.axhline(_NEEDED, color=svg.INK, linewidth=0.9, linestyle=(0, (3, 3)))
        axes.set_xscale("log")
        axes.set_xlabel("share of synthetic tiles that are copies, log scale")
        axes.set_ylabel("power: share of draws that were found")
        axes.set_ylim(-0.02, 1.02)
        axes.legend(frameon=False)
    return figure


def plot_membership(report: AuditReport) -> Figure:
    """AUROC of every membership attack with its interval; .5 is guessing."""
    arms = [
        result
        for result in report.results
        if result.name.partition("/")[0] in ("tile_membership", "patient_membership")
    ]
    with svg.style():
        figure, axes = _figure(height=1.3 + 0.4 * len(arms))
        axes.set_ylim(-0.6, len(arms) - 0.4)
        for place, result in enumerate(reversed(arms)):
            e = result.statistic
            if e.low is not None and e.high is not None:
                axes.plot([e.low, e.high], [place, place], color=svg.INK, linewidth=1.4)
            axes.plot([e.value], [place], marker="s", color=svg.INK)
        axes.axvline(0.5, color=svg.SOFT, linewidth=1.0, linestyle=(0, (3, 3)))
        axes.set_yticks(range(len(arms)), [words.spoken(r.name) for r in reversed(arms)])
        axes.set_xlim(0, 1)
        axes.set_xlabel("AUROC, 95 % interval over patients; .5 is guessing")
    return figure


def _figure(height: float = 4.4) -> tuple[Figure, Any]:
    figure = Figure(figsize=(_WIDTH, height), layout="constrained")
    axes = figure.subplots()
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(color=svg.GRID, linewidth=0.6)
    axes.set_axisbelow(True)
    return figure, axes

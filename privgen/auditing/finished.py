"""A finished audit: its verdict, its report, and the files it becomes."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypeVar

from matplotlib.figure import Figure

import audits
from privgen import console
from privgen.errors import ConfigError
from privgen.reporting import notebook, suspects
from privgen.reporting.sections import ReportDict
from privgen.reporting.writing import write_report

if TYPE_CHECKING:
    import pandas as pd

Choice = TypeVar("Choice")


@dataclass(frozen=True, kw_only=True, repr=False)
class Audit:
    """One finished audit.

    Attributes:
      report: what `audits` found.
      document: the whole of report.json; aggregates only.
      suspects: the private page of single tiles, HTML, where it was asked for. It shows patients'
        tissue: only `write` should put it anywhere.
    """

    report: audits.AuditReport
    document: ReportDict
    suspects: str | None = field(default=None, repr=False)

    @property
    def verdict(self) -> audits.Verdict:
        return self.report.verdict

    def __repr__(self) -> str:
        return f"Audit({self.verdict.sentence})"

    def _repr_html_(self) -> str:
        harms = {
            verdict.harm.value: f"{verdict.outcome.value}: {verdict.reason}"
            for verdict in self.verdict.harms
        }
        return notebook.table_html(self.verdict.sentence, harms)

    def to_pandas(self, what: Literal["results", "power"] = "results") -> "pd.DataFrame":
        """Every statistic, or the power curve, as a data frame.

        Raises:
          ConfigError: there is no such table.
          InputError: pandas is not installed.
        """
        tables = {"results": notebook.results_frame, "power": notebook.power_frame}
        return _chosen(tables, what)(self.report)

    def plot(self, what: Literal["power", "membership"] = "power") -> Figure:
        """The power curve, or every membership attack, as a matplotlib figure.

        Raises:
          ConfigError: there is no such figure.
        """
        figures = {"power": notebook.plot_power, "membership": notebook.plot_membership}
        return _chosen(figures, what)(self.report)

    def write(self, folder: Path | str) -> None:
        """Write report.json and report.html into `folder`, which must exist; suspects beside them.

        The page of suspects is readable for its owner alone (mode 0600), where the file system
        keeps modes at all.
        """
        write_report(self.document, Path(folder), suspects_page=self.suspects)
        page = Path(folder) / suspects.NAME
        if self.suspects is not None and page.stat().st_mode & 0o077:
            console.warn(f"this file system keeps no modes: others may read {page}.")


def _chosen(known: Mapping[str, Choice], what: str) -> Choice:
    if what not in known:
        raise ConfigError(f"`what` must be one of {', '.join(known)}: got {what!r}.")
    return known[what]

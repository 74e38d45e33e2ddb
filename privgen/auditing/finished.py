"""A finished audit: its verdict, its report, and the files it becomes."""

from dataclasses import dataclass, field
from pathlib import Path

import audits
from privgen import console
from privgen.reporting import suspects
from privgen.reporting.sections import ReportDict
from privgen.reporting.writing import write_report


@dataclass(frozen=True, kw_only=True)
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

    def write(self, folder: Path | str) -> None:
        """Write report.json and report.html into `folder`, which must exist; suspects beside them.

        The page of suspects is readable for its owner alone (mode 0600), where the file system
        keeps modes at all.
        """
        write_report(self.document, Path(folder), suspects_page=self.suspects)
        page = Path(folder) / suspects.NAME
        if self.suspects is not None and page.stat().st_mode & 0o077:
            console.warn(f"this file system keeps no modes: others may read {page}.")

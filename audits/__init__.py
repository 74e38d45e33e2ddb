"""Arrays in, verdict out: does a synthetic set of histology tiles leak the patients behind it?

Needs numpy, scipy, scikit-learn and faiss, and nothing else. `audit` runs the pre-registered
battery; every test can be called alone from its own module.
"""

from audits.attacks import OutsideScores
from audits.battery import audit
from audits.errors import AuditInputError
from audits.inputs import Aligned, Alignment, AuditData, Planted, Tiles
from audits.policy import Policy
from audits.results import (
    AuditReport,
    AuditResult,
    Estimate,
    Harm,
    HarmVerdict,
    Outcome,
    PowerPoint,
    Verdict,
)

__all__ = [
    "Aligned",
    "Alignment",
    "AuditData",
    "AuditInputError",
    "AuditReport",
    "AuditResult",
    "Estimate",
    "Harm",
    "HarmVerdict",
    "Outcome",
    "OutsideScores",
    "Planted",
    "Policy",
    "PowerPoint",
    "Tiles",
    "Verdict",
    "audit",
]

"""Arrays in, verdict out: does a synthetic set of histology tiles leak the patients behind it?

Needs numpy, scipy, scikit-learn and faiss, and nothing else. `audit` runs the pre-registered
battery; every test can be called alone from its own module. Names are loaded when they are first
used.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from audits.attacks import OutsideScores
    from audits.battery import audit
    from audits.canary_results import CanaryScores
    from audits.errors import AuditInputError, PrivgenError
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

_HOMES = {
    "Aligned": "audits.inputs",
    "Alignment": "audits.inputs",
    "AuditData": "audits.inputs",
    "CanaryScores": "audits.canary_results",
    "AuditInputError": "audits.errors",
    "AuditReport": "audits.results",
    "AuditResult": "audits.results",
    "Estimate": "audits.results",
    "Harm": "audits.results",
    "HarmVerdict": "audits.results",
    "Outcome": "audits.results",
    "OutsideScores": "audits.attacks",
    "Planted": "audits.inputs",
    "Policy": "audits.policy",
    "PowerPoint": "audits.results",
    "PrivgenError": "audits.errors",
    "Tiles": "audits.inputs",
    "Verdict": "audits.results",
    "audit": "audits.battery",
}

__all__ = [
    "Aligned",
    "Alignment",
    "AuditData",
    "AuditInputError",
    "AuditReport",
    "AuditResult",
    "CanaryScores",
    "Estimate",
    "Harm",
    "HarmVerdict",
    "Outcome",
    "OutsideScores",
    "Planted",
    "Policy",
    "PowerPoint",
    "PrivgenError",
    "Tiles",
    "Verdict",
    "audit",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'audits' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})

"""What the data steward decides before the audit: which harms gate, how small a leak must show."""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, cast, get_args

from audits.errors import AuditInputError
from audits.results import Harm
from audits.sections import MembershipBy, PolicyDict

ATTACKS = (
    "full_black_box",
    "density_ratio",
    "calibrated",
    "monte_carlo",
    "partial_black_box",
    "white_box",
    "discriminator",
    "shadow",
)
"""Registered membership attacks (docs/methods.md#membership-attacks)."""

_WITHOUT_A_SAY = ("calibrated", "monte_carlo", "discriminator")
GATING_ATTACKS = tuple(name for name in ATTACKS if name not in _WITHOUT_A_SAY)
"""Attacks that gate by default. The first two left out look at what `full_black_box` and
`density_ratio` see; a discriminator is never released: its score is an insider's worst case."""

FRACTIONS = (0.001, 0.002, 0.003, 0.005, 0.01, 0.02, 0.03, 0.05, 0.1)


@dataclass(frozen=True, kw_only=True)
class Policy:
    """A release policy; docs/methods.md#verdict gives the defaults.

    Attributes:
      significance: family-wise error rate of the registered tests.
      gates: harms that decide the overall verdict. A proven copy decides whatever stands here.
      copying_mdl80: largest MDL80 with which "no leak found" may be said of copying.
      copying_kinds: kinds of copies that must be visible at that share.
      membership_excess: largest upper 95 % bound of AUROC - .5 with which "no leak found" may be
        said of membership.
      attacks: membership attacks that enter the family, as far as the data allow them; the others
        are reported without a say.
      fractions: shares of planted copies on the power curve.
      membership: which audit decides membership: that of the release, that of its recipe
        (repeated training), or both: either may find a leak, and either may pass.
    """

    significance: float = 0.05
    gates: tuple[Harm, ...] = (Harm.COPYING, Harm.TILE_MEMBERSHIP, Harm.PATIENT_MEMBERSHIP)
    copying_mdl80: float = 0.01
    copying_kinds: tuple[str, ...] = ("exact", "symmetry", "odd_rotation", "stain")
    membership_excess: float = 0.1
    attacks: tuple[str, ...] = GATING_ATTACKS
    fractions: tuple[float, ...] = FRACTIONS
    membership: MembershipBy = "both"

    def __post_init__(self) -> None:
        for name in ("significance", "copying_mdl80", "membership_excess"):
            value = getattr(self, name)
            if not (isinstance(value, float) and math.isfinite(value) and 0 < value < 1):
                raise AuditInputError(f"policy {name} must be a number in (0, 1): got {value!r}.")
        if not self.gates:
            raise AuditInputError("policy gates must name at least one harm: got none.")
        if not all(isinstance(harm, Harm) for harm in self.gates):
            raise AuditInputError(f"policy gates must be harms: got {self.gates!r}.")
        if not self.copying_kinds or not all(isinstance(kind, str) for kind in self.copying_kinds):
            raise AuditInputError(
                f"policy copying_kinds must name at least one kind: got {self.copying_kinds!r}."
            )
        unknown = [name for name in self.attacks if name not in ATTACKS]
        if not self.attacks or unknown:
            raise AuditInputError(
                f"policy attacks must be some of {', '.join(ATTACKS)}: got "
                f"{', '.join(map(repr, unknown)) or 'none'}."
            )
        if not self.fractions or not all(
            isinstance(share, int | float) and 0 < share <= 1 for share in self.fractions
        ):
            raise AuditInputError(f"policy fractions must lie in (0, 1]: got {self.fractions!r}.")
        if self.membership not in get_args(MembershipBy):
            raise AuditInputError(
                f"policy membership must be one of {', '.join(get_args(MembershipBy))}: got "
                f"{self.membership!r}."
            )

    @classmethod
    def from_mapping(cls, values: Mapping[str, object]) -> "Policy":
        """A policy from parsed TOML or JSON.

        Raises:
          AuditInputError: an unknown key, or a value of the wrong kind.
        """
        known = [field.name for field in fields(cls)]
        for key in values:
            if key not in known:
                raise AuditInputError(f"unknown policy key {key!r}: known are {', '.join(known)}.")
        ready: dict[str, Any] = dict(values)
        for key in {"gates", "copying_kinds", "attacks", "fractions"} & set(ready):
            if not isinstance(ready[key], list | tuple):
                raise AuditInputError(f"policy {key} must be a list: got {ready[key]!r}.")
            ready[key] = tuple(ready[key])
        try:
            if "gates" in ready:
                ready["gates"] = tuple(Harm(name) for name in ready["gates"])
        except ValueError as error:
            raise AuditInputError(f"policy gates: {error}.") from error
        return cls(**ready)

    def to_dict(self) -> PolicyDict:
        """Plain JSON-able data."""
        plain = {
            key: list(value) if isinstance(value, tuple) else value
            for key, value in asdict(self).items()
        }
        return cast(PolicyDict, plain)

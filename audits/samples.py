"""A role's tiles as they enter a comparison, and both distances of two roles as results.

Conventions: features (tiles, features); a block is what an interval leaves out at a time: whole
patients, or tiles where there are none.
Source: docs/methods.md#fidelity.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from audits.frechet import frechet_interval
from audits.inputs import Strings
from audits.results import AuditResult, Estimate

JACKKNIFE_BLOCKS = 10

Interval = tuple[float, float, float]
"""(value, low, high)."""


@dataclass(frozen=True)
class Sample:
    """Tiles of one role that are compared.

    Attributes:
      features: shape (n, d).
      patients: of each tile, shape (n,); None for synthetic tiles.
      blocks: what an interval leaves out, 0..g-1, shape (n,).
    """

    features: NDArray[np.float32]
    patients: Strings | None
    blocks: NDArray[np.intp]

    @classmethod
    def of(
        cls,
        features: NDArray[np.float32],
        patients: Strings | None,
        rng: np.random.Generator,
        *,
        most: int = JACKKNIFE_BLOCKS,
    ) -> "Sample":
        """With at most `most` blocks."""
        return cls(features, patients, patient_blocks(patients, len(features), rng, most=most))

    def owners(self) -> Strings:
        """Patient of each tile, or the tile itself."""
        if self.patients is None:
            return np.arange(len(self.features)).astype(np.str_)
        return self.patients


def patient_blocks(
    patients: Strings | None,
    n: int,
    rng: np.random.Generator,
    *,
    most: int = JACKKNIFE_BLOCKS,
) -> NDArray[np.intp]:
    """At most `most` blocks of about equal size: of whole patients, or of tiles without any.

    Where all tiles but one, or all, are of one patient, blocks of tiles are all there is.
    """
    names, owner, sizes = np.unique(
        np.zeros(n) if patients is None else patients, return_inverse=True, return_counts=True
    )
    if n - sizes.max() < 2:
        return rng.permutation(np.arange(n) % min(most, n))
    block_of = np.empty(len(names), dtype=np.intp)
    load = np.zeros(min(most, len(names)))
    for patient in np.argsort(-sizes, kind="stable"):
        block_of[patient] = load.argmin()
        load[block_of[patient]] += sizes[patient]
    return block_of[owner]


def both_distances(
    first: Sample,
    second: Sample,
    kernel: Interval,
    feature_name: str,
    place: str,
    note: str,
    details: Mapping[str, object],
) -> list[AuditResult]:
    """Frechet and kernel distance of two samples, with what is known of them in the details.

    Args:
      first, second: equally wide.
      kernel: their kernel distance, from a pass over all pairs that may have served other ends.
      feature_name: encoder.
      place: the pair, and the class if any: what follows the slash in the names.
      note: for the reader of either.
      details: beside the sizes.
    """
    x, y = first.features, second.features
    sizes = {"first_tiles": len(x), "second_tiles": len(y), "features": x.shape[1]}
    frechet = frechet_interval(x, y, groups_x=first.blocks, groups_y=second.blocks)
    return [
        described(f"{metric}/{place}", interval, len(x), {**sizes, **details}, note)
        for metric, interval in (
            (frechet_name(feature_name), frechet),
            (f"kid_{feature_name}", kernel),
        )
    ]


def frechet_name(feature_name: str) -> str:
    """`fid` only for the FID Inception network, else `fd_<name>`."""
    return "fid" if feature_name == "inception_fid" else f"fd_{feature_name}"


def described(
    name: str, interval: Interval, n: int, details: Mapping[str, object], note: str
) -> AuditResult:
    """Context: a number with its interval over tiles, no test."""
    value, low, high = interval
    estimate = Estimate(value=value, low=low, high=high, n=n, unit="tile")
    return AuditResult(name=name, harm=None, statistic=estimate, details=dict(details), note=note)

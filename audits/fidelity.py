"""Fidelity: how close the synthetic tiles come to real tissue, as context for the privacy verdict.

Every distance comes as a triple: synthetic-train, synthetic-holdout, and train-holdout as the floor
  that two samples of real
patients show. Synthetic-train alone rewards copying. All three use the same number of tiles on
their first side, because the Frechet distance is biased upward at finite n (two samples of one law,
d = 512, n = 1000: 74, not 0).

Conventions: features are plain encoder outputs (no whitening, no symmetry averaging), float64
  inside; intervals delete one block
of patients at a time (`intervals.jackknife` says why).
Source: METHODS.md 6.
"""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray
from scipy import linalg

from audits.errors import AuditInputError
from audits.inputs import Floats, Strings
from audits.intervals import clustered_mean, jackknife
from audits.results import AuditResult, Estimate

NEIGHBORS = 5
_JACKKNIFE_BLOCKS = 10
_ROWS = 1024
_LARGEST = 1e15
_ROLES = ("train", "holdout", "synthetic")


def _factor(x: Floats) -> tuple[Floats, Floats]:
    """Mean and a factor F with covariance F'F, F having min(n, d) rows."""
    mean = x.mean(axis=0)
    factor = (x - mean) / np.sqrt(len(x) - 1)
    if factor.shape[0] > factor.shape[1]:
        factor = linalg.qr(factor, mode="r")[0][: factor.shape[1]]
    return mean, factor


def frechet_distance(x: NDArray[np.floating], y: NDArray[np.floating]) -> float:
    """Frechet distance of two Gaussians fitted to `x` and `y`.

    `|m1 - m2|^2 + tr(S1 + S2 - 2 (S1 S2)^(1/2))`. With S1 = A'A and S2 = B'B the last trace is the
    nuclear norm of AB', which needs no matrix square root and stays exact when covariances are
    singular.

    Args:
      x: features, shape (n, d), n >= 2.
      y: features, shape (m, d), m >= 2.

    Source: Heusel et al. 2017; METHODS.md 6.
    """
    mean_x, a = _factor(np.asarray(x, dtype=np.float64))
    mean_y, b = _factor(np.asarray(y, dtype=np.float64))
    cross = linalg.svdvals(a @ b.T, check_finite=False).sum()
    spread = (a**2).sum() + (b**2).sum() - 2 * cross
    return float(((mean_x - mean_y) ** 2).sum() + max(spread, 0.0))


def _blocks(patients: Strings | None, n: int, rng: np.random.Generator) -> NDArray[np.intp]:
    """At most ten blocks of about equal size: of whole patients, or of tiles without patients."""
    names, owner, sizes = np.unique(
        np.zeros(n) if patients is None else patients, return_inverse=True, return_counts=True
    )
    if n - sizes.max() < 2:
        return rng.permutation(np.arange(n) % min(_JACKKNIFE_BLOCKS, n))
    block_of = np.empty(len(names), dtype=np.intp)
    load = np.zeros(min(_JACKKNIFE_BLOCKS, len(names)))
    for patient in np.argsort(-sizes, kind="stable"):
        block_of[patient] = load.argmin()
        load[block_of[patient]] += sizes[patient]
    return block_of[owner]


def kernel_distance(
    x: NDArray[np.floating],
    y: NDArray[np.floating],
    *,
    groups_x: NDArray[np.intp],
    groups_y: NDArray[np.intp],
) -> tuple[float, float, float]:
    """KID: unbiased squared maximum mean discrepancy, kernel `(x.y / d + 1)^3`, with its interval.

    The full U-statistic over all pairs, not an average over random subsets. Kernel sums are taken
    once for each pair of blocks, so leaving a block out costs nothing.

    Args:
      x, y: features, shapes (n, d) and (m, d), n, m >= 2.
      groups_x, groups_y: jackknife block of each tile.

    Returns:
      (value, low, high); the value may be negative when the laws are equal.

    Source: Binkowski et al. 2018, arXiv:1801.01401; METHODS.md 6.
    """
    sums_xx, diagonal_x = _kernel_sums(x, x, groups_x, groups_x)
    sums_yy, diagonal_y = _kernel_sums(y, y, groups_y, groups_y)
    sums_xy, _ = _kernel_sums(x, y, groups_x, groups_y)

    def within(sums: Floats, diagonal: Floats, n: int, keep: NDArray[np.bool_]) -> float:
        inner = float(sums[np.ix_(keep, keep)].sum() - diagonal[keep].sum())
        return inner / (n * (n - 1))

    def statistic(keep_x: NDArray[np.bool_], keep_y: NDArray[np.bool_]) -> float:
        blocks_x = np.isin(np.arange(len(sums_xx)), groups_x[keep_x])
        blocks_y = np.isin(np.arange(len(sums_yy)), groups_y[keep_y])
        n, m = int(keep_x.sum()), int(keep_y.sum())
        between = float(sums_xy[np.ix_(blocks_x, blocks_y)].sum()) / (n * m)
        return (
            within(sums_xx, diagonal_x, n, blocks_x)
            + within(sums_yy, diagonal_y, m, blocks_y)
            - 2 * between
        )

    return jackknife(statistic, groups_x, groups_y)


def _kernel_sums(
    x: NDArray[np.floating],
    y: NDArray[np.floating],
    groups_x: NDArray[np.intp],
    groups_y: NDArray[np.intp],
) -> tuple[Floats, Floats]:
    """Kernel summed over each pair of blocks, and k(x_i, y_i) summed over each block of x."""
    sums = np.zeros((int(groups_x.max()) + 1, int(groups_y.max()) + 1))
    member_y = np.eye(sums.shape[1])[groups_y]
    y64 = np.asarray(y, dtype=np.float64)
    for start in range(0, len(x), _ROWS):
        rows = slice(start, start + _ROWS)
        kernel = (np.asarray(x[rows], dtype=np.float64) @ y64.T / x.shape[1] + 1) ** 3
        np.add.at(sums, groups_x[rows], kernel @ member_y)
    diagonal = np.zeros(sums.shape[0])
    if x is y:
        squared = np.einsum("ij,ij->i", y64, y64)
        np.add.at(diagonal, groups_x, (squared / x.shape[1] + 1) ** 3)
    return sums, diagonal


def _distance_rows(x: Floats, y: Floats) -> Floats:
    """Euclidean distances, shape (n, m), from float64 inner products of data centred on y."""
    centre = y.mean(axis=0)
    a, b = x - centre, y - centre
    squared = (a**2).sum(axis=1)[:, None] + (b**2).sum(axis=1) - 2 * a @ b.T
    distances: Floats = np.sqrt(np.maximum(squared, 0.0))
    return distances


def _radii(x: Floats, k: int) -> Floats:
    """Distance of each row to its k-th nearest other row."""
    radii = np.empty(len(x))
    for start in range(0, len(x), _ROWS):
        distances = _distance_rows(x[start : start + _ROWS], x)
        distances[np.arange(len(distances)), start + np.arange(len(distances))] = 0.0
        radii[start : start + _ROWS] = np.partition(distances, k, axis=1)[:, k]
    return radii


def manifold_scores(
    real: NDArray[np.floating], synthetic: NDArray[np.floating], *, k: int = NEIGHBORS
) -> dict[str, Floats]:
    """Per-tile terms of precision, recall, density and coverage; a metric is its terms' mean.

    Args:
      real: features, shape (n, d), n > k.
      synthetic: features, shape (m, d), m > k.
      k: neighbours that set the radius of a manifold ball.

    Returns:
      "precision" and "density" of shape (m,), "recall" and "coverage" of shape (n,). For identical
      laws density tends to 1 and coverage to 1 - 2^-k.

    Source: Kynkaanniemi et al. 2019, arXiv:1904.06991; Naeem et al. 2020, arXiv:2002.09797.
    """
    x, y = np.asarray(real, dtype=np.float64), np.asarray(synthetic, dtype=np.float64)
    radii_x, radii_y = _radii(x, k), _radii(y, k)
    inside = np.zeros(len(y))
    recall, coverage = np.empty(len(x)), np.empty(len(x))
    for start in range(0, len(x), _ROWS):
        rows = slice(start, start + _ROWS)
        distances = _distance_rows(x[rows], y)
        in_real_ball = distances < radii_x[rows, None]
        inside += in_real_ball.sum(axis=0)
        recall[rows] = (distances < radii_y).any(axis=1)
        coverage[rows] = in_real_ball.any(axis=1)
    return {
        "precision": (inside > 0).astype(np.float64),
        "recall": recall,
        "density": inside / k,
        "coverage": coverage,
    }


def _check_features(
    features: Mapping[str, NDArray[np.float32]], patients: Mapping[str, Strings], name: str
) -> None:
    shapes = {role: features[role].shape for role in _ROLES if role in features}
    widths = {shape[1:] for shape in shapes.values()}
    if len(shapes) < len(_ROLES) or len(widths) > 1 or len(next(iter(widths))) != 1:
        raise AuditInputError(
            f"{name} features need train, holdout and synthetic, each (tiles, features) and "
            f"equally wide: got {shapes}."
        )
    for role in _ROLES:
        largest = np.abs(features[role]).max(initial=0)
        if not largest < _LARGEST:
            raise AuditInputError(
                f"{name} features of {role} must be finite and below {_LARGEST:g}: got {largest}."
            )
        if role in patients and len(patients[role]) != len(features[role]):
            raise AuditInputError(
                f"{name} features of {role} must be those of the audited tiles: got "
                f"{len(features[role])} rows for {len(patients[role])} tiles."
            )


def fidelity(
    features: Mapping[str, NDArray[np.float32]],
    patients: Mapping[str, Strings],
    *,
    feature_name: str,
    rng: np.random.Generator,
) -> tuple[AuditResult, ...]:
    """Frechet and kernel distance triples; precision, recall, density, coverage of the holdout.

    Args:
      features: plain encoder outputs of "train", "holdout" and "synthetic", shapes (n_i, d).
      patients: of "train" and "holdout", shapes (n_i,).
      feature_name: encoder; the name is `fid` only for the FID Inception network, else `fd_<name>`.
      rng: subsampling to equal sizes, and jackknife blocks of synthetic tiles.

    Returns:
      Descriptions without p-values, harm None; none when a role has 5 tiles or fewer.

    Raises:
      AuditInputError: features are missing, not finite, of different widths, or do not fit
        `patients`.

    Source: METHODS.md 6.
    """
    _check_features(features, patients, feature_name)
    train, holdout, synthetic = (features[role] for role in ("train", "holdout", "synthetic"))
    if min(len(train), len(holdout), len(synthetic)) <= NEIGHBORS:
        return ()
    size = min(len(train), len(synthetic))
    rows_t = np.sort(rng.permutation(len(train))[:size])
    rows_s = np.sort(rng.permutation(len(synthetic))[:size])
    samples = {
        "synthetic": (synthetic[rows_s], None),
        "train": (train[rows_t], patients["train"][rows_t]),
        "holdout": (holdout, patients["holdout"]),
    }
    blocks = {name: _blocks(owner, len(x), rng) for name, (x, owner) in samples.items()}
    frechet_name = "fid" if feature_name == "inception_fid" else f"fd_{feature_name}"
    results = []
    for first, second in (("synthetic", "train"), ("synthetic", "holdout"), ("train", "holdout")):
        (x, _), (y, _) = samples[first], samples[second]
        details = {"first_tiles": len(x), "second_tiles": len(y), "features": x.shape[1]}
        note = "" if (first, second) != ("train", "holdout") else "The floor: real against real."
        intervals = {
            frechet_name: jackknife(
                lambda keep_x, keep_y, x=x, y=y: frechet_distance(x[keep_x], y[keep_y]),
                blocks[first],
                blocks[second],
            ),
            f"kid_{feature_name}": kernel_distance(
                x, y, groups_x=blocks[first], groups_y=blocks[second]
            ),
        }
        results += [
            _described(f"{metric}/{first}_{second}", *interval, len(x), details, note)
            for metric, interval in intervals.items()
        ]
    for first in ("synthetic", "train"):
        owner_x = samples[first][1]
        owners = {
            "precision": np.arange(size).astype(np.str_) if owner_x is None else owner_x,
            "recall": patients["holdout"],
        }
        owners |= {"density": owners["precision"], "coverage": owners["recall"]}
        note = "" if first == "synthetic" else "The floor: real train tiles in place of synthetic."
        for metric, terms in manifold_scores(holdout, samples[first][0]).items():
            value, low, high = clustered_mean(terms, owners[metric])
            ceiling = np.inf if metric == "density" else 1.0
            interval = (value, max(low, 0.0), min(high, ceiling))
            results.append(
                _described(
                    f"{metric}_{feature_name}/{first}_holdout",
                    *interval,
                    len(terms),
                    {"k": NEIGHBORS},
                    note,
                )
            )
    return tuple(results)


def _described(
    name: str,
    value: float,
    low: float,
    high: float,
    n: int,
    details: Mapping[str, int],
    note: str,
) -> AuditResult:
    estimate = Estimate(value=value, low=low, high=high, n=n, unit="tile")
    return AuditResult(name=name, harm=None, statistic=estimate, details=dict(details), note=note)

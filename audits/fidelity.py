"""Fidelity: how close the synthetic tiles come to real tissue, as context for the privacy verdict.

Every distance comes as a triple: synthetic-train, synthetic-holdout, and train-holdout as the floor
that two samples of real patients show. Synthetic-train alone rewards copying. All three use the
same number of tiles on their first side, because the Frechet distance is biased upward at finite n
(two samples of one standard normal law, d = 512, n = 1000 each: 132, not 0); it is therefore also
extrapolated to infinitely many tiles. Given labels, every class is compared on its own: a figure
over all classes cannot see tiles made under the wrong label.

Conventions: features are plain encoder outputs (no whitening, no symmetry averaging), float64
inside; intervals delete one block of patients at a time (`intervals.jackknife` says why).
Source: docs/methods.md#fidelity.
"""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from audits.distances import NEIGHBORS, Cloud, compare
from audits.errors import AuditInputError
from audits.frechet import FEWEST_GROUPS, frechet_infinity
from audits.inputs import Floats, Strings
from audits.intervals import clustered_mean
from audits.results import AuditResult
from audits.samples import Sample, both_distances, described, frechet_name, patient_blocks

_LARGEST = 1e15
_CLASS_BLOCKS = 5
"""A class has fewer tiles and patients, and there are many: half the blocks, half the cost."""

_ROLES = ("train", "holdout", "synthetic")
_FLOOR = "The floor: real against real."
_NOT_EXTRAPOLATED = (
    "Not extrapolated to infinitely many tiles: that takes {tiles} tiles or more, twice as many as "
    f"features, in {FEWEST_GROUPS} blocks of patients or more, 2 tiles in each, on both sides."
)


def _check(
    features: Mapping[str, NDArray[np.float32]],
    patients: Mapping[str, Strings],
    labels: Mapping[str, Strings] | None,
    name: str,
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
        if labels is not None and (
            role not in labels or np.shape(labels[role]) != (len(features[role]),)
        ):
            got = f"shape {np.shape(labels[role])}" if role in labels else "none"
            raise AuditInputError(
                f"{name} labels of {role} must hold one entry per tile, {len(features[role])}: got "
                f"{got}. Give the labels of train, holdout and synthetic, or none at all."
            )


def fidelity(
    features: Mapping[str, NDArray[np.float32]],
    patients: Mapping[str, Strings],
    *,
    feature_name: str,
    rng: np.random.Generator,
    labels: Mapping[str, Strings] | None = None,
) -> tuple[AuditResult, ...]:
    """Frechet and kernel distance triples; precision, recall, density, coverage of the holdout.

    `fd_infinity_<name>` extrapolates the Frechet distances from the holdout to infinitely many
    tiles, where there are twice as many tiles as features, in 4 blocks or more, on both sides.
    With labels also, for each class with more than 5 tiles in every role, both distances of
    synthetic-holdout and of the floor (`fd_<name>/synthetic_holdout/class:<label>`), and the mean
    of the Frechet distances over classes (`.../class_mean`). Classes left out are named in the
    note of the distance over all classes. One class alone gives no such rows.

    Args:
      features: plain encoder outputs of "train", "holdout" and "synthetic", shapes (n_i, d).
      patients: of "train" and "holdout", shapes (n_i,).
      feature_name: encoder; the name is `fid` only for the FID Inception network, else `fd_<name>`.
      rng: subsampling to equal sizes, blocks of synthetic tiles, pairing of blocks; figures over
        all classes do not depend on whether labels are given.
      labels: class of every tile, of the three roles, shapes (n_i,).

    Returns:
      Descriptions without p-values, harm None; none when a role has 5 tiles or fewer.

    Raises:
      AuditInputError: features are missing, not finite, of different widths, or do not fit
        `patients` or `labels`.

    Source: docs/methods.md#fidelity.
    """
    _check(features, patients, labels, feature_name)
    train, holdout, synthetic = (features[role] for role in ("train", "holdout", "synthetic"))
    if min(len(train), len(holdout), len(synthetic)) <= NEIGHBORS:
        return ()
    pairing, class_rng = rng.spawn(2)
    size = min(len(train), len(synthetic))
    rows_t = np.sort(rng.permutation(len(train))[:size])
    rows_s = np.sort(rng.permutation(len(synthetic))[:size])
    samples = {
        "synthetic": Sample.of(synthetic[rows_s], None, rng),
        "train": Sample.of(train[rows_t], patients["train"][rows_t], rng),
        "holdout": Sample.of(holdout, patients["holdout"], rng),
    }
    extrapolated = _extrapolated(samples, feature_name, pairing)
    by_class, left_out = (
        ([], [])
        if labels is None
        else _by_class(features, patients, labels, feature_name, class_rng)
    )
    remarks = {"synthetic": [], "train": [_FLOOR]}
    if not extrapolated:
        remarks["synthetic"].append(_NOT_EXTRAPOLATED.format(tiles=2 * holdout.shape[1]))
    if left_out:
        remarks["synthetic"].append(
            f"Classes without figures of their own, having {NEIGHBORS} tiles or fewer in a role: "
            f"{', '.join(left_out)}."
        )
    return (
        *_all_classes(samples, feature_name, remarks, left_out),
        *extrapolated,
        *by_class,
    )


def _all_classes(
    samples: Mapping[str, Sample],
    feature_name: str,
    remarks: Mapping[str, list[str]],
    left_out: list[str],
) -> list[AuditResult]:
    """Both distances of the three pairs, then the scores of synthetic and of train tiles."""
    clouds = {name: Cloud(s.features, groups=s.blocks) for name, s in samples.items()}
    results, scores = [], []
    for first, second in (("synthetic", "train"), ("synthetic", "holdout"), ("train", "holdout")):
        compared = compare(clouds[first], clouds[second], scores=second == "holdout")
        results += both_distances(
            samples[first],
            samples[second],
            compared.kernel_distance(),
            feature_name,
            f"{first}_{second}",
            " ".join(remarks[first]) if second == "holdout" else "",
            {"classes_left_out": len(left_out)} if left_out and second == "holdout" else {},
        )
        if second == "holdout":
            scores += _scores(
                compared.scores, samples[first], samples[second], f"{feature_name}/{first}_holdout"
            )
    return [*results, *scores]


def _scores(
    terms: Mapping[str, Floats], first: Sample, holdout: Sample, place: str
) -> list[AuditResult]:
    note = "" if first.patients is None else "The floor: real train tiles in place of synthetic."
    results = []
    for metric, values in terms.items():
        counted = first if metric in ("precision", "density") else holdout
        value, low, high = clustered_mean(values, counted.owners())
        ceiling = np.inf if metric == "density" else 1.0
        interval = (value, max(low, 0.0), min(high, ceiling))
        results.append(
            described(f"{metric}_{place}", interval, len(values), {"k": NEIGHBORS}, note)
        )
    return results


def _extrapolated(
    samples: Mapping[str, Sample], feature_name: str, rng: np.random.Generator
) -> list[AuditResult]:
    """FD-infinity of synthetic and of train tiles against the holdout, or of neither.

    None where halves of the tiles do not span the features: the bias is then no line in 1/N, and
    extrapolation would leave much of it, with an interval that denies it.
    """
    results = []
    for first in ("synthetic", "train"):
        pair = (samples[first], samples["holdout"])
        x, y = (sample.features for sample in pair)
        count = min(int(sample.blocks.max()) + 1 for sample in pair)
        blocks = [patient_blocks(s.patients, len(s.features), rng, most=count) for s in pair]
        smallest = min(int(np.bincount(of_tile).min()) for of_tile in blocks)
        if min(len(x), len(y)) < 2 * x.shape[1] or count < FEWEST_GROUPS or smallest < 2:
            return []
        interval = frechet_infinity(x, y, groups_x=blocks[0], groups_y=blocks[1], rng=rng)
        details = {"first_tiles": len(x), "second_tiles": len(y), "blocks": count}
        name = f"fd_infinity_{feature_name}/{first}_holdout"
        note = _FLOOR if first == "train" else ""
        results.append(described(name, interval, len(x), details, note))
    return results


def _by_class(
    features: Mapping[str, NDArray[np.float32]],
    patients: Mapping[str, Strings],
    labels: Mapping[str, Strings],
    feature_name: str,
    rng: np.random.Generator,
) -> tuple[list[AuditResult], list[str]]:
    """Results of the classes and their means; and the names of the classes left out."""
    label_of = {role: np.asarray(labels[role]).astype(np.str_) for role in _ROLES}
    classes = np.unique(np.concatenate(list(label_of.values()))).tolist()
    if len(classes) < 2:
        return [], []
    results: list[AuditResult] = []
    left_out = []
    for label, own in zip(classes, rng.spawn(len(classes)), strict=True):
        rows = {role: np.flatnonzero(label_of[role] == label) for role in _ROLES}
        if min(len(found) for found in rows.values()) <= NEIGHBORS:
            left_out.append(label)
            continue
        size = min(len(rows["train"]), len(rows["synthetic"]))
        for role in ("train", "synthetic"):
            rows[role] = np.sort(own.permutation(rows[role])[:size])
        samples = {
            role: Sample.of(
                features[role][found],
                None if role == "synthetic" else patients[role][found],
                own,
                most=_CLASS_BLOCKS,
            )
            for role, found in rows.items()
        }
        clouds = {name: Cloud(s.features, groups=s.blocks, k=0) for name, s in samples.items()}
        for first in ("synthetic", "train"):
            results += both_distances(
                samples[first],
                samples["holdout"],
                compare(clouds[first], clouds["holdout"], scores=False).kernel_distance(),
                feature_name,
                f"{first}_holdout/class:{label}",
                "" if first == "synthetic" else _FLOOR,
                {},
            )
    return results + _class_means(results, feature_name), left_out


def _class_means(results: list[AuditResult], feature_name: str) -> list[AuditResult]:
    """Means of the classes' Frechet distances.

    The ends of the intervals are averaged too: patients give tiles to several classes, and a mean
    varies most when its terms move together.
    """
    means = []
    for first in ("synthetic", "train"):
        prefix = f"{frechet_name(feature_name)}/{first}_holdout/"
        found = [r.statistic for r in results if r.name.startswith(prefix)]
        if not found:
            continue
        ends = np.array([(e.value, e.low, e.high) for e in found], dtype=np.float64)
        value, low, high = (float(mean) for mean in ends.mean(axis=0))
        tiles = sum(e.n for e in found)
        note = _FLOOR if first == "train" else ""
        means.append(
            described(
                f"{prefix}class_mean", (value, low, high), tiles, {"classes": len(found)}, note
            )
        )
    return means

"""Numbers and registered names as a reader meets them.

Conventions: fractions stay fractions; an interval is rounded to one or two digits of its own
half-width, so that a figure never looks more exact than it is; a p-value is never printed as 0.
"""

import math
from collections.abc import Mapping
from typing import Any

OUTCOMES = {
    "LEAK": "At least one registered test found a leak, or a copy was proven.",
    "NO LEAK FOUND": (
        "No registered test found a leak, and the audit could have: a leak of the size the "
        "sentence states is found in 8 of 10 runs (power .8). Smaller leaks may exist."
    ),
    "INCONCLUSIVE": (
        "No leak was established, but one as small as the policy cares about could have been "
        "missed, or a control failed. This is not a pass."
    ),
}
"""One plain line for each verdict."""

HARMS = {
    "copying": "Does a synthetic tile show a training tile?",
    "tile membership": "Can somebody tell that a certain tile was used in training?",
    "patient membership": (
        "Can somebody tell that a certain patient was used in training, even from other tiles?"
    ),
}

TESTS = {
    "identical_tiles": (
        "Proof by equal pixels",
        "share of synthetic tiles equal to a training tile",
    ),
    "aligned_copies": (
        "Proof by alignment",
        "share of synthetic tiles that show the tissue of a training tile, key point by key point",
    ),
    "tail_count": (
        "Copies, by distance",
        "share of synthetic tiles closer to a training tile than chance allows",
    ),
    "tail_ratio": (
        "Copies, by distance ratio",
        "the same, each distance measured against those to the next nearest training tiles",
    ),
    "tile_membership": (
        "Tile membership",
        "AUROC of training tiles against held-back tiles of the same slides",
    ),
    "patient_membership": (
        "Patient membership",
        "AUROC of training patients against patients never met",
    ),
    "control/member_against_member": (
        "Control: members against members",
        "AUROC between random halves of the training patients",
    ),
    "control/holdout_against_holdout": (
        "Control: holdout against holdout",
        "AUROC between random halves of the holdout patients",
    ),
    "control/blind_baseline": (
        "Control: blind baseline",
        "AUROC of telling the two groups apart without the synthetic tiles",
    ),
    "control/attack_minus_blind": (
        "Control: attack less blind baseline",
        "AUROC of patient membership less that of the blind baseline",
    ),
    "control/roles_swapped": (
        "Control: copies of the holdout",
        "share of synthetic tiles closer to a holdout tile than training tiles are",
    ),
    "c_t": (
        "C_T",
        "mean rank score of the synthetic distances to training; far below 0 = copying",
    ),
    "dcr_share": ("DCR share", "share of synthetic tiles nearer to training than to holdout tiles"),
    "authenticity": ("Authenticity", "authentic share of synthetic tiles less that of the holdout"),
    "extraction_ratio": (
        "Extraction ratio (Carlini)",
        "share of synthetic tiles below the published threshold, less the holdout's",
    ),
    "tpr_at_fpr/tile_membership": (
        "Training tiles found at a low false-positive rate",
        "true-positive rate of the tile attack",
    ),
    "tpr_at_fpr/patient_membership": (
        "Training patients found at a low false-positive rate",
        "true-positive rate of the patient attack",
    ),
}
"""Registered name: (title, what its statistic is)."""

KINDS = {
    "exact": "exact",
    "symmetry": "mirrored or turned by 90°",
    "odd_rotation": "turned by another angle",
    "stain": "stained differently",
    "odd_rotation_stain": "turned and stained differently",
    "crop_60": "cropped to 0.6 of the side",
    "crop_35": "cropped to 0.35 of the side",
    "jpeg_40": "JPEG of quality 40",
    "blur": "blurred",
    "blend_90": "blended 9 : 1 with another tile",
    "blend_70": "blended 7 : 3 with another tile",
    "blend_50": "blended 1 : 1 with another tile",
    "elastic": "warped",
    "mirror_stain": "mirrored and stained differently",
}
"""Kinds of planted copies."""

ROLES = {
    "train": ("Training", "tiles the generator learned from"),
    "siblings": ("Siblings", "held-back tiles of the training slides"),
    "holdout": ("Holdout", "tiles of patients the generator never met"),
    "reference": ("Reference", "tiles of further patients it never met"),
    "validation": ("Validation", "tiles that chose the classifier"),
    "test": ("Test", "tiles that judged the classifier"),
    "synthetic": ("Synthetic", "tiles made by the generator"),
}

FAMILIES = {
    "mobilenet": "MobileNet",
    "resnet": "ResNet",
    "densenet": "DenseNet",
    "efficientnet": "EfficientNet",
}

ARMS = {
    "real": "real tiles alone",
    "real+synthetic": "real + synthetic",
    "oversampled": "control: real repeated",
}

METRICS = {
    "balanced_accuracy": "Balanced accuracy",
    "macro_f1": "Macro F1",
    "auroc": "AUROC",
    "ece": "Calibration error",
    "worst_class_recall": "Recall of the worst class",
}

UNITS = {"source_image": "source image"}
_COUNTED = ("tile", "patient", "slide", "image", "draw", "seed", "pair", "point")


ATTACKS = {
    "full_black_box": "nearest synthetic tile",
    "calibrated": "nearest tile, calibrated by reference tiles",
    "density_ratio": "density ratio to reference tiles (DOMIAS)",
    "monte_carlo": "synthetic tiles nearby (Monte Carlo)",
    "partial_black_box": "inversion without gradients",
    "white_box": "inversion of the generator",
    "discriminator": "the discriminator itself",
    "shadow": "shadow generators",
}
"""Membership attacks."""

CLASS = "/class:"


def test(name: str) -> tuple[str, str]:
    """Title of a result and what its statistic is; a class or an attack is named behind."""
    base, _, label = name.partition(CLASS)
    if label:
        title, statistic = test(base)
        return f"{title}, class {label}", statistic
    arm, _, attack = name.partition("/")
    if attack in ATTACKS and arm in TESTS:
        title, statistic = TESTS[arm]
        return f"{title}: {ATTACKS[attack]}", statistic
    return TESTS.get(name, (spoken(name), ""))


def spoken(name: str) -> str:
    """A registered or class-like name without its punctuation."""
    return name.replace("_", " ").replace("/", ", ")


def number(value: float) -> str:
    """Three significant digits, without exponent."""
    if value == 0:
        return "0"
    decimals = 2 - math.floor(math.log10(abs(value)))
    return _fixed(value, min(decimals, 9), strip=True)


def _fixed(value: float, decimals: int, *, strip: bool = False) -> str:
    text = f"{round(value, decimals):.{max(decimals, 0)}f}"
    if strip and "." in text:
        text = text.rstrip("0").rstrip(".")
    if not text.strip("-0."):
        text = text.lstrip("-")
    return text.replace("-", "\N{MINUS SIGN}")


def interval(estimate: Mapping[str, Any]) -> str:
    """`0.51 (0.40 to 0.63)`, or the value alone where there is no interval."""
    value, low, high = estimate["value"], estimate["low"], estimate["high"]
    if low is None or high is None:
        return number(value)
    if low == high:
        return f"{number(value)} ({number(low)} to {number(high)})"
    half = (high - low) / 2
    # Two digits up to 34, one from 35 on, whatever the decimal point.
    decimals = math.floor(1 - math.log10(half / 3.5))
    return "{} ({} to {})".format(
        *(_fixed(x, min(max(decimals, 0), 9)) for x in (value, low, high))
    )


def p_value(p: float | None) -> str:
    """`p = 0.0004`, `p < 0.0001`; a dash where there is none."""
    if p is None:
        return "–"
    if p < 0.0001:
        return "p < 0.0001"
    digits = 1 if p < 0.001 else 2
    decimals = digits - 1 - math.floor(math.log10(p))
    return f"p = {_fixed(p, decimals, strip=p > 0.999)}"


def counted(estimate: Mapping[str, Any], group_unit: str) -> str:
    """`16 patients`; what the data call a patient may be a slide or a source image."""
    unit = group_unit if estimate["unit"] == "patient" else estimate["unit"]
    return count(estimate["n"], unit)


def count(n: int, unit: str) -> str:
    """A number of things, `1 tile` or `1,200 tiles`; a unit that is a remark stays as it is."""
    name = UNITS.get(unit, unit)
    plural = n != 1 and name.rpartition(" ")[2] in _COUNTED
    return f"{n:,} {name}" + ("s" if plural else "")


def one_in(fraction: float) -> str:
    """A small share as people say it: `about 1 in 330`."""
    if fraction >= 0.5:
        return f"about {round(10 * fraction)} in 10"
    whole = 1 / fraction
    rounded = round(whole, 1 - math.floor(math.log10(whole)))
    return f"about 1 in {rounded:,.0f}"

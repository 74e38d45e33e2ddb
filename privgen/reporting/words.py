"""Numbers and registered names as a reader meets them; kinds of copies are in `audits.kinds`.

Conventions: fractions stay fractions; an interval is rounded to one or two digits of its own
half-width, so that a figure never looks more exact than it is; a p-value is never printed as 0.
"""

import math
from collections.abc import Mapping

from audits.kinds import name_kinds
from audits.results import Outcome
from audits.sections import EstimateDict

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
        "share of synthetic tiles that show the tissue of a training tile",
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
    "control/pipeline_baseline": (
        "Control: files and scaling",
        "AUROC of telling the two groups apart by sharpness, blocks and colour detail alone",
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
    "control/retossed/tile_membership": (
        "Control: coins tossed again, tiles",
        "within-patient AUROC against coins that decided nothing",
    ),
    "control/retossed/patient_membership": (
        "Control: coins tossed again, patients",
        "within-patient AUROC against coins that decided nothing",
    ),
    "patients_standing_out": (
        "Patients who stand out by themselves",
        "patients whose own runs give them away, at the family-wise level",
    ),
    "look/colour": ("Patient membership, by colour alone", "within-patient AUROC"),
    "look/stain_normalised": (
        "Patient membership, without stain",
        "within-patient AUROC on stain-normalised tiles",
    ),
    "quality/kid": ("Kernel distance (KID)", "to real tiles of patients that a run did not have"),
    "quality/kid_floor": ("Kernel distance of real tiles", "the floor: of a run's training tiles"),
    "quality/coverage": ("Coverage", "of real tiles of patients that a run did not have"),
    "quality/coverage_floor": ("Coverage of real tiles", "the ceiling: by a run's training tiles"),
    "canaries": (
        "Canaries",
        "AUROC of patients whose own coins put them into training or kept them out",
    ),
    "epsilon_one_run": (
        "Epsilon, lower bound",
        "pure differential privacy, by guessed coins",
    ),
    "epsilon_f_dp": (
        "Epsilon, lower bound for a Gaussian mechanism",
        "at delta 0.00001, by guessed coins",
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

ROLES = {
    "train": ("Training", "tiles the generator learned from"),
    "siblings": ("Siblings", "held-back tiles of the training slides"),
    "holdout": ("Holdout", "tiles of patients the generator never met"),
    "reference": ("Reference", "tiles of further patients it never met"),
    "validation": ("Validation", "tiles that chose the classifier"),
    "test": ("Test", "tiles that judged the classifier"),
    "synthetic": ("Synthetic", "tiles made by the generator"),
}

MODELS = {
    "mobilenet": "MobileNet",
    "resnet": "ResNet",
    "densenet": "DenseNet",
    "efficientnet": "EfficientNet",
    "mobilenet_v2": "MobileNetV2",
    "mobilenet_v3_small": "MobileNetV3 small",
    "mobilenet_v3_large": "MobileNetV3 large",
    "resnet18": "ResNet-18",
    "resnet50": "ResNet-50",
    "densenet121": "DenseNet-121",
    "efficientnet_b0": "EfficientNet-B0",
    "efficientnet_lite0": "EfficientNet-Lite0",
}

ARMS = {
    "real": ("real tiles alone", "the baseline"),
    "real+classical": ("real, classical augmentation", "mirrored, turned, stained differently"),
    "real+synthetic": ("real + synthetic", ""),
    "real+filtered": ("real + filtered synthetic", "only tiles that the filter kept"),
    "synthetic": ("synthetic alone", "no real tile in training"),
    "oversampled": ("control: real repeated", "as many tiles, none of them new"),
    "shuffled": ("control: shuffled labels", "synthetic tiles with one another's labels"),
}
"""Arms of augment-bench: (title, what is special in them)."""

STRESSES = {"hue": "other stain (hue)", "jpeg": "JPEG", "blur": "blur"}
"""What was done to the test tiles to see how much a classifier depends on."""

METRICS = {
    "balanced_accuracy": "Balanced accuracy",
    "macro_f1": "Macro F1",
    "auroc": "AUROC",
    "ece": "Calibration error",
    "worst_class_recall": "Recall of the worst class",
}

UNITS = {"source_image": "source image"}
_COUNTED = (
    *("tile", "patient", "slide", "image", "draw", "seed", "pair", "point", "training", "run"),
    *("coin", "experiment"),
)


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

RECIPE_TESTS = {
    "tile_membership": (
        "Tile membership",
        "AUROC of runs that had a patient's tiles against runs that had not, by those very tiles",
    ),
    "patient_membership": (
        "Patient membership",
        "AUROC of runs that had a patient against runs that had not, by tiles no run saw",
    ),
}
"""The same of the audit of a recipe, where a name means another comparison."""

HARMS_OF_ARMS = {"tile_membership": "tile membership", "patient_membership": "patient membership"}
"""The harm that an arm of membership speaks of."""

SCHEMES = {
    "complementary": "pairs of runs that share the patients out between them",
    "independent": "a coin for every patient and run",
    "balanced": "exactly half of the patients in each run",
}
"""How the coins of repeated training are tossed."""

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


def model(name: str) -> str:
    """A network of augment-bench as readers know it."""
    return MODELS.get(name, spoken(name))


def arm(label: str, ratio: float | None) -> tuple[str, str]:
    """What an arm of augment-bench trained on, `real + synthetic, 0.5:1`, and a remark."""
    base = label if ratio is None else label.rpartition(" x")[0] or label
    title, remark = ARMS.get(base, (spoken(base), ""))
    return title if ratio is None else f"{title}, {ratio:g}:1", remark


def clauses(sentence: str) -> tuple[str, list[str]]:
    """The sentence to sign in parts, for a line each: what was found, and what belongs to it.

    `NO LEAK FOUND (a; b).` and `LEAK: copying; a; b.` both give their first words and [a, b].
    """
    text = sentence.removesuffix(".")
    head, found, rest = text.partition(f"{Outcome.NO_LEAK_FOUND} (")
    if found and not head and rest.endswith(")"):
        return Outcome.NO_LEAK_FOUND.value, rest.removesuffix(")").split("; ")
    first, *others = text.split("; ")
    return first, others


def by_share(mdl80: Mapping[str, float | None]) -> list[tuple[float | None, str]]:
    """Smallest shares seen with the names of their kinds, rising; None last, of the unseen ones."""
    shares = sorted({share for share in mdl80.values() if share is not None})
    unseen = [None] if None in mdl80.values() else []
    return [
        (share, name_kinds(kind for kind, found in mdl80.items() if found == share))
        for share in [*shares, *unseen]
    ]


def number(value: float) -> str:
    """Three significant digits, without exponent."""
    if value == 0:
        return "0"
    decimals = 2 - math.floor(math.log10(abs(value)))
    return _fixed(value, min(decimals, 9), strip=True)


def _fixed(value: float, decimals: int, *, strip: bool = False, signed: bool = False) -> str:
    text = f"{round(value, decimals):{'+' if signed else ''}.{max(decimals, 0)}f}"
    if strip and "." in text:
        text = text.rstrip("0").rstrip(".")
    if not text.strip("-+0."):
        text = text.lstrip("-+")
    return text.replace("-", "\N{MINUS SIGN}")


def percent(share: float) -> str:
    """A share of a whole: `10 %`."""
    return f"{number(100 * share)} %"


def points(value: float, *, signed: bool = True) -> str:
    """A difference of two shares in percentage points, to a tenth: `+3.1`."""
    return _fixed(100 * value, 1, signed=signed)


def interval(estimate: EstimateDict) -> str:
    """`0.51 (0.40 to 0.63)`, or the value alone where there is no interval."""
    return " ".join(_value_and_limits(estimate["value"], estimate["low"], estimate["high"]))


def points_interval(estimate: EstimateDict) -> str:
    """The same of a difference, in percentage points: `+3.1 (−0.4 to +6.6)`."""
    low, high = (None if end is None else 100 * end for end in (estimate["low"], estimate["high"]))
    return " ".join(_value_and_limits(100 * estimate["value"], low, high, signed=True))


def _value_and_limits(
    value: float, low: float | None, high: float | None, *, signed: bool = False
) -> list[str]:
    if low is None or high is None:
        return [_fixed(value, 1, signed=True) if signed else number(value)]
    # Two digits of the half-width up to 34, one from 35 on, whatever the decimal point.
    decimals = 2
    if low != high:
        decimals = math.floor(1 - math.log10((high - low) / 2 / 3.5))
    elif not signed:
        return [number(value), f"({number(low)} to {number(high)})"]
    shown = [_fixed(x, min(max(decimals, 0), 9), signed=signed) for x in (value, low, high)]
    return [shown[0], f"({shown[1]} to {shown[2]})"]


def p_value(p: float | None) -> str:
    """`p = 0.0004`, `p < 0.0001`; a dash where there is none."""
    if p is None:
        return "–"
    if p < 0.0001:
        return "p < 0.0001"
    digits = 1 if p < 0.001 else 2
    decimals = digits - 1 - math.floor(math.log10(p))
    return f"p = {_fixed(p, decimals, strip=p > 0.999)}"


def counted(estimate: EstimateDict, group_unit: str) -> str:
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

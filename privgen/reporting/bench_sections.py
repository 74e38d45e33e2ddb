"""The section of augment-bench in report.json, key by key; and what a dry run says.

Keys are the attributes of the classes in `benefit.results.records`, which say what they mean. Lists
may be tuples: what counts is the JSON they become.
"""

from collections.abc import Mapping, Sequence
from typing import Literal, TypedDict

from audits.sections import EstimateDict, OutcomeName, RoleCounts

ArmRole = Literal["baseline", "comparison", "tested", "control"]
ComparedRole = Literal["comparison", "tested", "control"]
BenchVerdict = Literal["helps", "harms", "no evidence of benefit", "comparison", "control"]


class BenchCurvePoint(TypedDict):
    """One look during training."""

    update: int
    train_loss: float
    validation_loss: float
    validation_balanced_accuracy: float


class BenchConvergence(TypedDict):
    """How far training had come."""

    curve: Sequence[BenchCurvePoint]
    train_accuracy: float
    chosen: Sequence[int]
    still_improving: bool


class BenchRow(TypedDict):
    """One model in one arm of one regime."""

    regime: float
    model: str
    arm: str
    ratio: float | None
    role: ArmRole
    train_tiles: int
    updates: int
    seeds: int
    generators: int
    metrics: Mapping[str, EstimateDict]
    robustness: Mapping[str, EstimateDict]
    convergence: BenchConvergence


class BenchDifference(TypedDict):
    """An arm less real tiles alone."""

    regime: float
    model: str
    arm: str
    ratio: float | None
    role: ComparedRole
    estimate: EstimateDict
    metrics: Mapping[str, EstimateDict]
    robustness: Mapping[str, EstimateDict]
    p: float
    p_holm: float | None
    verdict: BenchVerdict
    detectable: float | None


class BenchHistogram(TypedDict):
    """The control that sees colours only."""

    regime: float
    metrics: Mapping[str, EstimateDict]


class BenchGenerator(TypedDict):
    """One generator of a regime; counts of the filter are None without one."""

    name: str
    synthetic: int
    kept: int | None
    dropped_confidence: int | None
    dropped_distance: int | None


class BenchRegime(TypedDict):
    """One share of the real training tiles."""

    share: float
    tiles: int
    patients: int
    generators: Sequence[BenchGenerator]


class BenchPoint(TypedDict):
    """Gain and leak of one generator's tiles; the last three are None without an audit."""

    regime: float
    generator: str
    filtered: bool
    gain: EstimateDict
    outcome: OutcomeName | None
    mdl80: float | None
    undominated: bool | None


class BenchCounts(TypedDict):
    """Tiles and patients that no classifier was trained on."""

    validation: RoleCounts
    test: RoleCounts


class BenchConfig(TypedDict):
    """Every setting of a benchmark."""

    models: Sequence[str]
    regimes: Sequence[float]
    ratios: Sequence[float]
    seeds: Sequence[int]
    arms: Sequence[str]
    recipe: Mapping[str, float]
    size: str
    weights: Mapping[str, str]
    device: str
    seed: int
    side: int
    primary_ratio: float
    primary_metric: str
    significance: float
    draws: int


class BenchDict(TypedDict):
    """Of `benefit.results.records.BenchReport`."""

    rows: Sequence[BenchRow]
    differences: Sequence[BenchDifference]
    histograms: Sequence[BenchHistogram]
    regimes: Sequence[BenchRegime]
    plane: Sequence[BenchPoint]
    conclusion: str
    warnings: Sequence[str]
    classes: Sequence[str]
    counts: BenchCounts
    group_unit: str
    config: BenchConfig
    seed: int


class TimedModel(TypedDict):
    """Trainings of one network."""

    trainings: int
    seconds_each: float


class ArmCost(TypedDict):
    """Trainings of each network in one arm; its ratios in words."""

    arm: str
    ratios: str
    trainings: int


class EstimatedTrainings(TypedDict):
    """What the trainings of a benchmark would take."""

    models: Mapping[str, TimedModel]
    arms: Sequence[ArmCost]
    trainings: int
    minutes: float


class EstimatedBench(EstimatedTrainings):
    """The same with its generators, and the tiles of each split."""

    generator_minutes: float
    regimes: Mapping[str, RoleCounts]

"""What the templates of the report are given beside the report itself."""

from collections.abc import Mapping, Sequence
from typing import TypedDict

from markupsafe import Markup

from audits.recipe_sections import PlannedDict
from audits.sections import EstimateDict, OutcomeName, ResultDict, RoleCounts
from privgen.reporting.bench_sections import BenchDifference, BenchHistogram, BenchRegime, BenchRow


class ResultView(ResultDict):
    """A result with its title and what its statistic is."""

    title: str
    what: str


class Seen(TypedDict):
    """How small a share of copies was seen, and whether the policy asks for less."""

    share: float | None
    planted: bool
    largest: float | None
    named: bool
    enough: bool


class SeenView(Seen):
    """The same of several kinds, and their names in a row."""

    kinds: Sequence[str]
    kind: str


class PowerTable(TypedDict):
    """Rows are copies, their share, and an estimate per kind."""

    kinds: Sequence[str]
    rows: Sequence[tuple[int, float, Sequence[EstimateDict | None]]]


class FidelityRow(TypedDict):
    """One metric, and its estimate by pair of roles."""

    title: str
    reading: str
    pairs: dict[str, EstimateDict]


class AuditView(TypedDict):
    """The section of the audit."""

    unit: str
    mdl80: Sequence[SeenView]
    copies_found: bool
    bounds: Sequence[tuple[str, float]]
    tests: Sequence[ResultView]
    missing: Sequence[str]
    power_figure: Markup
    power_table: PowerTable
    membership_figure: Markup
    controls: Sequence[ResultView]
    fidelity: Sequence[FidelityRow]
    pairs: Mapping[str, str]
    averages: Sequence[ResultView]
    attacks: Sequence[ResultView]
    coins: Sequence[ResultView]
    other: Sequence[ResultView]
    kinds: str
    signed: tuple[str, Sequence[str]]
    policy: Sequence[tuple[str, str]]


class CellView(TypedDict):
    """A model in an arm: its accuracy, and in words what it gains on real tiles alone."""

    accuracy: EstimateDict | None
    points: str
    verdict: str


class ArmView(TypedDict):
    """An arm, and a cell per model."""

    title: str
    remark: str
    cells: Sequence[CellView]


class ArmTable(TypedDict):
    """Arms by models."""

    models: Sequence[str]
    rows: Sequence[ArmView]


class DetailView(TypedDict):
    """One model in one arm, with every measure and its difference from real tiles alone."""

    model: str
    arm: str
    row: BenchRow
    metrics: Sequence[EstimateDict | None]
    less: BenchDifference | None
    points: str
    detectable: str


class StressCell(TypedDict):
    """Points lost without and with synthetic tiles, and the difference."""

    losses: Sequence[str]
    gain: str


class StressRow(TypedDict):
    """One model, a cell per stress."""

    model: str
    cells: Sequence[StressCell]


class StressTable(TypedDict):
    """Models by stresses."""

    stresses: Sequence[str]
    rows: Sequence[StressRow]


class CalibrationRow(TypedDict):
    """One model, an estimate per measure and arm."""

    model: str
    cells: Sequence[EstimateDict | None]


class RegimeView(BenchRegime):
    """One share of the training tiles."""

    name: str
    updates: Sequence[int]
    tables: Sequence[ArmTable]
    histogram: BenchHistogram | None
    histogram_metrics: Sequence[EstimateDict | None]
    forest: Markup
    curves: Markup
    details: Sequence[DetailView]
    robustness: StressTable
    calibration: Sequence[CalibrationRow]


class BaselineView(TypedDict):
    """How far training on real tiles alone had come."""

    regime: str
    model: str
    curve: Sequence[str]
    train_accuracy: float
    chosen: Sequence[int]
    still_improving: bool


class PointView(TypedDict):
    """One generator's tiles on the privacy-utility plane."""

    regime: float
    generator: str
    filtered: bool
    gain: str
    outcome: OutcomeName | None
    mdl80: float | None
    undominated: bool | None
    number: int
    name: str
    column: str
    share: str


class PlaneView(TypedDict):
    """The plane: its table, how many were audited, its figure."""

    rows: Sequence[PointView]
    audited: int
    figure: Markup
    undominated: Sequence[PointView]


class BenchView(TypedDict):
    """The section of augment-bench."""

    unit: str
    counts: Sequence[tuple[str, RoleCounts]]
    models: Sequence[str]
    weights: Sequence[tuple[str, str]]
    metrics: Sequence[str]
    regimes: Sequence[RegimeView]
    equal: bool
    filters: bool
    training_figure: Markup
    baselines: Sequence[BaselineView]
    plane: PlaneView


class PlantedTable(TypedDict):
    """Rows are copies a run, their share, and an estimate per arm."""

    arms: Sequence[str]
    rows: Sequence[tuple[int, float, Sequence[EstimateDict | None]]]


class RecipeView(TypedDict):
    """The section of a recipe's audit."""

    unit: str
    scheme: str
    signed: tuple[str, Sequence[str]]
    tests: Sequence[ResultView]
    bounds: Sequence[tuple[str, float]]
    figure: Markup
    lines: Markup
    looks: Sequence[ResultView]
    controls: Sequence[ResultView]
    others: Sequence[ResultView]
    quality: Sequence[ResultView]
    planted: PlantedTable
    mdl80: Sequence[tuple[str, float | None]]
    more: Sequence[PlannedDict]
    configuration: Sequence[tuple[str, str]]


class PageView(TypedDict):
    """The whole page."""

    title: str
    created: str
    audit: AuditView | None
    recipe: RecipeView | None
    bench: BenchView | None
    roles: Sequence[tuple[str, str, str]]
    withheld: bool
    outcomes: Mapping[str, str]
    harms: Mapping[str, str]

"""report.json, key by key, as `schema/report.schema.json` describes it.

The section of the audit is `audits.sections`, the block on files `pipelines.account`. Lists may be
tuples: what counts is the JSON they become.
"""

from collections.abc import Mapping, Sequence
from typing import Literal, NotRequired, TypedDict

from audits.sections import AuditDict, RoleCounts
from privgen.pipelines.account import PipelineDict
from privgen.reporting.bench_sections import BenchDict
from privgen.reporting.recipe_sections import RecipeDict


class WeakerDict(TypedDict):
    """A setting with which the audit sees less than with its defaults."""

    setting: str
    sentence: str


class DataDict(TypedDict):
    """The audited tiles; a count by class is None where it is withheld."""

    layout: str
    group_unit: str
    roles: Mapping[str, RoleCounts]
    classes: Mapping[str, Mapping[str, int | None]]
    audit_side_px: int | None
    pipeline: NotRequired[PipelineDict]
    skipped: int


class GeneratorDict(TypedDict):
    """What made the audited tiles."""

    digest: str
    truncation: float
    family: str
    resolution: int
    kimg: float
    classes: Sequence[str]


class ReproduceDict(TypedDict):
    """How to make the report again."""

    command: str
    seed: int


class ReportFacts(TypedDict):
    """A report before it is dated."""

    schema: Literal["privgen-report/1"]
    privgen_version: str
    data: DataDict | None
    generator: GeneratorDict | None
    audit: AuditDict | None
    augment_bench: BenchDict | None
    recipe: NotRequired[RecipeDict]
    reproduce: ReproduceDict


class ReportDict(ReportFacts):
    """The whole of report.json."""

    created: str
    weaker_than_default: Sequence[WeakerDict]
    samples_png: str | None

"""What the template of a model card is given, key by key."""

from collections.abc import Sequence
from typing import TypedDict

from audits.sections import HarmName, OutcomeName


class CardGenerator(TypedDict):
    """The generator."""

    family: str
    about: str
    resolution: int
    classes: Sequence[str]
    parameters: int
    kimg: str
    digest: str
    version: str


class ClassRow(TypedDict):
    """Training tiles of one class, and whose they are; small counts are withheld."""

    name: str
    tiles: str
    groups: str


class RoleRow(TypedDict):
    """One role: what it means, and its share of the tiles."""

    name: str
    meaning: str
    share: str
    groups: str


class CardData(TypedDict):
    """The tiles it was trained on, in counts."""

    unit: str
    people: str
    smallest: int
    class_rows: Sequence[ClassRow]
    total: str
    total_groups: str
    role_rows: Sequence[RoleRow]


class HarmRow(TypedDict):
    """The verdict on one harm."""

    harm: HarmName
    question: str
    outcome: OutcomeName
    gates: str


class CardAudit(TypedDict):
    """What an audit of it found; the last are kinds of copies with the share they are seen from."""

    outcome: OutcomeName
    sentence: str
    weaker: Sequence[str]
    meaning: str
    version: str
    created: str
    named: bool
    truncation: float
    synthetic: str
    harms: Sequence[HarmRow]
    mdl80: Sequence[tuple[str, str]]

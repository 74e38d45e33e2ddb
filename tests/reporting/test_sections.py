"""The types of report.json say what its schema says: the same keys, of the same types."""

import json
import types
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints, is_typeddict

import pytest

from privgen import reporting
from privgen.reporting.sections import ReportDict

SCHEMA = json.loads(
    (Path(reporting.__file__).parent / "schema" / "report.schema.json").read_text(encoding="utf-8")
)
PLAIN = {"string": str, "number": float, "integer": int, "boolean": bool, "null": None}


def resolved(schema: dict[str, Any]) -> dict[str, Any]:
    """A schema with what it refers to."""
    if "$ref" not in schema:
        return schema
    return {**resolved(SCHEMA["$defs"][schema["$ref"].rpartition("/")[2]]), **schema}


def types_of(schema: dict[str, Any]) -> set[str]:
    """JSON types a schema allows."""
    schema = resolved(schema)
    if "anyOf" in schema:
        return set().union(*(types_of(one) for one in schema["anyOf"]))
    if "enum" in schema:
        return {"null" if word is None else "string" for word in schema["enum"]}
    if "const" in schema:
        return {"string"}
    named = schema["type"]
    return {named} if isinstance(named, str) else set(named)


def words_of(schema: dict[str, Any]) -> set[str] | None:
    """Texts a schema allows; None where it allows any."""
    schema = resolved(schema)
    if "const" in schema:
        return {schema["const"]}
    return {word for word in schema["enum"] if word is not None} if "enum" in schema else None


def part_of(schema: dict[str, Any], kind: str) -> dict[str, Any]:
    """The alternative of a schema that is an object, or an array."""
    schema = resolved(schema)
    if "anyOf" in schema:
        return next(part_of(one, kind) for one in schema["anyOf"] if kind in types_of(one))
    return schema


def faults(hint: Any, schema: dict[str, Any], place: str) -> Iterator[str]:
    """Where a type and a schema differ, told by the place in the report."""
    union = get_origin(hint) in (Union, types.UnionType)
    seen = set()
    for one in get_args(hint) if union else (hint,):
        origin = get_origin(one)
        if is_typeddict(one):
            seen.add("object")
            yield from keys_differ(one, part_of(schema, "object"), place)
        elif origin is Mapping:
            seen.add("object")
            values = part_of(schema, "object")
            if "properties" in values:
                yield f"{place}: the schema names keys"
            yield from faults(get_args(one)[1], values["additionalProperties"], f"{place}.*")
        elif origin is Sequence:
            seen.add("array")
            items = part_of(schema, "array")["items"]
            yield from faults(get_args(one)[0], items, f"{place}[]")
        elif origin is Literal:
            seen.add("string")
            if set(get_args(one)) != words_of(schema):
                yield f"{place}: {get_args(one)} against {words_of(schema)}"
        else:
            seen |= {name for name, kind in PLAIN.items() if one in (kind, type(kind))}
    if seen != types_of(schema):
        yield f"{place}: {sorted(seen)} against {sorted(types_of(schema))}"


def keys_differ(named: Any, schema: dict[str, Any], place: str) -> Iterator[str]:
    """The same of a dictionary with named keys."""
    if named.__required_keys__ != set(schema["required"]):
        yield f"{place}: required {sorted(named.__required_keys__ ^ set(schema['required']))}"
    hints = get_type_hints(named)
    if hints.keys() != schema["properties"].keys():
        yield f"{place}: {sorted(hints.keys() ^ schema['properties'].keys())}"
    if schema["additionalProperties"] is not False:
        yield f"{place}: the schema allows other keys"
    for key in hints.keys() & schema["properties"].keys():
        yield from faults(hints[key], schema["properties"][key], f"{place}.{key}")


def test_the_types_say_what_the_schema_says() -> None:
    assert list(keys_differ(ReportDict, SCHEMA, "$")) == []


@pytest.mark.parametrize(
    ("name", "change", "told"),
    [
        ("estimate", {"properties": {"value": {"type": "string"}}}, "statistic.value: ['number']"),
        ("verdict", {"properties": {"remark": {"type": "string"}}}, "verdict: ['remark']"),
        ("convergence", {"required": ["curve"]}, "convergence: required ['chosen'"),
        ("outcome", {"enum": ["PASS"]}, "verdict.outcome: "),
    ],
)
def test_a_difference_is_found(
    monkeypatch: pytest.MonkeyPatch, name: str, change: dict[str, Any], told: str
) -> None:
    changed = json.loads(json.dumps(SCHEMA["$defs"]))
    if "properties" in change:
        changed[name]["properties"] |= change["properties"]
    else:
        changed[name] |= change
    monkeypatch.setitem(SCHEMA, "$defs", changed)
    assert any(told in fault for fault in keys_differ(ReportDict, SCHEMA, "$"))

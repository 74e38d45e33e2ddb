"""The policy refuses what it cannot mean."""

import json
from typing import Any

import pytest

from audits import AuditInputError, Harm, Policy


def test_defaults_are_those_of_the_methods() -> None:
    policy = Policy()
    assert policy.significance == 0.05
    assert policy.gates == tuple(Harm)
    assert policy.copying_mdl80 == 0.01
    assert policy.copying_kinds == ("exact", "symmetry", "odd_rotation", "stain")
    assert policy.membership_excess == 0.1


@pytest.mark.parametrize("name", ["significance", "copying_mdl80", "membership_excess"])
@pytest.mark.parametrize("value", [0.0, 1.0, -0.1, float("nan"), float("inf"), "0.1", 1, None])
def test_levels_must_be_numbers_inside_the_unit_interval(name: str, value: Any) -> None:
    with pytest.raises(AuditInputError, match=rf"policy {name} must be a number in \(0, 1\)"):
        Policy(**{name: value})


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"gates": ()}, "at least one harm"),
        ({"gates": ("copying ",)}, "must be harms"),
        ({"copying_kinds": ()}, "at least one kind"),
        ({"copying_kinds": (1,)}, "at least one kind"),
        ({"fractions": ()}, "fractions must lie"),
        ({"fractions": (0.1, 0.0)}, "fractions must lie"),
        ({"fractions": (1.5,)}, "fractions must lie"),
        ({"fractions": ("a",)}, "fractions must lie"),
    ],
)
def test_lists_must_hold_something_sensible(values: dict[str, Any], message: str) -> None:
    with pytest.raises(AuditInputError, match=message):
        Policy(**values)


def test_from_mapping_reads_plain_data() -> None:
    policy = Policy.from_mapping(
        {
            "gates": ["copying"],
            "copying_kinds": ["exact"],
            "fractions": [0.1, 1],
            "significance": 0.01,
        }
    )
    assert policy == Policy(
        gates=(Harm.COPYING,), copying_kinds=("exact",), fractions=(0.1, 1), significance=0.01
    )


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"gate": ["copying"]}, "unknown policy key 'gate': known are significance, gates"),
        ({"gates": ["stealing"]}, "policy gates: .*stealing"),
        ({"gates": "copying"}, "policy gates must be a list: got 'copying'"),
        ({"copying_kinds": "exact"}, "policy copying_kinds must be a list: got 'exact'"),
        ({"fractions": 0.1}, "policy fractions must be a list"),
        ({"fractions": ["a"]}, "fractions must lie"),
        ({"gates": [3]}, "policy gates"),
    ],
)
def test_from_mapping_names_what_is_wrong(values: dict[str, Any], message: str) -> None:
    with pytest.raises(AuditInputError, match=message):
        Policy.from_mapping(values)


def test_plain_data_round_trips_through_json() -> None:
    policy = Policy(gates=(Harm.COPYING,), fractions=(0.1,))
    assert Policy.from_mapping(json.loads(json.dumps(policy.to_dict()))) == policy

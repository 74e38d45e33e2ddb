"""What an audit is asked for: checked when it is made, refused by name, printed whole."""

from dataclasses import fields, replace
from typing import Any

import pytest

import privgen
from audits import Policy
from privgen.auditing.document import _command
from privgen.auditing.requests import (
    AuditOptions,
    GeneratorAudit,
    TilesAudit,
    _RealTiles,
    audit_request,
)
from privgen.errors import ConfigError, InputError
from privgen.requests import options_of

TILES = {"train": "a", "holdout": "b", "synthetic": "c"}
SOME: dict[str, Any] = {
    "generator": "run.pt",
    "data": "tiles",
    "count": 5,
    "truncation": 0.5,
    "recipe": "recipe",
    "insider": True,
    "synthetic": "made",
    "sampler": "make {n} {out}",
}
"""A value for each option that belongs to one kind of audit."""


def own(mine: type, *others: type) -> list[str]:
    shared = {one.name for other in others for one in fields(other)}
    return [one.name for one in fields(mine) if one.name not in shared]


@pytest.mark.parametrize("name", own(TilesAudit, GeneratorAudit))
def test_an_audit_of_a_generator_refuses_each_option_of_tiles(name: str) -> None:
    with pytest.raises(ConfigError, match=f"got `{name}` beside it"):
        audit_request({"generator": "run.pt", name: SOME[name]})


@pytest.mark.parametrize("name", [n for n in own(GeneratorAudit, TilesAudit) if n != "generator"])
def test_an_audit_of_tiles_refuses_each_option_of_a_generator(name: str) -> None:
    with pytest.raises(ConfigError, match=f"`{name}` needs the generator itself"):
        audit_request({**TILES, name: SOME[name]})


@pytest.mark.parametrize("name", own(_RealTiles))
def test_the_ledger_decides_what_is_not_given_with_train_and_holdout(name: str) -> None:
    value = {"on_bad_tile": "skip", "icc": "apply"}.get(name, "x")
    error = InputError if name in ("train", "holdout") else ConfigError
    with pytest.raises(error, match=f"`{name}`|both `train` and `holdout`"):
        GeneratorAudit(generator="run.pt", **{name: value})


def test_a_moved_ledger_and_tiles_in_its_place_do_not_go_together() -> None:
    with pytest.raises(ConfigError, match="`data` says where the tiles of the ledger are"):
        GeneratorAudit(generator="g.pt", data="there", train="a", holdout="b")


@pytest.mark.parametrize("missing", TILES)
def test_tiles_need_all_three(missing: str) -> None:
    given = {name: value for name, value in TILES.items() if name != missing}
    with pytest.raises(InputError, match="an audit needs `generator`, or `train`, `holdout`"):
        TilesAudit(**given)


def test_a_count_is_of_tiles_that_are_drawn() -> None:
    with pytest.raises(ConfigError, match="`count` is of tiles that are drawn"):
        TilesAudit(**TILES, count=10)
    assert TilesAudit(train="a", holdout="b", sampler="make {n} {out}", count=10).draws
    assert TilesAudit(**{**TILES, "synthetic": lambda n: None}, count=10).draws


@pytest.mark.parametrize(
    ("options", "rule"),
    [
        ({"seed": -1}, r"`seed` must be 0 or more: got -1"),
        ({"seed": True}, r"`seed` must be a whole number: got True"),
        ({"seed": "1"}, r"`seed` must be a whole number: got '1'"),
        ({"harmonise": "on"}, r"`harmonise` must be one of auto, off: got 'on'"),
        ({"encoder": 3}, r"`encoder` must be a text: got 3"),
        ({"align": "yes"}, r"`align` must be True or False: got 'yes'"),
        ({"cache": 7}, r"`cache` must be a path: got 7"),
        ({"approximate": True, "scheduler": "tcp://x:1"}, "searches exactly"),
        ({"align": False, "approximate": True}, "got `align=False` beside"),
        ({"align": False, "scheduler": "tcp://x:1"}, "got `align=False` beside"),
        ({"align": False, "reveal_suspects": True}, "got `align=False` beside"),
    ],
)
def test_a_wrong_value_is_one_line_that_names_the_parameter(
    options: dict[str, Any], rule: str
) -> None:
    with pytest.raises(ConfigError, match=rule) as raised:
        AuditOptions(**options)
    assert "\n" not in str(raised.value)


def test_an_unknown_option_names_the_nearest() -> None:
    with pytest.raises(ConfigError, match="did you mean `synthetic`"):
        privgen.audit(train="a", holdout="b", syntetic="c")


def test_requests_and_options_are_not_mixed() -> None:
    with pytest.raises(ConfigError, match="options stand in the requests: got `seed`"):
        privgen.audit(TilesAudit(**TILES), AuditOptions(), seed=1)


def test_none_is_a_value_that_was_not_given() -> None:
    what, how = audit_request({**TILES, "generator": None, "count": None, "encoder": None})
    assert what == TilesAudit(**TILES)
    assert how == AuditOptions()


def test_the_printed_command_holds_every_option_and_no_path() -> None:
    what = GeneratorAudit(
        generator="/p/run.pt",
        train="/p/a",
        holdout="/p/b",
        siblings="/p/s",
        reference="/p/r",
        group_by="slide",
        on_bad_tile="skip",
        icc="apply",
        count=7,
        truncation=0.5,
        insider=True,
        recipe="/p/recipe",
    )
    how = AuditOptions(
        encoder="timm:/p/net.pt",
        align=False,
        harmonise="off",
        policy=Policy(),
        seed=3,
        fid=True,
        fid_weights="/p/w",
        lpips=True,
        lpips_weights="/p/l",
        cache="/p/cache",
    )
    command = _command(what, how)
    assert "/" not in command
    words = command.split()
    never = {n for n, (_, of) in options_of(AuditOptions).items() if of.printed == "never"}
    for name in {one.name for one in (*fields(what), *fields(how))} - never:
        if name in ("data", "approximate"):
            continue  # cannot stand beside the others
        flag = "--no-align" if name == "align" else f"--{name.replace('_', '-')}"
        assert flag in words, name
    assert "--encoder timm:FILE" in command
    assert "--cache" not in command, "what decides nothing is not needed to make it again"
    printed = _command(TilesAudit(**TILES), replace(AuditOptions(), approximate=True, align=True))
    assert printed == (
        "privgen audit --synthetic SYNTHETIC --train TRAIN --holdout HOLDOUT "
        "--encoder effnet_lite0 --align --approximate --seed 0"
    )

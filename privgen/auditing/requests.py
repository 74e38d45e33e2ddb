"""What an audit is asked for: a generator and its ledger, or tiles by role; and how to look.

`GeneratorAudit` and `TilesAudit` say what is audited, `AuditOptions` how. Each is checked when it
is made. An option that does not belong to what is audited is refused by name: an audit that left it
aside in silence would not be the audit that was asked for.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from privgen.choices import (
    GROUP_BY_HELP,
    ICC_HELP,
    ON_BAD_TILE_HELP,
    Harmonise,
    Icc,
    OnBadTile,
)
from privgen.errors import ConfigError, InputError
from privgen.requests import check, made, option

if TYPE_CHECKING:
    import audits
    from privgen.data.sources import Source
    from privgen.insider.inversion import Effort

DEFAULT_COUNT = 1000
"""Synthetic tiles drawn from a generator, a sampler or a function."""

DEFAULT_ENCODER = "effnet_lite0"
"""The encoder that thresholds, power and speed were measured with."""

_WHAT, _FILES, _HOW, _MORE = "What is audited", "How files are read", "How to look", "Further"


@dataclass(frozen=True, kw_only=True)
class _RealTiles:
    """Real tiles by role, and how their files are read; see `open_tiles`."""

    train: "Source | None" = option(
        Path, "Tiles the generator was trained on.", panel=_WHAT, place="TRAIN", python=True
    )
    holdout: "Source | None" = option(
        Path, "Tiles of patients it never met.", panel=_WHAT, place="HOLDOUT", python=True
    )
    siblings: "Source | None" = option(
        Path,
        "Held-back tiles of the training slides; without them tile membership is not measured.",
        panel=_WHAT,
        place="SIBLINGS",
        python=True,
    )
    reference: "Source | None" = option(
        Path, "Tiles of further patients.", panel=_WHAT, place="REFERENCE", python=True
    )
    group_by: str | None = option(
        str,
        GROUP_BY_HELP,
        panel=_FILES,
        words="recognised",
    )
    on_bad_tile: OnBadTile = option(OnBadTile, ON_BAD_TILE_HELP, "error", panel=_FILES)
    icc: Icc = option(
        Icc,
        ICC_HELP,
        "ignore",
        panel=_FILES,
    )

    @property
    def roles(self) -> "dict[str, Source | None]":
        """Sources by role; None for a role that was not given."""
        names = ("train", "siblings", "holdout", "reference")
        return {name: getattr(self, name) for name in names}


@dataclass(frozen=True, kw_only=True)
class GeneratorAudit(_RealTiles):
    """A generator of privgen's. A checkpoint's ledger finds the real tiles by itself."""

    generator: Path | str = option(
        Path,
        "A privgen checkpoint, whose ledger names the real tiles; or a generator file beside "
        "--train and --holdout.",
        panel=_WHAT,
        place="CHECKPOINT",
    )
    data: Path | str | None = option(
        Path,
        "Where the training data are now, if they have moved.",
        panel=_WHAT,
        place="DATA",
    )
    count: int = option(
        int,
        "Synthetic tiles drawn from a generator, a sampler or a function.",
        DEFAULT_COUNT,
        low=1,
        panel=_WHAT,
        printed="always",
    )
    truncation: float = option(
        float,
        "Of the drawn tiles: audit what will be released.",
        1.0,
        low=0,
        high=1,
        panel=_WHAT,
    )
    recipe: Path | str | None = option(
        Path,
        "Audit of the generator's recipe, as privgen audit-recipe wrote it: decides membership.",
        panel=_WHAT,
        place="RECIPE",
    )
    insider: "bool | Effort" = option(
        bool,
        "Also attack with the generator's weights, and a checkpoint's discriminator.",
        False,
        panel=_MORE,
        python=True,
    )

    draws = True
    """Whether tiles are drawn, so that there could be more."""

    def __post_init__(self) -> None:
        check(self)
        if self.train is None and self.holdout is None:
            alone = [
                one.name for one in fields(_RealTiles) if getattr(self, one.name) != one.default
            ]
            if alone:
                raise ConfigError(
                    f"the ledger names the real tiles and how they are read: got `{alone[0]}` "
                    "without `train` and `holdout`. Give these too, or leave it out."
                )
        elif None in (self.train, self.holdout):
            missing = "train" if self.train is None else "holdout"
            raise InputError(f"an audit needs both `train` and `holdout`: `{missing}` is missing.")
        elif self.data is not None:
            raise ConfigError(
                "`data` says where the tiles of the ledger are: got it beside `train` or "
                "`holdout`, which take their place. Leave one out."
            )


@dataclass(frozen=True, kw_only=True)
class TilesAudit(_RealTiles):
    """Anybody's synthetic tiles, or a program or function that makes them, and the real tiles."""

    synthetic: "Source | Callable[[int], Source] | None" = option(
        Path,
        "Synthetic tiles, from any tool.",
        panel=_WHAT,
        place="SYNTHETIC",
        python=True,
    )
    sampler: str | None = option(
        str,
        "Command that writes --count synthetic tiles: 'CMD {n} {seed} {out}'. It runs as a process "
        "of its own, without a shell.",
        panel=_WHAT,
        place="SAMPLER",
    )
    count: int | None = option(
        int,
        "Synthetic tiles drawn from a generator, a sampler or a function.",
        low=1,
        panel=_WHAT,
        words=f"{DEFAULT_COUNT}",
    )

    def __post_init__(self) -> None:
        check(self)
        given = {**self.roles, "synthetic": self.synthetic, "sampler": self.sampler}
        if self.synthetic is not None and self.sampler is not None:
            raise ConfigError("`sampler` makes the synthetic tiles: got `synthetic` too. Give one.")
        if None in (self.train, self.holdout) or (self.synthetic is None and self.sampler is None):
            got = ", ".join(f"`{name}`" for name, source in given.items() if source is not None)
            raise InputError(
                "an audit needs `generator`, or `train`, `holdout` and `synthetic` (or `sampler`): "
                f"got {got or 'none of them'}."
            )
        if self.count is not None and not self.draws:
            raise ConfigError(
                "`count` is of tiles that are drawn: got it beside `synthetic`, which is audited "
                "whole. Leave it out."
            )

    @property
    def draws(self) -> bool:
        """Whether tiles are drawn, so that there could be more."""
        made = callable(self.synthetic) and not hasattr(self.synthetic, "__len__")
        return self.sampler is not None or made


@dataclass(frozen=True, kw_only=True)
class AuditOptions:
    """How tiles are looked at, and by which policy they are judged."""

    encoder: str = option(
        str, "Encoder of the search.", DEFAULT_ENCODER, panel=_HOW, printed="always"
    )
    align: bool | None = option(
        bool,
        "Prove single copies by key points.",
        panel=_HOW,
        flags=("--align/--no-align",),
        words="where it takes minutes",
    )
    approximate: bool = option(
        bool,
        "Align by an approximate shortlist, for very many tiles; what it misses is measured.",
        False,
        panel=_HOW,
    )
    scheduler: str | None = option(
        str,
        "Dask scheduler whose workers align, tcp://host:8786.",
        panel=_HOW,
        printed="never",
    )
    harmonise: Harmonise = option(
        Harmonise,
        "Bring roles of different files (JPEG, scaling) to one pipeline.",
        "auto",
        panel=_HOW,
    )
    policy: "audits.Policy | Path | str | None" = option(
        Path,
        "TOML: what gates, how small a leak must be visible.",
        panel=_HOW,
        place="POLICY",
        python=True,
    )
    seed: int = option(int, "Seed of every random draw.", 0, low=0, panel=_HOW, printed="always")
    fid: bool = option(
        bool, "Add FID proper; fetches the Inception weights once.", False, panel=_MORE
    )
    fid_weights: Path | str | None = option(
        Path, "The FID Inception weights; implies --fid.", panel=_MORE, place="WEIGHTS"
    )
    lpips: bool = option(
        bool, "Add LPIPS diversity; fetches its backbone once.", False, panel=_MORE
    )
    lpips_weights: Path | str | None = option(
        Path, "The LPIPS backbone weights; implies --lpips.", panel=_MORE, place="WEIGHTS"
    )
    cache: Path | str | None = option(
        Path,
        "Private folder that keeps embeddings for the next audit.",
        panel=_MORE,
        printed="never",
    )
    reveal_suspects: bool = option(
        bool,
        "Also write suspects.html: the most suspicious tiles beside training tiles. Private, mode "
        "0600; implies --align, needs --out.",
        False,
        panel=_MORE,
        printed="never",
    )

    def __post_init__(self) -> None:
        check(self)
        if self.reveal_suspects and self.align is False:
            raise ConfigError(
                "suspects are found by alignment: got `align=False` beside `reveal_suspects`. "
                "Give one."
            )
        if self.approximate and self.scheduler is not None:
            raise ConfigError(
                "`scheduler` searches exactly: got `approximate` beside it. Give one of them."
            )
        if self.align is False and (self.approximate or self.scheduler is not None):
            raise ConfigError(
                "`approximate` and `scheduler` say how to align: got `align=False` beside them. "
                "Leave that out."
            )


AuditSubject = GeneratorAudit | TilesAudit


def audit_request(given: Mapping[str, Any]) -> tuple[AuditSubject, AuditOptions]:
    """What is audited and how, from the values of all options; None is a value not given.

    Raises:
      ConfigError: an option is unknown, out of range, or belongs to the other kind of audit.
      InputError: what is to be audited was not given.
    """
    values = {name: value for name, value in given.items() if value is not None}
    how = {one.name for one in fields(AuditOptions)}
    what = {name: value for name, value in values.items() if name not in how}
    mine: type[AuditSubject] = GeneratorAudit if "generator" in what else TilesAudit
    other: type[AuditSubject] = TilesAudit if mine is GeneratorAudit else GeneratorAudit
    own = {one.name for one in fields(mine)}
    for name in what:
        if name not in own and name in {one.name for one in fields(other)}:
            raise ConfigError(_FOREIGN[mine].format(name=name))
    return (
        made(mine, what),
        made(AuditOptions, {name: value for name, value in values.items() if name in how}),
    )


_FOREIGN: dict[type, str] = {
    GeneratorAudit: "`generator` makes the synthetic tiles: got `{name}` beside it. Leave one out.",
    TilesAudit: "`{name}` needs the generator itself: got it with tiles alone. Give `generator`, "
    "or leave `{name}` out.",
}

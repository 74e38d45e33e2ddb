"""What `privgen audit-recipe` is asked for beside the configuration of its trainings."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, get_args

from audits.recipe_sections import FEWEST_RUNS, Scheme
from privgen.choices import (
    GROUP_BY_HELP,
    ICC_HELP,
    ON_BAD_TILE_HELP,
    Icc,
    OnBadTile,
)
from privgen.errors import ConfigError
from privgen.requests import check, option

if TYPE_CHECKING:
    import audits
    from privgen.data.sources import Source

_WHAT, _FILES, _RUN = "What is audited", "How files are read", "How it is run"

DEFAULT_RUNS, DEFAULT_COUNT, DEFAULT_SIBLINGS = 16, 1000, 0.25


@dataclass(frozen=True, kw_only=True)
class RecipeRequest:
    """A recipe, the patients it is tried on, and how its runs are compared."""

    data: "Source" = option(
        Path,
        "Tiles: class folders, manifest.csv or .npz. Patients must be named.",
        place="DATA",
        argument=True,
        python=True,
    )
    runs: int = option(
        int,
        "Trainings of the recipe, each on a random part of the patients.",
        DEFAULT_RUNS,
        low=FEWEST_RUNS,
        high=1024,
        panel=_WHAT,
        printed="always",
    )
    coins: Scheme = option(
        Scheme,
        "How patients are drawn: pairs of runs that share them out, every run by itself, or runs "
        "of exactly half of the patients.",
        "complementary",
        panel=_WHAT,
    )
    count: int = option(
        int,
        "Synthetic tiles drawn from every run; as many as a release's audit draws.",
        DEFAULT_COUNT,
        low=16,
        panel=_WHAT,
        printed="always",
    )
    siblings: float = option(
        float,
        "Share of each slide's tiles that no run is given.",
        DEFAULT_SIBLINGS,
        low=0.0,
        high=0.5,
        panel=_WHAT,
    )
    encoder: str = option(
        str, "Encoder that compares tiles.", "effnet_lite0", panel=_WHAT, printed="always"
    )
    insider: bool = option(
        bool,
        "Also try what somebody who holds the weights can tell: every run's generator is searched "
        "for every real tile, which takes long and is not in the dry run's minutes.",
        False,
        panel=_WHAT,
    )
    policy: "audits.Policy | Path | str | None" = option(
        Path,
        "TOML: which harms gate, how small a leak must be visible.",
        panel=_WHAT,
        place="POLICY",
        python=True,
    )
    group_by: str | None = option(str, GROUP_BY_HELP, panel=_FILES, words="recognised")
    on_bad_tile: OnBadTile = option(OnBadTile, ON_BAD_TILE_HELP, "error", panel=_FILES)
    icc: Icc = option(Icc, ICC_HELP, "ignore", panel=_FILES)
    jobs: int | None = option(
        int,
        "Trainings at a time on this machine; each takes one core.",
        low=1,
        high=1024,
        panel=_RUN,
        printed="never",
        words="cores",
    )
    scheduler: str | None = option(
        str,
        "Dask scheduler whose workers train, tcp://host:8786. They must see OUT-private under the "
        "same path.",
        panel=_RUN,
        printed="never",
    )

    def __post_init__(self) -> None:
        check(self)
        if self.data is None:
            raise ConfigError("the audit of a recipe needs a folder of tiles: got none.")
        if self.jobs is not None and self.scheduler is not None:
            raise ConfigError(
                "`jobs` counts processes of this machine: got `scheduler` beside it. Give one."
            )
        if self.coins == get_args(Scheme)[0] and self.runs % 2:
            raise ConfigError(
                f"`coins` complementary makes pairs of runs: got `runs` {self.runs}. Give an even "
                "number, or other coins."
            )

"""What `privgen train` is asked for beside the configuration: tiles, and how they are split."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from audits.sections import FEWEST_CANARIES
from privgen.choices import (
    GROUP_BY_HELP,
    ICC_HELP,
    ON_BAD_TILE_HELP,
    CanaryKind,
    Icc,
    OnBadTile,
)
from privgen.errors import ConfigError
from privgen.limits import CANARIES
from privgen.requests import check, option

if TYPE_CHECKING:
    from privgen.data.sources import Source

_SPLIT, _FILES = "How patients are split", "How files are read"


@dataclass(frozen=True, kw_only=True)
class SessionRequest:
    """The tiles of a training, and which of them the generator may see.

    What is None was not asked for: a resumed run keeps its own.
    """

    data: "Source | None" = option(
        Path,
        "Tiles: class folders, manifest.csv or .npz.",
        place="DATA",
        argument=True,
        python=True,
    )
    holdout: float | None = option(
        float,
        "Share of tiles, by patient, kept for the audit.",
        low=0.05,
        high=0.9,
        panel=_SPLIT,
        words="0.35",
    )
    siblings: float | None = option(
        float,
        "Share of each training slide held back.",
        low=0.0,
        high=0.5,
        panel=_SPLIT,
        words="0.1",
    )
    canaries: int | None = option(
        int,
        "Patients whose own coins decide whether they are trained on, so that the audit can look "
        "for them: 8 or more, or 0.",
        low=0,
        high=CANARIES,
        panel=_SPLIT,
        words="none",
    )
    canaries_from: CanaryKind | None = option(
        CanaryKind,
        "Paint artificial canaries, or draw real ones from the patients held out.",
        panel=_SPLIT,
        words="artificial",
    )
    group_by: str | None = option(
        str,
        GROUP_BY_HELP,
        panel=_FILES,
        words="recognised",
    )
    on_bad_tile: OnBadTile | None = option(OnBadTile, ON_BAD_TILE_HELP, panel=_FILES, words="error")
    icc: Icc | None = option(
        Icc,
        ICC_HELP,
        panel=_FILES,
        words="ignore",
    )
    resume: Path | str | None = option(
        str,
        "Run folder or checkpoint to resume; auto resumes the newest unfinished run of these tiles "
        "in --out, or starts one.",
        place="RUN",
        python=True,
    )

    def __post_init__(self) -> None:
        check(self)
        if self.canaries and self.canaries < FEWEST_CANARIES:
            raise ConfigError(
                f"canaries must be {FEWEST_CANARIES} or more, or none: got {self.canaries}. With "
                "fewer no arrangement of their coins is rare enough to mean anything."
            )
        begins = self.resume in (None, "auto")
        if self.canaries_from is not None and not self.canaries and begins:
            raise ConfigError(
                f"`canaries_from` {self.canaries_from} says what canaries are: got none. Give "
                "`canaries`."
            )
        if self.data is None and self.resume in (None, "auto"):
            raise ConfigError("training needs a folder of tiles, or `resume` RUN: got neither.")

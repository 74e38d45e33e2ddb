"""What `privgen tile` is asked for: which tiles, of what classes, and whose they are."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from privgen.errors import ConfigError
from privgen.requests import check, option

Layout = Literal["folders", "tar"]
Frame = Literal["auto", "bounds", "level-0"]
StainMethod = Literal["macenko", "reinhard"]

_CUT, _CLASSES, _WHOSE, _RUN = "How tiles are cut", "Classes", "Patients", "How it is run"


@dataclass(frozen=True, kw_only=True)
class TilingRequest:
    """One tiling run. What is given beside a preset wins over it."""

    size: int | None = option(int, "Side of a tile, pixels.", panel=_CUT, words="256")
    mpp: float | None = option(
        float, "Micrometres per pixel of the tiles.", panel=_CUT, words="0.5"
    )
    stride: int | None = option(
        int,
        "Pixels from one tile to the next; below --size tiles overlap.",
        panel=_CUT,
        words="the size",
    )
    preset: str | None = option(str, "Cut as a published study did: deepfakes-2020.", panel=_CUT)
    coordinates: Path | str | None = option(
        Path,
        "Folder of STEM_patches.h5 (TRIDENT) or STEM.h5 (CLAM): cut there, at their scale.",
        panel=_CUT,
        place="COORDINATES",
    )
    min_tissue: float | None = option(
        float, "Least share of a tile on the tissue mask.", panel=_CUT, words="0.5"
    )
    mpp_override: "Sequence[str] | Mapping[str, float]" = option(
        list[str],
        "NAME=MPP: micrometres per pixel of the slides whose names start so, where the file stores "
        "none or a wrong one; MPP alone: of all. Repeat it as needed.",
        (),
        panel=_CUT,
        place="NAME=MPP",
        python=True,
    )
    layout: Layout | None = option(
        Layout,
        "Class folders of PNG, or tar shards (WebDataset).",
        panel=_CUT,
        words="folders",
    )
    stain: StainMethod | None = option(
        StainMethod, "Normalise stains towards --stain-target.", panel=_CUT
    )
    stain_target: Path | str | None = option(
        Path, "The tile whose stains all others take.", panel=_CUT, place="TARGET"
    )
    labels: Path | str | None = option(
        Path,
        "CSV of slide,label, or folder of QuPath's STEM.geojson regions.",
        panel=_CLASSES,
        place="LABELS",
    )
    annotation_frame: Frame | None = option(
        Frame,
        "Where regions count from if the scanned area has an offset: bounds (its corner, QuPath's "
        "default) or level-0; auto is told by where they fit.",
        panel=_CLASSES,
        words="auto",
    )
    min_share: float | None = option(
        float,
        "Least share of a tile in a region that gives it its class.",
        panel=_CLASSES,
        words="0.75",
    )
    patients: Path | str | None = option(
        Path,
        "CSV of slide,patient. TCGA barcodes need none.",
        panel=_WHOSE,
        place="PATIENTS",
    )
    patient_pattern: str | None = option(
        str, "Regular expression; its group is the patient.", panel=_WHOSE, place="PATTERN"
    )
    private: Path | str | None = option(
        Path,
        "Folder of thumbnails and summary, yours alone.",
        panel=_WHOSE,
        words="OUT-private",
        printed="never",
    )
    key: Path | str | None = option(
        Path,
        "Key of the pseudonyms, made if missing.",
        panel=_WHOSE,
        words="PRIVATE/key",
        place="KEY",
    )
    workers: int | None = option(
        int,
        "Slides at a time on this machine.",
        low=1,
        panel=_RUN,
        words="1, cut by all cores",
        printed="never",
    )
    scheduler: str | None = option(
        str,
        "Dask scheduler whose workers see the same folders, tcp://host:8786: one slide per task.",
        panel=_RUN,
        printed="never",
    )

    @property
    def micrometres(self) -> dict[str, float]:
        """Micrometres per level-0 pixel by the start of a stem, or shell pattern; "" fits any."""
        return dict(self.mpp_override) if isinstance(self.mpp_override, Mapping) else {}

    def __post_init__(self) -> None:
        check(self)
        object.__setattr__(self, "mpp_override", _micrometres(self.mpp_override))
        if (self.stain is None) != (self.stain_target is None):
            raise ConfigError("`stain` and `stain_target` go together: give both or neither.")
        if self.scheduler is not None and self.workers is not None:
            raise ConfigError("`workers` is of this machine and `scheduler` of others: give one.")


def _micrometres(given: "Sequence[str] | Mapping[str, float]") -> dict[str, float]:
    pairs = given.items() if isinstance(given, Mapping) else map(_pair, given)
    found = dict(pairs)
    for name, value in found.items():
        if not isinstance(value, int | float) or not 0.05 <= value <= 20:
            raise ConfigError(
                f"`mpp_override` is NAME=MPP or MPP, .05 to 20: got {name}={value}. Give, say, "
                "TCGA=0.25."
            )
    return found


def _pair(text: str) -> tuple[str, float]:
    name, _, number = text.rpartition("=")
    try:
        return name, float(number)
    except ValueError as error:
        raise ConfigError(
            f"`mpp_override` is NAME=MPP or MPP, .05 to 20: got {text!r}. Give, say, TCGA=0.25."
        ) from error

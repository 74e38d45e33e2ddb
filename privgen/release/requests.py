"""What `privgen sample` is asked for."""

from dataclasses import dataclass
from typing import Literal

from privgen.choices import Balance
from privgen.requests import check, option

Format = Literal["png", "npz"]


@dataclass(frozen=True, kw_only=True)
class SampleRequest:
    """One sample of a generator; the same request always gives the same tiles."""

    count: int = option(int, "Tiles of the whole sample.", 1000, low=1, printed="always")
    balance: Balance = option(
        Balance, "Classes as frequent as in training, or equally frequent.", "preserve"
    )
    truncation: float = option(
        float,
        "Below 1, tiles nearer to the mean of their class: less diverse, leaks no less. Audit what "
        "you release.",
        1.0,
        low=0,
        high=1,
    )
    format: Format = option(
        Format, "PNG in class folders, or numbered .npz files, for very many.", "png"
    )
    tiles_per_file: int | None = option(
        int, "Tiles of an .npz file, a multiple of 32.", words="256 MiB or 9984"
    )
    seed: int = option(int, "Seed of every random draw.", 0, low=0, printed="always")

    def __post_init__(self) -> None:
        check(self)

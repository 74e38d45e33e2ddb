"""What augment-bench is asked for: whose tiles, which trainings, and by whom they are done."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

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
    from privgen.data.tileset import TileSet

Size = Literal["small", "standard"]

_TILES, _TRAININGS, _RUN = "Whose tiles", "Which trainings", "How it is run"


@dataclass(frozen=True, kw_only=True)
class Workload:
    """How much is trained where nothing else is asked for.

    Attributes:
      seeds: classifier seeds.
      generator_seeds: generators for each regime.
      ratios: synthetic tiles for each real one.
      updates: optimiser updates of every training.
    """

    seeds: int
    generator_seeds: int
    ratios: tuple[float, ...]
    updates: int


FULL = Workload(seeds=5, generator_seeds=2, ratios=(0.25, 0.5, 1.0, 2.0, 3.0), updates=80)
QUICK = Workload(seeds=3, generator_seeds=1, ratios=(1.0,), updates=24)


@dataclass(frozen=True, kw_only=True, eq=False)
class BenchRequest:
    """One benchmark. Lists may be sequences, or texts with commas."""

    data: "Path | str | TileSet | None" = option(
        Path,
        "Real tiles; procedural ones when left out.",
        place="DATA",
        argument=True,
        python=True,
    )
    synthetic: "Path | str | TileSet | None" = option(
        Path,
        "Synthetic tiles of any generator, class folders.",
        panel=_TILES,
        place="SYNTHETIC",
        python=True,
    )
    generators: Sequence[Path | str] = option(
        list[Path],
        "A private privgen checkpoint or run folder, trained on a regime's tiles alone; repeat it "
        "for further regimes and seeds.",
        (),
        panel=_TILES,
        flags=("--generator",),
        place="CHECKPOINT",
    )
    train_generator: str | None = option(
        str,
        "Generator family to train here, for each regime on its tiles alone.",
        panel=_TILES,
    )
    generator_kimg: float | None = option(
        float,
        "Thousand tiles shown to each generator that is trained here.",
        low=0.001,
        panel=_TILES,
        words="5",
    )
    generator_seeds: int | None = option(
        int,
        "Generators trained for each regime.",
        low=1,
        panel=_TILES,
        words="2, quick 1",
    )
    regimes: "str | Sequence[float]" = option(
        str,
        "Shares of the real training tiles, comma-separated.",
        (1.0,),
        panel=_TILES,
        python=True,
        words="1",
    )
    group_by: str | None = option(
        str,
        GROUP_BY_HELP,
        panel=_TILES,
        words="recognised",
    )
    on_bad_tile: OnBadTile = option(OnBadTile, ON_BAD_TILE_HELP, "error", panel=_TILES)
    icc: Icc = option(Icc, ICC_HELP, "ignore", panel=_TILES)
    models: "str | Sequence[str]" = option(
        str,
        "Comma-separated: families, or networks such as resnet18.",
        ("mobilenet", "resnet", "densenet", "efficientnet"),
        panel=_TRAININGS,
        python=True,
        words="mobilenet,resnet,densenet,efficientnet",
    )
    ratios: "str | Sequence[float] | None" = option(
        str,
        "Synthetic tiles for each real tile, comma-separated.",
        panel=_TRAININGS,
        python=True,
        words="0.25,0.5,1,2,3, quick 1",
    )
    arms: "str | Sequence[str] | None" = option(
        str,
        "Comma-separated; `real` is always needed.",
        panel=_TRAININGS,
        python=True,
        words="all",
    )
    seeds: int | None = option(
        int, "Classifier seeds.", low=2, panel=_TRAININGS, words="5, quick 3"
    )
    updates: int | None = option(
        int, "Optimiser updates in every arm.", low=1, panel=_TRAININGS, words="80, quick 24"
    )
    resolution: int | None = option(
        int,
        "Side at which classifiers see tiles, pixels.",
        low=16,
        panel=_TRAININGS,
        words="their own",
    )
    size: Size = option(
        Size,
        "Of networks named by family: small for CPUs, or as published.",
        "small",
        panel=_TRAININGS,
    )
    weights: "Sequence[str] | Mapping[str, str]" = option(
        list[str],
        "MODEL=WEIGHTS to start from: efficientnet_lite0=imagenet, resnet18=torchvision, or "
        "MODEL=file:FILE#sha256=HEX. Repeat it for further models.",
        (),
        panel=_TRAININGS,
        python=True,
    )
    quick: bool = option(
        bool, "Fewer seeds, ratios and updates, for a first look.", False, panel=_TRAININGS
    )
    audit: bool = option(
        bool,
        "Audit the generators' tiles for leaks too.",
        True,
        panel=_RUN,
        flags=("--audit/--no-audit",),
    )
    device: str = option(str, "auto, cpu, cuda or cuda:N.", "auto", panel=_RUN)
    jobs: int | None = option(
        int, "Trainings at a time.", low=1, panel=_RUN, words="one per core", printed="never"
    )
    scheduler: str | None = option(
        str,
        "Dask scheduler whose workers train, tcp://host:8786; needs --out.",
        panel=_RUN,
        printed="never",
    )
    seed: int = option(int, "Seed of every random draw.", 0, low=0, panel=_RUN, printed="always")
    evaluations: int = 3
    """Checkpoints compared on the validation split; for Python alone."""
    training: "Mapping[str, object] | None" = None
    """Further fields of `TrainConfig` for generators trained here; for Python alone."""

    def __post_init__(self) -> None:
        check(self)
        self._set("regimes", _numbers("regimes", self.regimes))
        self._set("models", _names(self.models))
        self._set("generators", tuple(self.generators))
        self._set("weights", _weights(self.weights))
        if self.ratios is not None:
            self._set("ratios", _numbers("ratios", self.ratios))
        if self.arms is not None:
            self._set("arms", _names(self.arms))
        trained = self.train_generator is not None or self.training is not None
        given = [
            f"`{name}`"
            for name, asked in (
                ("synthetic", self.synthetic is not None),
                ("generators", bool(self.generators)),
                ("train_generator", trained),
            )
            if asked
        ]
        if len(given) > 1:
            raise ConfigError(
                f"synthetic tiles come from one place: got {' and '.join(given)}. Give one."
            )
        if self.data is not None and not given:
            raise ConfigError(
                "real tiles need synthetic ones: give `synthetic`, `generators` or "
                "`train_generator`."
            )
        if self.synthetic is not None and tuple(self.regimes) != (1.0,):
            raise ConfigError(
                "a folder of synthetic tiles does not say which real tiles its generator saw, so "
                "it serves the regime of all training tiles alone: got `regimes` "
                f"{','.join(f'{share:g}' for share in self.regimes)}. Give `generators` or "
                "`train_generator`, or leave `regimes` out."
            )
        for name, default in (("group_by", None), ("on_bad_tile", "error"), ("icc", "ignore")):
            if self.generators and getattr(self, name) != default:
                raise ConfigError(
                    f"how files are read is what the ledgers of `generators` recorded: got "
                    f"`{name}` {getattr(self, name)} beside them. Leave it out."
                )
        if self.generator_kimg is not None and not trained:
            raise ConfigError("`generator_kimg` needs `train_generator`: got it alone.")
        if self.generator_seeds is not None and (self.synthetic or self.generators):
            raise ConfigError(
                "`generator_seeds` is of generators trained here: got it beside "
                f"{given[0]}. Leave it out."
            )

    def _set(self, name: str, value: object) -> None:
        object.__setattr__(self, name, value)

    @property
    def shares(self) -> tuple[float, ...]:
        """Shares of the real training tiles, one for each regime."""
        return tuple(map(float, self.regimes))

    @property
    def effort(self) -> Workload:
        """What is trained where nothing else is asked for."""
        return QUICK if self.quick else FULL

    @property
    def train_options(self) -> dict[str, object] | None:
        """Fields of `TrainConfig` for generators trained here; None trains none."""
        if self.train_generator is None and self.training is None:
            return None
        asked: dict[str, object] = {"kimg": self.generator_kimg}
        if self.train_generator is not None:
            asked |= {"family": self.train_generator, "resolution": self.resolution}
        return {
            **(self.training or {}),
            **{key: value for key, value in asked.items() if value is not None},
        }

    @property
    def generators_per_regime(self) -> int:
        """How many generators are trained, or procedural ones stand in, for each regime."""
        return self.generator_seeds or self.effort.generator_seeds


def _names(given: str | Sequence[str]) -> tuple[str, ...]:
    if isinstance(given, str):
        return tuple(name.strip() for name in given.split(","))
    return tuple(given)


def _numbers(name: str, given: str | Sequence[float]) -> tuple[float, ...]:
    try:
        return tuple(map(float, given.split(",") if isinstance(given, str) else given))
    except (ValueError, TypeError) as error:
        raise ConfigError(f"`{name}` must be numbers such as 0.5,1: got {given!r}.") from error


def _weights(given: Sequence[str] | Mapping[str, str]) -> tuple[str, ...]:
    if isinstance(given, Mapping):
        return tuple(f"{model}={spec}" for model, spec in sorted(given.items()))
    for one in given:
        model, _, spec = one.partition("=")
        if not model or not spec:
            raise ConfigError(
                f"`weights` must be MODEL=WEIGHTS, such as resnet18=torchvision: got {one!r}."
            )
    return tuple(given)

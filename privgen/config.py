"""The training configuration: every knob of `privgen train`, typed and checked once.

Unknown keys and values out of range are errors that say what would have been right.
"""

import difflib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Literal, Self, get_args

from privgen.choices import Balance
from privgen.documents import DocumentError, parse_toml, read_text
from privgen.errors import ConfigError
from privgen.limits import TEXT_BYTES, shown
from privgen.requests import option

RESOLUTIONS = (32, 64, 128, 224, 256)
"""Sides a generator can be trained at, pixels; 224 is for the one family that was published so."""

Precision = Literal["auto", "float32", "bfloat16", "float16", "float64"]
DiscriminatorKind = Literal["projected", "own"]
Loss = Literal["hinge", "logistic", "relativistic"]
SelectBy = Literal["last", "fd", "fd,leak"]

_WHAT, _HOW, _RUN = "What is trained", "How long and on what", "How it is run"

TOGETHER = 4
"""Neighbours in a batch that a discriminator may compare: 4k .. 4k + 3, or 2k and 2k + 1."""

DEFAULT_MINUTES = 10.0
"""Budget when neither minutes nor kimg is given."""

RUNTIME_KEYS = frozenset(
    {"minutes", "kimg", "checkpoint_minutes", "keep_checkpoints", "tensorboard", "device"}
)
"""Keys a resumed run may change: they decide when a run stops and what it keeps, not what it
computes or logs. On another device, or with another number of threads, rounding differs."""


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """How a generator is trained.

    `privgen.models.presets.configure` fills what is not asked for from the family's preset.

    Attributes:
      family: generator family, see `privgen.models.FAMILIES`.
      discriminator: "projected" judges in a frozen feature pyramid, "own" is the family's own.
      resolution: side of the tiles, pixels.
      minutes: stop after this many minutes of training, resumed time included.
      kimg: stop after this many thousand real tiles shown; with `minutes`, whichever comes first.
        Neither given means 10 minutes.
      batch: tiles per step over all processes, a multiple of 4.
      accumulate: parts per process computes its share of a step in, to save memory.
      seed: of everything random.
      class_balance: "preserve" shows classes as often as the data do, "uniform" equally often.
      width: channels of the generator at 64 px; the families say how they scale.
      style_dim: length of the latent and the styles, in families with a mapping network.
      head_width: channels of the discriminator: inside a projected head, or at 64 px.
      feature_side: pixels per side at which a projected discriminator judges; 0 chooses.
      loss: "hinge", "logistic" (non-saturating) or "relativistic" (average).
      r1_gamma, r1_every: weight of the R1 penalty, and every how many steps it is applied.
      path_weight, path_every: the same of path-length regularisation; families with styles only.
      style_mixing: share of tiles that take their later styles from a second latent.
      orthogonal: weight of orthogonal regularisation of both networks.
      generator_rate, discriminator_rate: learning rates of Adam.
      generator_beta1, discriminator_beta1, beta2: moment decays of Adam.
      ema_kimg: half-life of the averaged generator, thousand images; 0 samples the last weights.
      augment: strength of the differentiable augmentation, 0 (none) to 1.
      stain_jitter: how far each stain of every real tile is scaled and shifted at random before
        the discriminator sees it (`data.stain.jitter`). Synthetic tiles are not, so the generator
        learns the wider range, in which a patient's own stain is blurred. 0 keeps the stains.
      ada_target: mean sign of the logits of real tiles above which augmentation grows and below
        which it shrinks (Karras et al. 2020b); .6 is 80 % of them judged real. 0 keeps the
        augmentation fixed; not with relativistic logits, which have no zero of their own.
      ada_kimg: thousand images in which the probability of augmentation can go from 0 to 1.
      diversity: weight of the term against collapse.
      precision: "auto" takes bfloat16 where the processor has it, else float32; "float16" scales
        its losses; "float64" is slow and for comparing runs.
      device: "auto", "cpu", "cuda" or "cuda:N".
      threads: CPU threads; 0 takes PyTorch's default, or 1 where the cores are busy.
      compile: run both networks through `torch.compile`.
      deterministic: refuse operations that are not deterministic (CUDA); a CPU always is.
      log_steps, grid_steps: a log line, and a grid, every so many steps.
      watch_kimg: measure quality and leakage every so many thousand images; 0 never.
      watch_count: synthetic tiles they are measured on.
      select_by: which weights become the generator file: the last, those of the smallest FD
        against held-out tiles, or the smallest among those that showed no leak.
      checkpoint_minutes: a checkpoint every so many minutes, and at the end.
      keep_checkpoints: how many stay on disk.
      tensorboard: also write scalars for TensorBoard.
    """

    family: str = option(
        str,
        "cdcgan, cdcgan-2025, stylegan, stylegan2 or pathologygan.",
        "cdcgan",
        panel=_WHAT,
    )
    discriminator: DiscriminatorKind = option(
        DiscriminatorKind,
        "Judge in frozen features, or by the family's own network.",
        "projected",
        panel=_WHAT,
    )
    resolution: int = option(
        int,
        "Side of a tile: 32, 64, 128 or 256 px; 224 for cdcgan-2025.",
        64,
        panel=_WHAT,
    )
    minutes: float | None = option(
        float,
        "Stop after this many minutes.",
        None,
        panel=_HOW,
        words="10 minutes",
        printed="never",
    )
    kimg: float | None = option(
        float,
        "Stop after this many thousand tiles.",
        None,
        panel=_HOW,
    )
    batch: int = option(
        int,
        "Tiles per step, a multiple of 4.",
        16,
        panel=_HOW,
    )
    accumulate: int = 1
    seed: int = option(
        int,
        "Seed of split and run.",
        0,
        panel=_HOW,
        printed="always",
    )
    class_balance: Balance = option(
        Balance,
        "Classes as frequent as in the data, or equally.",
        "preserve",
        panel=_HOW,
    )
    width: int = 32
    style_dim: int = 128
    head_width: int = 64
    feature_side: int = 0
    loss: Loss = "hinge"
    r1_gamma: float = 0.0
    r1_every: int = 16
    path_weight: float = 0.0
    path_every: int = 4
    style_mixing: float = 0.0
    orthogonal: float = 0.0
    generator_rate: float = 3e-4
    discriminator_rate: float = 2e-4
    generator_beta1: float = 0.0
    discriminator_beta1: float = 0.0
    beta2: float = 0.99
    ema_kimg: float = 2.0
    augment: float = 1.0
    stain_jitter: float = option(
        float,
        "Blur each patient's own stain: scale and shift the stains of real tiles at random before "
        "they are judged, by up to this share; .5 is strong.",
        0.0,
        panel=_HOW,
    )
    ada_target: float = 0.0
    ada_kimg: float = 100.0
    diversity: float = 1.0
    precision: Precision = "auto"
    device: str = option(
        str,
        "auto, cpu, cuda or cuda:N; auto takes cuda where there is one.",
        "auto",
        panel=_RUN,
    )
    threads: int = 0
    compile: bool = option(
        bool,
        "Use torch.compile; pays on long GPU runs.",
        False,
        panel=_RUN,
    )
    deterministic: bool = option(
        bool,
        "Bit-identical runs on a GPU; slower.",
        False,
        panel=_RUN,
    )
    log_steps: int = 20
    grid_steps: int = 200
    watch_kimg: float = option(
        float,
        "Measure quality and leakage this often, thousand tiles; 0 never.",
        4.0,
        panel=_RUN,
    )
    watch_count: int = 256
    select_by: SelectBy = option(
        SelectBy,
        "Weights to share: the last, those nearest to held-out tiles, or the nearest that show no "
        "leak. Half of the held-out patients are then kept for choosing.",
        "last",
        panel=_WHAT,
    )
    checkpoint_minutes: float = 2.0
    keep_checkpoints: int = 2
    tensorboard: bool = option(
        bool,
        "Write scalars for TensorBoard too.",
        False,
        panel=_RUN,
        printed="never",
    )

    def __post_init__(self) -> None:
        for key in fields(self):
            self._check_type(key.name, getattr(self, key.name))
        if self.resolution not in RESOLUTIONS:
            raise ConfigError(
                f"resolution must be one of {RESOLUTIONS}: got {shown(self.resolution)}"
            )
        for key_name, choices in (
            ("class_balance", get_args(Balance)),
            ("precision", get_args(Precision)),
            ("discriminator", get_args(DiscriminatorKind)),
            ("loss", get_args(Loss)),
            ("select_by", get_args(SelectBy)),
        ):
            if getattr(self, key_name) not in choices:
                raise ConfigError(
                    f"{key_name} must be one of {', '.join(choices)}: got "
                    f"{shown(getattr(self, key_name))}"
                )
        for key_name, low, high in _RANGES:
            value = getattr(self, key_name)
            if value is not None and not low <= value <= high:
                raise ConfigError(f"{key_name} must be in [{low:g}, {high:g}]: got {shown(value)}")
        if self.batch % TOGETHER:
            raise ConfigError(
                f"batch must be a multiple of {TOGETHER}, discriminators compare tiles in fours: "
                f"got {self.batch}"
            )
        if self.ada_target and self.loss == "relativistic":
            raise ConfigError(
                "ada_target must be 0 with loss relativistic, whose logits have no zero of their "
                f"own: got {self.ada_target:g}. Set ada_target to 0, or take another loss."
            )

    def _check_type(self, name: str, value: object) -> None:
        wanted = _TYPES[name]
        allowed = (int, float) if wanted is float else wanted
        if name in ("minutes", "kimg") and value is None:
            return
        if not isinstance(value, allowed) or (isinstance(value, bool) and wanted is not bool):
            raise ConfigError(f"{name} must be {wanted.__name__}: got {shown(value)}")

    @property
    def judged_side(self) -> int:
        """`feature_side`, or the side chosen for this resolution: 64, 96, 128, 256."""
        return self.feature_side or {32: 64, 64: 96}.get(self.resolution, self.resolution)

    @property
    def budget_seconds(self) -> float:
        """Seconds of training after which to stop; infinite when only kimg limits the run."""
        if self.minutes is None:
            return DEFAULT_MINUTES * 60 if self.kimg is None else float("inf")
        return self.minutes * 60

    @property
    def budget_steps(self) -> float:
        """Steps after which to stop; infinite when only minutes limit the run."""
        if self.kimg is None:
            return float("inf")
        # Rounded: the kimg of so many steps must be so many steps again.
        return -(-round(self.kimg * 1000, 6) // self.batch)

    def to_dict(self) -> dict[str, object]:
        """All keys, as plain JSON values."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """The inverse of `to_dict`; keys left out take their defaults.

        Raises:
          ConfigError: a key is unknown (the nearest known one is named) or a value out of range.
        """
        known = [key.name for key in fields(cls)]
        for key in values:
            if key not in known:
                if not isinstance(key, str) or len(key) > 100:
                    raise ConfigError(f"a configuration key is one of: {', '.join(known)}")
                near = difflib.get_close_matches(key, known, n=1, cutoff=0.5)
                hint = f"did you mean {near[0]}?" if near else f"known keys: {', '.join(known)}"
                raise ConfigError(f"unknown configuration key {shown(key)}; {hint}")
        return cls(**values)

    def differences(self, other: "TrainConfig") -> list[str]:
        """Keys that change what a run computes and differ, as `key: ours -> theirs`."""
        ours, theirs = self.to_dict(), other.to_dict()
        return [
            f"{key}: {ours[key]} -> {theirs[key]}"
            for key in ours
            if key not in RUNTIME_KEYS and ours[key] != theirs[key]
        ]


_TYPES: dict[str, type] = {
    key.name: float if key.default is None else type(key.default) for key in fields(TrainConfig)
}

_RANGES: tuple[tuple[str, float, float], ...] = (
    ("minutes", 1e-4, 1e6),
    ("kimg", 1e-3, 1e9),
    ("batch", 4, 4096),
    ("seed", 0, 2**63 - 1),
    ("width", 4, 512),
    ("head_width", 4, 1024),
    ("feature_side", 0, 512),
    ("generator_rate", 1e-8, 1.0),
    ("discriminator_rate", 1e-8, 1.0),
    ("generator_beta1", 0.0, 0.9999),
    ("discriminator_beta1", 0.0, 0.9999),
    ("beta2", 0.0, 0.999999),
    ("ema_kimg", 0.0, 1e6),
    ("accumulate", 1, 4096),
    ("style_dim", 4, 4096),
    ("r1_gamma", 0.0, 1e6),
    ("r1_every", 1, 1e6),
    ("path_weight", 0.0, 1e6),
    ("path_every", 1, 1e6),
    ("style_mixing", 0.0, 1.0),
    ("orthogonal", 0.0, 1e3),
    ("augment", 0.0, 1.0),
    ("stain_jitter", 0.0, 0.9),
    ("ada_target", 0.0, 1.0),
    ("ada_kimg", 1e-3, 1e6),
    ("watch_kimg", 0.0, 1e6),
    ("watch_count", 16, 1e6),
    ("keep_checkpoints", 1, 1e6),
    ("diversity", 0.0, 1e3),
    ("threads", 0, 1024),
    ("log_steps", 1, 1e9),
    ("grid_steps", 1, 1e9),
    ("checkpoint_minutes", 0.0, 1e6),
)


def read_toml(path: Path) -> dict[str, Any]:
    """Configuration keys from a TOML file.

    Raises:
      ConfigError: the file cannot be read or is not TOML.
    """
    try:
        return parse_toml(read_text(path, TEXT_BYTES))
    except (OSError, DocumentError) as error:
        raise ConfigError(f"cannot read configuration {path}: {error}") from error

"""Quality and leakage while a run goes on: few tiles, seconds, again and again.

A watch says when to look and which weights to keep; it is no audit. It sees few synthetic tiles,
turned copies less surely (GlaS, 64 px, 256 tiles: 3 % of exact copies fire, 10 % turned ones do
not), and one attack; and it looks many times, so that signals fire now and then without a leak.

Everything is judged in EfficientNet-Lite2. A projected generator learns in the features of Lite0
and must never be judged there (docs/methods.md#generators). Real tiles are reduced to the
resolution of the run before the encoder enlarges them, so that they and the synthetic tiles went
through the same pixels.

The Frechet distance is that of `privgen.training.shrunk`, because a few hundred tiles do not fill a
covariance of 1,280 features. It is called `fd_effnet_lite2_pca64` and comparable with no other;
compare it with its floor, train against held-out tiles, which has as many tiles on its first side
and so nearly the same bias.

Sources: docs/methods.md#tail-count (copies), docs/methods.md#membership-attacks,
docs/methods.md#fidelity (distances), docs/methods.md#generators (the other encoder).
"""

from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from audits.attacks import full_black_box
from audits.copy_evidence import Scored, match_classes
from audits.copying import copy_scores, own_copy_scores, tail_count
from audits.inputs import Strings
from audits.membership import patient_membership
from audits.tails import below, tail_thresholds
from privgen.compute.devices import choose_device
from privgen.config import TrainConfig
from privgen.data.images import FEATURELESS
from privgen.data.tileset import TileSet
from privgen.encoders.loading import Encoder, load_encoder
from privgen.errors import ConfigError
from privgen.sampling import LoadedGenerator, label_numbers
from privgen.training.figures import FD, FD_CLASS, Copies, Distances, Diversity, Line, Membership
from privgen.training.shrunk import Space, even_order, mean_distance

ENCODER = "effnet_lite2"
COMPONENTS = 64
"""Principal components with a covariance of their own."""

MOST_TRAIN, MOST_HELD_OUT = 2000, 1000
"""Real tiles looked at: of larger sets an even choice; copies of other train tiles go unseen."""

FEWEST = 5
"""Train and held-out tiles below which nothing is watched: the copy test needs as many."""

CLASS_TILES = 20
"""Tiles of a class needed in every role for Frechet distances of its own."""

SIGNIFICANCE = 0.05
"""p of a copy or membership signal that counts as fired."""

_CHOICE, _SAMPLE, _MATCHING, _PERMUTING = range(4)


@dataclass(frozen=True, kw_only=True)
class _Tiles:
    """Real tiles of one role, in an order whose beginnings are balanced.

    Embeddings, shape (n, 1280); class, patient, and whether it is not blank, of each, shape (n,).
    """

    features: NDArray[np.float32]
    labels: Strings
    patients: Strings
    textured: NDArray[np.bool_]

    @classmethod
    def of(cls, tiles: TileSet, most: int, config: TrainConfig, encoder: Encoder) -> Self:
        rng = np.random.default_rng([config.seed, _CHOICE])
        chosen = tiles.subset(even_order(tiles.labels, tiles.groups, rng)[:most])
        pixels = chosen.load(config.resolution)
        return cls(
            features=encoder.embed(pixels),
            labels=chosen.labels,
            patients=chosen.groups,
            textured=_textured(pixels),
        )


class Watch:
    """Measures a generator against its training tiles and tiles of other patients.

    Real tiles are embedded once, here. `Watch.of` leaves out held-out tiles of other classes.

    Args:
      train: the train role.
      held_out: tiles of other patients and the same classes; `FEWEST` or more, as of train.
      config: of the run.

    Raises:
      WeightsError: the package with the encoder's weights is missing.
    """

    def __init__(self, train: TileSet, held_out: TileSet, config: TrainConfig) -> None:
        self._config = config
        # A seed of its own: no released sample shall be the one that was selected by.
        self._seed = int(np.random.default_rng([config.seed, _SAMPLE]).integers(2**63))
        self._unit = train.group_unit
        self._encoder = load_encoder(ENCODER, device=str(choose_device(config.device)))
        self._train = _Tiles.of(train, MOST_TRAIN, config, self._encoder)
        self._held = _Tiles.of(held_out, MOST_HELD_OUT, config, self._encoder)
        self._space = Space.of(self._train.features, self._held.features, components=COMPONENTS)
        self._spread = {
            label: mean_distance(self._train.features[self._train.labels == label])
            for label in train.classes
        }
        self._own = own_copy_scores(self._train.features).ratio[self._train.textured]
        rows = self._held.textured
        self._held_scored = Scored(
            scores=copy_scores(self._held.features[rows], self._train.features),
            labels=self._held.labels[rows],
            patients=self._held.patients[rows],
        )

    @classmethod
    def of(cls, train: TileSet, held_out: TileSet | None, config: TrainConfig) -> Self | None:
        """A watch, or None where `watch_kimg` is 0 or there are no tiles to watch against.

        Raises:
          ConfigError: weights are to be selected by what cannot be measured.
        """
        known = None
        if held_out is not None:
            known = held_out.subset(np.flatnonzero(np.isin(held_out.labels, train.classes)))
        enough = min(len(train), len(known or ())) >= FEWEST
        if known is not None and enough and config.watch_kimg > 0:
            return cls(train, known, config)
        if config.select_by != "last":
            raise ConfigError(
                f"select_by {config.select_by} needs watch_kimg above 0, and {FEWEST} train and "
                f"{FEWEST} held-out tiles of the same classes: got watch_kimg {config.watch_kimg:g}"
                f", {len(train)} and {len(known or ())}. Give these, or select_by last."
            )
        return None

    def measure(self, generator: LoadedGenerator) -> Line:
        """Figures of this moment; the same for the same weights.

        Samples `watch_count` tiles, always the same latents, classes as often as trained.

        Returns:
          Plain JSON values, no tile and no patient among them. `tiles`, how many of each role;
          the three Frechet distances under `FD`, and under `FD/class` those of every class with
          `CLASS_TILES` in each role;
          `diversity`, mean distance of two synthetic tiles of a class over that of two train tiles
          of it, for each class and the smallest;
          `copies`, from the test of docs/methods.md#tail-count on the scale-free ratio: p, `own_p`
          (the same against the train tiles' distances to each other), and the `share` of synthetic
          tiles in the low tail less that of held-out tiles, where each train tile counts once
          because repeating one is no hundred copies; None where all tiles of a role are blank;
          `membership`, from the `full_black_box` score: AUROC of train against held-out patients,
          interval, p; None with fewer than two patients on a side.
          `fires`: p, and for copies `own_p` too, is `SIGNIFICANCE` or less.
        """
        indices = np.arange(self._config.watch_count)
        numbers = label_numbers(generator, indices, balance="preserve")
        pixels = generator.generate(self._seed, indices, numbers)
        labels = np.array(generator.classes)[numbers]
        features = self._encoder.embed(pixels)
        counts = (len(features), len(self._train.features), len(self._held.features))
        return {
            "tiles": dict(zip(("synthetic", "train", "held_out"), counts, strict=True)),
            FD: self._distances(features, labels),
            FD_CLASS: self._by_class(features, labels),
            "diversity": self._diversity(features, labels),
            "copies": self._copies(features, labels, _textured(pixels)),
            "membership": self._membership(features),
        }

    def merit(self, line: Line) -> float | None:
        """What selection makes small: the Frechet distance to held-out tiles.

        Args:
          line: from `measure`.

        Returns:
          None for `select_by` "last"; for "fd,leak" also where a leak signal fires. A signal that
          could not be measured does not fire.
        """
        if self._config.select_by == "last":
            return None
        signals = (line["copies"], line["membership"])
        if self._config.select_by == "fd,leak" and any(s and s["fires"] for s in signals):
            return None
        return line[FD]["synthetic_held_out"]

    def _distances(
        self, features: NDArray[np.float32], labels: Strings, label: str | None = None
    ) -> Distances:
        """The triple over all classes or within one.

        The floor takes as many train tiles of each class as there are synthetic ones, or all.
        """
        roles = [(features, labels), *((r.features, r.labels) for r in (self._train, self._held))]
        synthetic, train, held = (x if label is None else x[of == label] for x, of in roles)
        counts = np.unique(labels if label is None else labels[labels == label], return_counts=True)
        real, kinds = self._train.features, self._train.labels
        floor = np.concatenate([real[kinds == name][:n] for name, n in zip(*counts, strict=True)])
        return {
            "synthetic_train": self._space.distance(synthetic, train),
            "synthetic_held_out": self._space.distance(synthetic, held),
            "train_held_out": self._space.distance(floor, held),
        }

    def _by_class(self, features: NDArray[np.float32], labels: Strings) -> dict[str, Distances]:
        roles = (labels, self._train.labels, self._held.labels)
        return {
            label: self._distances(features, labels, label)
            for label in np.unique(labels).tolist()
            if min(int((of == label).sum()) for of in roles) >= CLASS_TILES
        }

    def _diversity(self, features: NDArray[np.float32], labels: Strings) -> Diversity:
        by_class = {}
        for label in np.unique(labels).tolist():
            ours, real = mean_distance(features[labels == label]), self._spread.get(label)
            if ours is not None and real:
                by_class[label] = ours / real
        return {"smallest": min(by_class.values(), default=None), "class": by_class}

    def _copies(
        self, features: NDArray[np.float32], labels: Strings, textured: NDArray[np.bool_]
    ) -> Copies | None:
        if min(len(self._own), len(self._held_scored.labels)) < FEWEST or not textured.any():
            return None
        scored = Scored(
            scores=copy_scores(features[textured], self._train.features),
            labels=labels[textured],
            patients=labels[textured],
        )
        rng = np.random.default_rng([self._config.seed, _MATCHING])
        ours, others = match_classes(scored, self._held_scored, rng)
        if len(ours.labels) == 0 or len(others.labels) < FEWEST:
            return None
        found = tail_count(
            "copies",
            ours.scores.ratio,
            others.scores.ratio,
            holdout_patients=others.patients,
            own=self._own,
            sources=ours.scores.source,
        )
        p, own_p, grid = found.p_value, found.details["own_p"], found.details["grid"]
        best = min(range(len(grid)), key=lambda place: float(grid[place]["p"]))
        threshold = float(tail_thresholds(others.scores.ratio)[best])
        copied = np.unique(ours.scores.source[below(ours.scores.ratio, threshold)])
        chance = grid[best]["holdout_hits"] / len(others.labels)
        return {
            "share": len(copied) / len(ours.labels) - chance,
            "p": p,
            "own_p": own_p,
            "fires": _fires(p, own_p),
        }

    def _membership(self, features: NDArray[np.float32]) -> Membership | None:
        roles = (self._train, self._held)
        if min(len(np.unique(role.patients)) for role in roles) < 2:
            return None
        members, nonmembers = (full_black_box(role.features, features) for role in roles)
        found = patient_membership(
            "membership",
            members,
            nonmembers,
            member_patients=self._train.patients,
            nonmember_patients=self._held.patients,
            rng=np.random.default_rng([self._config.seed, _PERMUTING]),
        )
        return {
            "auroc": found.statistic.value,
            "low": found.statistic.low,
            "high": found.statistic.high,
            "p": found.p_value,
            "smallest_p": found.details["smallest_p"],
            "unit": self._unit,
            "members": found.details["member_patients"],
            "nonmembers": found.details["nonmember_patients"],
            "fires": _fires(found.p_value),
        }


def _fires(*p_values: float | None) -> bool:
    return all(p is not None and p <= SIGNIFICANCE for p in p_values)


def _textured(pixels: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Which tiles, shape (n, h, h, 3), are not blank."""
    grey = pixels.mean(axis=3, dtype=np.float32)
    textured: NDArray[np.bool_] = grey.std(axis=(1, 2)) >= FEATURELESS
    return textured

"""Data sets with a known truth for the audits' tests: who was in training, and what was copied."""

from collections.abc import Callable, Iterator, Sequence
from typing import Protocol

import numpy as np
import pytest
from numpy.typing import NDArray

import audits.controls
import audits.proof
from audits import AuditData, Planted, Tiles


class MakeData(Protocol):
    """Signature of `make_data`."""

    def __call__(
        self,
        seed: int,
        *,
        patients: int = ...,
        tiles_each: int = ...,
        synthetic: int = ...,
        siblings_each: int = ...,
        width: int = ...,
        correlation: float = ...,
        copies: int = ...,
        copy_noise: float = ...,
        holdout_shift: float = ...,
        planted: Sequence[str] = ...,
        fingerprints: bool = ...,
    ) -> AuditData: ...


def correlated(
    rng: np.random.Generator, owner: NDArray[np.intp], width: int, correlation: float
) -> NDArray[np.float32]:
    """Standard normal rows whose patients (`owner`, 0..p-1) share a part of the variance."""
    effect = rng.normal(size=(int(owner.max()) + 1, width))[owner]
    noise = rng.normal(size=(len(owner), width))
    mixed: NDArray[np.float64] = np.sqrt(correlation) * effect + np.sqrt(1 - correlation) * noise
    return mixed.astype(np.float32)


def build(
    seed: int,
    *,
    patients: int = 10,
    tiles_each: int = 20,
    synthetic: int = 200,
    siblings_each: int = 0,
    width: int = 8,
    correlation: float = 0.0,
    copies: int = 0,
    copy_noise: float = 0.0,
    holdout_shift: float = 0.0,
    planted: Sequence[str] = (),
    fingerprints: bool = True,
) -> AuditData:
    """Synthetic tiles are new draws of the same law, but for `copies` rows near a train row each.

    Copies keep the source's fingerprint only when `copy_noise` is 0.
    """
    rng = np.random.default_rng(seed)
    owner = np.repeat(np.arange(patients), tiles_each + siblings_each)
    is_train = np.tile(np.arange(tiles_each + siblings_each) < tiles_each, patients)
    members = correlated(rng, owner, width, correlation)
    others = np.repeat(np.arange(patients), tiles_each)
    train, train_owner = members[is_train], owner[is_train]
    made = rng.normal(size=(synthetic, width)).astype(np.float32)
    source = rng.choice(len(train), size=copies, replace=copies > len(train))
    made[:copies] = train[source] + copy_noise * rng.normal(size=(copies, width))

    def digests(prefix: str, count: int) -> NDArray[np.str_] | None:
        return np.char.add(prefix, np.arange(count).astype(np.str_)) if fingerprints else None

    train_digests, made_digests = digests("t", len(train)), digests("s", synthetic)
    if train_digests is not None and made_digests is not None and copy_noise == 0:
        made_digests[:copies] = train_digests[source]
    siblings = None
    if siblings_each:
        siblings = Tiles(
            "siblings",
            members[~is_train],
            patients=np.char.add("a", owner[~is_train].astype(np.str_)),
            fingerprints=digests("b", int((~is_train).sum())),
        )
    return AuditData(
        train=Tiles(
            "train",
            train,
            patients=np.char.add("a", train_owner.astype(np.str_)),
            fingerprints=train_digests,
        ),
        siblings=siblings,
        holdout=Tiles(
            "holdout",
            correlated(rng, others, width, correlation) + np.float32(holdout_shift),
            patients=np.char.add("h", others.astype(np.str_)),
            fingerprints=digests("h", len(others)),
        ),
        synthetic=Tiles("synthetic", made, fingerprints=made_digests),
        planted={
            kind: Planted(
                embeddings=(train + 1e-3 * rng.normal(size=train.shape)).astype(np.float32),
                sources=np.arange(len(train)),
            )
            for kind in planted
        },
    )


@pytest.fixture(scope="module", autouse=True)
def _one_thread() -> Iterator[None]:
    """Searches this small lose more time waiting for threads than they gain."""
    threads = pytest.importorskip("threadpoolctl")
    with threads.threadpool_limits(limits=1):
        yield


@pytest.fixture
def make_data() -> MakeData:
    return build


@pytest.fixture
def few_draws(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """`few_draws(n)` shortens power simulations where their precision is not the point."""

    def shorten(draws: int) -> None:
        monkeypatch.setattr(audits.controls, "DRAWS", draws)

    return shorten


@pytest.fixture
def short_simulations(few_draws: Callable[[int], None]) -> None:
    few_draws(40)


@pytest.fixture
def few_refits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(audits.proof, "_REFITS", 29)


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(20_250_131)

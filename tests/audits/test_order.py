"""An audit's report does not depend on the order of tiles or on anybody's name."""

from collections.abc import Callable
from dataclasses import fields, replace

import numpy as np
import pytest
from numpy.typing import NDArray

from audits import (
    Aligned,
    Alignment,
    AuditData,
    Harm,
    OutsideScores,
    Planted,
    Policy,
    Tiles,
    audit,
)
from audits.battery import run_family
from audits.order import in_order

Features = dict[str, dict[str, NDArray[np.float32]]]
Rows = NDArray[np.intp]

ROLES = {"train": 90, "siblings": 30, "holdout": 60, "reference": 30, "synthetic": 80}
PATIENTS = {"train": 6, "siblings": 6, "holdout": 5, "reference": 3, "synthetic": 4}
QUICK = Policy(fractions=(0.02, 0.1))


@pytest.fixture(autouse=True)
def _short(few_draws: Callable[[int], None]) -> None:
    few_draws(20)


def given(*, content: bool) -> tuple[AuditData, Features, list[OutsideScores]]:
    """All roles, equal tiles within a role and within a patient, and all an audit can be given."""
    rng = np.random.default_rng(5)
    roles = {}
    for role, count in ROLES.items():
        x = rng.normal(size=(count, 6)).astype(np.float32)
        x[1], x[2], x[7] = x[0], x[0], x[6]
        owner = np.arange(count) % PATIENTS[role]
        owner[1] = owner[0]
        prefix = "t" if role in ("train", "siblings") else role
        marks = np.unique(x, axis=0, return_inverse=True)[1].ravel()
        digests = np.char.add(f"{role} ", marks.astype(np.str_))
        blank = np.where(np.arange(count) == 9, "", digests)
        roles[role] = Tiles(
            role,
            x,
            labels=np.where(np.arange(count) // 3 % 2, "a", "b"),
            patients=np.char.add(prefix, owner.astype(np.str_)),
            slides=np.char.add(prefix, (np.arange(count) % 12).astype(np.str_)),
            fingerprints=blank,
            ids=np.char.add(f"{role}/", np.arange(count).astype(np.str_)),
            content=np.char.replace(digests, role, "x") if content else None,
        )
    sources = rng.permutation(90)[:24]
    found = aligned(rng, ROLES["synthetic"])
    data = AuditData(
        train=roles["train"],
        siblings=roles["siblings"],
        holdout=roles["holdout"],
        reference=roles["reference"],
        synthetic=roles["synthetic"],
        planted={
            kind: Planted(
                embeddings=roles["train"].embeddings[sources] + np.float32(0.01 * number),
                sources=sources,
                aligned=aligned(rng, 24),
            )
            for number, kind in enumerate(("exact", "stain"))
        },
        alignment=Alignment(
            synthetic=found, null=aligned(rng, 120), null_duplicates=np.zeros(120, dtype=np.bool_)
        ),
    )
    # Equal tiles may differ in what was measured of them.
    features = {
        "plain": {
            role: rng.normal(size=(ROLES[role], 4)).astype(np.float32)
            for role in ("train", "holdout", "synthetic")
        }
    }
    ids = np.concatenate([roles[role].ids for role in ("train", "siblings", "holdout")])
    outside = [
        OutsideScores(name=name, ids=ids, scores=rng.normal(size=len(ids)))
        for name in ("white_box", "discriminator")
    ]
    return data, features, outside


def aligned(rng: np.random.Generator, count: int) -> Aligned:
    return Aligned(
        inliers=rng.integers(0, 9, count),
        strength=rng.uniform(0, 4, count),
        marked=np.where(rng.random(count) < 0.1, 0.2, 0.0),
        featureless=rng.random(count) < 0.1,
    )


def disguised(
    data: AuditData, features: Features, outside: list[OutsideScores], seed: int
) -> tuple[AuditData, Features, list[OutsideScores]]:
    """The same audit with all rows shuffled and patients, slides and ids renamed."""
    rng = np.random.default_rng(seed)
    rows = {role: rng.permutation(len(tiles)) for role, tiles in data.roles().items()}
    names: dict[str, str] = {}

    def renamed(values: NDArray[np.str_], prefix: str) -> list[str]:
        return [
            names.setdefault(f"{prefix}{value}", f"n{rng.integers(10**9):09d}") for value in values
        ]

    def tiles(role: str) -> Tiles:
        old, order = data.roles()[role], rows[role]
        made = "made" if role == "synthetic" else ""
        return Tiles(
            role,
            old.embeddings[order],
            labels=old.labels[order],
            patients=renamed(old.patients[order], f"patient {made}"),
            slides=renamed(old.slides[order], f"slide {made}"),
            fingerprints=None if old.fingerprints is None else old.fingerprints[order],
            ids=renamed(old.ids[order], "id"),
            content=None if old.content is None else old.content[order],
        )

    def moved(of: Aligned, order: Rows) -> Aligned:
        return replace(of, **{field.name: getattr(of, field.name)[order] for field in fields(of)})

    planted = {}
    for kind, copies in reversed(data.planted.items()):
        order = rng.permutation(len(copies.sources))
        assert copies.aligned is not None
        planted[kind] = Planted(
            embeddings=copies.embeddings[order],
            sources=np.argsort(rows["train"])[copies.sources[order]],
            aligned=moved(copies.aligned, order),
        )
    assert data.alignment is not None
    null = rng.permutation(len(data.alignment.null.inliers))
    shuffled = AuditData(
        train=tiles("train"),
        siblings=tiles("siblings"),
        holdout=tiles("holdout"),
        reference=tiles("reference"),
        synthetic=tiles("synthetic"),
        planted=planted,
        alignment=replace(
            data.alignment,
            synthetic=moved(data.alignment.synthetic, rows["synthetic"]),
            null=moved(data.alignment.null, null),
            null_duplicates=data.alignment.null_duplicates[null],
        ),
    )
    other = {
        name: {role: x[rows[role]] for role, x in by_role.items()}
        for name, by_role in features.items()
    }
    attacks = []
    for scores in reversed(outside):
        order = rng.permutation(len(scores.ids))
        ids = np.array(renamed(scores.ids[order], "id"))
        attacks.append(OutsideScores(name=scores.name, ids=ids, scores=scores.scores[order]))
    return shuffled, other, attacks


@pytest.mark.parametrize("content", [True, False])
def test_a_report_depends_on_no_order_and_no_name(content: bool) -> None:
    data, features, outside = given(content=content)
    plain = audit(data, policy=QUICK, features=features, outside=outside).to_dict()
    for seed in range(2):
        other = disguised(data, features, outside, seed)
        again = audit(other[0], policy=QUICK, features=other[1], outside=other[2]).to_dict()
        for part in ("power", "mdl80"):  # the kinds stand in the order they were given in
            plain[part] = sorted(plain[part], key=str) if part == "power" else plain[part]
            again[part] = sorted(again[part], key=str) if part == "power" else again[part]
        assert again == plain, "bit for bit"


def test_the_family_alone_depends_on_no_order_and_no_name() -> None:
    data, features, outside = given(content=False)
    other, _, attacks = disguised(data, features, outside, 0)
    assert run_family(other, outside=attacks) == run_family(data, outside=outside)


def test_the_count_test_draws_the_same_holdout_tiles_whatever_they_are_called() -> None:
    """Where classes differ, tiles are left out at random: those of other names were others."""
    rng = np.random.default_rng(3)

    def tiles(name: str, count: int, share: float) -> Tiles:
        owner = np.char.add(name, (np.arange(count) % 8).astype(np.str_))
        labels = np.where(np.arange(count) < share * count, "a", "b")
        return Tiles(name, rng.normal(size=(count, 6)), labels=labels, patients=owner)

    data = AuditData(
        train=tiles("train", 120, 0.5),
        holdout=tiles("holdout", 120, 0.2),
        synthetic=tiles("synthetic", 60, 0.8),
    )
    names = np.char.add("z", rng.permutation(8).astype(np.str_))
    found = set()
    for _ in range(6):
        rows = rng.permutation(120)
        holdout = Tiles(
            "holdout",
            data.holdout.embeddings[rows],
            labels=data.holdout.labels[rows],
            patients=names[rows % 8],
        )
        found.add(run_family(replace(data, holdout=holdout))[0].p_value)
    assert len(found | {run_family(data)[0].p_value}) == 1


def test_rows_stay_together_and_names_become_codes() -> None:
    data, features, outside = given(content=True)
    found = in_order(data, features, outside)
    ordered, moved, attacks = found.data, found.features, found.outside
    for role, tiles in ordered.roles().items():
        given_tiles = data.roles()[role]
        row = {name: place for place, name in enumerate(given_tiles.ids)}
        rows = np.array([row[name] for name in tiles.ids])
        np.testing.assert_array_equal(rows, found.rows[role])
        assert sorted(rows) == list(range(len(tiles)))
        np.testing.assert_array_equal(tiles.embeddings, given_tiles.embeddings[rows])
        np.testing.assert_array_equal(tiles.labels, given_tiles.labels[rows])
        np.testing.assert_array_equal(tiles.fingerprints, given_tiles.fingerprints[rows])
        assert tiles.patient_count == given_tiles.patient_count
        assert len(set(zip(tiles.patients, given_tiles.patients[rows], strict=True))) == (
            tiles.patient_count
        )
        if role in moved["plain"]:
            np.testing.assert_array_equal(moved["plain"][role], features["plain"][role][rows])
        assert all(name.isdecimal() for name in (*tiles.patients, *tiles.slides))
    train = set(ordered.train.patients)
    assert ordered.siblings is not None
    assert set(ordered.siblings.patients) <= train
    assert not train & set(ordered.holdout.patients)
    copies = ordered.planted["exact"]
    np.testing.assert_array_equal(copies.embeddings, ordered.train.embeddings[copies.sources])
    assert [scores.name for scores in attacks] == ["discriminator", "white_box"]


def test_pixels_decide_the_order_where_they_are_known() -> None:
    """The last bits of an embedding differ between machines, and must not reorder the tiles."""
    data, _, _ = given(content=True)
    noise = np.float32(1) + np.float32(1e-7)
    nudged = Tiles(
        "holdout",
        data.holdout.embeddings * noise,
        labels=data.holdout.labels,
        patients=data.holdout.patients,
        slides=data.holdout.slides,
        fingerprints=data.holdout.fingerprints,
        ids=data.holdout.ids,
        content=data.holdout.content,
    )
    assert (nudged.embeddings != data.holdout.embeddings).any()
    first, second = (
        in_order(replace(data, holdout=tiles)).data.holdout for tiles in (data.holdout, nudged)
    )
    np.testing.assert_array_equal(first.content, second.content)
    np.testing.assert_array_equal(first.patients, second.patients)


def test_what_was_measured_of_the_files_stays_with_the_data() -> None:
    """Measures are put in order too, and no name of a patient decides it."""
    data, _, _ = given(content=True)
    rng = np.random.default_rng(0)
    values = rng.normal(size=(12, 3)).astype(np.float32)
    measured = Tiles("train", values, patients=np.repeat(["a", "b", "c"], 4))
    again = Tiles("train", values[::-1], patients=np.repeat(["x", "z", "y"], 4))
    why = {Harm.COPYING: "Files differ."}
    first, second = (
        in_order(replace(data, pipeline=(tiles, tiles), confounded=why)).data
        for tiles in (measured, again)
    )
    assert first.pipeline is not None
    assert second.pipeline is not None
    assert first.confounded == why
    for one, other in zip(first.pipeline, second.pipeline, strict=True):
        np.testing.assert_array_equal(one.embeddings, other.embeddings)
        np.testing.assert_array_equal(one.patients, other.patients)
    assert len(np.unique(first.pipeline[0].patients)) == 3

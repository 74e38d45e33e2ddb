"""What is declared, from what, and with which share of the level."""

from typing import Any, Protocol

import numpy as np
import pytest

from audits import AuditData, AuditResult, Estimate, Harm, Tiles
from audits.family import (
    available_attacks,
    confirmed,
    family,
    judged_classes,
    levels,
)
from audits.permutation import holm


class MakeData(Protocol):
    def __call__(self, seed: int, **settings: Any) -> AuditData: ...


def labelled(base: AuditData, **shares: float) -> AuditData:
    """The same tiles with classes dealt in these shares to every role."""

    def deal(tiles: Tiles, name: str) -> Tiles:
        counts = np.round(np.array(list(shares.values())) * len(tiles)).astype(int)
        counts[-1] = len(tiles) - counts[:-1].sum()
        return Tiles(
            name,
            tiles.embeddings,
            labels=np.repeat(list(shares), counts),
            patients=tiles.patients,
        )

    return AuditData(
        train=deal(base.train, "train"),
        holdout=deal(base.holdout, "holdout"),
        synthetic=deal(base.synthetic, "synthetic"),
    )


class TestFamily:
    def test_depends_on_the_roles_alone(self, make_data: MakeData) -> None:
        copied, clean = make_data(0, copies=50), make_data(1)
        expected = ["tail_count", "tail_ratio", "patient_membership"]
        assert list(family(copied)) == list(family(clean)) == expected
        with_siblings = family(make_data(2, siblings_each=2))
        assert list(with_siblings) == [*expected[:2], "tile_membership", expected[2]]
        assert list(family(make_data(3, patients=1))) == expected[:2]
        assert set(family(copied).values()) == {1.0}

    def test_each_attack_brings_both_arms(self, make_data: MakeData) -> None:
        names = family(make_data(0, siblings_each=2), attacks=("full_black_box", "shadow"))
        assert list(names)[2:] == [
            "tile_membership",
            "tile_membership/shadow",
            "patient_membership",
            "patient_membership/shadow",
        ]

    def test_classes_share_the_weight_of_one_test(self, make_data: MakeData) -> None:
        weights = family(labelled(make_data(0), a=0.5, b=0.3, c=0.2))
        classes = {n: w for n, w in weights.items() if n.startswith("tail_ratio/class:")}
        assert list(classes) == [f"tail_ratio/class:{label}" for label in "abc"]
        assert sum(classes.values()) == pytest.approx(1)
        assert levels(weights, 0.05)["tail_ratio"] == pytest.approx(0.05 / 4)
        assert levels(weights, 0.05)["tail_ratio/class:a"] == pytest.approx(0.05 / 12)
        assert sum(levels(weights, 0.05).values()) == pytest.approx(0.05)

    def test_one_class_has_no_test_of_its_own(self, make_data: MakeData) -> None:
        assert judged_classes(make_data(0), 0.05) == ()

    def test_a_class_that_could_never_reject_or_that_is_empty_takes_no_share(
        self, make_data: MakeData
    ) -> None:
        base = make_data(0)
        data = labelled(base, a=0.5, b=0.485, tiny=0.015)
        assert judged_classes(data, 0.0125) == ("a", "b")
        unlabelled = AuditData(
            train=data.train,
            holdout=data.holdout,
            synthetic=Tiles("synthetic", base.synthetic.embeddings),
        )
        assert judged_classes(unlabelled, 0.0125) == ()

    @pytest.mark.parametrize("role", ["train", "holdout"])
    def test_a_class_needs_five_tiles_of_either_role(self, make_data: MakeData, role: str) -> None:
        base = labelled(make_data(0), a=0.5, b=0.5)

        def judged(count: int) -> tuple[str, ...]:
            roles = base.roles()
            part = roles[role]
            labels = np.where(np.arange(len(part)) < count, "b", "a")
            roles[role] = Tiles(role, part.embeddings, labels=labels, patients=part.patients)
            return judged_classes(
                AuditData(
                    train=roles["train"], holdout=roles["holdout"], synthetic=roles["synthetic"]
                ),
                0.05,
            )

        assert judged(4) == ("a",)
        assert judged(5) == ("a", "b")


class TestAttacks:
    def test_reference_attacks_need_six_reference_tiles(self, make_data: MakeData) -> None:
        base = make_data(0)

        def attacks(count: int) -> tuple[str, ...]:
            reference = Tiles("reference", base.holdout.embeddings[:count] + 0.1)
            data = AuditData(
                train=base.train,
                holdout=base.holdout,
                synthetic=base.synthetic,
                reference=reference,
            )
            return available_attacks(data)

        assert attacks(5) == ("full_black_box", "monte_carlo")
        assert attacks(6) == ("full_black_box", "density_ratio", "calibrated", "monte_carlo")

    def test_outside_attacks_take_their_registered_place(self, make_data: MakeData) -> None:
        found = available_attacks(make_data(0), ["shadow", "white_box"])
        assert found == ("full_black_box", "monte_carlo", "white_box", "shadow")


class TestWeightedHolm:
    def test_equal_weights_are_plain_holm(self) -> None:
        p = {"a": 0.01, "b": 0.04, "c": 0.03}
        assert holm(p, dict.fromkeys(p, 7.0)) == pytest.approx(holm(p))
        assert holm(p) == pytest.approx({"a": 0.03, "b": 0.06, "c": 0.06})

    def test_by_hand(self) -> None:
        """p / w orders them a, b, c; remaining weights are 4, 3, 2."""
        got = holm({"a": 0.01, "b": 0.02, "c": 0.06}, {"a": 1, "b": 1, "c": 2})
        assert got == pytest.approx({"a": 0.04, "b": 0.06, "c": 0.06})

    def test_controls_the_family_wise_error(self, rng: np.random.Generator) -> None:
        weights = {"a": 3.0, "b": 1.0, "c": 0.5, "d": 0.5}
        errors = [
            min(holm(dict(zip(weights, rng.random(4), strict=True)), weights).values()) <= 0.05
            for _ in range(4000)
        ]
        assert 0.035 < np.mean(errors) <= 0.06


def test_confirmed_up_to_its_level_and_never_without_the_check() -> None:
    def result(**details: float) -> AuditResult:
        estimate = Estimate(value=0.1, low=0.0, high=0.2, n=5, unit="tile")
        return AuditResult(name="x", harm=Harm.COPYING, statistic=estimate, details=details)

    assert confirmed(result(own_p=0.01), 0.01)
    assert not confirmed(result(own_p=0.011), 0.01)
    assert not confirmed(result(), 0.99)

"""Input that would turn a leak into a pass, or a pass into nonsense: each case once did."""

from typing import Any, Protocol

import numpy as np
import pytest

from audits import (
    AuditData,
    AuditInputError,
    Harm,
    HarmVerdict,
    Outcome,
    OutsideScores,
    Planted,
    Policy,
    Tiles,
    audit,
)
from audits.inputs import textured_only


class MakeData(Protocol):
    def __call__(self, seed: int, **settings: Any) -> AuditData: ...


QUICK = Policy(fractions=(0.1,), membership_excess=0.2)


def harms(data: AuditData, policy: Policy = QUICK) -> dict[Harm, HarmVerdict]:
    return {verdict.harm: verdict for verdict in audit(data, policy=policy).verdict.harms}


def leaking_patients(blanks: int) -> AuditData:
    """Three copied tiles per training patient; every real patient also has `blanks` blank tiles."""
    rng = np.random.default_rng(0)

    def real(name: str) -> Tiles:
        x = rng.normal(size=(30, 12 + blanks, 6))
        x[:, 12:] = 0.01 * rng.normal(size=(30, blanks, 6))
        prints = [
            "" if tile >= 12 else f"{name}{patient}.{tile}"
            for patient in range(30)
            for tile in range(12 + blanks)
        ]
        owner = np.repeat([f"{name}{patient}" for patient in range(30)], 12 + blanks)
        return Tiles(name, x.reshape(-1, 6), patients=owner, fingerprints=prints)

    train, holdout = real("train"), real("holdout")
    copied = train.embeddings.reshape(30, -1, 6)[:, :3].reshape(-1, 6)
    made = np.concatenate([copied + 1e-3, rng.normal(size=(300, 6)), 0.01 * np.ones((30, 6))])
    prints = [f"s{row}" for row in range(390)] + [""] * 30
    return AuditData(
        train=train,
        holdout=holdout,
        synthetic=Tiles("synthetic", made, fingerprints=prints),
    )


class TestBlankTiles:
    def test_do_not_fill_a_patients_highest_scores(self) -> None:
        """Six blank tiles per patient once made an AUROC of 1 read .5, and pass."""
        clean, blank = leaking_patients(0), leaking_patients(6)
        assert harms(clean)[Harm.PATIENT_MEMBERSHIP].outcome is Outcome.LEAK
        assert harms(blank)[Harm.PATIENT_MEMBERSHIP].outcome is Outcome.LEAK

    def test_are_dropped_with_all_that_is_known_of_them(self) -> None:
        data = leaking_patients(2)
        seen = textured_only(data)
        assert (len(seen.train), len(seen.synthetic)) == (360, 390)
        assert seen.train.patients_known
        assert set(seen.train.ids) <= set(data.train.ids)
        assert textured_only(seen).train is seen.train


class TestSiblings:
    def test_equal_to_train_tiles_are_refused(self, make_data: MakeData) -> None:
        base = make_data(0, siblings_each=3)
        siblings = Tiles(
            "siblings",
            base.train.embeddings[:20],
            patients=base.train.patients[:20],
            fingerprints=base.train.fingerprints[:20] if base.train.fingerprints is not None else 0,
        )
        with pytest.raises(AuditInputError, match="siblings must be tiles the generator did not"):
            AuditData(
                train=base.train, siblings=siblings, holdout=base.holdout, synthetic=base.synthetic
            )

    @pytest.mark.parametrize(("copied", "refused"), [(20, True), (10, False), (1, False)])
    def test_equal_embeddings_are_refused_or_warned_about(
        self, make_data: MakeData, copied: int, refused: bool
    ) -> None:
        base = make_data(0, siblings_each=2, fingerprints=False)
        assert base.siblings is not None
        x = base.siblings.embeddings.copy()
        x[:copied] = base.train.embeddings[:copied]
        data = AuditData(
            train=base.train,
            siblings=Tiles("siblings", x, patients=base.siblings.patients),
            holdout=base.holdout,
            synthetic=base.synthetic,
        )
        if refused:
            with pytest.raises(AuditInputError, match="20 of 20 siblings tiles are exact copies"):
                audit(data, policy=QUICK)
            return
        warnings = audit(data, policy=QUICK).warnings
        assert any(f"{copied} siblings tiles are exact copies" in text for text in warnings)

    def test_reference_tiles_that_are_train_tiles_are_refused(self, make_data: MakeData) -> None:
        base = make_data(1, fingerprints=False)
        data = AuditData(
            train=base.train,
            holdout=base.holdout,
            synthetic=base.synthetic,
            reference=Tiles("reference", base.train.embeddings[:50]),
        )
        with pytest.raises(AuditInputError, match="train and reference must differ"):
            audit(data, policy=QUICK)

    def test_without_patients_are_refused_with_the_way_out(self, make_data: MakeData) -> None:
        base = make_data(2)
        with pytest.raises(AuditInputError, match="siblings need patients"):
            AuditData(
                train=Tiles("train", base.train.embeddings),
                siblings=Tiles("siblings", base.holdout.embeddings[:9]),
                holdout=base.holdout,
                synthetic=base.synthetic,
            )


class TestUnknownPatients:
    def test_no_pass_on_patients_where_none_are_known(self) -> None:
        rng = np.random.default_rng(3)
        data = AuditData(
            train=Tiles("train", rng.normal(size=(300, 6))),
            holdout=Tiles("holdout", rng.normal(size=(300, 6))),
            synthetic=Tiles("synthetic", rng.normal(size=(200, 6))),
        )
        verdict = harms(data)[Harm.PATIENT_MEMBERSHIP]
        assert verdict.outcome is Outcome.INCONCLUSIVE
        assert "patient of its own" in verdict.reason

    @pytest.mark.parametrize("names", [[1.0, 2.0, 2.0], ["a", float("nan"), "b"]])
    def test_decimal_numbers_are_no_names(self, names: list[Any]) -> None:
        column = np.array(names, dtype=object)
        with pytest.raises(AuditInputError, match="patients must be text or whole numbers"):
            Tiles("train", np.eye(3), patients=column)
        assert Tiles("train", np.eye(3), patients=[1, 2, 2]).patient_count == 2


class TestOutsideScores:
    def test_that_are_all_equal_are_refused(self, make_data: MakeData) -> None:
        data = make_data(4)
        ids = np.concatenate([data.train.ids, data.holdout.ids])
        constant = OutsideScores(name="shadow", ids=ids, scores=np.zeros(len(ids)))
        with pytest.raises(AuditInputError, match="shadow scores must differ"):
            audit(data, policy=QUICK, outside=[constant])


class TestSmallSets:
    def test_few_synthetic_tiles_leave_the_reference_attacks_out(self, make_data: MakeData) -> None:
        base = make_data(5, synthetic=5)
        rng = np.random.default_rng(0)
        data = AuditData(
            train=base.train,
            holdout=base.holdout,
            synthetic=base.synthetic,
            reference=Tiles("reference", rng.normal(size=(40, 8))),
        )
        names = {result.name for result in audit(data, policy=QUICK).results}
        assert "patient_membership/density_ratio" not in names

    def test_words_that_would_break_the_report_are_refused(self, make_data: MakeData) -> None:
        base = make_data(6)
        planted = Planted(embeddings=base.train.embeddings[:2], sources=np.arange(2))
        for settings in ({"group_unit": "WSI 1"}, {"planted": {"JPEG-q40": planted}}):
            with pytest.raises(AuditInputError, match="lower-case words"):
                AuditData(
                    train=base.train,
                    holdout=base.holdout,
                    synthetic=base.synthetic,
                    **settings,  # type: ignore[arg-type]
                )

    def test_a_seed_of_numpy_is_recorded_and_no_number_is_refused(
        self, make_data: MakeData
    ) -> None:
        data = make_data(7)
        assert audit(data, policy=QUICK, rng=np.int64(3)).seed == 3  # type: ignore[arg-type]
        with pytest.raises(TypeError):
            audit(data, policy=QUICK, rng=2.5)  # type: ignore[arg-type]

    def test_class_proportions_that_cannot_be_matched_are_warned_about(
        self, make_data: MakeData
    ) -> None:
        base = make_data(8)
        labels = np.where(np.arange(200) < 50, "a", "b")
        holdout = Tiles(
            "holdout", base.holdout.embeddings, labels=labels, patients=base.holdout.patients
        )
        data = AuditData(train=base.train, holdout=holdout, synthetic=base.synthetic)
        warnings = audit(data, policy=QUICK).warnings
        assert any("name no class that the holdout has" in text for text in warnings)

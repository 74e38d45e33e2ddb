"""The whole battery on bad input and at its limits."""

import json

import numpy as np
import pytest

from audits import AuditData, AuditInputError, AuditReport, Harm, Outcome, Tiles, audit
from tests.helpers.battery import QUICK, MakeData, harms

pytestmark = pytest.mark.usefixtures("short_simulations")


class TestOddInput:
    """A named error or INCONCLUSIVE; never a crash, a NaN, or a pass."""

    def open_verdict(self, data: AuditData) -> AuditReport:
        report = audit(data, policy=QUICK)
        json.dumps(report.to_dict(), allow_nan=False)
        assert report.verdict.outcome is Outcome.INCONCLUSIVE
        return report

    def test_train_equal_to_holdout_is_refused(self, make_data: MakeData) -> None:
        base = make_data(0, fingerprints=False)
        data = AuditData(
            train=base.train,
            holdout=Tiles("holdout", base.train.embeddings, patients=base.holdout.patients),
            synthetic=base.synthetic,
        )
        with pytest.raises(AuditInputError, match="train and holdout must differ: 200 of 200"):
            audit(data)

    @pytest.mark.parametrize("role", ["synthetic", "holdout"])
    def test_a_role_of_featureless_tiles_is_refused(self, make_data: MakeData, role: str) -> None:
        base = make_data(1)
        roles = base.roles()
        roles[role] = Tiles(
            role,
            roles[role].embeddings,
            patients=roles[role].patients,
            fingerprints=[""] * len(roles[role]),
        )
        with pytest.raises(AuditInputError, match=rf"all 200 {role} tiles are featureless"):
            audit(
                AuditData(
                    train=roles["train"], holdout=roles["holdout"], synthetic=roles["synthetic"]
                )
            )

    def test_four_holdout_tiles_are_refused_and_five_are_inconclusive(
        self, make_data: MakeData
    ) -> None:
        base = make_data(2)

        def with_holdout(count: int) -> AuditData:
            holdout = Tiles(
                "holdout",
                base.holdout.embeddings[:: len(base.holdout) // count][:count],
                patients=base.holdout.patients[:: len(base.holdout) // count][:count],
            )
            return AuditData(train=base.train, holdout=holdout, synthetic=base.synthetic)

        with pytest.raises(AuditInputError, match="more than 4 holdout tiles: got 4"):
            audit(with_holdout(4))
        self.open_verdict(with_holdout(5))

    def test_no_tile_of_train_shares_a_slide_with_a_sibling(self, make_data: MakeData) -> None:
        base = make_data(3, siblings_each=2)
        assert base.siblings is not None
        strange = Tiles(
            "siblings",
            base.siblings.embeddings,
            patients=base.siblings.patients,
            slides=np.char.add("other ", base.siblings.patients),
        )
        data = AuditData(
            train=base.train, siblings=strange, holdout=base.holdout, synthetic=base.synthetic
        )
        report = self.open_verdict(data)
        assert "tile_membership" not in report.verdict.family
        assert harms(report)[Harm.TILE_MEMBERSHIP].reason == "Not measured."

    def test_one_synthetic_tile(self, make_data: MakeData) -> None:
        self.open_verdict(make_data(4, synthetic=1))

    def test_ten_tiles_a_role(self, make_data: MakeData) -> None:
        self.open_verdict(make_data(5, patients=5, tiles_each=2, synthetic=10))

    def test_one_patient_a_side(self, make_data: MakeData) -> None:
        report = self.open_verdict(make_data(6, patients=1, siblings_each=3))
        assert harms(report)[Harm.PATIENT_MEMBERSHIP].reason == "Not measured."
        assert harms(report)[Harm.TILE_MEMBERSHIP].outcome is Outcome.INCONCLUSIVE

    def test_all_synthetic_tiles_identical_and_far_from_train(self, make_data: MakeData) -> None:
        base = make_data(7)
        far = Tiles("synthetic", np.full((50, 8), 9.0))
        report = audit(
            AuditData(train=base.train, holdout=base.holdout, synthetic=far), policy=QUICK
        )
        json.dumps(report.to_dict(), allow_nan=False)
        assert harms(report)[Harm.COPYING].outcome is Outcome.INCONCLUSIVE

    @pytest.mark.parametrize("siblings_each", [0, 2])
    def test_one_patient_with_a_single_tile_and_one_with_a_thousand(
        self, make_data: MakeData, siblings_each: int
    ) -> None:
        """A patient of one tile once made every score NaN, and NaN a rejection."""
        base = make_data(8, patients=4, tiles_each=30, siblings_each=siblings_each)
        rng = np.random.default_rng(0)
        sizes = (1000, 1, 1, 20)
        rows = [
            Tiles(
                name,
                rng.normal(size=(1022, 8)),
                patients=np.char.add(prefix, np.repeat(np.arange(4), sizes).astype(np.str_)),
            )
            for name, prefix in (("train", "a"), ("holdout", "h"))
        ]
        data = AuditData(
            train=rows[0], holdout=rows[1], synthetic=base.synthetic, siblings=base.siblings
        )
        features = {role: tiles.embeddings for role, tiles in data.roles().items()}
        report = audit(data, policy=QUICK, features={"tiny": features})
        json.dumps(report.to_dict(), allow_nan=False)
        assert report.verdict.outcome is Outcome.INCONCLUSIVE

    def test_every_row_repeated_ten_times(self) -> None:
        rng = np.random.default_rng(1)

        def repeated(name: str, prefix: str) -> Tiles:
            return Tiles(
                name,
                np.repeat(rng.normal(size=(12, 4)), 10, axis=0),
                patients=np.char.add(prefix, np.repeat(np.arange(6), 20).astype(np.str_)),
            )

        data = AuditData(
            train=repeated("train", "a"),
            holdout=repeated("holdout", "h"),
            synthetic=Tiles("synthetic", rng.normal(size=(100, 4))),
        )
        report = audit(data, policy=QUICK)
        json.dumps(report.to_dict(), allow_nan=False)
        assert report.verdict.outcome is not Outcome.NO_LEAK_FOUND

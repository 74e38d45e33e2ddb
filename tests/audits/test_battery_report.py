"""The whole battery's report: what it holds, what it never names, and what changes nothing."""

import json

import numpy as np
import pytest

from audits import AuditData, Harm, Outcome, Planted, Tiles, audit
from tests.helpers.battery import QUICK, MakeData, by_name, harms, shuffled

pytestmark = pytest.mark.usefixtures("short_simulations")


class TestReport:
    def test_is_json_without_nan_and_keeps_its_parts(self, make_data: MakeData) -> None:
        data = make_data(0, siblings_each=3, planted=("stain",))
        features = {
            "tiny": {
                "train": data.train.embeddings,
                "holdout": data.holdout.embeddings,
                "synthetic": data.synthetic.embeddings,
            }
        }
        report = audit(data, policy=QUICK, rng=3, features=features)
        text = json.loads(json.dumps(report.to_dict(), allow_nan=False))
        assert text["seed"] == 3
        assert text["counts"]["train"] == {"tiles": 200, "patients": 10}
        assert text["counts"]["synthetic"] == {"tiles": 200, "patients": 0}
        assert text["verdict"]["outcome"] == report.verdict.outcome
        assert text["policy"]["gates"] == ["copying", "tile membership", "patient membership"]
        assert {point["kind"] for point in text["power"]} == {"exact", "stain"}
        assert any(result["name"] == "fd_tiny/synthetic_train" for result in text["results"])

    def test_names_no_patient_and_no_tile(self, make_data: MakeData) -> None:
        data = make_data(0, copies=3, siblings_each=2)
        text = json.dumps(audit(data, policy=QUICK).to_dict())
        assert data.train.fingerprints is not None
        names = {*data.train.patients, *data.holdout.patients, *data.train.fingerprints}
        assert not [name for name in names if f'"{name}"' in text]

    def test_is_the_same_for_the_same_seed_and_not_for_another(self, make_data: MakeData) -> None:
        data = make_data(1, siblings_each=3, copies=4, copy_noise=0.1)
        first = audit(data, policy=QUICK, rng=5).to_dict()
        assert audit(data, policy=QUICK, rng=5).to_dict() == first
        assert audit(data, policy=QUICK, rng=6).to_dict() != first
        generator = audit(data, policy=QUICK, rng=np.random.default_rng(5))
        assert generator.seed is None
        assert generator.to_dict() == {**first, "seed": None}

    def test_the_order_of_tiles_does_not_matter(self, make_data: MakeData) -> None:
        """Exact statistics are equal; those with random draws within what draws explain."""
        data = make_data(2, siblings_each=4, copies=6, copy_noise=0.1, correlation=0.2)
        rng = np.random.default_rng(0)
        assert data.siblings is not None
        other = AuditData(
            train=shuffled(data.train, rng),
            siblings=shuffled(data.siblings, rng),
            holdout=shuffled(data.holdout, rng),
            synthetic=shuffled(data.synthetic, rng),
        )
        one, two = audit(data, policy=QUICK), audit(other, policy=QUICK)
        assert one.verdict.outcome is two.verdict.outcome
        assert [v.outcome for v in one.verdict.harms] == [v.outcome for v in two.verdict.harms]
        for name in one.verdict.family:
            a, b = by_name(one)[name], by_name(two)[name]
            assert a.statistic.value == pytest.approx(b.statistic.value, rel=1e-12)
            tolerance = 0.0 if name.startswith("tail") else 0.02
            assert a.p_value == pytest.approx(b.p_value, abs=tolerance)
        for before, after in zip(one.power, two.power, strict=True):
            assert before.power.value == pytest.approx(after.power.value, abs=0.3)

    def test_controls_and_warnings_are_there(self, make_data: MakeData) -> None:
        report = audit(make_data(3), policy=QUICK)
        assert {"control/member_against_member", "control/blind_baseline"} <= set(by_name(report))
        assert any("Only 10 patients" in warning for warning in report.warnings)

    def test_a_coarser_unit_than_the_patient_is_warned_about(self, make_data: MakeData) -> None:
        base = make_data(4)
        data = AuditData(
            train=base.train, holdout=base.holdout, synthetic=base.synthetic, group_unit="slide"
        )
        report = audit(data, policy=QUICK)
        assert any("name no patients" in warning for warning in report.warnings)

    def test_tiles_that_count_as_their_own_patients_are_warned_about(
        self, make_data: MakeData
    ) -> None:
        base = make_data(5)
        data = AuditData(
            train=Tiles("train", base.train.embeddings[:60]),
            holdout=base.holdout,
            synthetic=base.synthetic,
        )
        warned = [w for w in audit(data, policy=QUICK).warnings if "patient of its own" in w]
        assert len(warned) == 1
        assert warned[0].startswith("Every train tile")

    def test_featureless_tiles_are_left_out_of_the_copy_tests_and_counted(
        self, make_data: MakeData
    ) -> None:
        base = make_data(6, copies=40)
        assert base.synthetic.fingerprints is not None
        blank = base.synthetic.fingerprints.copy()
        blank[:40] = ""
        data = AuditData(
            train=base.train,
            holdout=base.holdout,
            synthetic=Tiles("synthetic", base.synthetic.embeddings, fingerprints=blank),
        )
        report = audit(data, policy=QUICK)
        assert by_name(report)["tail_count"].statistic.n == 160
        assert harms(report)[Harm.COPYING].outcome is Outcome.INCONCLUSIVE
        assert any("40 of 200 synthetic tiles are featureless" in w for w in report.warnings)

    def test_planted_copies_that_are_all_featureless_are_not_planted(
        self, make_data: MakeData
    ) -> None:
        base = make_data(7)
        planted = {
            kind: Planted(
                embeddings=base.train.embeddings[:20],
                sources=np.arange(20),
                fingerprints=np.array([""] * 20),
            )
            for kind in ("stain", "exact")
        }
        data = AuditData(
            train=base.train, holdout=base.holdout, synthetic=base.synthetic, planted=planted
        )
        report = audit(data, policy=QUICK)
        assert report.power == ()
        assert report.mdl80 == {}
        assert "exact not planted" in harms(report)[Harm.COPYING].reason

    def test_near_duplicates_between_train_and_holdout_are_warned_about(
        self, make_data: MakeData
    ) -> None:
        base = make_data(8, fingerprints=False)
        holdout = base.holdout.embeddings.copy()
        holdout[:3] = base.train.embeddings[:3]
        data = AuditData(
            train=base.train,
            holdout=Tiles("holdout", holdout, patients=base.holdout.patients),
            synthetic=base.synthetic,
        )
        report = audit(data, policy=QUICK)
        assert any("3 holdout tiles are exact copies" in w for w in report.warnings)
        assert report.verdict.outcome is not Outcome.NO_LEAK_FOUND

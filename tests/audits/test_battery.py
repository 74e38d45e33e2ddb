"""The whole battery: verdicts on known truths, and the family."""

from typing import Any

import numpy as np
import pytest

from audits import (
    AuditData,
    AuditReport,
    Harm,
    Outcome,
    OutsideScores,
    Policy,
    PowerPoint,
    Tiles,
    audit,
)
from audits.battery import run_family
from audits.permutation import holm
from tests.helpers.battery import KINDS, QUICK, MakeData, by_name, harms

pytestmark = pytest.mark.usefixtures("short_simulations")


class TestKnownTruth:
    def test_proven_copies_are_a_leak(self, make_data: MakeData) -> None:
        report = audit(make_data(0, copies=2), policy=QUICK)
        assert report.verdict.outcome is Outcome.LEAK
        assert harms(report)[Harm.COPYING].reason.startswith("identical_tiles: 2 of 200")
        assert report.verdict.outcome.exit_code == 1

    @pytest.mark.parametrize("fingerprints", [True, False])
    def test_lossy_copies_are_a_leak_without_any_equal_pixel(
        self, make_data: MakeData, fingerprints: bool
    ) -> None:
        data = make_data(1, copies=20, copy_noise=0.01, fingerprints=fingerprints)
        report = audit(data, policy=QUICK)
        assert harms(report)[Harm.COPYING].reason.startswith("tail_ratio")
        assert by_name(report)["tail_count"].rejected
        assert ("identical_tiles" in by_name(report)) == fingerprints

    def test_copies_hidden_at_ordinary_distances_are_seen_by_the_ratio_alone(self) -> None:
        """Half the holdout lies in a dense region, so a distance says nothing and a ratio does."""
        rng = np.random.default_rng(3)
        width, scale = 8, np.repeat([0.02, 1.0], 150)[:, None]
        centre = np.where(scale < 1, 30.0, 0.0)
        train = rng.normal(size=(300, width)) * scale + centre
        holdout = rng.normal(size=(300, width)) * scale + centre
        synthetic = rng.normal(size=(300, width)) * scale + centre
        synthetic[150:170] = train[150:170] + 0.05 * rng.normal(size=(20, width))
        report = audit(
            AuditData(
                train=Tiles("train", train, patients=[f"a{i % 10}" for i in range(300)]),
                holdout=Tiles("holdout", holdout, patients=[f"b{i % 10}" for i in range(300)]),
                synthetic=Tiles("synthetic", synthetic),
            ),
            policy=QUICK,
        )
        assert harms(report)[Harm.COPYING].reason.startswith("tail_ratio")
        assert not by_name(report)["tail_count"].rejected

    def test_synthetic_equal_to_train_is_a_leak_of_every_kind(self, make_data: MakeData) -> None:
        base = make_data(2, siblings_each=5)
        copied = Tiles("synthetic", base.train.embeddings, fingerprints=base.train.fingerprints)
        report = audit(
            AuditData(
                train=base.train, siblings=base.siblings, holdout=base.holdout, synthetic=copied
            ),
            policy=QUICK,
        )
        assert harms(report)[Harm.COPYING].outcome is Outcome.LEAK
        assert harms(report)[Harm.TILE_MEMBERSHIP].outcome is Outcome.LEAK
        assert by_name(report)["tile_membership"].statistic.value == 1.0

    def test_a_generator_of_training_patients_tissue_leaks_patients_and_no_tile(self) -> None:
        """New tiles of the training patients: siblings come as close as train tiles do."""
        rng = np.random.default_rng(4)
        effect = 2.0 * rng.normal(size=(12, 8))

        def tiles(name: str, prefix: str, centres: Any, each: int) -> Tiles:
            owner = np.repeat(np.arange(12), each)
            return Tiles(
                name,
                centres[owner] + rng.normal(size=(len(owner), 8)),
                patients=np.char.add(prefix, owner.astype(np.str_)),
            )

        report = audit(
            AuditData(
                train=tiles("train", "a", effect, 20),
                siblings=tiles("siblings", "a", effect, 6),
                holdout=tiles("holdout", "b", 2.0 * rng.normal(size=(12, 8)), 20),
                synthetic=tiles("synthetic", "s", effect, 30),
            ),
            policy=QUICK,
        )
        assert by_name(report)["patient_membership"].rejected
        assert not by_name(report)["tile_membership"].rejected
        assert by_name(report)["patient_membership"].details["members"] == "siblings"

    def test_enough_data_and_nothing_to_find_is_a_pass_that_states_its_bound(
        self, make_data: MakeData
    ) -> None:
        data = make_data(
            11, patients=40, tiles_each=20, synthetic=2500, siblings_each=4, planted=KINDS
        )
        policy = Policy(fractions=(0.01, 0.03), membership_excess=0.25)
        report = audit(data, policy=policy)
        assert report.verdict.outcome is Outcome.NO_LEAK_FOUND, report.verdict
        assert {v.outcome for v in report.verdict.harms} == {Outcome.NO_LEAK_FOUND}
        assert "copied share >= 0.01 at power .8, of the kinds exact" in report.verdict.sentence
        assert set(report.mdl80) == {"exact", *KINDS}
        assert report.verdict.outcome.exit_code == 0

    def test_too_little_data_is_inconclusive_and_says_what_to_add(
        self, make_data: MakeData
    ) -> None:
        report = audit(make_data(6, patients=3, tiles_each=5, synthetic=30), policy=QUICK)
        assert report.verdict.outcome is Outcome.INCONCLUSIVE
        assert report.verdict.outcome.exit_code == 4
        assert all(v.remedy for v in report.verdict.harms)
        assert harms(report)[Harm.TILE_MEMBERSHIP].reason == "Not measured."

    def test_four_patients_a_side_are_not_told_that_no_data_could_have_rejected(
        self, make_data: MakeData
    ) -> None:
        """The same design does reject where other tests reject before: Holm's later steps."""
        policy = Policy(fractions=(0.1,), membership_excess=0.9)

        def audited(patients: int, copies: int) -> AuditReport:
            """Four tests: a quarter of .05 is less than 1/70."""
            data = make_data(1, patients=patients, tiles_each=12, copies=copies, copy_noise=0.01)
            ids = np.concatenate([data.train.ids, data.holdout.ids])
            scores = np.where(np.char.startswith(ids, "train"), 3.0 * (copies > 0), 0.0)
            noise = np.random.default_rng(0).normal(size=len(ids))
            white_box = OutsideScores(name="white_box", ids=ids, scores=scores + noise)
            return audit(data, policy=policy, outside=[white_box])

        clean = harms(audited(4, 0))[Harm.PATIENT_MEMBERSHIP]
        assert "only after other tests of the family did" in clean.reason
        assert by_name(audited(4, 150))["patient_membership"].rejected
        two = harms(audited(2, 0))[Harm.PATIENT_MEMBERSHIP]
        assert "no data could have rejected" in two.reason

    def test_patients_of_another_place_make_membership_inconclusive(
        self, make_data: MakeData
    ) -> None:
        report = audit(make_data(7, holdout_shift=-3.0), policy=QUICK)
        verdict = harms(report)[Harm.PATIENT_MEMBERSHIP]
        assert by_name(report)["patient_membership"].rejected
        assert verdict.outcome is Outcome.INCONCLUSIVE
        assert "told apart without the synthetic tiles" in verdict.reason
        assert any("confounded" in warning for warning in report.warnings)

    def test_a_policy_that_gates_on_copies_alone_ignores_the_rest(
        self, make_data: MakeData
    ) -> None:
        policy = Policy(gates=(Harm.COPYING,), copying_kinds=("exact",), fractions=(0.005, 0.01))
        report = audit(make_data(8), policy=policy)
        assert report.verdict.outcome is Outcome.NO_LEAK_FOUND
        assert harms(report)[Harm.TILE_MEMBERSHIP].outcome is Outcome.INCONCLUSIVE

    def test_identical_tiles_are_a_leak_under_a_policy_that_asks_about_patients_alone(
        self, make_data: MakeData
    ) -> None:
        policy = Policy(gates=(Harm.PATIENT_MEMBERSHIP,), membership_excess=0.9)
        report = audit(make_data(8, copies=18), policy=policy)
        assert report.verdict.outcome is Outcome.LEAK
        assert report.verdict.sentence.startswith("LEAK: copying (proven")
        clean = audit(make_data(8), policy=policy)
        assert clean.verdict.outcome is Outcome.NO_LEAK_FOUND
        assert "not asked: copying" in clean.verdict.sentence

    def test_a_policy_that_hides_near_copies_signs_what_it_asked(self, make_data: MakeData) -> None:
        """3 % near copies, which no test rejects at 1e-9: the sentence says so."""
        data = make_data(
            1, synthetic=400, copies=12, copy_noise=0.05, siblings_each=4, planted=("stain",)
        )
        policy = Policy(
            significance=1e-9,
            gates=(Harm.COPYING,),
            copying_kinds=("exact",),
            fractions=(0.001, 0.01),
        )
        sentence = audit(data, policy=policy).verdict.sentence
        assert sentence.startswith("NO LEAK FOUND (copied share >= ")
        assert "of the kinds exact; not seen at any share tried: stained differently;" in sentence
        assert "asked: copying; not asked: " in sentence
        assert "significance 1e-09; kinds that had to be seen: exact" in sentence

    def test_copies_on_the_holdout_side_are_no_leak(self, make_data: MakeData) -> None:
        """Holdout and synthetic swapped: only a few holdout tiles, or the input is refused."""
        base = make_data(9, copies=30, copy_noise=0.01, fingerprints=False)
        swapped = AuditData(
            train=base.train,
            holdout=Tiles("holdout", base.synthetic.embeddings),
            synthetic=Tiles("synthetic", base.holdout.embeddings),
        )
        assert harms(audit(base, policy=QUICK))[Harm.COPYING].outcome is Outcome.LEAK
        report = audit(swapped, policy=QUICK)
        assert harms(report)[Harm.COPYING].outcome is Outcome.INCONCLUSIVE
        assert by_name(report)["tail_count"].p_value == pytest.approx(1, abs=0.01)

    @pytest.mark.parametrize("correlation", [0.0, 0.3])
    def test_the_family_cries_leak_in_about_five_percent_of_leak_free_data_sets(
        self, make_data: MakeData, correlation: float
    ) -> None:
        """Measured over 1,200 data sets at correlation .3: 4.6 %."""
        leaks = 0
        for seed in range(120):
            data = make_data(
                40_000 + seed,
                patients=8,
                tiles_each=18,
                siblings_each=2,
                synthetic=150,
                correlation=correlation,
                fingerprints=False,
            )
            leaks += any(result.rejected for result in run_family(data, rng=seed))
        assert leaks / 120 <= 0.1


class TestFamily:
    def test_holm_is_applied_over_exactly_the_family(self, make_data: MakeData) -> None:
        report = audit(make_data(4, siblings_each=3, copies=8, copy_noise=0.05), policy=QUICK)
        tests = {r.name: r for r in report.results if r.p_adjusted is not None}
        assert tuple(tests) == report.verdict.family
        raw = {name: r.p_value for name, r in tests.items() if r.p_value is not None}
        assert {name: r.p_adjusted for name, r in tests.items()} == holm(raw)
        assert all(r.rejected == (holm(raw)[name] <= 0.05) for name, r in tests.items())
        others = [r for r in report.results if r.name not in tests]
        assert all(r.p_adjusted is None for r in others)

    @pytest.mark.parametrize(("siblings_each", "size"), [(0, 3), (2, 4)])
    def test_power_is_that_of_holms_first_step(
        self,
        make_data: MakeData,
        monkeypatch: pytest.MonkeyPatch,
        siblings_each: int,
        size: int,
    ) -> None:
        levels = []

        def spy(*arrays: Any, significance: float, **settings: Any) -> tuple[PowerPoint, ...]:
            levels.append(significance)
            return ()

        monkeypatch.setattr("audits.copy_evidence.power_curve", spy)
        audit(make_data(0, siblings_each=siblings_each))
        assert levels == [pytest.approx(0.05 / size)]

    def test_alone_it_is_what_the_audit_ran(self, make_data: MakeData) -> None:
        data = make_data(5, siblings_each=3)
        alone = {result.name: result for result in run_family(data, rng=7)}
        whole = by_name(audit(data, policy=QUICK, rng=7))
        assert all(whole[name] == result for name, result in alone.items())

    def test_siblings_of_one_patient_leave_the_patient_arm_to_the_train_tiles(
        self, make_data: MakeData
    ) -> None:
        base = make_data(6, siblings_each=6)
        assert base.siblings is not None
        one = base.siblings.patients == "a0"
        data = AuditData(
            train=base.train,
            siblings=Tiles(
                "siblings", base.siblings.embeddings[one], patients=base.siblings.patients[one]
            ),
            holdout=base.holdout,
            synthetic=base.synthetic,
        )
        report = audit(data, policy=Policy(fractions=(0.1,), membership_excess=0.49))
        patient = by_name(report)["patient_membership"]
        assert patient.details["members"] == "train"
        assert "not separated" in patient.note
        assert harms(report)[Harm.TILE_MEMBERSHIP].outcome is Outcome.INCONCLUSIVE

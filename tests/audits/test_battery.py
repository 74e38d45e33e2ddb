"""The whole battery: verdicts on known truths, the family, invariances and bad input."""

import json
from collections.abc import Callable
from typing import Any, Protocol

import numpy as np
import pytest

from audits import (
    AuditData,
    AuditInputError,
    AuditReport,
    AuditResult,
    Harm,
    HarmVerdict,
    Outcome,
    OutsideScores,
    Planted,
    Policy,
    PowerPoint,
    Tiles,
    audit,
)
from audits.battery import run_family
from audits.permutation import holm

KINDS = ("symmetry", "odd_rotation", "stain")
QUICK = Policy(fractions=(0.01, 0.1))


class MakeData(Protocol):
    def __call__(self, seed: int, **settings: Any) -> AuditData: ...


@pytest.fixture(autouse=True)
def _short(few_draws: Callable[[int], None]) -> None:
    few_draws(40)


def by_name(report: AuditReport) -> dict[str, AuditResult]:
    return {result.name: result for result in report.results}


def harms(report: AuditReport) -> dict[Harm, HarmVerdict]:
    return {verdict.harm: verdict for verdict in report.verdict.harms}


def shuffled(tiles: Tiles, rng: np.random.Generator) -> Tiles:
    rows = rng.permutation(len(tiles))
    return Tiles(
        tiles.name,
        tiles.embeddings[rows],
        labels=tiles.labels[rows],
        patients=tiles.patients[rows],
        slides=tiles.slides[rows],
        fingerprints=None if tiles.fingerprints is None else tiles.fingerprints[rows],
    )


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

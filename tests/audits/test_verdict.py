"""Every branch of the verdict, from hand-made results."""

from dataclasses import replace

import pytest

from audits import AuditResult, Harm, HarmVerdict, Outcome, Policy
from audits.membership_rules import MembershipCase
from audits.verdict import membership_verdict
from tests.helpers.verdicts import (
    ALL_SEEN,
    LEVELS,
    SHIFTED,
    alignment,
    copy_test,
    copying,
    estimate,
    membership,
)


class TestCopying:
    def test_one_identical_tile_is_a_leak_whatever_the_counts_say(self) -> None:
        verdict = copying(identical=1)
        assert verdict.outcome is Outcome.LEAK
        assert "1 of 3000 synthetic tiles equal a train tile" in verdict.reason
        assert "reject too" not in verdict.reason

    def test_a_proof_names_the_tests_that_agree(self) -> None:
        assert copying(identical=40, count=True, ratio=True).reason.endswith(
            "The copy tests reject too (tail_count, tail_ratio)."
        )

    @pytest.mark.parametrize(
        ("which", "name"), [("ratio", "tail_ratio"), ("one_class", "tail_ratio/class:a")]
    )
    @pytest.mark.parametrize("identical", [None, 0])
    def test_the_ratio_confirmed_within_patients_is_a_leak(
        self, which: str, name: str, identical: int | None
    ) -> None:
        verdict = copying(identical=identical, **{which: True})  # type: ignore[arg-type]
        assert verdict.outcome is Outcome.LEAK
        assert verdict.reason.startswith(f"{name}: 0.01 [0.005, 0.02]")

    @pytest.mark.parametrize(("which", "level"), [("ratio", 0.0125), ("one_class", 0.004)])
    def test_the_within_patient_check_is_held_to_the_tests_own_level(
        self, which: str, level: float
    ) -> None:
        at = copying(own_p=level, **{which: True})  # type: ignore[arg-type]
        above = copying(own_p=level * 1.01, **{which: True})  # type: ignore[arg-type]
        assert (at.outcome, above.outcome) == (Outcome.LEAK, Outcome.INCONCLUSIVE)
        assert "no tile shown to be copied" in above.reason
        assert above.remedy

    def test_the_plain_distance_alone_is_inconclusive(self) -> None:
        verdict = copying(count=True)
        assert verdict.outcome is Outcome.INCONCLUSIVE
        assert "less varied than real ones" in verdict.reason
        assert copying(count=True, ratio=True).outcome is Outcome.LEAK

    def test_a_holdout_that_looks_like_the_train_set_is_no_pass(self) -> None:
        verdict = copying(swapped="Synthetic tiles copy holdout tiles.")
        assert verdict.outcome is Outcome.INCONCLUSIVE
        assert verdict.reason == "Synthetic tiles copy holdout tiles."
        assert copying(ratio=True, swapped="x").outcome is Outcome.LEAK

    def test_alignments_that_chance_cannot_be_told_from_are_no_pass(self) -> None:
        verdict = copying(aligned=alignment(6, None))
        assert verdict.outcome is Outcome.INCONCLUSIVE
        assert "6 of 3000 synthetic tiles align with a train tile as copies do" in verdict.reason
        assert "60 null scores are too few" in verdict.reason
        assert "without near-duplicates" in verdict.remedy
        assert copying(aligned=alignment(0, None)).outcome is Outcome.NO_LEAK_FOUND
        assert copying(aligned=alignment(0, False)).outcome is Outcome.NO_LEAK_FOUND

    def test_alignments_above_the_floors_never_pass_though_the_null_shows_as_much(self) -> None:
        """One null pair of 60 inliers made copies of 191 to 280 inliers pass without a word."""
        verdict = copying(aligned=alignment(4, False))
        assert verdict.outcome is Outcome.INCONCLUSIVE
        assert "4 of 3000 synthetic tiles align with a train tile as copies do" in verdict.reason
        assert "None is proven" in verdict.reason
        assert "Only a count" not in verdict.reason
        assert "Look at the pairs" in verdict.remedy

    def test_every_doubt_is_told(self) -> None:
        verdict = copying(aligned=alignment(4, False), count=True, swapped="Holdout was copied.")
        assert verdict.outcome is Outcome.INCONCLUSIVE
        for doubt in ("less varied than real ones", "4 of 3000", "Holdout was copied."):
            assert doubt in verdict.reason
        leak = copying(aligned=alignment(4, False), ratio=True)
        assert leak.outcome is Outcome.LEAK

    def test_a_proof_decides_whatever_the_policy_asks(self) -> None:
        policy = Policy(gates=(Harm.PATIENT_MEMBERSHIP,))
        assert copying(identical=18, policy=policy).gates
        assert copying(aligned=alignment(2, True), policy=policy).gates
        for other in (copying(policy=policy), copying(ratio=True, policy=policy)):
            assert not other.gates

    def test_nothing_found_quotes_the_bound_on_copies(self) -> None:
        assert "at most 0.0012 of the synthetic tiles" in copying().reason
        assert "at most 0.0012 of the synthetic tiles" in copying(mdl80={}).reason

    def test_nothing_found_with_power_for_every_kind_is_a_pass_with_its_bound(self) -> None:
        verdict = copying()
        assert verdict.outcome is Outcome.NO_LEAK_FOUND
        assert "0.01 or more would have been" in verdict.reason
        assert "of all 4 kinds that were planted" in verdict.reason
        assert verdict.remedy == ""

    def test_kinds_that_were_not_seen_are_counted_beside_a_pass(self) -> None:
        seen = {**ALL_SEEN, "blur": 0.007, "blend_50": 0.02, "crop_25": 0.05, "invert": None}
        reason = copying(mdl80=seen).reason
        assert "a share of 0.01 or more" in reason
        assert "of 5 of the 8 kinds of copies that were planted, 2 only at larger shares" in reason
        assert "1 at no share tried" in reason

    @pytest.mark.parametrize(
        ("kind", "share", "shown"),
        [
            ("stain", 0.0101, "stained differently 0.0101"),
            ("exact", None, "exact not at any share tried"),
        ],
    )
    def test_nothing_found_without_power_for_one_kind_is_inconclusive(
        self, kind: str, share: float | None, shown: str
    ) -> None:
        verdict = copying(mdl80={**ALL_SEEN, kind: share})
        assert verdict.outcome is Outcome.INCONCLUSIVE
        assert shown in verdict.reason
        assert "smaller of holdout (800) and train (600)" in verdict.remedy
        assert "Plant" not in verdict.remedy

    def test_a_kind_that_was_not_planted_is_inconclusive(self) -> None:
        verdict = copying(mdl80={"exact": 0.001})
        assert verdict.outcome is Outcome.INCONCLUSIVE
        assert "mirrored or turned by 90° not planted" in verdict.reason
        assert verdict.remedy == "Plant copies of these kinds: symmetry, odd_rotation, stain."

    def test_the_policy_decides_which_kinds_and_how_small(self) -> None:
        policy = Policy(copying_kinds=("exact",), copying_mdl80=0.001)
        assert copying(mdl80={"exact": 0.001}, policy=policy).outcome is Outcome.NO_LEAK_FOUND
        assert copying(mdl80={"exact": 0.002}, policy=policy).outcome is Outcome.INCONCLUSIVE


class TestMembership:
    @pytest.mark.parametrize(
        ("harm", "remedy"),
        [
            (Harm.TILE_MEMBERSHIP, "Give held-back tiles"),
            (Harm.PATIENT_MEMBERSHIP, "Give at least 2 patients"),
        ],
    )
    def test_not_measured_is_inconclusive(self, harm: Harm, remedy: str) -> None:
        verdict = membership_verdict(
            MembershipCase(harm=harm, results=[], policy=Policy(), levels=LEVELS)
        )
        assert verdict.outcome is Outcome.INCONCLUSIVE
        assert verdict.reason == "Not measured."
        assert verdict.remedy.startswith(remedy)

    def test_a_rejection_is_a_leak(self) -> None:
        verdict = membership(0.9, 0.97, low=0.8, rejected=True)
        assert verdict.outcome is Outcome.LEAK
        assert "AUROC 0.9 [0.8, 0.97] over 20 patients (adjusted p = 0.004)" in verdict.reason

    def test_a_rejection_between_groups_that_differ_anyway_is_confounded(self) -> None:
        verdict = membership(0.9, 0.97, rejected=True, confounded=SHIFTED)
        assert verdict.outcome is Outcome.INCONCLUSIVE
        assert "rejects, but train and holdout patients can be told apart" in verdict.reason
        assert "at random" in verdict.remedy

    def test_a_tight_bound_is_a_pass(self) -> None:
        verdict = membership()
        assert verdict.outcome is Outcome.NO_LEAK_FOUND
        assert "at most 0.08" in verdict.reason

    def test_a_tight_bound_between_groups_that_differ_anyway_is_no_pass(self) -> None:
        verdict = membership(confounded=SHIFTED)
        assert verdict.outcome is Outcome.INCONCLUSIVE
        assert "not rejected, but train and holdout" in verdict.reason

    def test_an_auroc_of_zero_is_not_mistaken_for_no_interval(self) -> None:
        assert membership(0.0, 0.0, low=0.0).outcome is Outcome.NO_LEAK_FOUND

    def test_no_upper_bound_is_no_pass(self) -> None:
        assert membership(0.5, None, low=None).outcome is Outcome.INCONCLUSIVE

    def test_a_wide_bound_is_inconclusive_and_says_how_many_patients_would_do(self) -> None:
        """Half width .2 at 20 patients; half width .1 needs (.2 / .1)^2 times as many."""
        verdict = membership(0.5, 0.7)
        assert verdict.outcome is Outcome.INCONCLUSIVE
        assert "up to 0.20 is not excluded (policy: 0.1)" in verdict.reason
        assert "About 80 patients" in verdict.remedy

    def test_a_tight_bound_means_nothing_where_no_data_could_have_rejected(self) -> None:
        """3 + 3 patients: no p below 1/20, and Holm's last step gives no more than .05."""
        verdict = membership(0.3, 0.5, smallest_p=1 / 19)
        assert verdict.outcome is Outcome.INCONCLUSIVE
        assert "with so few patients no data could have rejected" in verdict.reason

    def test_a_test_that_later_steps_let_reject_is_not_said_to_reject_never(self) -> None:
        """4 + 4 patients: 1/70 is above a quarter of .05, and well below .05."""
        verdict = membership(0.3, 0.5, smallest_p=1 / 70)
        assert verdict.outcome is Outcome.INCONCLUSIVE, "the pass rule stays cautious"
        assert "no data could have rejected" not in verdict.reason
        assert "could have rejected only after other tests of the family did" in verdict.reason
        assert "smallest possible p 0.014, own share of the significance 0.013" in verdict.reason
        assert verdict.remedy == "Give 9 patients or more, half of them in the holdout."
        strict = membership(0.3, 0.5, smallest_p=1 / 70, policy=Policy(significance=0.01))
        assert "no data could have rejected" in strict.reason

    def test_the_tile_arm_has_too_few_tiles_and_not_too_few_patients(self) -> None:
        verdict = membership(0.3, 0.5, smallest_p=0.2, harm=Harm.TILE_MEMBERSHIP)
        assert "with so few held-back tiles no data could have rejected" in verdict.reason
        assert "more held-back tiles" in verdict.remedy

    def test_permutations_that_do_not_reach_the_level_are_not_said_to_be_few_patients(self) -> None:
        verdict = membership(
            0.3, 0.5, smallest_p=1e-4, policy=Policy(significance=1e-9), scale=2e-8
        )
        assert "with 9,999 permutations no data could have rejected" in verdict.reason
        assert "Give a significance of" in verdict.remedy

    def test_the_policy_decides_how_large_an_excess_passes(self) -> None:
        assert membership(0.5, 0.7, policy=Policy(membership_excess=0.25)).outcome is (
            Outcome.NO_LEAK_FOUND
        )

    def test_a_rejection_among_tiles_of_unknown_patients_is_inconclusive(self) -> None:
        verdict = membership(0.9, 0.97, rejected=True, lone_tiles=True)
        assert verdict.outcome is Outcome.INCONCLUSIVE
        assert "patient of its own" in verdict.reason
        assert membership(lone_tiles=True).outcome is Outcome.INCONCLUSIVE

    def test_smallest_p_at_the_level_could_have_rejected(self) -> None:
        assert membership(smallest_p=0.0125).outcome is Outcome.NO_LEAK_FOUND
        assert membership(smallest_p=0.0126).outcome is Outcome.INCONCLUSIVE

    def test_the_excess_may_equal_the_policy_and_not_exceed_it(self) -> None:
        policy = Policy(membership_excess=0.25)
        assert membership(0.5, 0.75, policy=policy).outcome is Outcome.NO_LEAK_FOUND
        assert membership(0.5, 0.7501, policy=policy).outcome is Outcome.INCONCLUSIVE

    def test_over_several_attacks_one_rejection_leaks_and_the_widest_bound_counts(self) -> None:
        def attack(name: str, high: float, rejected: bool = False) -> AuditResult:
            return AuditResult(
                name=name,
                harm=Harm.PATIENT_MEMBERSHIP,
                statistic=estimate(0.5, 0.4, high),
                p_adjusted=0.01 if rejected else 1.0,
                rejected=rejected,
                details={"smallest_p": 1e-4},
            )

        def judged(*results: AuditResult) -> HarmVerdict:
            return membership_verdict(
                MembershipCase(
                    harm=Harm.PATIENT_MEMBERSHIP,
                    results=results,
                    policy=Policy(),
                    levels=LEVELS,
                )
            )

        plain, shadow = "patient_membership", "patient_membership/shadow"
        leak = judged(attack(plain, 0.55), attack(shadow, 0.58, rejected=True))
        assert leak.outcome is Outcome.LEAK
        assert leak.reason.startswith(shadow)
        wide = judged(attack(plain, 0.55), attack(shadow, 0.7))
        assert wide.outcome is Outcome.INCONCLUSIVE
        assert wide.reason.startswith(shadow)
        assert judged(attack(plain, 0.55), attack(shadow, 0.58)).outcome is Outcome.NO_LEAK_FOUND

    def test_a_harm_gates_only_when_the_policy_names_it(self) -> None:
        policy = Policy(gates=(Harm.COPYING,))
        assert not membership(policy=policy).gates
        assert membership().gates


def test_a_result_is_immutable() -> None:
    result = copy_test("tail_count")
    assert replace(result, p_adjusted=0.5).p_adjusted == 0.5
    with pytest.raises(AttributeError):
        result.p_adjusted = 0.5  # type: ignore[misc]

"""The overall verdict and its sentence, from hand-made verdicts on each harm."""

import pytest

from audits import Harm, HarmVerdict, Outcome, Policy
from audits.sentence import overall_verdict
from tests.helpers.verdicts import ALL_SEEN, copying, membership


def harm(which: Harm, outcome: Outcome, gates: bool = True) -> HarmVerdict:
    return HarmVerdict(harm=which, outcome=outcome, reason="r", gates=gates)


PASS, LEAK, OPEN = Outcome.NO_LEAK_FOUND, Outcome.LEAK, Outcome.INCONCLUSIVE
COPY, TILE, PATIENT = Harm


KINDS = "exact, mirrored or turned by 90°, turned by another angle, stained differently"


class TestOverall:
    @pytest.mark.parametrize(
        ("outcomes", "expected", "sentence"),
        [
            (
                (PASS, PASS, PASS),
                PASS,
                f"NO LEAK FOUND (copied share >= 0.01 at power .8, of the kinds {KINDS}; no other "
                "kind was tried; membership AUROC excess > 0.1 excluded).",
            ),
            (
                (PASS, OPEN, PASS),
                OPEN,
                "INCONCLUSIVE: tile membership could not be settled with these data.",
            ),
            ((LEAK, OPEN, PASS), LEAK, "LEAK: copying."),
            ((LEAK, PASS, LEAK), LEAK, "LEAK: copying, patient membership."),
        ],
    )
    def test_the_worst_harm_decides(
        self, outcomes: tuple[Outcome, ...], expected: Outcome, sentence: str
    ) -> None:
        harms = tuple(harm(h, o) for h, o in zip(Harm, outcomes, strict=True))
        verdict = overall_verdict(harms, ALL_SEEN, ("tail_count",), Policy())
        assert verdict.outcome is expected
        assert verdict.sentence == sentence
        assert verdict.harms == harms

    def test_a_harm_that_does_not_gate_does_not_decide_and_is_named(self) -> None:
        policy = Policy(gates=(Harm.COPYING,))
        harms = (harm(COPY, PASS), harm(TILE, LEAK, gates=False), harm(PATIENT, OPEN, gates=False))
        verdict = overall_verdict(harms, ALL_SEEN, (), policy)
        assert verdict.outcome is PASS
        assert verdict.sentence == (
            f"NO LEAK FOUND (copied share >= 0.01 at power .8, of the kinds {KINDS}; no other kind "
            "was tried; asked: copying; not asked: patient membership, which is not settled; not "
            "asked: tile membership, which rejects)."
        )

    def test_a_pass_on_membership_alone_claims_nothing_about_copies(self) -> None:
        policy = Policy(gates=(Harm.TILE_MEMBERSHIP,), membership_excess=0.2)
        harms = (harm(COPY, OPEN, gates=False), harm(TILE, PASS), harm(PATIENT, PASS, gates=False))
        sentence = overall_verdict(harms, {}, (), policy).sentence
        assert sentence == (
            "NO LEAK FOUND (membership AUROC excess > 0.2 excluded; asked: tile membership; not "
            "asked: patient membership; not asked: copying, which is not settled)."
        )

    def test_a_proof_is_a_leak_though_the_policy_asks_about_patients_alone(self) -> None:
        policy = Policy(gates=(Harm.PATIENT_MEMBERSHIP,))
        proven = copying(identical=18, policy=policy)
        harms = (proven, harm(TILE, OPEN, gates=False), harm(PATIENT, PASS))
        verdict = overall_verdict(harms, ALL_SEEN, (), policy)
        assert verdict.outcome is LEAK
        assert verdict.outcome.exit_code == 1
        assert verdict.sentence == (
            "LEAK: copying (proven, which counts although the policy does not ask about it); "
            "asked: patient membership; not asked: tile membership, which is not settled."
        )

    def test_a_copy_test_that_rejects_unasked_is_told(self) -> None:
        policy = Policy(gates=(Harm.TILE_MEMBERSHIP, Harm.PATIENT_MEMBERSHIP))
        harms = (copying(ratio=True, policy=policy), harm(TILE, PASS), harm(PATIENT, PASS))
        sentence = overall_verdict(harms, ALL_SEEN, (), policy).sentence
        assert sentence.endswith("not asked: copying, which rejects).")

    def test_the_sentence_names_every_kind_as_what_was_measured_of_it(self) -> None:
        seen = {**ALL_SEEN, "crop_60": 0.004, "crop_35": 0.009, "crop_25": 0.05, "blend_50": 0.02}
        harms = tuple(harm(h, PASS) for h in Harm)
        sentence = overall_verdict(harms, {**seen, "invert": None}, (), Policy()).sentence
        assert sentence == (
            f"NO LEAK FOUND (copied share >= 0.01 at power .8, of the kinds {KINDS}, cropped to "
            "0.6 or 0.35 of the side; seen at larger shares only: blended 1 : 1 with another tile "
            "(from 0.02), cropped to 0.25 of the side (from 0.05); not seen at any share tried: "
            "inverted in colour; no other kind was tried; membership AUROC excess > 0.1 excluded)."
        )

    def test_the_share_is_the_largest_of_the_kinds_it_covers(self) -> None:
        """Not of the policy's kinds alone: the sentence names the others too."""
        harms = tuple(harm(h, PASS) for h in Harm)
        policy = Policy(copying_kinds=("exact",))
        sentence = overall_verdict(harms, {"exact": 0.001, "blur": 0.009}, (), policy).sentence
        assert "copied share >= 0.009 at power .8, of the kinds exact, blurred" in sentence

    def test_a_policy_that_differs_from_the_default_is_told(self) -> None:
        policy = Policy(significance=1e-9, copying_kinds=("exact",), attacks=("shadow",))
        harms = tuple(harm(h, PASS) for h in Harm)
        sentence = overall_verdict(harms, {"exact": 0.002, "stain": None}, (), policy).sentence
        assert sentence == (
            "NO LEAK FOUND (copied share >= 0.002 at power .8, of the kinds exact; not seen at any "
            "share tried: stained differently; no other kind was tried; membership AUROC excess > "
            "0.1 excluded; significance 1e-09; kinds that had to be seen: exact; membership "
            "attacks that decide: shadow)."
        )
        settled = (harm(COPY, LEAK), *harms[1:])
        assert overall_verdict(settled, {}, (), Policy(significance=0.2)).sentence == (
            "LEAK: copying; significance 0.2."
        )

    def test_exit_codes_are_the_documented_ones(self) -> None:
        assert {o: o.exit_code for o in Outcome} == {PASS: 0, LEAK: 1, OPEN: 4}

    def test_no_verdict_uses_a_word_that_promises(self) -> None:
        verdicts = [copying(), copying(identical=1), membership(), membership(0.5, 0.7)]
        text = " ".join(v.reason + v.remedy for v in verdicts).lower()
        assert not any(word in text for word in ("safe", "anonymous", "private"))

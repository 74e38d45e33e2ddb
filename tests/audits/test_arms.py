"""Both arms of every attack: what runs, on which scores, and what outside scores may not do."""

from typing import Any, Protocol

import numpy as np
import pytest

from audits import AuditData, AuditInputError, Harm, Outcome, Policy, Tiles, audit
from audits.arms import attack_scores, run_arms, tpr_results
from audits.attacks import OutsideScores, full_black_box, monte_carlo


class MakeData(Protocol):
    def __call__(self, seed: int, **settings: Any) -> AuditData: ...


QUICK = Policy(fractions=(0.1,))


def outside(data: AuditData, name: str, boost: float, seed: int = 0) -> OutsideScores:
    """Random scores of every real tile, train and sibling patients ahead by `boost`, shuffled."""
    rng = np.random.default_rng(seed)
    parts = {role: data.roles()[role] for role in ("train", "siblings", "holdout")}
    ids = np.concatenate([tiles.ids for tiles in parts.values()])
    scores = np.concatenate(
        [rng.normal(size=len(t)) + boost * (role != "holdout") for role, t in parts.items()]
    )
    order = rng.permutation(len(ids))
    return OutsideScores(name=name, ids=ids[order], scores=scores[order])


class TestScores:
    def test_each_role_gets_the_score_of_its_own_tiles(self, make_data: MakeData) -> None:
        data = make_data(0, siblings_each=2)
        scores = attack_scores(data)
        assert list(scores) == ["full_black_box", "monte_carlo"]
        assert data.siblings is not None
        for role in ("train", "siblings", "holdout"):
            x = data.roles()[role].embeddings
            np.testing.assert_array_equal(
                scores["full_black_box"][role], full_black_box(x, data.synthetic.embeddings)
            )

    def test_one_radius_serves_all_roles(self, make_data: MakeData) -> None:
        data = make_data(1)
        scores = attack_scores(data)
        near = np.concatenate(list(scores["full_black_box"].values()))
        expected = monte_carlo(
            data.holdout.embeddings, data.synthetic.embeddings, epsilon=float(np.median(-near))
        )
        np.testing.assert_array_equal(scores["monte_carlo"]["holdout"], expected)

    def test_reference_tiles_bring_two_attacks(self, make_data: MakeData) -> None:
        base = make_data(2)
        rng = np.random.default_rng(0)
        data = AuditData(
            train=base.train,
            holdout=base.holdout,
            synthetic=base.synthetic,
            reference=Tiles("reference", rng.normal(size=(100, 8))),
        )
        assert set(attack_scores(data)) >= {"density_ratio", "calibrated"}
        report = audit(data, policy=QUICK)
        assert "patient_membership/density_ratio" in report.verdict.family
        free = next(r for r in report.results if r.name == "patient_membership/calibrated")
        assert free.p_value is not None
        assert (free.p_adjusted, free.rejected) == (None, None)

    def test_an_attack_given_twice_is_refused(self, make_data: MakeData) -> None:
        data = make_data(3, siblings_each=2)
        twice = [outside(data, "shadow", 0.0), outside(data, "shadow", 1.0)]
        with pytest.raises(AuditInputError, match="given once"):
            attack_scores(data, twice)

    def test_a_tile_without_a_score_is_refused(self, make_data: MakeData) -> None:
        data = make_data(3, siblings_each=2)
        whole = outside(data, "shadow", 0.0)
        part = OutsideScores(name="shadow", ids=whole.ids[1:], scores=whole.scores[1:])
        with pytest.raises(AuditInputError, match="must score every tile: 1 of"):
            audit(data, policy=QUICK, outside=[part])


class TestOutside:
    def test_scores_join_by_id_and_decide(self, make_data: MakeData) -> None:
        data = make_data(5, siblings_each=4)
        leak = audit(data, policy=QUICK, outside=[outside(data, "white_box", 2.0)])
        verdicts = {verdict.harm: verdict for verdict in leak.verdict.harms}
        assert verdicts[Harm.PATIENT_MEMBERSHIP].outcome is Outcome.LEAK
        assert verdicts[Harm.PATIENT_MEMBERSHIP].reason.startswith("patient_membership/white_box")
        noise = audit(data, policy=QUICK, outside=[outside(data, "white_box", 0.0)])
        assert noise.verdict.outcome is not Outcome.LEAK

    def test_the_policy_keeps_an_attack_from_deciding(self, make_data: MakeData) -> None:
        data = make_data(4, siblings_each=4)
        policy = Policy(fractions=(0.1,), attacks=("full_black_box",))
        report = audit(data, policy=policy, outside=[outside(data, "shadow", 2.0)])
        assert "patient_membership/shadow" not in report.verdict.family
        free = next(r for r in report.results if r.name == "patient_membership/shadow")
        assert free.p_value is not None
        assert free.p_value < 0.01
        assert report.verdict.outcome is not Outcome.LEAK


class TestArms:
    def test_arms_follow_the_roles(self, make_data: MakeData, rng: np.random.Generator) -> None:
        def names(data: AuditData) -> list[str]:
            scores = attack_scores(data)["full_black_box"]
            return [result.name for result in run_arms(data, "shadow", scores, rng)]

        assert names(make_data(0)) == ["patient_membership/shadow"]
        both = ["tile_membership/shadow", "patient_membership/shadow"]
        assert names(make_data(0, siblings_each=2)) == both
        assert names(make_data(0, patients=1, siblings_each=3)) == ["tile_membership/shadow"]

    def test_tpr_stands_at_the_finest_rate_the_nonmembers_allow(self, make_data: MakeData) -> None:
        data = make_data(0, patients=20, siblings_each=5)
        tile, patient = tpr_results(data, attack_scores(data)["full_black_box"])
        assert tile.details["fpr_asked"] == 0.01
        assert patient.details["fpr_asked"] == 0.05
        assert (patient.statistic.n, patient.statistic.unit) == (20, "patient")

    def test_too_few_nonmembers_give_no_tpr(self, make_data: MakeData) -> None:
        data = make_data(0, patients=4, tiles_each=5)
        assert tpr_results(data, attack_scores(data)["full_black_box"]) == []

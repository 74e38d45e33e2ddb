"""Scores gathered once, the tests on them, and roles given the wrong way round."""

from dataclasses import replace
from typing import Any, Protocol

import numpy as np
import pytest
from numpy.typing import NDArray

from audits import (
    Aligned,
    Alignment,
    AuditData,
    AuditInputError,
    Harm,
    Outcome,
    Planted,
    Policy,
    Tiles,
    audit,
)
from audits.battery import run_family
from audits.copy_evidence import (
    MARKED,
    SWAPPED,
    CopyEvidence,
    Scored,
    copy_averages,
    copy_tests,
    gather,
    match_classes,
    planted_power,
    roles_swapped,
    score_copies,
)
from audits.copying import CopyScores, copy_scores


class MakeData(Protocol):
    def __call__(self, seed: int, **settings: Any) -> AuditData: ...


QUICK = Policy(fractions=(0.01, 0.1))


def scored(data: AuditData) -> CopyEvidence:
    return gather(data, np.random.default_rng(0))


def exchanged(base: AuditData) -> AuditData:
    """Train and holdout given the wrong way round."""
    return AuditData(
        train=Tiles(
            "train",
            base.holdout.embeddings,
            patients=base.holdout.patients,
            fingerprints=base.holdout.fingerprints,
        ),
        holdout=Tiles(
            "holdout",
            base.train.embeddings,
            patients=base.train.patients,
            fingerprints=base.train.fingerprints,
        ),
        synthetic=base.synthetic,
    )


class TestRolesSwapped:
    def test_copies_of_the_holdout_are_noticed_and_never_a_pass(self, make_data: MakeData) -> None:
        base = make_data(3, copies=40, copy_noise=0.01, synthetic=600, patients=20)
        policy = Policy(fractions=(0.05, 0.1), copying_mdl80=0.2, copying_kinds=("exact",))
        report = audit(exchanged(base), policy=policy)
        found = next(result for result in report.results if result.name == SWAPPED)
        assert found.p_value is not None
        assert found.p_value < 1e-3
        assert (found.harm, found.rejected) == (None, None)
        assert any("may have been swapped" in warning for warning in report.warnings)
        verdicts = {verdict.harm: verdict for verdict in report.verdict.harms}
        assert verdicts[Harm.COPYING].outcome is Outcome.INCONCLUSIVE
        assert "swapped" in verdicts[Harm.COPYING].reason
        assert verdicts[Harm.PATIENT_MEMBERSHIP].outcome is Outcome.INCONCLUSIVE

    def test_a_clean_set_and_copies_of_train_do_not_fire(self, make_data: MakeData) -> None:
        for copies in (0, 40):
            data = make_data(4, copies=copies, copy_noise=0.01)
            (found,) = roles_swapped(data, np.random.default_rng(0))
            assert found.p_value is not None
            assert found.p_value > 1e-3
            assert not any("swapped" in w for w in audit(data, policy=QUICK).warnings)

    def test_holdout_patients_that_score_as_members_are_noticed(self) -> None:
        """No copies at all: synthetic tiles are new tiles of the holdout's patients."""
        rng = np.random.default_rng(0)

        def tiles(name: str, centres: Any, prefix: str) -> Tiles:
            owner = np.repeat(np.arange(12), 20)
            patients = np.char.add(prefix, owner.astype(np.str_))
            return Tiles(name, centres[owner] + rng.normal(size=(240, 8)), patients=patients)

        theirs = 3 * rng.normal(size=(12, 8))
        data = AuditData(
            train=tiles("train", 3 * rng.normal(size=(12, 8)), "a"),
            holdout=tiles("holdout", theirs, "b"),
            synthetic=tiles("synthetic", theirs, "s"),
        )
        warnings = audit(data, policy=QUICK).warnings
        assert any("Holdout patients score as members" in warning for warning in warnings)


class TestCopyTests:
    def labelled(self, base: AuditData, copied: str, blank: str = "") -> AuditData:
        """Copies stand in one class only, and one class may be featureless."""

        def labels(count: int) -> Any:
            return np.where(np.arange(count) < count // 2, "a", "b")

        made = labels(len(base.synthetic))
        x = base.synthetic.embeddings.copy()
        rows = np.flatnonzero(made == copied)[:12]
        x[rows] = base.train.embeddings[:12] + 1e-3
        prints = np.where(made == blank, "", "x")
        return AuditData(
            train=Tiles(
                "train",
                base.train.embeddings,
                labels=labels(len(base.train)),
                patients=base.train.patients,
                fingerprints=np.char.add("t", np.arange(len(base.train)).astype(np.str_)),
            ),
            holdout=Tiles(
                "holdout",
                base.holdout.embeddings,
                labels=labels(len(base.holdout)),
                patients=base.holdout.patients,
            ),
            synthetic=Tiles("synthetic", x, labels=made, fingerprints=prints),
        )

    def test_a_class_test_looks_at_its_class_alone(self, make_data: MakeData) -> None:
        data = self.labelled(make_data(5), "b")
        tests = {t.name: t for t in copy_tests(data, scored(data), ("a", "b"))}
        assert list(tests) == ["tail_count", "tail_ratio", *(f"tail_ratio/class:{c}" for c in "ab")]
        clean, copied = tests["tail_ratio/class:a"], tests["tail_ratio/class:b"]
        assert clean.p_value is not None
        assert copied.p_value is not None
        assert copied.p_value < 1e-3 < 0.05 < clean.p_value
        assert copied.statistic.n == 100
        assert copied.details["holdout_tiles"] == 100

    def test_a_declared_class_without_texture_has_p_one(self, make_data: MakeData) -> None:
        data = self.labelled(make_data(6), "b", blank="a")
        tests = {t.name: t for t in copy_tests(data, scored(data), ("a", "b"))}
        assert tests["tail_ratio/class:a"].p_value == 1.0
        assert "texture" in tests["tail_ratio/class:a"].note
        assert tests["tail_count"].statistic.n == 100

    def test_copies_in_one_class_are_a_leak_of_the_whole(self, make_data: MakeData) -> None:
        report = audit(self.labelled(make_data(7), "a"), policy=QUICK)
        assert report.verdict.outcome is Outcome.LEAK
        assert "tail_ratio/class:a" in report.verdict.family

    def test_four_train_tiles_are_too_few(self, make_data: MakeData) -> None:
        base = make_data(8)

        def with_train(count: int) -> AuditData:
            train = Tiles("train", base.train.embeddings[:count])
            return AuditData(train=train, holdout=base.holdout, synthetic=base.synthetic)

        with pytest.raises(AuditInputError, match="more than 4 train tiles with texture: got 4"):
            scored(with_train(4))
        assert len(scored(with_train(5)).own) == 5

    def test_featureless_tiles_are_no_queries(self, make_data: MakeData) -> None:
        data = self.labelled(make_data(9), "b", blank="a")
        evidence = scored(data)
        kept = data.synthetic.embeddings[data.synthetic.labels == "b"]
        expected = copy_scores(kept, data.train.embeddings).ratio
        np.testing.assert_array_equal(evidence.synthetic.scores.ratio, expected)
        assert set(evidence.synthetic.labels) == {"b"}


def test_averages_need_two_patients_and_the_others_do_not(
    make_data: MakeData, rng: np.random.Generator
) -> None:
    def names(data: AuditData) -> list[str]:
        return [result.name for result in copy_averages(data, scored(data), rng)]

    assert names(make_data(0)) == ["c_t", "dcr_share", "authenticity", "extraction_ratio"]
    assert names(make_data(0, patients=1)) == ["authenticity", "extraction_ratio"]


def test_power_is_weighed_at_the_given_level(make_data: MakeData) -> None:
    data = make_data(1, fingerprints=False)
    policy = Policy(fractions=(0.02,))

    def power(level: float) -> float:
        rng = np.random.default_rng(0)
        (point,) = planted_power(data, scored(data), policy, level, rng)
        return point.power.value

    assert power(0.2) > 0.9 > 0.1 > power(1e-4)


class TestMatchClasses:
    def sides(self, ours: str, others: str) -> tuple[Scored, Scored]:
        def side(labels: str) -> Scored:
            values = np.arange(float(len(labels)))
            scores = CopyScores(
                nearest=values, ratio=values, extraction=values, source=np.arange(len(labels))
            )
            names = np.array(list(labels))
            return Scored(scores=scores, labels=names, patients=names)

        return side(ours), side(others)

    def counts(self, side: Scored) -> dict[str, int]:
        labels, counts = np.unique(side.labels, return_counts=True)
        return dict(zip(labels.tolist(), counts.tolist(), strict=True))

    def test_proportions_become_equal_at_the_least_loss(self, rng: np.random.Generator) -> None:
        ours, others = match_classes(*self.sides("a" * 50 + "b" * 50, "a" * 10 + "b" * 90), rng)
        assert self.counts(others) == {"a": 10, "b": 90}
        assert self.counts(ours) == {"a": 5, "b": 50}
        np.testing.assert_array_equal(ours.scores.nearest, ours.scores.source)

    def test_equal_proportions_lose_nothing(self, rng: np.random.Generator) -> None:
        ours, others = match_classes(*self.sides("aab" * 20, "aab" * 30), rng)
        assert (len(ours.labels), len(others.labels)) == (60, 90)

    def test_classes_of_one_side_alone_drop_out(self, rng: np.random.Generator) -> None:
        ours, others = match_classes(*self.sides("a" * 10 + "x" * 5, "a" * 20 + "y" * 9), rng)
        assert (self.counts(ours), self.counts(others)) == ({"a": 10}, {"a": 20})

    def test_without_shared_classes_all_tiles_stay(self, rng: np.random.Generator) -> None:
        ours, others = match_classes(*self.sides("s" * 7, "a" * 3 + "b" * 4), rng)
        assert (len(ours.labels), len(others.labels)) == (7, 7)

    def test_too_few_holdout_tiles_are_not_chosen(self, rng: np.random.Generator) -> None:
        """Matching on the rare class's ratio would leave 4 holdout tiles, one too few."""
        _, others = match_classes(*self.sides("a" * 90 + "b", "a" * 3 + "b" * 30), rng)
        assert len(others.labels) > 4

    def test_an_over_represented_class_of_simple_tissue_is_no_leak(self) -> None:
        """Class a varies in 3 of 32 ways; 10 % of real tiles and 50 % of synthetic ones."""
        leaks = 0
        for seed in range(8):
            rng = np.random.default_rng(seed)

            def tiles(name: str, share: float, rng: np.random.Generator = rng) -> Tiles:
                labels = np.where(np.arange(600) < 600 * share, "a", "b")
                x = rng.normal(size=(600, 32))
                x[labels == "a", 3:] *= 0.02
                patients = np.char.add(name, (np.arange(600) % 12).astype(np.str_))
                return Tiles(name, x, labels=labels, patients=patients)

            data = AuditData(
                train=tiles("train", 0.1),
                holdout=tiles("holdout", 0.1),
                synthetic=tiles("synthetic", 0.5),
            )
            tests = {r.name: r for r in run_family(data, rng=seed)}
            leaks += tests["tail_ratio"].rejected or False
        assert leaks <= 2


class TestAlignedCopies:
    def aligned(
        self, base: AuditData, inliers: int, *, strength: float = 9.0, embedded: bool = True
    ) -> AuditData:
        """Three synthetic tiles align; planted odd rotations align as well."""
        rng = np.random.default_rng(0)

        def tiles(count: int, high: int) -> Aligned:
            found = np.where(rng.random(count) < 0.5, 0, 2 + rng.geometric(0.8, count))
            found[:high] = inliers
            strengths = rng.normal(3.3, 0.6, size=count)
            strengths[:high] = strength
            return Aligned(
                inliers=found,
                strength=strengths,
                marked=np.zeros(count),
                featureless=np.zeros(count, dtype=np.bool_),
            )

        copies = Planted(
            embeddings=base.train.embeddings[:40] + np.float32(5) if embedded else None,
            sources=np.arange(40),
            aligned=tiles(40, 40),
        )
        return AuditData(
            train=base.train,
            holdout=base.holdout,
            synthetic=base.synthetic,
            planted={"odd_rotation": copies},
            alignment=Alignment(
                synthetic=tiles(200, 3),
                null=tiles(300, 0),
                null_duplicates=np.zeros(300, dtype=np.bool_),
            ),
        )

    def revised(self, data: AuditData, **null: Any) -> AuditData:
        """The same with another null or other marks."""
        assert data.alignment is not None
        synthetic = null.pop("synthetic", data.alignment.synthetic)
        changed = replace(data.alignment.null, **null)
        return replace(data, alignment=replace(data.alignment, null=changed, synthetic=synthetic))

    def test_a_proven_alignment_is_a_leak_and_counts_as_power(self, make_data: MakeData) -> None:
        report = audit(self.aligned(make_data(2, fingerprints=False), 80), policy=QUICK)
        copying = next(v for v in report.verdict.harms if v.harm is Harm.COPYING)
        assert copying.outcome is Outcome.LEAK
        assert copying.reason.startswith("aligned_copies: 3 of 200 synthetic tiles")
        proof = next(result for result in report.results if result.name == "aligned_copies")
        assert f"(alignment score above {proof.details['needed_score']:.1f}," in copying.reason
        assert report.mdl80["odd_rotation"] == 0.01

    @pytest.mark.parametrize(("inliers", "strength"), [(6, 0.5), (80, 2.9), (4, 4.0)])
    def test_chance_alignments_prove_nothing(
        self, make_data: MakeData, inliers: int, strength: float
    ) -> None:
        data = self.aligned(make_data(2, fingerprints=False), inliers, strength=strength)
        report = audit(data, policy=QUICK)
        copying = next(v for v in report.verdict.harms if v.harm is Harm.COPYING)
        assert copying.outcome is not Outcome.LEAK
        assert report.mdl80["odd_rotation"] is None

    def test_copies_that_were_not_embedded_have_the_power_of_alignment_alone(
        self, make_data: MakeData
    ) -> None:
        base = make_data(2, fingerprints=False)
        seen = audit(self.aligned(base, 80, embedded=False), policy=QUICK)
        assert seen.mdl80["odd_rotation"] == 0.01
        unseen = audit(self.aligned(base, 4, strength=0.5, embedded=False), policy=QUICK)
        assert unseen.mdl80["odd_rotation"] is None

    def test_one_alignment_a_synthetic_tile(self, make_data: MakeData) -> None:
        data = self.aligned(make_data(2, fingerprints=False), 80)
        with pytest.raises(AuditInputError, match="one entry per synthetic tile: got 200 for 100"):
            AuditData(
                train=data.train,
                holdout=data.holdout,
                synthetic=Tiles("synthetic", data.synthetic.embeddings[:100]),
                alignment=data.alignment,
            )

    def test_planted_embeddings_must_fit_where_there_are_any(self, make_data: MakeData) -> None:
        data = self.aligned(make_data(2, fingerprints=False), 80, embedded=False)
        copies = data.planted["odd_rotation"]
        for wrong, message in (
            (np.zeros((39, 32), dtype=np.float32), r"must have shape \(40, \d+\): got \(39, 32\)"),
            (np.full_like(data.train.embeddings[:40], np.nan), "must be finite"),
        ):
            with pytest.raises(AuditInputError, match=message):
                replace(data, planted={"odd_rotation": replace(copies, embeddings=wrong)})

    def test_a_null_of_near_duplicates_is_reported_and_hides_nothing(
        self, make_data: MakeData
    ) -> None:
        data = self.aligned(make_data(2, fingerprints=False), 80)
        assert data.alignment is not None
        inliers = data.alignment.null.inliers.copy()
        strength = data.alignment.null.strength.copy()
        inliers[:3], strength[:3] = 60, 12.0
        report = audit(self.revised(data, inliers=inliers, strength=strength), policy=QUICK)
        told = [warning for warning in report.warnings if "another patient's tile" in warning]
        assert len(told) == 1
        assert told[0].startswith("3 of 300 real tiles show the tissue")
        assert "run `privgen data check`" in told[0]
        copying = next(v for v in report.verdict.harms if v.harm is Harm.COPYING)
        assert copying.outcome is Outcome.LEAK
        clean = audit(data, policy=QUICK)
        assert not any("another patient's tile" in warning for warning in clean.warnings)

    def test_marks_that_were_set_aside_are_reported(self, make_data: MakeData) -> None:
        data = self.aligned(make_data(2, fingerprints=False), 4, strength=0.5)
        assert data.alignment is not None
        framed = np.where(np.arange(300) < 7, 0.2, MARKED)
        synthetic = replace(data.alignment.synthetic, marked=np.where(np.arange(200) < 5, 0.3, 0.0))
        report = audit(self.revised(data, marked=framed, synthetic=synthetic), policy=QUICK)
        told = [warning for warning in report.warnings if "marks" in warning]
        assert len(told) == 1
        assert told[0].startswith("5 synthetic and 7 real tiles align where marks stand")
        proof = next(result for result in report.results if result.name == "aligned_copies")
        assert (proof.details["marked"], proof.details["null_marked"]) == (5, 7)
        slight = self.revised(data, marked=np.full(300, MARKED))
        assert not any("marks" in warning for warning in audit(slight, policy=QUICK).warnings)


def test_scores_come_back_in_the_order_the_tiles_were_given(make_data: MakeData) -> None:
    """What is computed in the order of content must name the caller's rows."""
    data, rng = make_data(0), np.random.default_rng(5)
    made, train = rng.permutation(len(data.synthetic)), rng.permutation(len(data.train))

    def shuffled(tiles: Tiles, rows: NDArray[np.intp]) -> Tiles:
        names = tiles.patients[rows]
        return tiles.rearranged(rows, patients=names, slides=tiles.slides[rows])

    moved = replace(
        data,
        synthetic=shuffled(data.synthetic, made),
        train=shuffled(data.train, train),
        planted={},
    )
    here, back = score_copies(data), score_copies(moved).as_given(made, train)
    np.testing.assert_array_equal(back.scores.nearest, here.scores.nearest)
    np.testing.assert_array_equal(back.scores.source, here.scores.source)
    np.testing.assert_array_equal(back.in_tail, here.in_tail)
    np.testing.assert_array_equal(back.first, here.first)
    np.testing.assert_array_equal(back.holdout.source, here.holdout.source)

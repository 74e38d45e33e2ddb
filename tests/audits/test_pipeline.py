"""The control on how tiles became pixels: exact p, and what it does to a verdict."""

import math
from dataclasses import replace
from itertools import combinations

import numpy as np
import pytest
from numpy.typing import NDArray

import audits
from audits import AuditData, Harm, Outcome, Tiles
from audits.errors import AuditInputError
from audits.pipeline import LEVEL, PIPELINE, pipeline_baseline

Floats = NDArray[np.float64]


def side(role: str, means: Floats, tiles: int = 5, noise: float = 0.0, seed: int = 0) -> Tiles:
    """`tiles` tiles of each patient around that patient's measurements."""
    rng = np.random.default_rng(seed)
    rows = np.repeat(means, tiles, axis=0)
    names = np.repeat([f"{role}{number}" for number in range(len(means))], tiles)
    return Tiles(role, rows + noise * rng.normal(size=rows.shape), patients=names)


def brute(train: Floats, holdout: Floats) -> float:
    """p of the largest standardised difference by trying every relabelling, in plain loops."""
    means = np.concatenate([train, holdout])
    m, n = len(train), len(holdout)

    def largest(chosen: tuple[int, ...]) -> float:
        ours = means[list(chosen)]
        theirs = np.delete(means, list(chosen), axis=0)
        found = []
        for a, b in zip(ours.T, theirs.T, strict=True):
            squares = ((a - a.mean()) ** 2).sum() + ((b - b.mean()) ** 2).sum()
            found.append(abs(a.mean() - b.mean()) / math.sqrt(squares / (m + n - 2)))
        return max(found)

    observed = largest(tuple(range(m)))
    every = [largest(chosen) for chosen in combinations(range(m + n), m)]
    return float(np.mean([value >= observed - 1e-9 for value in every]))


@pytest.mark.parametrize(("m", "n"), [(4, 4), (3, 5), (2, 6)])
def test_p_is_that_of_every_relabelling(m: int, n: int) -> None:
    rng = np.random.default_rng(m)
    train, holdout = rng.normal(size=(m, 3)), rng.normal(size=(n, 3))
    found = pipeline_baseline(side("train", train), side("holdout", holdout), rng)
    assert found.p_value == pytest.approx(brute(train, holdout), abs=1e-12)
    assert found.details["relabellings"] == math.comb(m + n, m) - 1


def test_a_difference_in_one_measurement_is_found_with_four_patients_a_side() -> None:
    rng = np.random.default_rng(0)
    train, holdout = rng.normal(size=(4, 6)), rng.normal(size=(4, 6))
    train[:, 2] += 12
    found = pipeline_baseline(side("train", train), side("holdout", holdout), rng)
    assert found.p_value == pytest.approx(2 / 70)
    assert found.p_value <= LEVEL
    assert found.details["which"] == 2
    assert found.statistic.value == 1


def test_measurements_without_any_spread_differ_or_not() -> None:
    rng = np.random.default_rng(0)
    same = side("train", np.ones((4, 2))), side("holdout", np.ones((4, 2)))
    other = side("train", np.ones((4, 2))), side("holdout", np.ones((4, 2)) * [1, 2])
    assert pipeline_baseline(*same, rng).p_value == 1
    assert pipeline_baseline(*other, rng).p_value == pytest.approx(2 / 70)


def test_patients_of_one_pipeline_are_told_apart_as_rarely_as_p_says() -> None:
    below = 0
    for seed in range(400):
        rng = np.random.default_rng(seed)
        train, holdout = rng.normal(size=(5, 6)), rng.normal(size=(5, 6))
        pair = (side("train", train, 3, 0.5, seed), side("holdout", holdout, 3, 0.5, seed + 1))
        p = pipeline_baseline(*pair, rng).p_value
        assert p is not None
        below += p <= 0.05
    # 12 of 252 relabellings: .0476 of 400 is 19; 33 or more has a chance of .002.
    assert 6 <= below <= 32


def test_many_patients_are_relabelled_at_random() -> None:
    rng = np.random.default_rng(0)
    train, holdout = rng.normal(size=(20, 4)), rng.normal(size=(20, 4)) + 3
    found = pipeline_baseline(side("train", train, 1), side("holdout", holdout, 1), rng)
    assert found.details["relabellings"] == 4999
    assert found.p_value == pytest.approx(1 / 5000)


def test_names_and_order_change_nothing() -> None:
    """40 patients, so that relabellings are drawn."""
    rng = np.random.default_rng(4)
    pair = [side(role, rng.normal(size=(20, 4)), 3, 0.3, 1) for role in ("train", "holdout")]
    plain = pipeline_baseline(*pair, np.random.default_rng(0))
    others = []
    for tiles in pair:
        order = rng.permutation(len(tiles))
        names = np.char.add("other", rng.permutation(20).astype(str))
        _, owner = np.unique(tiles.patients[order], return_inverse=True)
        others.append(Tiles(tiles.name, tiles.embeddings[order], patients=names[owner]))
    assert pipeline_baseline(*others, np.random.default_rng(0)) == plain


def test_one_patient_is_too_few() -> None:
    pair = side("train", np.ones((1, 2))), side("holdout", np.ones((4, 2)))
    with pytest.raises(AuditInputError, match="2 patients per side: got 1 and 4"):
        pipeline_baseline(*pair, np.random.default_rng(0))


@pytest.fixture(scope="module")
def leaking() -> AuditData:
    """Six patients per side; the synthetic tiles lie on the training patients' own places."""
    rng = np.random.default_rng(3)
    centres = rng.normal(size=(12, 24)) * 2
    tiles = np.repeat(centres, 20, axis=0) + rng.normal(size=(240, 24))
    names = np.repeat([f"P{number}" for number in range(12)], 20)
    made = np.repeat(centres[:6], 30, axis=0) + rng.normal(size=(180, 24))
    return AuditData(
        train=Tiles("train", tiles[:120], patients=names[:120]),
        holdout=Tiles("holdout", tiles[120:], patients=names[120:]),
        synthetic=Tiles("synthetic", made),
    )


def harm(report: audits.AuditReport, which: Harm) -> audits.HarmVerdict:
    return next(each for each in report.verdict.harms if each.harm is which)


def test_a_leak_of_patients_is_judged_where_the_pipelines_agree(leaking: AuditData) -> None:
    rng = np.random.default_rng(1)
    agreeing = (
        side("train", rng.normal(size=(6, 4))),
        side("holdout", rng.normal(size=(6, 4))),
    )
    report = audits.audit(replace(leaking, pipeline=agreeing))
    control = next(result for result in report.results if result.name == PIPELINE)
    assert control.p_value is not None
    assert control.p_value > LEVEL
    assert harm(report, Harm.PATIENT_MEMBERSHIP).outcome is Outcome.LEAK


def test_the_same_rejection_is_inconclusive_where_they_differ(leaking: AuditData) -> None:
    rng = np.random.default_rng(1)
    differing = (
        side("train", rng.normal(size=(6, 4))),
        side("holdout", rng.normal(size=(6, 4)) + 9),
    )
    report = audits.audit(replace(leaking, pipeline=differing))
    found = harm(report, Harm.PATIENT_MEMBERSHIP)
    assert found.outcome is Outcome.INCONCLUSIVE
    assert "differ in how their tiles became pixels" in found.reason
    assert "stored in the same way" in found.remedy
    assert sum("differ in how their tiles became pixels" in line for line in report.warnings) == 1


def test_a_sentence_from_outside_confounds_its_harm_alone(leaking: AuditData) -> None:
    sentence = "Train and holdout tiles became pixels in different ways (here): that may be all."
    report = audits.audit(replace(leaking, confounded={Harm.PATIENT_MEMBERSHIP: sentence}))
    found = harm(report, Harm.PATIENT_MEMBERSHIP)
    assert found.outcome is Outcome.INCONCLUSIVE
    assert "but train and holdout tiles became pixels in different ways (here)" in found.reason
    assert sentence in report.warnings
    plain = harm(audits.audit(leaking), Harm.COPYING)
    assert harm(report, Harm.COPYING) == plain


def test_a_proven_copy_is_a_leak_whatever_is_confounded(leaking: AuditData) -> None:
    prints = np.array([f"{number:064x}" for number in range(240)])
    held = {
        "train": replace_prints(leaking.train, prints[:120]),
        "holdout": replace_prints(leaking.holdout, prints[120:]),
        "synthetic": replace_prints(
            leaking.synthetic, np.array([prints[0], *(f"{n + 900:064x}" for n in range(179))])
        ),
    }
    sentence = "Train and holdout tiles became pixels in different ways: that may be all."
    report = audits.audit(
        AuditData(**held, confounded={Harm.COPYING: sentence, Harm.PATIENT_MEMBERSHIP: sentence})
    )
    assert harm(report, Harm.COPYING).outcome is Outcome.LEAK
    assert harm(report, Harm.PATIENT_MEMBERSHIP).outcome is Outcome.INCONCLUSIVE


def test_a_count_of_near_tiles_rests_on_the_pipeline_too() -> None:
    """Copies of embeddings without proof: LEAK, and INCONCLUSIVE where the way differs."""
    rng = np.random.default_rng(5)
    tiles = rng.normal(size=(600, 16))
    names = np.repeat([f"P{number}" for number in range(20)], 30)
    made = np.concatenate([tiles[:40] + 1e-3, rng.normal(size=(260, 16))])
    data = AuditData(
        train=Tiles("train", tiles[:300], patients=names[:300]),
        holdout=Tiles("holdout", tiles[300:], patients=names[300:]),
        synthetic=Tiles("synthetic", made),
    )
    assert harm(audits.audit(data), Harm.COPYING).outcome is Outcome.LEAK
    sentence = "Train and holdout tiles became pixels in different ways: that may be all."
    found = harm(audits.audit(replace(data, confounded={Harm.COPYING: sentence})), Harm.COPYING)
    assert found.outcome is Outcome.INCONCLUSIVE
    assert found.reason.startswith("tail_count, tail_ratio rejects, but train and holdout")


def replace_prints(tiles: Tiles, prints: NDArray[np.str_]) -> Tiles:
    known = None if tiles.name == "synthetic" else tiles.patients
    return Tiles(tiles.name, tiles.embeddings, patients=known, fingerprints=prints)

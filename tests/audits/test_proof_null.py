"""Proof of a copy against a null that holds copies itself."""

from dataclasses import replace

import numpy as np
import pytest

from audits import proof as module
from audits.proof import (
    MIN_SCORE,
    MIN_STRENGTH,
    MOST_ALIKE,
    MOST_STRETCH,
    joint_score,
    needed_score,
)
from tests.helpers.proofs import (
    chance,
    exponential,
    heavy_null,
    inliers_of,
    search,
    strength_of,
    with_copies,
)

pytestmark = pytest.mark.usefixtures("few_refits")


class TestContaminatedNull:
    """Two patients share a field, or one stands there under two names."""

    @pytest.mark.parametrize("copies", [1, 3, 8])
    @pytest.mark.parametrize("inliers", [15, 60, 300])
    def test_some_copies_in_the_null_change_nothing_and_are_counted(
        self, copies: int, inliers: int
    ) -> None:
        """Four copies of other patients' tiles, seen from the side, keep 191 to 280 key points."""
        ours = {"inliers": [191, 220, 250, 280, 3, 4], "strength": [12.0, 14, 9, 15, 0.3, -0.5]}
        found = search(**ours, null=with_copies(copies, inliers=inliers))  # type: ignore[arg-type]
        assert found.rejected is True
        assert found.details["proven"] == 4
        assert (found.details["null_alike"], found.details["null_scores"]) == (copies, 400 - copies)
        counts, strengths = with_copies(copies)
        clean = search(**ours, null=(counts[copies:], strengths[copies:]))  # type: ignore[arg-type]
        assert found.details["needed_score"] == clean.details["needed_score"]

    def test_one_pair_with_sixty_key_points_raises_no_threshold(self) -> None:
        """Once it raised the threshold from 10 to 6,285 key points, with a good fit."""
        found = search([191, 280], null=with_copies(1))
        assert found.rejected is True
        assert found.details["needed_score"] < 2 * MIN_SCORE

    def test_what_does_not_quite_reach_the_floor_moves_it_by_no_more_than_the_stretch(self) -> None:
        counts, strengths = chance(400)
        just = joint_score(np.array([0]), np.array([strength_of(MIN_SCORE * 0.99)]))[0]
        counts[:3], strengths[:3] = 0, strength_of(MIN_SCORE * 0.99)
        found = search([3], strength=0.0, null=(counts, strengths))
        assert found.details["null_alike"] == 0
        assert found.details["null_largest"] == pytest.approx(just)
        assert found.details["needed_score"] <= MOST_STRETCH * just
        proven = search([inliers_of(MOST_STRETCH * MIN_SCORE)], null=(counts, strengths))
        assert proven.rejected is True

    def test_the_stretch_bounds_a_tail_that_leads_far_away(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        far = replace(exponential(scale=40.0), shape=1.0)
        monkeypatch.setattr(module, "fit_tail", lambda scores, rng: far)
        null = heavy_null()
        largest = float(joint_score(*null).max())
        assert needed_score(far, searched=1) > 100
        found = search([3], strength=0.0, null=null)
        assert found.details["needed_score"] == max(MIN_SCORE, MOST_STRETCH * largest)

    def test_many_key_points_that_show_no_same_tissue_stay_in_the_null(self) -> None:
        """The same grid in two patients is chance, as far as the tissue goes."""
        found = search([3], strength=0.0, null=with_copies(3, strength=MIN_STRENGTH * 0.99))
        assert found.details["null_alike"] == 0
        assert found.details["null_scores"] == 400

    def test_a_null_of_which_too_much_shows_other_patients_tissue_tells_nothing(self) -> None:
        most = int(MOST_ALIKE * 400)
        assert search([191], null=with_copies(most)).rejected is True
        found = search([191, 3], strength=[12.0, 0.0], null=with_copies(most + 1))
        assert found.rejected is None
        assert found.details["proven"] is None
        assert found.details["above_floors"] == 1
        assert found.details["null_alike"] == most + 1
        assert f"{most + 1} of 400 real tiles show the tissue of another patient's" in found.note
        assert "run `data check`" in found.note

    def test_known_duplicates_are_not_counted_again(self) -> None:
        null = with_copies(30)
        found = search([191], null=null, duplicates=np.arange(400) < 25)
        assert found.rejected is True
        assert found.details["null_alike"] == 5
        assert found.details["null_duplicates_removed"] == 25
        assert found.details["null_scores"] == 370

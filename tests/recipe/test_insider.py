"""Repeated training as somebody who holds the weights sees it."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from privgen.errors import OutputError
from privgen.insider.inversion import Effort
from privgen.recipe import runs
from privgen.recipe.run import RecipeAudit
from privgen.recipe.runs import WHITE_BOX
from privgen.recipe.workspace import Workspace

Audit = Callable[..., RecipeAudit]


def test_inversions_of_every_run_are_tested_with_the_others(
    audit: Audit, alone: tuple[Path, RecipeAudit], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    little = Effort(latents=8, starts=1, explore=1, steps=1, queries=1)
    monkeypatch.setattr(runs.Effort, "for_tiles", classmethod(lambda *_: little))
    found = audit(tmp_path / "out", insider=True, jobs=1)
    names = [f"{arm}/{WHITE_BOX}" for arm in ("tile_membership", "patient_membership")]
    assert set(names) <= set(found.verdict.family)
    assert not set(names) & set(alone[1].verdict.family)
    results = {result.name: result for result in found.report.results}
    plain = {result.name: result for result in alone[1].report.results}
    for name in names:
        assert results[name].p_adjusted is not None
    assert results["patient_membership"].statistic == plain["patient_membership"].statistic
    assert "--insider" in found.document["reproduce"]["command"]
    looks, _ = Workspace(tmp_path / "out-private").load("run-000")
    assert looks[WHITE_BOX].shape == (8 * 27,)
    assert np.isfinite(looks[WHITE_BOX]).all()
    with pytest.raises(OutputError, match="insider changed"):
        audit(tmp_path / "out", jobs=1)

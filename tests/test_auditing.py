"""What an audit shows of synthetic tiles, and what it says of itself."""

import numpy as np

from audits import Aligned, Alignment, AuditData, Tiles
from privgen.auditing import near_train


def tiles(name: str, seed: int, count: int) -> Tiles:
    vectors = np.random.default_rng(seed).normal(size=(count, 8)).astype(np.float32)
    return Tiles(name, vectors, patients=np.array([f"{name}{row % 5}" for row in range(count)]))


def aligned(count: int, *, row: int, inliers: int, agreement: float) -> Aligned:
    found = Aligned(
        inliers=np.zeros(count, dtype=np.intp),
        agreement=np.zeros(count),
        featureless=np.zeros(count, dtype=np.bool_),
    )
    found.inliers[row], found.agreement[row] = inliers, agreement
    return found


def test_a_tile_that_aligns_like_a_copy_is_never_shown() -> None:
    """Also where nothing could be proven: the report's picture leaves the building."""
    shown = {}
    for name, inliers, agreement in (("close", 10, 0.31), ("few", 9, 0.9), ("apart", 90, 0.3)):
        data = AuditData(
            train=tiles("train", 0, 60),
            holdout=tiles("holdout", 1, 40),
            synthetic=Tiles("synthetic", tiles("s", 2, 20).embeddings + 9),
            alignment=Alignment(
                synthetic=aligned(20, row=7, inliers=inliers, agreement=agreement),
                null=aligned(30, row=0, inliers=0, agreement=0.0),
                null_duplicates=np.zeros(30, dtype=np.bool_),
            ),
        )
        shown[name] = not near_train(data)[7]
    assert shown == {"close": False, "few": True, "apart": True}

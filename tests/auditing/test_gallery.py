"""The picture in a report shows no tile that comes near a train tile."""

import numpy as np

from audits import Aligned, Alignment, AuditData, Tiles
from audits.copy_evidence import score_copies
from audits.proof import CHANCE_INLIERS, INLIER_DECADES, MIN_SCORE, MIN_STRENGTH
from privgen.auditing.gallery import near_train


def tiles(name: str, seed: int, count: int) -> Tiles:
    vectors = np.random.default_rng(seed).normal(size=(count, 8)).astype(np.float32)
    return Tiles(name, vectors, patients=np.array([f"{name}{row % 5}" for row in range(count)]))


def aligned(count: int, *, row: int, inliers: int, strength: float) -> Aligned:
    found = Aligned(
        inliers=np.zeros(count, dtype=np.intp),
        strength=np.zeros(count),
        marked=np.zeros(count),
        featureless=np.zeros(count, dtype=np.bool_),
    )
    found.inliers[row], found.strength[row] = inliers, strength
    return found


def test_a_tile_that_aligns_like_a_copy_is_never_shown() -> None:
    """Also where nothing could be proven: the report's picture leaves the building."""
    enough = int(np.ceil(CHANCE_INLIERS + MIN_SCORE / INLIER_DECADES))
    whole = np.sqrt(2 * np.log(10) * MIN_SCORE)
    shown = {}
    for name, inliers, strength in (
        ("close", enough, MIN_STRENGTH),
        ("blurred", 0, whole + 1e-6),
        ("few", enough // 2, MIN_STRENGTH),
        ("faint", 0, whole - 1e-6),
        ("apart", 90, MIN_STRENGTH - 1e-6),
    ):
        data = AuditData(
            train=tiles("train", 0, 60),
            holdout=tiles("holdout", 1, 40),
            synthetic=Tiles("synthetic", tiles("s", 2, 20).embeddings + 9),
            alignment=Alignment(
                synthetic=aligned(20, row=7, inliers=inliers, strength=strength),
                null=aligned(30, row=0, inliers=0, strength=0.0),
                null_duplicates=np.zeros(30, dtype=np.bool_),
            ),
        )
        shown[name] = not near_train(data, score_copies(data))[7]
    assert shown == {"close": False, "blurred": False, "few": True, "faint": True, "apart": True}


def test_blank_tiles_in_the_control_do_not_let_near_copies_into_the_picture() -> None:
    """A blank tile is at distance 0 from every blank tile: as a control it clears everything."""
    rng = np.random.default_rng(0)
    blank, near = 6, 5
    roles = {}
    for name, count in (("train", 60), ("holdout", 40), ("synthetic", 30)):
        vectors = rng.normal(size=(count, 8)).astype(np.float32)
        vectors[:blank] = 0
        textured = np.arange(count) >= blank
        patients = np.array([f"{name}{row % 5}" for row in range(count)])
        roles[name] = (vectors, textured, patients)
    copies = slice(blank, blank + near)
    roles["synthetic"][0][copies] = roles["train"][0][copies] + 1e-3
    data = AuditData(
        **{
            name: Tiles(
                name,
                vectors,
                patients=patients,
                fingerprints=np.where(textured, [f"{name}{n}" for n in range(len(vectors))], ""),
            )
            for name, (vectors, textured, patients) in roles.items()
        }
    )
    close = near_train(data, score_copies(data))
    assert close[copies].all()
    assert close.sum() < 20, "and the picture is not empty"

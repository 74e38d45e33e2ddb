"""The picture of synthetic tiles in a report, and which tiles may not stand in it."""

import base64

import numpy as np
from numpy.typing import NDArray

import audits
from audits.copy_evidence import CopyScoring
from audits.proof import alike
from privgen.data import images
from privgen.data.tileset import TileSet

_COLUMNS = 8


def sample_grid(
    synthetic: TileSet, close: NDArray[np.bool_], verdict: audits.Verdict
) -> str | None:
    """Base64 PNG of some synthetic tiles, classes in rows; none that comes near a train tile.

    After a copying LEAK no tile is shown: the picture would be part of the leak.

    Args:
      synthetic: s tiles.
      close: which of them stay out, shape (s,), as `near_train`.
      verdict: of their audit.
    """
    copying = next(harm for harm in verdict.harms if harm.harm is audits.Harm.COPYING)
    if copying.outcome is audits.Outcome.LEAK:
        return None
    rows = []
    for label in synthetic.classes:
        unsuspicious = np.flatnonzero((synthetic.labels == label) & ~close)[:_COLUMNS]
        if len(unsuspicious) == _COLUMNS:
            rows.append(unsuspicious)
    if not rows:
        return None
    shown = synthetic.subset(np.concatenate(rows)).load()
    sheet = images.contact_sheet(shown, columns=_COLUMNS)
    return base64.b64encode(images.encode_png(sheet)).decode()


def near_train(data: audits.AuditData, copies: CopyScoring) -> NDArray[np.bool_]:
    """Synthetic tiles in the tail of any copy test, aligned with or equal to a train tile.

    Shape (s,). These stay out of every picture, whatever the verdict.

    Args:
      data: all roles.
      copies: scores of the same tiles, in the same order.
    """
    close = copies.in_tail.copy()
    if data.alignment is not None:
        close |= alike(data.alignment.synthetic.inliers, data.alignment.synthetic.strength)
    if data.synthetic.fingerprints is not None and data.train.fingerprints is not None:
        close |= np.isin(data.synthetic.fingerprints, data.train.fingerprints)
    return close

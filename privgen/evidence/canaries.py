"""How the canaries of a training score against the synthetic tiles of its audit."""

import numpy as np

from audits.attacks import full_black_box
from audits.canary_results import CanaryScores
from audits.inputs import textured_only
from privgen.data.blocks import in_blocks
from privgen.data.canaries import Canaries
from privgen.encoders.orbit import embed_orbit
from privgen.evidence.collect import Evidence

_NOBODY = -1


def canary_scores(canaries: Canaries, evidence: Evidence) -> CanaryScores:
    """Score every tile of every canary as the primary membership attack does.

    Args:
      canaries: of the ledger.
      evidence: of the audit; real canaries are found in it by name, among train and holdout tiles.

    Raises:
      audits.AuditInputError: a real canary is not among the tiles of the audit.
    """
    data = evidence.data
    included = np.array(canaries.included)
    synthetic = textured_only(data).synthetic.embeddings
    if canaries.kind == "real":
        number = {name: k for k, name in enumerate(canaries.patients)}
        roles = (data.train, data.holdout)
        owners = np.concatenate([tiles.patients for tiles in roles])
        textured = np.concatenate([tiles.textured for tiles in roles])
        every = np.array([number.get(str(owner), _NOBODY) for owner in owners])
        # Blank tiles are anybody's, but a canary who has no others keeps them.
        blank = np.setdiff1d(every, every[textured])
        kept = (every != _NOBODY) & (textured | np.isin(every, blank))
        whose = every[kept]
        embeddings = np.concatenate([tiles.embeddings for tiles in roles])[kept]
    else:
        tiles, look, blocks = canaries.tile_set(), evidence.look, []
        in_blocks(
            evidence.harmonised(tiles),
            look.side,
            "embedding artificial patients",
            lambda rows, pixels: blocks.append(embed_orbit(look.encoder, pixels).mean),
        )
        whose = canaries.whose
        embeddings = look.whitening.apply(np.concatenate(blocks))
    return CanaryScores(
        scores=full_black_box(embeddings, synthetic),
        canary=whose,
        included=included,
        artificial=canaries.kind == "artificial",
        unit=data.group_unit,
    )

"""How the canaries of a training score against the synthetic tiles of its audit."""

import numpy as np

from audits.attacks import full_black_box
from audits.canary_results import CanaryScores
from privgen.data.blocks import in_blocks
from privgen.data.canaries import Canaries
from privgen.encoders.orbit import embed_orbit
from privgen.evidence.collect import Evidence


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
    if canaries.kind == "real":
        names = np.array(canaries.patients)
        order = np.argsort(names)
        owners = np.concatenate([data.train.patients, data.holdout.patients])
        place = np.searchsorted(names[order], owners).clip(max=len(names) - 1)
        number = order[place]
        theirs = names[number] == owners
        whose = number[theirs]
        embeddings = np.concatenate([data.train.embeddings, data.holdout.embeddings])[theirs]
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
        scores=full_black_box(embeddings, data.synthetic.embeddings),
        canary=whose,
        included=included,
        artificial=canaries.kind == "artificial",
    )

"""What limits an audit, in sentences: its inputs, its controls, what was set aside."""

from collections.abc import Sequence

import numpy as np

from audits.controls import BLIND
from audits.copy_evidence import ALIGNED, SWAPPED
from audits.copying import CopyScores
from audits.errors import AuditInputError
from audits.family import confirmed
from audits.inputs import AuditData
from audits.neighbors import nearest
from audits.patients import alike_within
from audits.pipeline import LEVEL, PIPELINE
from audits.results import AuditResult, Harm

_FAR_TOO_MANY = 0.5
_SWAPPED_LEVEL = 1e-3
_CONFOUNDED_LEVEL = 0.025


def input_warnings(data: AuditData, holdout: CopyScores) -> list[str]:
    repeated = int((holdout.nearest == 0).sum())
    if repeated > _FAR_TOO_MANY * len(holdout):
        raise AuditInputError(
            f"train and holdout must differ: {repeated} of {len(holdout)} holdout tiles are exact "
            "copies of "
            "train tiles. Give a holdout of other patients."
        )
    warnings = _unmatched_classes(data)
    for tiles in (data.siblings, data.reference):
        if tiles is None or not tiles.textured.any():
            continue
        # Blank glass is equal in everybody.
        seen = tiles.embeddings[tiles.textured]
        same = int((nearest(seen, data.train.embeddings, k=1).distances == 0).sum())
        if same > _FAR_TOO_MANY * len(seen):
            raise AuditInputError(
                f"train and {tiles.name} must differ: {same} of {len(seen)} {tiles.name} tiles "
                f"are exact copies of train tiles. Give {tiles.name} tiles the generator did not "
                "see."
            )
        if same:
            warnings.append(
                f"{same} {tiles.name} tiles are exact copies of train tiles: membership looks "
                "smaller than it is. Remove them."
            )
    if repeated:
        warnings.append(
            f"{repeated} holdout tiles are exact copies of train tiles: near-duplicates between "
            "the two sides "
            "hide real copies. Remove them and split again."
        )
    if data.group_unit != "patient":
        warnings.append(
            "The data name no patients: the unit of every interval and test is the "
            f"{data.group_unit}. "
            "If one patient gave several, intervals are too narrow and tests too eager."
        )
    else:
        warnings += [
            f"Every {tiles.name} tile counts as a patient of its own: if one patient gave several, "
            "intervals are too narrow and tests too eager."
            for tiles in (data.train, data.holdout)
            if tiles.patient_count == len(tiles)
        ]
    for tiles in (data.synthetic, data.holdout):
        blank = int((~tiles.textured).sum())
        if blank:
            warnings.append(
                f"{blank} of {len(tiles)} {tiles.name} tiles are featureless and were left out: "
                "they cannot be proven copies either way."
            )
    fewest = min(data.train.patient_count, data.holdout.patient_count)
    if fewest < 20:
        warnings.append(
            f"Only {fewest} {data.group_unit}s on the smaller side: patient-level intervals are "
            "wide, and a leak "
            "that concerns few of them can stay unseen."
        )
    return warnings


def proof_warnings(proofs: Sequence[AuditResult]) -> list[str]:
    """What the alignment left aside: near-duplicates between patients, marks."""
    aligned = next((result for result in proofs if result.name == ALIGNED), None)
    if aligned is None:
        return []
    known, warnings = aligned.details, []
    if known["null_alike"]:
        warnings.append(
            f"{known['null_alike']} of {known['null_scores'] + known['null_alike']} real tiles "
            "show the tissue of another patient's tile, as copies do. They were left out of what "
            "chance shows. One patient may stand there under two names: run `privgen data check`."
        )
    if known["featureless"]:
        warnings.append(
            f"{known['featureless']} of {known['featureless'] + known['searched']} synthetic tiles "
            "show hardly anything to compare: they were searched, but are not cleared."
        )
    if known["marked"] or known["null_marked"]:
        warnings.append(
            f"{known['marked']} synthetic and {known['null_marked']} real tiles align where marks "
            "stand that recur in other patients at the same place, such as frames, captions or "
            "scale bars. What the marks cover was set aside; the rest was compared."
        )
    return warnings


def alike_patients(data: AuditData) -> list[str]:
    """A warning for each real role that holds patients who may be one person; it names nobody."""
    unit = data.group_unit.replace("_", " ")
    warnings = []
    for tiles in (data.train, data.siblings, data.holdout, data.reference):
        if tiles is None or not tiles.patients_known:
            continue
        groups = alike_within(np.unique(tiles.patients))
        if groups:
            warnings.append(
                f"{sum(map(len, groups))} {tiles.name} {unit}s have names that differ "
                f"only in case, leading zeros or signs from another's: if those are {len(groups)} "
                "written differently, intervals are too narrow and tests too eager."
            )
    return warnings


def _unmatched_classes(data: AuditData) -> list[str]:
    """A warning where copy tests cannot allow for different class proportions."""
    if len(np.unique(data.holdout.labels)) < 2:
        return []
    if np.isin(data.synthetic.labels, data.holdout.labels).any():
        return []
    return [
        "The synthetic tiles name no class that the holdout has: if their class proportions differ "
        "from the holdout's, a rejection of the copy tests may be due to that alone."
    ]


def control_named(controls: Sequence[AuditResult], name: str) -> AuditResult | None:
    """The control of this name, where it was computed."""
    return next((control for control in controls if control.name == name), None)


def confounded_sentence(controls: Sequence[AuditResult]) -> str:
    """A sentence when the blind baseline tells train from holdout; empty otherwise."""
    blind = control_named(controls, BLIND)
    if blind is None or blind.p_value is None or blind.p_value > _CONFOUNDED_LEVEL:
        return ""
    return (
        "Train and holdout patients can be told apart without the synthetic tiles (blind AUROC "
        f"{blind.statistic.value:.2f}, p = {blind.p_value:.2g}): a membership difference between "
        "them is confounded."
    )


def other_ways(data: AuditData, controls: Sequence[AuditResult]) -> dict[Harm, str]:
    """Why a harm cannot be judged, where its roles became pixels in different ways."""
    found = dict(data.confounded)
    control = control_named(controls, PIPELINE)
    if control is not None and control.p_value is not None and control.p_value <= LEVEL:
        sentence = (
            "Train and holdout patients differ in how their tiles became pixels (sharpness, blocks "
            f"or colour detail: AUROC {control.statistic.value:.2f}, p = {control.p_value:.2g}): a "
            "difference between them may be that alone."
        )
        for harm in (Harm.COPYING, Harm.PATIENT_MEMBERSHIP):
            found.setdefault(harm, sentence)
    return found


def swapped_sentence(controls: Sequence[AuditResult], tests: Sequence[AuditResult]) -> str:
    """A sentence when the holdout looks like the train set; empty otherwise."""
    copied = control_named(controls, SWAPPED)
    p = 1.0 if copied is None or copied.p_value is None else copied.p_value
    if copied is not None and p <= _SWAPPED_LEVEL and confirmed(copied, _SWAPPED_LEVEL):
        return (
            f"Synthetic tiles copy holdout tiles (p = {p:.2g}): train and holdout may have been "
            "swapped, or the generator saw the holdout."
        )
    for test in tests:
        if test.details.get("reversed_p", 1.0) <= _SWAPPED_LEVEL:
            return (
                f"Holdout patients score as members ({test.name}: AUROC "
                f"{test.statistic.value:.2f}): train and holdout may have been swapped, or differ "
                "in more than having been trained on."
            )
    return ""

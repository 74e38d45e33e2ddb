"""What a benchmark found, as one paragraph for a reader who is no statistician.

Every figure is in points, hundredths of balanced accuracy, with its 95 % interval. A gain counts
only where it is significant after adjustment; otherwise the paragraph says "no evidence of benefit"
and how large a gain would have been seen.
"""

from collections.abc import Iterable, Sequence
from statistics import median

from audits.results import Estimate
from privgen.benefit.arms import BASELINE
from privgen.benefit.results.caveats import guessing
from privgen.benefit.results.records import ArmRow, Difference, HistogramRow
from privgen.benefit.results.statistics import HARMS, HELPS, PRIMARY


def conclude(
    *,
    rows: Sequence[ArmRow],
    differences: Sequence[Difference],
    histograms: Sequence[HistogramRow],
    classes: int,
    tiles: int,
    patients: int,
    group_unit: str,
) -> str:
    """The conclusion of one benchmark.

    Args:
      rows, differences: of all regimes.
      histograms: the colour histogram of each regime.
      classes: how many there are.
      tiles, patients: in the test split.
      group_unit: what "patient" really is in these data.
    """
    unit = group_unit.replace("_", " ")
    whose = _counted(patients, unit)
    sentences = [
        "The question was whether classifiers of real tiles get better when synthetic tiles are "
        f"added to their training set, tested on {_counted(tiles, 'tile')}"
        f"{'' if unit == 'tile' else f' of {whose}'} that no training ever saw."
    ]
    for regime in dict.fromkeys(row.regime for row in rows):
        own = [one for one in differences if one.regime == regime]
        sentences += _regime(regime, own)
        sentences += _controls(own)
        baselines = [row for row in rows if row.regime == regime and row.arm == BASELINE]
        sentences += _chance(baselines, 1 / classes)
        sentences += _histogram(
            baselines,
            [one for one in histograms if one.regime == regime],
        )
    this, them = ("this", "it") if patients == 1 else ("these", "them")
    sentences.append(
        f"All this speaks of {this} {whose} and of others like {them}; elsewhere it has to be "
        "measured again."
    )
    return " ".join(sentences)


def _regime(regime: float, differences: Sequence[Difference]) -> Iterable[str]:
    """What the tested comparisons of one regime say."""
    tested = [one for one in differences if one.role == "tested"]
    if not tested:
        return
    helped = [one for one in tested if one.verdict == HELPS]
    harmed = [one for one in tested if one.verdict == HARMS]
    rest = len(tested) - len(helped) - len(harmed)
    start = f"With {_share(regime)}, "
    if not helped and not harmed:
        among = "the one comparison" if rest == 1 else f"any of {rest} comparisons"
        yield f"{start}there was no evidence of benefit in {among}."
    else:
        words = [
            f"{verb} in {count}"
            for verb, count in (
                ("helped", len(helped)),
                ("harmed", len(harmed)),
                ("showed no evidence of benefit", rest),
            )
            if count
        ]
        yield (f"{start}synthetic tiles {_listed(words)} of {_counted(len(tested), 'comparison')}.")
    if helped:
        yield _extreme("gain", max(helped, key=lambda one: one.estimate.value))
    if harmed:
        yield _extreme("loss", min(harmed, key=lambda one: one.estimate.value))
    sizes = [one.detectable for one in tested if one.detectable is not None]
    if not helped and sizes:
        yield (
            f"A gain smaller than about {_points(median(sizes))} would often have been missed: "
            "that is what one such comparison finds four times in five."
        )


def _extreme(word: str, one: Difference) -> str:
    return (
        f"The largest significant {word} was {_with_interval(one.estimate)} with {one.model} "
        f"({one.arm})."
    )


def _controls(differences: Sequence[Difference]) -> Iterable[str]:
    """Whether the two controls do what they should."""
    for name, what in (
        ("oversampled", "Repeating real tiles instead"),
        ("shuffled", "Adding synthetic tiles under shuffled labels"),
    ):
        own = [one for one in differences if one.arm.split(" ")[0] == name]
        if not own:
            continue
        gained = sum((one.estimate.low or 0.0) > 0 for one in own)
        lost = sum((one.estimate.high or 0.0) < 0 for one in own)
        mean = sum(one.estimate.value for one in own) / len(own)
        yield (
            f"{what} gained beyond chance with {gained} of {_counted(len(own), 'model')} and lost "
            f"with {lost} ({_points(mean, signed=True)} on average)."
        )


def _chance(baselines: Sequence[ArmRow], chance: float) -> Iterable[str]:
    """Whether real tiles alone teach anything that holds for new patients."""
    blind = [row.model for row in guessing(baselines, chance)]
    if blind:
        yield (
            f"Trained on real tiles alone, {_listed(blind)} cannot be told from guessing "
            f"({100 * chance:.0f} %) on new patients, so that neither a gain nor its absence "
            "means much there."
        )


def _histogram(baselines: Sequence[ArmRow], histograms: Sequence[HistogramRow]) -> Iterable[str]:
    """Whether real tiles alone beat the colour histogram."""
    for histogram in histograms:
        colours = histogram.metrics[PRIMARY].value
        below = [row.model for row in baselines if row.metrics[PRIMARY].value <= colours]
        figure = f"({100 * colours:.1f} % balanced accuracy)"
        if not below:
            yield f"Trained on real tiles alone, every model beat a colour histogram {figure}."
        else:
            yield (
                f"Trained on real tiles alone, {_listed(below)} did not beat a colour histogram "
                f"{figure}, so that gains over {'it' if len(below) == 1 else 'them'} say little."
            )


def _share(regime: float) -> str:
    return (
        "all real training tiles"
        if regime == 1
        else f"{100 * regime:g} % of the real training tiles"
    )


def _with_interval(estimate: Estimate) -> str:
    value = _points(estimate.value, signed=True)
    if estimate.low is None or estimate.high is None:
        return value
    level = f"{100 * estimate.confidence:g} % interval"
    return f"{value} ({level} {_number(estimate.low)} to {_number(estimate.high)})"


def _points(value: float, *, signed: bool = False) -> str:
    shown = _number(value) if signed else f"{100 * value:.1f}"
    return f"{shown} point{'' if shown.lstrip('+-') == '1.0' else 's'}"


def _number(value: float) -> str:
    """In points with its sign; none for what rounds to 0."""
    shown = f"{100 * value:+.1f}"
    return shown[1:] if shown[1:] == "0.0" else shown


def _counted(count: int, noun: str) -> str:
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def _listed(words: Sequence[str]) -> str:
    return " and ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)

"""What stands on the page: chosen and worded here, laid out by the templates.

Every result of an audit lands in exactly one place: the tests, the averages beside them, the
membership section, the fidelity table, or "other measurements". Nothing is dropped because its
name is new.
"""

from collections.abc import Iterable, Mapping, Sequence

from markupsafe import Markup

from audits.kinds import kind_name, name_kinds
from audits.sections import AuditDict, PolicyDict, PowerDict, ResultDict
from privgen.reporting import bench, figures, recipe_view, words
from privgen.reporting.page import (
    AuditView,
    FidelityRow,
    PageView,
    PowerTable,
    ResultView,
    Seen,
    SeenView,
)
from privgen.reporting.sections import ReportDict

_PROOFS = ("identical_tiles", "aligned_copies")
_CONTROL = "control/"
_MEMBERSHIP = ("tile_membership", "patient_membership")
_TPR = "tpr_at_fpr"
_COINS = ("canaries", "epsilon_one_run", "epsilon_f_dp")
_AVERAGES = ("c_t", "dcr_share", "authenticity", "extraction_ratio")
_AUROC_CONTROLS = (
    "control/member_against_member",
    "control/holdout_against_holdout",
    "control/blind_baseline",
)
_PAIRS = {
    "synthetic_train": "synthetic – training",
    "synthetic_holdout": "synthetic – holdout",
    "train_holdout": "training – holdout (real against real)",
}
_METRICS = {
    "fid": ("FID", "lower is closer"),
    "fd": ("Fréchet distance", "lower is closer"),
    "fd_infinity": (
        "Fréchet distance extrapolated to infinitely many tiles",
        "lower is closer; about 0 for equal laws",
    ),
    "kid": ("Kernel distance (KID)", "lower is closer; about 0 for equal laws"),
    "precision": ("Precision", "share of first set that looks like holdout tiles"),
    "recall": ("Recall", "share of holdout tiles the first set can resemble"),
    "density": ("Density", "about 1 for equal laws"),
    "coverage": ("Coverage", "about 0.97 for equal laws"),
}


def page(report: ReportDict) -> PageView:
    """Everything the template shows beside the report itself."""
    audit, benefit = report["audit"], report["augment_bench"]
    roles = report["data"]["roles"] if report["data"] else {}
    classes = report["data"]["classes"] if report["data"] else {}
    return {
        "title": _title(report),
        "created": report["created"][:16].replace("T", " "),
        "audit": _audit(audit) if audit else None,
        "recipe": recipe_view.section(report["recipe"]) if "recipe" in report else None,
        "bench": bench.section(benefit) if benefit else None,
        "roles": [(role, *words.ROLES[role]) for role in words.ROLES if role in roles],
        "withheld": any(None in counts.values() for counts in classes.values()),
        "outcomes": words.OUTCOMES,
        "harms": words.HARMS,
    }


def _title(report: ReportDict) -> str:
    if report["audit"]:
        return "Release audit of synthetic tiles"
    return "Audit of a training recipe" if "recipe" in report else "Benefit of synthetic tiles"


def _audit(audit: AuditDict) -> AuditView:
    results = {result["name"]: result for result in audit["results"]}
    family = [name for name in audit["verdict"]["family"] if name in results]
    tested = [name for name in _PROOFS if name in results] + family
    controls = [name for name in results if name.startswith(_CONTROL)]
    fidelity, taken = _fidelity(results)
    left = [name for name in results if name not in {*tested, *controls, *taken}]
    averages = [name for name in left if name in _AVERAGES]
    attacks = [name for name in left if name.partition("/")[0] in (*_MEMBERSHIP, _TPR)]
    coins = [name for name in left if name in _COINS]
    left = [name for name in left if name not in {*averages, *attacks, *coins}]
    policy = audit["policy"]
    unit = words.UNITS.get(audit["group_unit"], audit["group_unit"])
    return {
        "unit": unit,
        "mdl80": _mdl80(audit),
        "copies_found": any(
            row["harm"] == "copying" and row["outcome"] == "LEAK"
            for row in audit["verdict"]["harms"]
        ),
        "bounds": [
            (words.TESTS[name][0], high - 0.5)
            for name in _MEMBERSHIP
            if name in results and (high := results[name]["statistic"]["high"]) is not None
        ],
        "tests": [_row(results[name]) for name in tested],
        "missing": [name for name in audit["verdict"]["family"] if name not in results],
        "power_figure": _power_figure(audit),
        "power_table": _power_table(audit["power"]),
        "membership_figure": _membership_figure(
            [
                *(r for name, r in results.items() if name.partition("/")[0] in _MEMBERSHIP),
                *(results[name] for name in _AUROC_CONTROLS if name in results),
            ],
            policy["membership_excess"],
            audit["group_unit"],
        ),
        "controls": [_row(results[name]) for name in controls],
        "fidelity": fidelity,
        "pairs": _PAIRS,
        "averages": [_row(results[name]) for name in averages],
        "attacks": [_row(results[name]) for name in attacks],
        "coins": [_row(results[name]) for name in coins],
        "other": [_row(results[name]) for name in left],
        "kinds": name_kinds(audit["mdl80"]),
        "signed": words.clauses(audit["verdict"]["sentence"]),
        "policy": _policy(policy),
    }


def _row(result: ResultDict) -> ResultView:
    title, statistic = words.test(result["name"])
    return {"title": title, "what": statistic, **result}


def _mdl80(audit: AuditDict) -> list[SeenView]:
    """Kinds seen from the same share in one row: those the policy names first, planted or not."""
    policy = audit["policy"]
    kinds = list(dict.fromkeys([*policy["copying_kinds"], *audit["mdl80"]]))
    rows: dict[tuple[object, ...], tuple[Seen, list[str]]] = {}
    for kind in kinds:
        share = audit["mdl80"].get(kind)
        tried = [p["fraction"] for p in audit["power"] if p["kind"] == kind]
        facts: Seen = {
            "share": share,
            "planted": kind in audit["mdl80"],
            "largest": max(tried, default=None),
            "named": kind in policy["copying_kinds"],
            "enough": share is not None and share <= policy["copying_mdl80"],
        }
        rows.setdefault(tuple(facts.values()), (facts, []))[1].append(kind)
    return [{**facts, "kinds": alike, "kind": name_kinds(alike)} for facts, alike in rows.values()]


def _power_figure(audit: AuditDict) -> Markup:
    if not audit["power"]:
        return Markup()
    found = ", ".join(
        f"{kind_name(kind)} from a share of {share:.3g}"
        if share is not None
        else f"{kind_name(kind)} at no share tried"
        for kind, share in audit["mdl80"].items()
    )
    figure = figures.power_curves(
        audit["power"],
        names={kind: kind_name(kind) for kind in audit["mdl80"]},
        bound=audit["policy"]["copying_mdl80"],
        alt=f"Power of the copy tests against the share of copies. Power .8 is reached: {found}.",
    )
    return Markup(figure)


def _power_table(points: Sequence[PowerDict]) -> PowerTable:
    """Shares down, kinds across."""
    kinds = list(dict.fromkeys(point["kind"] for point in points))
    cells = {(point["copies"], point["kind"]): point["power"] for point in points}
    shares = sorted({(point["copies"], point["fraction"]) for point in points})
    return {
        "kinds": [kind_name(kind) for kind in kinds],
        "rows": [
            (copies, share, [cells.get((copies, kind)) for kind in kinds])
            for copies, share in shares
        ],
    }


def _membership_figure(results: Iterable[ResultDict], excess: float, group_unit: str) -> Markup:
    rows = []
    for result in results:
        estimate, row = result["statistic"], _row(result)
        rows.append(
            figures.ForestRow(
                label=row["title"],
                value=estimate["value"],
                low=estimate["low"],
                high=estimate["high"],
                text=f"{words.interval(estimate)}\n{words.counted(estimate, group_unit)}",
                control=result["name"].startswith(_CONTROL),
            )
        )
    if not rows:
        return Markup()
    figure = figures.forest(
        rows,
        reference=(0.5, "guessing"),
        bound=(0.5 + excess, "policy limit for the upper end"),
        axis="AUROC (0.5 = guessing, 1 = always right)",
        prefix="membership",
        alt="Membership results and controls: "
        + "; ".join(f"{row.label} {row.text}".replace("\n", ", ") for row in rows),
    )
    return Markup(figure)


def _fidelity(results: Mapping[str, ResultDict]) -> tuple[list[FidelityRow], set[str]]:
    """Metrics down, pairs across; and the names of the results that went into the table."""
    table: dict[tuple[str, str], FidelityRow] = {}
    taken = set()
    for base, (title, reading) in _METRICS.items():
        for name, result in results.items():
            metric, _, place = name.partition("/")
            pair, _, group = place.partition("/")
            if base != _base(metric) or pair not in _PAIRS:
                continue
            encoder = metric[len(base) + 1 :]
            full = ", ".join(part for part in (title, encoder, _group(group)) if part)
            new: FidelityRow = {"title": full, "reading": reading, "pairs": {}}
            table.setdefault((metric, group), new)["pairs"][pair] = result["statistic"]
            taken.add(name)
    return list(table.values()), taken


def _base(metric: str) -> str:
    """The longest known metric that a result's name, less its encoder, starts with."""
    return max(
        (base for base in _METRICS if f"{metric}_".startswith(f"{base}_")), key=len, default=""
    )


def _group(name: str) -> str:
    """What a figure is about when not all tiles: one class, or the mean over classes."""
    return "mean over classes" if name == "class_mean" else name.replace("class:", "class ", 1)


def _policy(policy: PolicyDict) -> list[tuple[str, str]]:
    return [
        ("Chance of a false LEAK over all tests together", words.number(policy["significance"])),
        ("Harms that decide the verdict", ", ".join(policy["gates"])),
        ("Largest share of copies that may go unseen", words.number(policy["copying_mdl80"])),
        ("Kinds of copies that must be seen", name_kinds(policy["copying_kinds"])),
        (
            "Largest membership AUROC above 0.5 that may remain possible",
            words.number(policy["membership_excess"]),
        ),
        (
            "Membership attacks that decide, where their inputs are given",
            ", ".join(words.ATTACKS.get(name, words.spoken(name)) for name in policy["attacks"]),
        ),
        (
            "Shares of planted copies tried",
            ", ".join(words.number(share) for share in policy["fractions"]),
        ),
    ]

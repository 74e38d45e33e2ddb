"""The folder to share: the generator file, and a card that says what it is and what was found.

The card (after Mitchell et al. 2019, "Model cards for model reporting", arXiv:1810.03993) describes
training data by counts alone, and counts below 5 not at all: no path, no name, no digest
of a tile. Without a report its first lines say that nobody has audited the generator. What a
verdict may be called is in `privgen.reporting.words`.
"""

from collections.abc import Mapping
from functools import cache
from importlib.metadata import version
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from audits.kinds import kind_name
from audits.sections import RoleCounts
from privgen import console, reporting
from privgen.checkpoints.ledger import (
    Ledger,
)
from privgen.checkpoints.state import (
    load_generator_state,
    save_generator,
)
from privgen.documents import parse_json, read_text
from privgen.errors import CheckpointError, InputError, RuntimeFailure
from privgen.files import atomic_write, empty_folder, sha256_file
from privgen.limits import JSON_BYTES, told
from privgen.models import FAMILIES
from privgen.release.artificial import artificial_sentence
from privgen.release.card import CardAudit, CardData, CardGenerator
from privgen.release.probing import probed
from privgen.reporting import html, words
from privgen.reporting.disclosure import SMALLEST, betrays, coarse
from privgen.reporting.sections import GeneratorDict, ReportDict
from privgen.sampling import LoadedGenerator, loaded

GENERATOR = "generator.safetensors"
CARD = "MODEL_CARD.md"

_DAMAGE = (TypeError, KeyError, AttributeError, RecursionError)


def export(checkpoint: Path | str, out: Path | str, *, report: Path | str | None = None) -> Path:
    """Write `generator.safetensors` and `MODEL_CARD.md`, both to share.

    Args:
      checkpoint: a `.pt` checkpoint, or a run folder for its newest. A generator file does not say
        what it was trained on, so there is nothing to write a card from.
      out: empty or new folder.
      report: report.json of this generator's audit.

    Returns:
      `out`.

    Raises:
      CheckpointError: no checkpoint, one without a ledger, or weights that are not finite.
      InputError: the report is none, holds no audit, or is about another generator; or a class of
        the generator is constant.
      OutputError, DiskFullError: `out` is not empty, or cannot be written.
    """
    state = load_generator_state(Path(checkpoint))
    if state.ledger is None:
        raise CheckpointError(
            f"{checkpoint} is a generator file already, and does not say what it was trained on. "
            "Give the .pt checkpoint it was made from."
        )
    generator = loaded(state, source=Path(checkpoint))
    constants = probed(generator)
    if constants.count:
        console.warn(constants.sentence())
    audit = None if report is None else audit_facts(Path(report), generator, state.ledger)
    folder = empty_folder(Path(out))
    save_generator(folder / GENERATOR, state)
    card = (
        _environment()
        .get_template("model_card.md.j2")
        .render(
            **_facts(generator),
            **_training_data(generator, state.ledger),
            audit=audit,
            constant=_plain(constants.sentence()),
            artificial=artificial_sentence(state.artificial) if state.artificial else "",
            file=GENERATOR,
            sha256=sha256_file(folder / GENERATOR),
        )
    )
    with atomic_write(folder / CARD) as stream:
        stream.write(card.encode())
    return folder


def _facts(generator: LoadedGenerator) -> CardGenerator:
    return {
        "family": _plain(generator.family),
        "about": FAMILIES[generator.family].about,
        "resolution": generator.resolution,
        "classes": [_plain(name) for name in generator.classes],
        "parameters": sum(each.numel() for each in generator.network.parameters()),
        "kimg": words.number(generator.kimg),
        "digest": generator.digest,
        "version": version("privgen"),
    }


def _training_data(generator: LoadedGenerator, ledger: Ledger) -> CardData:
    """What the card says about the tiles: counts by class and shares by role."""
    unit = words.UNITS.get(ledger.group_unit, ledger.group_unit)
    roles = list(dict.fromkeys(entry.role for entry in ledger.entries))
    tiles: dict[str, list[tuple[str, str]]] = {role: [] for role in roles}
    for entry in ledger.entries:
        tiles[entry.role].append((entry.label, entry.group))
    train = tiles.get("train", [])
    of_class = {
        name: [group for label, group in train if label == name] for name in generator.classes
    }
    betrayed = any(betrays(len(groups)) for groups in of_class.values())
    return {
        "unit": unit,
        "people": f"{unit}s",
        "smallest": SMALLEST,
        "class_rows": [
            {
                "name": _plain(name),
                "tiles": coarse(len(groups)),
                "groups": coarse(len(set(groups))),
            }
            for name, groups in of_class.items()
        ],
        "total": "not given" if betrayed else coarse(len(train)),
        "total_groups": coarse(len({group for _, group in train})),
        "role_rows": [
            {
                "name": words.ROLES[role][0],
                "meaning": words.ROLES[role][1],
                "share": f"{len(rows) / len(ledger.entries):.2f}",
                "groups": coarse(len({group for _, group in rows})),
            }
            for role, rows in tiles.items()
        ],
    }


def audit_facts(path: Path, generator: LoadedGenerator, ledger: Ledger) -> CardAudit:
    """What the card says about an audit, once the report is known to fit the generator.

    Args:
      path: report.json.
      generator, ledger: what the report has to be about.

    Raises:
      InputError: it is no report of an audit, or is about another generator.
    """
    try:
        report: ReportDict = parse_json(read_text(path, JSON_BYTES))
        html.validate(report)
    except OSError as error:
        raise InputError(f"cannot read report {path}: {error.strerror or error}.") from error
    except (ValueError, ArithmeticError, *_DAMAGE, RuntimeFailure) as error:
        raise InputError(
            f"{path.name} is not a report of privgen audit: {told(error)}. Give its report.json."
        ) from error
    audit = report["audit"]
    if audit is None:
        raise InputError(f"{path.name} holds no audit. Give the report.json of privgen audit.")
    _require_same(path, report["generator"], audit["counts"], generator, ledger)
    outcome = audit["verdict"]["outcome"]
    return {
        "outcome": outcome,
        "sentence": _plain(audit["verdict"]["sentence"]),
        "weaker": [_plain(one["sentence"]) for one in report["weaker_than_default"]],
        "meaning": words.OUTCOMES[outcome],
        "version": _plain(report["privgen_version"]),
        "created": _plain(report["created"]),
        "named": report["generator"] is not None,
        "truncation": 1 if report["generator"] is None else report["generator"]["truncation"],
        "synthetic": f"{_tiles(audit['counts'], 'synthetic'):,}",
        "harms": [
            {
                "harm": harm["harm"],
                "question": words.HARMS[harm["harm"]],
                "outcome": harm["outcome"],
                "gates": "yes" if harm["gates"] else "no",
            }
            for harm in audit["verdict"]["harms"]
        ],
        "mdl80": [
            (
                kind_name(kind),
                "not found at any share tried" if share is None else words.number(share),
            )
            for kind, share in audit["mdl80"].items()
        ],
    }


def _tiles(counts: Mapping[str, RoleCounts], role: str) -> int:
    return counts[role]["tiles"] if role in counts else 0


def _require_same(
    path: Path,
    named: GeneratorDict | None,
    counts: Mapping[str, RoleCounts],
    generator: LoadedGenerator,
    ledger: Ledger,
) -> None:
    """InputError where the report is of another generator, by its weights' digest."""
    if named is None:
        return
    train = sum(entry.role == "train" for entry in ledger.entries)
    audited = _tiles(counts, "train")
    facts = {
        "family": (named["family"], generator.family),
        "resolution": (named["resolution"], generator.resolution),
        "classes": (named["classes"], list(generator.classes)),
        "kimg": (f"{named['kimg']:.6g}", f"{generator.kimg:.6g}"),
        "training tiles": (audited, train),
        "digest": (named["digest"], generator.digest),
    }
    for key, (theirs, ours) in facts.items():
        if theirs != ours:
            raise InputError(
                f"{path.name} is about another generator: its {key} is {theirs}, this one's "
                f"{ours}. Give the report of this checkpoint's audit."
            )


def _plain(text: str) -> str:
    """Somebody's words inside Markdown: no line, table, link, code or tag can begin in them."""
    flat = " ".join(text.split())
    return "".join(f"\\{mark}" if mark in "\\`*_[]<#|~" else mark for mark in flat)


@cache
def _environment() -> Environment:
    return Environment(
        loader=FileSystemLoader(Path(reporting.__file__).resolve().parent / "templates"),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )

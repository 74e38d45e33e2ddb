"""report.json checked, and turned into one page a person can sign.

The page stands alone: styles and plots are inside it, it runs no script, asks the network for
nothing and forbids itself to (Content-Security-Policy), opens offline and prints on A4. It is made
from a valid report only, and a valid report holds aggregates only: DESIGN decision 4, the report is
itself a leak.
"""

import base64
import hashlib
import json
import math
import re
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from jsonschema import Draft202012Validator
from jsonschema.exceptions import best_match
from markupsafe import Markup

from privgen.errors import RuntimeFailure
from privgen.reporting import view, words
from privgen.reporting.sections import ReportDict

_HERE = Path(__file__).resolve().parent
_PATH = re.compile(
    r"""(^|[\s'"(=:,])(~|\.{1,2})?[/\\][^\s/\\]+[/\\]  # a folder, absolute or relative
      | \b[a-z]:\\ | \\\\\w | \bfile: | (^|\s)\.{1,2}[/\\]
      | \w\.(png|jpe?g|tiff?|svs|ndpi|mrxs|scn|vms|bif|dcm|npz|npy|csv|pth?|safetensors)\b""",
    re.IGNORECASE | re.VERBOSE,
)


def validate(report: Mapping[str, object]) -> None:
    """Check a report against its schema, and that nothing in it names a file.

    Tuples count as lists and string enumerations as strings: what counts is the JSON they become.

    Args:
      report: as `report.json` will hold it.

    Raises:
      RuntimeFailure: the first fault, with its JSON path: a non-finite number, a value JSON cannot
        hold, a path or image file name in a text, or a breach of `schema/report.schema.json`.
    """
    _checked(report)


def render(report: Mapping[str, object]) -> str:
    """The report as one self-contained HTML page.

    Args:
      report: as for `validate`, which it must pass.

    Returns:
      The page. The same report gives the same page, byte for byte.

    Raises:
      RuntimeFailure: as `validate`.
    """
    plain = _checked(report)
    return fill("report.html.j2", ["report.css"], report=plain, page=view.page(plain))


def fill(template: str, styles: Sequence[str], **context: Any) -> str:
    """A template with its style sheets inside, and their digest for the page's own policy.

    Args:
      template, styles: names in `templates/`; later styles win.
      context: what the template shows; escaped unless it is `Markup`.
    """
    css = "".join((_HERE / "templates" / name).read_text(encoding="utf-8") for name in styles)
    digest = base64.b64encode(hashlib.sha256(css.encode()).digest()).decode()
    page = _environment().get_template(template)
    return page.render(css=Markup(css), digest=digest, **context)


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(_HERE / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "number": words.number,
        "interval": words.interval,
        "p": words.p_value,
        "one_in": words.one_in,
        "spoken": words.spoken,
    }
    environment.globals |= {"count": words.count, "counted": words.counted}
    return environment


@cache
def _validator() -> Draft202012Validator:
    schema = json.loads((_HERE / "schema" / "report.schema.json").read_text(encoding="utf-8"))
    return Draft202012Validator(schema)


def _checked(report: Mapping[str, object]) -> ReportDict:
    """The report as plain JSON data, or RuntimeFailure."""
    _refuse_odd_values(report, "$")
    plain: ReportDict = json.loads(json.dumps(report))
    error = best_match(_validator().iter_errors(plain))
    if error is not None:
        fault = error.message if len(error.message) <= 300 else f"{error.message[:300]} ..."
        raise _breach(error.json_path, fault)
    names = [result["name"] for result in plain["audit"]["results"]] if plain["audit"] else []
    repeated = next((name for name in names if names.count(name) > 1), None)
    if repeated is not None:
        raise _breach("$.audit.results", f"two results are called {repeated!r}")
    return plain


def _refuse_odd_values(value: Any, where: str) -> None:
    """Walk the whole report: finite numbers, JSON types, and no file names."""
    if isinstance(value, Mapping):
        for key, item in value.items():
            if not isinstance(key, str):
                raise _breach(where, f"keys must be strings, got {key!r}")
            _refuse_path(key, where)
            picture = f"{where}.{key}" == "$.samples_png" and isinstance(item, str)
            if not picture:  # base64 has slashes of its own; the schema checks it
                _refuse_odd_values(item, f"{where}.{key}")
    elif isinstance(value, list | tuple):
        for index, item in enumerate(value):
            _refuse_odd_values(item, f"{where}[{index}]")
    elif isinstance(value, str):
        _refuse_path(value, where)
    elif isinstance(value, float):
        if not math.isfinite(value):
            raise _breach(where, f"numbers must be finite, got {value}")
    elif value is not None and not isinstance(value, int):
        raise _breach(where, f"JSON cannot hold a {type(value).__name__}")


def _refuse_path(text: str, where: str) -> None:
    found = _PATH.search(text)
    if found:
        raise _breach(
            where, f"no file or folder may be named in a report, got {found[0].strip()!r}"
        )


def _breach(where: str, fault: str) -> RuntimeFailure:
    return RuntimeFailure(
        f"the report breaks its schema at {where}: {fault}. Nothing was written; "
        "the step that made this part of the report must be corrected."
    )

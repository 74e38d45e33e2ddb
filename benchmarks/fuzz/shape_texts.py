"""Changes of JSON, TOML and CSV that leave them well-formed, or break one of their rules."""

import csv
import io
import json
import random
from collections.abc import Sequence
from typing import Any

HUGE = 10**400

_NAMES = (
    *(
        "../../x",
        "a/b",
        "a\\b",
        "/etc/passwd",
        "con",
        "v1.png",
        "..",
        ".",
        "",
        " ",
        "nan",
        "@eaDir",
    ),
    *("[red]x[/red]", "\x1b[2J", "a\nb", "\u202eabc", "\x00", "x" * 5000, "é", "e\u0301", "\ud800"),
    *("=1+1", "patient", "1e999", "-1", "9" * 400, "9" * 5000, "²", "٣", "1", "1.0", "True", "x,y"),
)


def value(draw: random.Random, *, shared: bool = False) -> Any:
    """Something that hardly anybody expects where it will stand.

    Args:
      draw: of numbers.
      shared: the value may hold one list in many places, or itself: for formats that allow it.
    """
    if shared and draw.random() < 0.15:
        grown: list[Any] = ["x"]
        for _ in range(draw.choice((3, 12, 40))):
            grown = [grown, grown]
        if draw.random() < 0.3:
            grown.append(grown)
        return grown
    kind = draw.randrange(8)
    if kind == 0:
        return draw.choice(
            (0, -1, 1, 2**31, 2**53, 2**63 - 1, 2**63, 2**64, -(2**63) - 1, HUGE, -HUGE)
        )
    if kind == 1:
        return draw.choice((0.5, -0.0, 1e-320, 1e308, -1e308, float("nan"), float("inf"), -5.5))
    if kind == 2:
        return draw.choice(_NAMES)
    if kind == 3:
        return draw.choice((None, True, False, [], {}, "", [[]], {"": None}))
    if kind == 4:
        deep: Any = []
        for _ in range(draw.choice((5, 20, 63, 64, 65, 200))):
            deep = {"a": deep} if draw.random() < 0.2 else [deep]
        return deep
    if kind == 5:
        return [draw.choice((1, "a", None, -1, 0.5))] * draw.choice((1, 2, 100, 5000))
    if kind == 6:
        return {draw.choice(_NAMES): draw.choice((1, None, "x", [1])) for _ in range(4)}
    return draw.choice(("x" * 100_000, 10**299, 10**300, 10**301))


def twisted(draw: random.Random, tree: Any, *, shared: bool = False) -> Any:
    """A document with one to three of its values replaced, dropped, renamed or doubled."""
    for _ in range(draw.choice((1, 1, 2, 3))):
        places = list(_places(tree))
        if not places:
            return value(draw, shared=shared)
        holder, key = draw.choice(places)
        way = draw.random()
        if way < 0.6:
            holder[key] = value(draw, shared=shared)
        elif way < 0.75:
            del holder[key]
        elif way < 0.85 and isinstance(holder, dict):
            holder[draw.choice(_NAMES)] = holder.pop(key)
        elif isinstance(holder, list):
            holder.extend([holder[key]] * draw.choice((1, 2, 200)))
        else:
            other, place = draw.choice(places)
            holder[key] = other[place] if place in other or isinstance(other, list) else None
            if not shared and _reaches(holder[key], holder):
                holder[key] = None
    return tree


def _places(tree: Any, depth: int = 0) -> list[tuple[Any, Any]]:
    found: list[tuple[Any, Any]] = []
    if depth < 6 and isinstance(tree, dict | list):
        items = list(tree.items()) if isinstance(tree, dict) else list(enumerate(tree))
        for key, inner in items[:200]:
            found.append((tree, key))
            found += _places(inner, depth + 1)
    return found


def _reaches(value: Any, holder: Any) -> bool:
    if value is holder:
        return True
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return any(_reaches(one, holder) for one in inner)


def json_text(tree: Any) -> bytes:
    """JSON, NaN and lone surrogates included, as Python writes it."""
    return json.dumps(tree, default=str).encode()


def json_document(draw: random.Random, data: bytes) -> bytes:
    """Another JSON document."""
    way = draw.random()
    if way < 0.75:
        return json_text(twisted(draw, json.loads(data)))
    text = data.decode()
    if way < 0.8:
        return b"\xef\xbb\xbf" + data
    if way < 0.85:
        depth = draw.choice((60, 70, 990, 3000, 100_000))
        return draw.choice((b"[" * depth + b"]" * depth, b"[" * depth, b'{"a":' * depth))
    if way < 0.9:
        key = draw.choice(text.split('"')[1::2] or ["a"])
        return text.replace("{", '{"' + key + '": 1, ', draw.choice((1, 3))).encode()
    return text.replace(
        ":", ": " + draw.choice(("9" * 5000, "-", "1e99999", "'x'", "[", '"')), 1
    ).encode()


_TOML = (
    *(
        "1",
        "-1",
        "1e999",
        "nan",
        "-inf",
        "9" * 400,
        "9" * 5000,
        '"x"',
        "''",
        "true",
        "[1, 2]",
        "[]",
    ),
    *("{a = 1}", "1979-05-27", "07:32:00", "1979-05-27T07:32:00Z", "[" * 100, "[" * 9 + "]" * 9),
    *(
        "0x" + "f" * 400,
        "1_000",
        '"""\n',
        '"\\ud800"',
        '"\\u0000"',
        "0.1",
        "{a={b={c={}}}}",
        "0b1" * 99,
    ),
)
_KEYS = ("x", "resolutoin", '""', '"\\u001b"', "a b", "é", "x" * 5000)


def toml_document(draw: random.Random, data: bytes) -> bytes:
    """Another TOML document."""
    lines = data.decode().split("\n")
    for _ in range(draw.choice((1, 1, 2))):
        at = draw.randrange(len(lines))
        key, _, before = lines[at].partition("=")
        way = draw.random()
        if way < 0.6:
            lines[at] = f"{key}= {draw.choice(_TOML)}"
        elif way < 0.7:
            lines.append(lines[at])
        elif way < 0.8:
            lines[at] = (
                f"{'a.' * draw.choice((2, 63, 64, 65, 5000, 300_000))}{key.strip()} = {before}"
            )
        elif way < 0.9:
            lines[at] = draw.choice(_KEYS) + f" = {before}"
        else:
            lines.insert(at, draw.choice(("[a]", "[[a]]", "[a.b]", "#" * 9999, "\x00", "[" * 200)))
    return "\n".join(lines).encode(errors="surrogatepass")


def table(draw: random.Random, data: bytes) -> bytes:
    """Another CSV: odd cells, rows, headers, separators and quotes."""
    rows = list(csv.reader(io.StringIO(data.decode())))
    for _ in range(draw.choice((1, 1, 2, 4))):
        row = draw.choice(rows)
        way = draw.random()
        if sum(map(len, rows)) > 50_000:  # grown by changes before
            rows = rows[: draw.choice((1, 20))]
        elif way < 0.5 and row:
            row[draw.randrange(len(row))] = _cell(draw)
        elif way < 0.6:
            row.append(_cell(draw))
        elif way < 0.65:
            del row[-1:]
        elif way < 0.75:
            rows.append(list(row))
        elif way < 0.8:
            rows[0] = [*rows[0], draw.choice([*rows[0], "case", "Patient", " path ", "labell", ""])]
        elif way < 0.85:
            rows[0] = [draw.choice((str.upper, str.title, str.strip))(name) for name in rows[0]]
        elif way < 0.9:
            rows = rows * draw.choice((2, 200))
        elif way < 0.95:
            rows = [[*row, *["x"] * draw.choice((5, 995, 2000))] for row in rows]
        else:
            rows.insert(draw.randrange(len(rows)), [])
    made = io.StringIO()
    separator = draw.choice((",", ",", ",", ";", "\t", "|", " "))
    csv.writer(
        made, delimiter=separator, quoting=draw.choice((0, 0, 1)), escapechar="\\"
    ).writerows(rows)
    encoding = draw.choice(("utf-8",) * 6 + ("utf-8-sig", "utf-16", "latin-1"))
    return made.getvalue().encode(
        encoding, errors="surrogatepass" if encoding != "latin-1" else "replace"
    )


def _cell(draw: random.Random) -> str:
    return str(
        draw.choice([*_NAMES, "x" * 131_073, '"', '"x', "x\n\ny", "1e400", "0", "-5", "1;2", "nan"])
    )


def names() -> Sequence[str]:
    """Odd names."""
    return _NAMES

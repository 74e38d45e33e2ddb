"""How the code is cut: sizes of functions and modules, numbers of arguments, loose types."""

import ast
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
FILES = sorted([*(ROOT / "privgen").rglob("*.py"), *(ROOT / "audits").rglob("*.py")])

MOST_OVER_60 = 10
MOST_LOOSE = 98
"""Half of the `dict[str, Any]` and `Mapping[str, Any]` that the code once had."""


def functions() -> Iterator[tuple[str, ast.FunctionDef]]:
    for file in FILES:
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.FunctionDef):
                yield f"{file.relative_to(ROOT)}:{node.name}", node


def length(node: ast.FunctionDef) -> int:
    """Lines of a function, without its docstring."""
    first = node.body[0]
    told = ast.get_docstring(node) is not None
    return node.end_lineno - node.lineno + 1 - told * (first.end_lineno - first.lineno + 1)


def arguments(node: ast.FunctionDef) -> int:
    every = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
    return sum(one.arg not in ("self", "cls") for one in every)


def test_functions_are_short() -> None:
    lengths = {name: length(node) for name, node in functions()}
    assert not {name: n for name, n in lengths.items() if n > 100}
    over = {name: n for name, n in lengths.items() if n > 60}
    assert len(over) <= MOST_OVER_60, over


def test_functions_take_few_arguments() -> None:
    many = {name: arguments(node) for name, node in functions() if arguments(node) > 8}
    assert not {name: n for name, n in many.items() if "privgen/cli/" not in name}


def test_reports_have_types() -> None:
    loose = {
        str(file.relative_to(ROOT)): count
        for file in FILES
        if (count := sum(file.read_text().count(f"{kind}[str, Any]") for kind in KINDS))
    }
    assert sum(loose.values()) <= MOST_LOOSE, loose


KINDS = ("dict", "Mapping")

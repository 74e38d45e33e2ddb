"""What the pages tell people to type is understood: commands, their options, and Python."""

import ast
import inspect
import re
import shlex
from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, Unpack, get_args, get_origin

import pytest
import typer

import audits
import privgen
from privgen.cli import app

ROOT = Path(__file__).resolve().parents[2]
OURS = ("privgen", "audits")
REQUESTS = {
    name: kind
    for room in ("auditing", "benefit", "recipe", "release", "tiling", "training")
    for name, kind in vars(import_module(f"privgen.{room}.requests")).items()
}
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]


def blocks(language: str) -> list[Any]:
    """Every fenced block of one language, named by its page."""
    found = []
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        parts = re.findall(rf"^ *```{language}\n(.*?)^ *```", text, re.MULTILINE | re.DOTALL)
        for number, part in enumerate(parts):
            found.append(pytest.param(part, id=f"{page.relative_to(ROOT)}-{number}"))
    return found


def commands(block: str) -> Iterator[list[str]]:
    """Words behind `privgen` of every command in a shell block."""
    for line in block.replace("\\\n", " ").splitlines():
        words = shlex.split(line, comments=True)
        for place, word in enumerate(words):
            if word == "privgen":
                yield words[place + 1 :]
                break


def keywords(target: Any) -> set[str]:
    """What may be given by name; of `**options`, the fields of the classes its docstring names."""
    parameters = inspect.signature(target).parameters.values()
    known = {one.name for one in parameters if one.kind is not one.VAR_KEYWORD}
    if len(known) < len(parameters):
        named = [REQUESTS.get(word) for word in re.findall(r"`(\w+)`", target.__doc__)]
        known |= {one.name for kind in named if is_dataclass(kind) for one in fields(kind)}
    for one in parameters:
        if one.kind is one.VAR_KEYWORD and get_origin(one.annotation) is Unpack:
            known |= set(get_args(one.annotation)[0].__annotations__)
    return known


SHELL = [block for block in blocks("sh") if list(commands(block.values[0]))]


@pytest.mark.parametrize("block", SHELL)
def test_a_command_is_understood(block: str) -> None:
    for words in commands(block):
        command: Any = typer.main.get_command(app)
        while hasattr(command, "commands"):
            command, words = command.commands[words[0]], words[1:]
        command.make_context(command.name, list(words))  # raises what the command line would say


@pytest.mark.parametrize("block", blocks("python"))
def test_python_names_what_is_there(block: str) -> None:
    tree = ast.parse(block)
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith(OURS):
            for alias in node.names:
                assert hasattr(import_module(node.module or ""), alias.name)
        if not isinstance(node, ast.Call):
            continue
        called = ast.unparse(node.func)
        package, _, name = called.rpartition(".")
        if package == "privgen":
            assert name in privgen.__all__
            target = getattr(privgen, name)
        elif not package and name in audits.__all__ and "from audits import" in block:
            target = getattr(audits, name)
        else:
            continue
        for keyword in node.keywords:
            assert keyword.arg in keywords(target), f"{called}({keyword.arg}=)"

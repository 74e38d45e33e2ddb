"""The doors of the house: which room may touch what. docs/architecture.md says why."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
AUDITS = sorted((ROOT / "audits").rglob("*.py"))
PRIVGEN = sorted((ROOT / "privgen").rglob("*.py"))
FORBIDDEN_EVERYWHERE = {"pickle", "yaml", "marshal", "shelve", "dill", "cloudpickle"}


def imports(file: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def calls(file: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Call):
            yield ast.unparse(node.func)


def roots(file: Path) -> set[str]:
    return {name.split(".")[0] for name in imports(file)}


def name(file: Path) -> str:
    return file.relative_to(ROOT).as_posix()


@pytest.mark.parametrize("file", AUDITS, ids=name)
def test_audits_imports_only_its_four_libraries(file: Path) -> None:
    allowed = set(sys.stdlib_module_names) | {"audits", "numpy", "scipy", "sklearn", "faiss"}
    assert roots(file) <= allowed


@pytest.mark.parametrize("file", PRIVGEN + AUDITS, ids=name)
def test_no_module_deserialises_code_or_opens_a_shell(file: Path) -> None:
    assert not roots(file) & FORBIDDEN_EVERYWHERE
    used = set(calls(file))
    assert not used & {"eval", "exec", "compile", "os.system", "torch.hub.load"}
    assert "torch.hub" not in set(imports(file))
    assert "shell=True" not in file.read_text()


@pytest.mark.parametrize("file", PRIVGEN, ids=name)
def test_each_door_has_one_room(file: Path) -> None:
    here, used, imported = name(file), set(calls(file)), roots(file)
    if here != "privgen/checkpoints/state.py":
        assert "torch.load" not in used
    if here not in ("privgen/data/images.py", "privgen/data/colour.py"):
        assert "PIL" not in imported
    if here == "privgen/data/colour.py":
        assert not any(one.endswith((".open", ".save")) for one in used)
    if here != "privgen/data/slides.py":
        assert "openslide" not in imported
    if here != "privgen/console.py":
        assert not used & {"print", "sys.stdout.write", "sys.stderr.write"}
        assert "rich" not in imported
    if not here.startswith("privgen/cli/"):
        assert "typer" not in imported
        assert not used & {"sys.exit", "exit", "quit", "os._exit"}


@pytest.mark.parametrize("file", PRIVGEN, ids=name)
def test_no_label_image_and_no_fallback_is_ever_named(file: Path) -> None:
    tree = ast.walk(ast.parse(file.read_text()))
    named = {node.attr for node in tree if isinstance(node, ast.Attribute)} | set(imports(file))
    named = {part for one in named for part in one.split(".")}
    assert not named & {"associated_images", "open_slide", "ImageSlide", "lowlevel", "deepzoom"}


def test_the_slide_door_is_in_use() -> None:
    door = ROOT / "privgen" / "data" / "slides.py"
    assert [file for file in PRIVGEN + AUDITS if "openslide" in roots(file)] == [door]


@pytest.mark.parametrize("file", PRIVGEN, ids=name)
def test_torch_load_trusts_no_code(file: Path) -> None:
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "torch.load":
            keywords = {k.arg: ast.unparse(k.value) for k in node.keywords}
            assert keywords.get("weights_only") == "True"


@pytest.mark.parametrize("file", PRIVGEN + AUDITS, ids=name)
def test_modules_stay_small_and_have_a_docstring(file: Path) -> None:
    assert len(file.read_text().splitlines()) <= 500
    assert ast.get_docstring(ast.parse(file.read_text()))


def _imported_by(statement: str) -> set[str]:
    code = f"import sys; {statement}; print(*sorted(m.split('.')[0] for m in sys.modules))"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert ran.returncode == 0, ran.stderr
    return set(ran.stdout.split())


def test_audits_loads_neither_torch_nor_image_libraries() -> None:
    assert not _imported_by("import audits") & {"torch", "PIL", "cv2", "openslide", "privgen"}


def test_help_loads_no_torch() -> None:
    loaded = _imported_by("import privgen; from privgen.cli import app")
    assert "typer" in loaded
    assert not loaded & {"torch", "scipy", "matplotlib"}


ORDER = (
    *(
        "errors",
        "console",
        "phases",
        "limits",
        "files",
        "claims",
        "documents",
        "choices",
        "requests",
        "config",
        "draws",
        "policy",
    ),
    *("compute", "data", "checkpoints", "models", "sampling", "encoders", "copysearch"),
    *("pipelines", "evidence", "datacheck", "reporting", "tiling", "training", "insider"),
    *("release", "recipe", "auditing", "benefit", "demo", "doctor", "cli", "__main__"),
)
"""Rooms and modules of privgen from the ground up; docs/architecture.md says what each is."""


def module(file: Path) -> str:
    parts = file.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module(file): file for file in PRIVGEN}


def imported(file: Path) -> set[str]:
    """Modules of privgen that a file imports, wherever it does, but the packages it lies in."""
    return {one for one in imports(file) if one in MODULES and not module(file).startswith(one)}


def room(name: str) -> int:
    return ORDER.index(name.split(".")[1])


@pytest.mark.parametrize("name", [name for name in MODULES if name != "privgen"])
def test_no_room_imports_a_room_above_it(name: str) -> None:
    above = {one for one in imported(MODULES[name]) if room(one) > room(name)}
    assert not above


def test_no_modules_import_each_other_in_a_circle() -> None:
    TopologicalSorter({name: imported(file) - {name} for name, file in MODULES.items()}).prepare()


def test_no_test_module_imports_another() -> None:
    for file in sorted((ROOT / "tests").rglob("*.py")):
        for one in imports(file):
            assert not one.startswith("tests.") or one.startswith("tests.helpers"), (file, one)

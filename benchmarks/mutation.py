"""Does every inequality of the audits matter to a test?

Each `<`, `<=`, `>`, `>=` in the judging modules is turned round (`<` becomes `>`), one at a time,
in a copy of the package; then the tests of that module run, and those of its neighbours when they
notice nothing. A mutant is killed when a test fails. What survives is listed by place.
"""

import ast
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from harness import Options, Outcome

ROOT = Path(__file__).resolve().parent.parent
MODULES = {
    "copying": ("copying", "tails", "averages"),
    "membership": ("membership", "attacks"),
    "epsilon": ("epsilon", "canaries", "error_rates"),
    "battery": (
        *("battery", "family", "copying_rules", "membership_rules", "rules", "caveats"),
        *("sentence", "kinds", "copy_evidence", "arms"),
    ),
}
"""The four judging modules, each with the modules it was split into."""

FLIPPED = {ast.Lt: ("<", ">"), ast.LtE: ("<=", ">="), ast.Gt: (">", "<"), ast.GtE: (">=", "<=")}
TARGET = 0.9
SECONDS = 100
_COPIES = ("test_tails", "test_copying", "test_copy_evidence", "test_controls", "test_averages")
_PATIENTS = ("test_membership", "test_tpr_at_fpr", "test_arms", "test_attacks")
_BATTERY = ("test_battery", "test_battery_report", "test_battery_input")
_WHOLE = ("test_family", "test_verdict", "test_overall_verdict", "test_misleading", *_BATTERY)
_EPSILON = ("test_epsilon", "test_canaries", "test_error_rates")
RELATED = {
    "copying": _COPIES,
    "tails": _COPIES,
    "averages": _COPIES,
    "membership": _PATIENTS,
    "attacks": _PATIENTS,
    "epsilon": _EPSILON,
    "canaries": _EPSILON,
    "error_rates": _EPSILON,
    "battery": _WHOLE,
    "family": _WHOLE,
    "copying_rules": ("test_rules", *_WHOLE),
    "membership_rules": ("test_rules", *_WHOLE),
    "rules": ("test_rules", *_WHOLE),
    "caveats": _WHOLE,
    "sentence": _WHOLE,
    "kinds": ("test_kinds", *_WHOLE),
    "copy_evidence": (*_COPIES, *_WHOLE),
    "arms": (*_PATIENTS, *_WHOLE),
}
"""Test files that speak of each module; its own comes first, and only these are run."""


@dataclass(frozen=True)
class Mutant:
    """One flipped inequality: the module, the line, the text of the line, the whole new source."""

    module: str
    line: int
    text: str
    source: str


def mutants(module: str) -> Iterator[Mutant]:
    """Every inequality of a module, turned round."""
    source = (ROOT / "audits" / f"{module}.py").read_text()
    lines = source.splitlines(keepends=True)
    starts = [0]
    for line in lines:
        starts.append(starts[-1] + len(line.encode()))
    encoded = source.encode()
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.Compare):
            continue
        operands = [node.left, *node.comparators]
        for left, operator, right in zip(operands, node.ops, operands[1:], strict=False):
            if type(operator) not in FLIPPED:
                continue
            old, new = FLIPPED[type(operator)]
            begin = starts[(left.end_lineno or 1) - 1] + (left.end_col_offset or 0)
            end = starts[right.lineno - 1] + right.col_offset
            between = encoded[begin:end].decode().replace(old, new, 1)
            changed = encoded[:begin] + between.encode() + encoded[end:]
            yield Mutant(module, right.lineno, lines[right.lineno - 1].strip(), changed.decode())


def fails(mutant: Mutant | None, tests: list[Path]) -> bool:
    """Whether these tests notice; with no mutant, whether they fail as they are."""
    with tempfile.TemporaryDirectory() as folder:
        shutil.copytree(ROOT / "audits", Path(folder) / "audits")
        if mutant is not None:
            (Path(folder) / "audits" / f"{mutant.module}.py").write_text(mutant.source)
        environment = os.environ | {
            "PYTHONPATH": folder,
            "OMP_NUM_THREADS": "1",
            "OPENBLAS_NUM_THREADS": "1",
            "PYTHONDONTWRITEBYTECODE": "1",
        }
        command = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider"]
        command += ["--rootdir", str(ROOT), "-c", str(ROOT / "pyproject.toml"), *map(str, tests)]
        try:
            done = subprocess.run(
                command, cwd=folder, env=environment, capture_output=True, timeout=SECONDS
            )
        except subprocess.TimeoutExpired:
            return True
    return done.returncode != 0


def killed(mutant: Mutant) -> bool:
    """Own tests first, then those of the other judging modules."""
    every = sorted((ROOT / "tests" / "audits").glob("test_*.py"))
    own = [path for path in every if path.stem == f"test_{mutant.module}"]
    near = [path for path in every if path.stem in RELATED[mutant.module] and path not in own]
    dead = (bool(own) and fails(mutant, own)) or fails(mutant, near)
    print(f"{mutant.module}.py:{mutant.line} {'killed' if dead else 'SURVIVED'}", file=sys.stderr)
    return dead


def run(options: Options) -> Outcome:
    """Share of flipped inequalities that break a test, by judging module."""
    judging = sorted({stem for stems in RELATED.values() for stem in stems})
    if fails(None, [ROOT / "tests" / "audits" / f"{stem}.py" for stem in judging]):
        raise SystemExit("tests/audits fail without any mutation: mend them first.")
    rows, figures, survivors = [], {}, []
    total = dead = 0
    for name, parts in MODULES.items():
        found = [mutant for part in parts for mutant in mutants(part)]
        if options.quick:
            found = found[::8]
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            outcomes = list(pool.map(killed, found))
        alive = [m for m, hit in zip(found, outcomes, strict=True) if not hit]
        survivors += [f"{m.module}.py:{m.line}  {m.text}" for m in alive]
        total, dead = total + len(found), dead + len(found) - len(alive)
        share = 1 - len(alive) / max(len(found), 1)
        rows.append([f"{name} ({', '.join(parts)})", str(len(found)), f"{share:.3f}"])
        figures[name] = {"inequalities": len(found), "killed": share}
    rows += [[f"survived: {place}", "", ""] for place in survivors]
    share = dead / max(total, 1)
    return Outcome(
        columns=["module", "inequalities", "killed"],
        rows=rows,
        figures={"modules": figures, "survivors": survivors, "share": share},
        figure=f"{dead} of {total} flipped inequalities break a test ({share:.3f})",
        target=f">= {TARGET:.2f}",
        passed=share >= TARGET,
    )

"""The folder to share: it can be sampled, it says what was found, and it names nobody."""

import json
import os
import re
import runpy
import stat
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from privgen.checkpoints import state
from privgen.checkpoints.ledger import (
    Ledger,
    LedgerEntry,
)
from privgen.checkpoints.state import (
    Checkpoint,
)
from privgen.config import TrainConfig
from privgen.errors import CheckpointError, InputError, OutputError
from privgen.files import sha256_file
from privgen.models import build_generator
from privgen.release.exporting import export
from privgen.sampling import load_generator, sample
from tests.helpers.report_examples import EXAMPLES

CONFIG = TrainConfig(resolution=32, width=4, batch=16)
CLASSES = ("benign", "malignant")
STEP = 125


def entries() -> list[LedgerEntry]:
    """40 benign tiles of 8 patients, 3 malignant tiles of 2 of them; 7 holdout tiles of 1."""
    rows = [("train", "benign", f"smith-{number % 8}") for number in range(40)]
    rows += [("train", "malignant", f"smith-{number % 2}") for number in range(3)]
    rows += [("holdout", "benign", "jones")] * 7
    return [
        LedgerEntry(
            role=role,
            path=f"ward-nine/{label}/{group}_{row}.png",
            sha256=f"{row:02x}feedbeef" + "5" * 54,
            label=label,
            group=group,
        )
        for row, (role, label, group) in enumerate(rows)
    ]


LEDGER = Ledger(
    root="/hospital/secret-study",
    layout="CSV manifest (1 column not read)",
    group_unit="patient",
    group_by="patient",
    split={"seed": 424242, "holdout": 0.35},
    entries=tuple(entries()),
)


def saved(path: Path, ledger: Ledger = LEDGER, classes: tuple[str, str] = CLASSES) -> Path:
    torch.manual_seed(0)
    weights = build_generator(CONFIG, 2).state_dict()
    given = {
        "config": CONFIG,
        "classes": classes,
        "class_share": (40 / 43, 3 / 43),
        "step": STEP,
        "seconds": 1.0,
        "generator": weights,
        "average": weights,
        "ledger": ledger,
    }
    empty: dict[str, Any] = {key.name: {} for key in fields(Checkpoint)}
    empty |= {"seconds": 0.0, "processes": 1}
    state.save_checkpoint(path, Checkpoint(**{**empty, "code": "", **given}))
    return path


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return saved(tmp_path_factory.mktemp("run") / "ckpt-00000125.pt")


def report_of(path: Path, example: str, **changes: Any) -> Path:
    """An example report made to fit the checkpoint."""
    report = EXAMPLES[example]()
    report["generator"] = {
        "digest": load_generator(saved(path.with_suffix(".pt"))).digest,
        "truncation": 1.0,
        "family": "cdcgan",
        "resolution": 32,
        "kimg": STEP * 16 / 1000,
        "classes": list(CLASSES),
        **changes,
    }
    report["audit"]["counts"]["train"] = {"tiles": 43, "patients": 8}
    path.write_text(json.dumps(report))
    return path


def card(folder: Path) -> str:
    return (folder / "MODEL_CARD.md").read_text()


def rows(text: str, heading: str) -> list[list[str]]:
    """Cells of every table row below a heading, up to the next."""
    part = text.split(f"## {heading}\n", 1)[1].split("\n## ", 1)[0]
    return [
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in part.splitlines()
        if line.startswith("|")
    ]


@pytest.mark.parametrize("example", [None, *EXAMPLES])
def test_no_byte_names_a_path_a_patient_or_a_tile(
    example: str | None, checkpoint: Path, tmp_path: Path
) -> None:
    report = None if example is None else report_of(tmp_path / "report.json", example)
    folder = export(checkpoint, tmp_path / "out", report=report)
    assert sorted(os.listdir(folder)) == ["MODEL_CARD.md", "generator.safetensors"]
    secrets = {"hospital", "secret", "nurse", "brown", "ward-nine", "smith", "jones", "424242"}
    secrets |= {"feedbeef", ".png", str(tmp_path), str(checkpoint.parent), "ckpt-"}
    secrets |= {value for e in LEDGER.entries for value in (e.path, e.group, e.sha256)}
    for file in folder.iterdir():
        content = file.read_bytes()
        assert [secret for secret in secrets if secret.encode() in content] == []


def test_the_files_are_for_everybody(checkpoint: Path, tmp_path: Path) -> None:
    for file in export(checkpoint, tmp_path / "out").iterdir():
        assert stat.S_IMODE(file.stat().st_mode) == 0o644


def test_the_exported_generator_samples_the_same_tiles(checkpoint: Path, tmp_path: Path) -> None:
    ours = load_generator(checkpoint)
    theirs = load_generator(export(checkpoint, tmp_path / "out") / "generator.safetensors")
    assert theirs.digest == ours.digest
    assert theirs.ledger is None
    np.testing.assert_array_equal(sample(theirs, 4, seed=1)[0], sample(ours, 4, seed=1)[0])


def test_the_cards_code_runs(
    checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = export(checkpoint, tmp_path / "out")
    blocks = dict(re.findall(r"```(\w+)\n(.*?)```", card(folder), re.DOTALL))
    (tmp_path / "block.py").write_text(blocks["python"])
    monkeypatch.chdir(folder)
    made = runpy.run_path(str(tmp_path / "block.py"))
    assert made["tiles"].shape == (16, 32, 32, 3)
    assert set(made["classes"]) <= set(CLASSES)
    assert blocks["sh"].startswith("privgen sample generator.safetensors --count 1000 --out ")


def test_the_card_identifies_the_files_it_came_with(checkpoint: Path, tmp_path: Path) -> None:
    folder = export(checkpoint, tmp_path / "out")
    text = card(folder)
    assert sha256_file(folder / "generator.safetensors") in text
    generator = load_generator(checkpoint)
    assert generator.digest in text
    count = sum(each.numel() for each in generator.network.parameters())
    assert f"| parameters | {count:,} |" in text
    assert "| training | 2 thousand real tiles shown |" in text


def test_small_counts_and_totals_that_betray_them_are_left_out(
    checkpoint: Path, tmp_path: Path
) -> None:
    table = rows(card(export(checkpoint, tmp_path / "out")), "Training data")
    assert table[:5] == [
        ["class", "training tiles", "training patients"],
        ["---", "---", "---"],
        ["benign", "40", "8"],
        ["malignant", "<5", "<5"],
        ["all", "not given", "8"],
    ]
    assert table[7][:3] == ["Training", "0.86", "8"]
    assert table[8][:3] == ["Holdout", "0.14", "<5"]


def test_a_total_is_given_where_it_betrays_nothing(tmp_path: Path) -> None:
    ledger = replace(LEDGER, entries=tuple(e for e in entries() if e.label == "benign"))
    table = rows(card(export(saved(tmp_path / "c.pt", ledger), tmp_path / "o")), "Training data")
    assert table[2:5] == [["benign", "40", "8"], ["malignant", "0", "0"], ["all", "40", "8"]]


def test_data_without_patients_are_said_to_have_none(tmp_path: Path) -> None:
    alone = tuple(replace(e, group=e.path) for e in LEDGER.entries)
    ledger = replace(LEDGER, group_unit="tile", entries=alone)
    text = card(export(saved(tmp_path / "c.pt", ledger), tmp_path / "o"))
    assert "The data named no patients." in text
    assert rows(text, "Training data")[2] == ["benign", "40"]
    slides = replace(LEDGER, group_unit="source_image")
    text = card(export(saved(tmp_path / "d.pt", slides), tmp_path / "p"))
    assert "the nearest grouping they named is the source image." in text


def test_without_a_report_the_first_lines_say_that_nobody_audited(
    checkpoint: Path, tmp_path: Path
) -> None:
    text = card(export(checkpoint, tmp_path / "out"))
    assert "has NOT been audited" in "".join(text.splitlines()[:4])
    assert not re.search("NO LEAK FOUND|INCONCLUSIVE|MDL80", text)


@pytest.mark.parametrize("example", EXAMPLES)
def test_the_cards_audit_is_the_reports(example: str, checkpoint: Path, tmp_path: Path) -> None:
    path = report_of(tmp_path / "report.json", example)
    verdict = json.loads(path.read_text())["audit"]["verdict"]
    text = card(export(checkpoint, tmp_path / "out", report=path))
    assert text.splitlines()[2].startswith(f"**{verdict['sentence']}**")
    assert verdict["sentence"].startswith(verdict["outcome"])
    assert "NOT been audited" not in text
    assert ("Do not release" in text) == (verdict["outcome"] == "LEAK")
    assert "The report names these very weights by their digest" in text
    table = rows(text, "Audit")
    for harm in verdict["harms"]:
        found = next(row for row in table if row[0] == harm["harm"])
        assert found[2:] == [harm["outcome"], "yes" if harm["gates"] else "no"]


def test_the_card_gives_every_mdl80(checkpoint: Path, tmp_path: Path) -> None:
    path = report_of(tmp_path / "report.json", "inconclusive")
    table = rows(card(export(checkpoint, tmp_path / "out", report=path)), "Audit")
    mdl80 = json.loads(path.read_text())["audit"]["mdl80"]
    assert mdl80["odd_rotation"] is None
    shares = {row[0]: row[1] for row in table if len(row) == 2}
    assert shares["turned by another angle"] == "not found at any share tried"
    assert float(shares["exact"]) == pytest.approx(mdl80["exact"], rel=0.01)
    assert len(shares) == len(mdl80) + 2  # heading and rule


def test_a_report_about_anybodys_tiles_is_marked_as_such(checkpoint: Path, tmp_path: Path) -> None:
    path = report_of(tmp_path / "report.json", "no_leak_found")
    report = json.loads(path.read_text())
    path.write_text(json.dumps({**report, "generator": None}))
    assert "The report names no generator" in card(export(checkpoint, tmp_path / "o", report=path))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"family": "stylegan2"}, "family is stylegan2, this one's cdcgan"),
        ({"resolution": 64}, "resolution is 64, this one's 32"),
        ({"kimg": 2.016}, "kimg is 2.016, this one's 2"),
        ({"classes": ["benign", "other"]}, "classes"),
        ({"digest": "ab" * 32}, "digest is abab"),
    ],
)
def test_a_report_about_another_generator_is_refused(
    changes: dict[str, Any], words: str, checkpoint: Path, tmp_path: Path
) -> None:
    path = report_of(tmp_path / "report.json", "no_leak_found", **changes)
    with pytest.raises(InputError, match=f"another generator: its .*{words}"):
        export(checkpoint, tmp_path / "out", report=path)
    assert not (tmp_path / "out").exists()


def test_a_report_about_other_training_tiles_is_refused(checkpoint: Path, tmp_path: Path) -> None:
    path = report_of(tmp_path / "report.json", "no_leak_found")
    report = json.loads(path.read_text())
    report["audit"]["counts"]["train"]["tiles"] = 44
    path.write_text(json.dumps(report))
    with pytest.raises(InputError, match="training tiles is 44, this one's 43"):
        export(checkpoint, tmp_path / "out", report=path)


@pytest.mark.parametrize("content", ["", "{}", "[]", "null", '{"schema": "privgen-report/1"}'])
def test_what_is_no_report_is_refused(content: str, checkpoint: Path, tmp_path: Path) -> None:
    (tmp_path / "r.json").write_text(content)
    with pytest.raises(InputError, match=r"r\.json is not a report of privgen audit"):
        export(checkpoint, tmp_path / "out", report=tmp_path / "r.json")
    with pytest.raises(InputError, match="cannot read report"):
        export(checkpoint, tmp_path / "out", report=tmp_path / "none.json")


def test_a_report_without_an_audit_is_refused(checkpoint: Path, tmp_path: Path) -> None:
    path = report_of(tmp_path / "report.json", "no_leak_found")
    bench_only = {**json.loads(path.read_text()), "audit": None, "data": None}
    path.write_text(json.dumps(bench_only))
    with pytest.raises(InputError, match="holds no audit"):
        export(checkpoint, tmp_path / "out", report=path)


def test_a_generator_file_is_refused(checkpoint: Path, tmp_path: Path) -> None:
    folder = export(checkpoint, tmp_path / "out")
    with pytest.raises(CheckpointError, match="does not say what it was trained on"):
        export(folder / "generator.safetensors", tmp_path / "again")
    assert not (tmp_path / "again").exists()


def test_a_folder_that_is_not_empty_is_left_alone(checkpoint: Path, tmp_path: Path) -> None:
    (tmp_path / "precious.txt").write_text("keep me")
    with pytest.raises(OutputError, match="must be empty"):
        export(checkpoint, tmp_path)
    assert os.listdir(tmp_path) == ["precious.txt"]


@pytest.mark.parametrize("example", [None, *EXAMPLES])
def test_the_card_promises_nothing(example: str | None, checkpoint: Path, tmp_path: Path) -> None:
    report = None if example is None else report_of(tmp_path / "report.json", example)
    text = card(export(checkpoint, tmp_path / "out", report=report))
    assert not re.search(r"\b(safe|safely|anonymous|anonymised|private|privacy)\b", text, re.I)
    assert "not a\n  guarantee" in text


def test_a_class_name_cannot_break_the_card(tmp_path: Path) -> None:
    odd = "a|b [x](http:y) <i>`"
    ledger = replace(LEDGER, entries=tuple(replace(e, label=odd) for e in LEDGER.entries))
    path = saved(tmp_path / "c.pt", ledger, classes=(odd, "malignant"))
    text = card(export(path, tmp_path / "o"))
    assert odd not in text
    line = next(line for line in text.splitlines() if line.startswith("| a"))
    assert len(re.findall(r"(?<!\\)\|", line)) == 4


def test_the_same_export_gives_the_same_bytes(checkpoint: Path, tmp_path: Path) -> None:
    one, two = (export(checkpoint, tmp_path / name) for name in ("one", "two"))
    for name in os.listdir(one):
        assert (one / name).read_bytes() == (two / name).read_bytes()

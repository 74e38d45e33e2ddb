"""What an audit shows of synthetic tiles, and what it says of itself."""

import csv
import json
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from privgen.auditing.run import audit
from privgen.checkpoints.roles import reopen
from privgen.cli import app
from privgen.data.phantom import make_phantom, write_phantom
from privgen.errors import ConfigError, InputError, SealError, SplitError
from privgen.insider.inversion import Effort
from privgen.release.exporting import export
from privgen.reporting import html
from privgen.sampling import load_generator
from privgen.training.session import plan_session

TINY = Effort(latents=8, starts=1, explore=1, steps=2, queries=2)


@dataclass(frozen=True)
class Run:
    """A training run of four steps, and its tiles."""

    checkpoint: Path
    tiles: Path


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    folder = tmp_path_factory.mktemp("insider")
    write_phantom(folder / "tiles", make_phantom(patients=10, tiles_per_patient=18, side=32))
    options = {"resolution": 32, "batch": 8, "kimg": 0.03, "width": 8, "head_width": 8}
    options |= {"watch_kimg": 0.0}
    plan = plan_session(
        folder / "tiles",
        options=options,
        holdout=0.35,
        siblings=0.2,
        group_by=None,
        on_bad_tile="error",
        resume=None,
    )
    return Run(plan.run(folder / "runs"), folder / "tiles")


def results(document: Mapping[str, Any]) -> dict[str, Any]:
    return {result["name"]: result for result in document["audit"]["results"]}


def test_insider_attacks_join_both_arms_and_the_family(run: Run, tmp_path: Path) -> None:
    result = audit(
        generator=run.checkpoint,
        count=40,
        encoder="colour",
        align=False,
        insider=TINY,
        out=tmp_path / "report",
    )
    html.validate(result.document)
    found = results(result.document)
    for attack in ("white_box", "partial_black_box", "discriminator"):
        for arm in ("tile_membership", "patient_membership"):
            name = f"{arm}/{attack}"
            assert 0 < found[name]["p_value"] <= 1
            assert "The attacker" in found[name]["note"]
            gates = attack != "discriminator"  # which is never released
            assert (name in result.verdict.family) == gates
            assert (found[name]["p_adjusted"] is not None) == gates
    assert "--insider" in result.document["reproduce"]["command"]
    ledger = load_generator(run.checkpoint).ledger
    assert ledger is not None
    sizes = {role: len(tiles) for role, tiles in reopen(ledger).items()}
    for file in ("report.json", "report.html"):
        text = (tmp_path / "report" / file).read_text()
        for role in ("train", "siblings", "holdout"):
            assert not any(f"{role}-{row}" in text for row in range(sizes[role]))
        assert not any(entry.sha256 in text or entry.path in text for entry in ledger.entries)


def test_a_generator_file_is_inverted_but_has_no_discriminator(run: Run) -> None:
    ledger = load_generator(run.checkpoint).ledger
    assert ledger is not None
    roles = reopen(ledger)
    result = audit(
        generator=run.checkpoint.parent.parent / "generator.safetensors",
        train=roles["train"],
        holdout=roles["holdout"],
        count=40,
        encoder="colour",
        align=False,
        insider=TINY,
    )
    found = results(result.document)
    assert "patient_membership/white_box" in found
    assert "patient_membership/partial_black_box" in found
    assert not any("discriminator" in name for name in found)


def test_an_insider_needs_a_generator() -> None:
    with pytest.raises(ConfigError, match="`insider` needs the generator itself"):
        audit(synthetic="s", train="t", holdout="h", insider=True)


def test_weak_settings_stand_above_the_verdict_wherever_it_is_read(
    run: Run, tmp_path: Path
) -> None:
    options = ["--encoder", "pixels", "--no-align", "--count", "40", "--out", tmp_path / "report"]
    arguments = ["audit", "--generator", run.checkpoint, *options, "--truncation", "0.8"]
    ended = CliRunner().invoke(app, [str(one) for one in arguments])
    assert ended.exit_code in (0, 1, 4), ended.output
    document = json.loads((tmp_path / "report" / "report.json").read_text())
    weaker = document["weaker_than_default"]
    assert [one["setting"] for one in weaker] == ["encoder", "align", "count", "truncation"]
    page = (tmp_path / "report" / "report.html").read_text()
    verdict = page.index('id="verdict"')
    assert page.index("Weaker than the default:") < verdict
    for one in weaker:
        assert page.index(one["sentence"]) < verdict
        said = f"weaker than the default: {one['sentence']}"
        assert ended.stderr.index(said) < ended.stderr.index("Harms")
    card = export(run.checkpoint, tmp_path / "out", report=tmp_path / "report" / "report.json")
    top = (card / "MODEL_CARD.md").read_text().split("| family |")[0]
    assert "That audit was weaker than the default:" in top
    assert "The encoder is pixels" in top


def described(folder: Path, columns: Mapping[str, Callable[[int], str]]) -> None:
    """Rewrite some columns of a folder's manifest, by row."""
    with (folder / "manifest.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    for number, row in enumerate(rows):
        row.update({name: value(number) for name, value in columns.items()})
    with (folder / "manifest.csv").open("w") as stream:
        writer = csv.DictWriter(stream, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def test_the_ledgers_patients_count_whatever_the_manifest_says_after_training(
    run: Run, tmp_path: Path
) -> None:
    """Every tile its own patient would narrow each interval, and shorten each p."""
    folder = shutil.copytree(run.tiles, tmp_path / "tiles")
    described(folder, {"patient": lambda row: f"Q{row}", "slide": lambda row: f"S{row}"})
    shutil.copy(next((folder / "TUM").iterdir()), folder / "TUM" / "later.png")
    header = (folder / "manifest.csv").read_text().split("\n", maxsplit=1)[0].split(",")
    with (folder / "manifest.csv").open("a") as stream:
        columns = {"path": "TUM/later.png", "label": "TUM", "patient": "Q999", "slide": "S999"}
        csv.DictWriter(stream, header).writerow(columns)
    options: dict[str, Any] = {"count": 40, "encoder": "colour", "align": False}
    now = audit(generator=run.checkpoint, data=folder, **options)
    then = audit(generator=run.checkpoint, **options)
    assert now.document["data"]["roles"] == then.document["data"]["roles"]
    assert now.document["audit"]["counts"] == then.document["audit"]["counts"]
    assert now.document["audit"]["results"] == then.document["audit"]["results"]
    new = [warning for warning in now.report.warnings if warning not in then.report.warnings]
    assert [warning.split(":")[0] for warning in new] == [
        "180 of 180 tiles have another patient in the data set now than in the ledger of the "
        "training (180 patients now, 10 then)",
        "180 of 180 tiles lie on another slide in the data set now than in the ledger of the "
        "training",
        "1 tiles of the data set are not in the ledger of the training",
    ]
    assert "1 of unknown patients. They were not audited." in new[2]


def test_a_data_set_that_by_now_puts_a_patient_on_both_sides_is_refused(
    run: Run, tmp_path: Path
) -> None:
    folder = shutil.copytree(run.tiles, tmp_path / "tiles")
    described(folder, {"patient": lambda row: "one and the same"})
    with pytest.raises(SplitError, match="train and holdout may not share a patient"):
        audit(generator=run.checkpoint, data=folder, encoder="colour", align=False)


def test_tiles_given_beside_a_checkpoint_are_held_against_its_ledger(run: Run) -> None:
    ledger = load_generator(run.checkpoint).ledger
    assert ledger is not None
    roles = reopen(ledger)
    given: dict[str, Any] = {"generator": run.checkpoint, "encoder": "colour", "align": False}
    with pytest.raises(InputError, match="train tiles given are its holdout tiles"):
        audit(train=roles["holdout"], holdout=roles["train"], **given)
    half = roles["train"].subset(np.arange(0, len(roles["train"]), 2))
    found = audit(train=half, holdout=roles["holdout"], count=40, **given)
    assert any("are not among the train tiles given" in said for said in found.report.warnings)


def test_an_edited_ledger_is_neither_audited_nor_exported(run: Run, tmp_path: Path) -> None:
    edited = tmp_path / "edited.pt"
    content = torch.load(run.checkpoint, weights_only=True)
    ledger = json.loads(content["ledger"])
    for entry in ledger["entries"]:
        entry["role"] = {"train": "holdout", "holdout": "train"}.get(entry["role"], entry["role"])
    torch.save({**content, "ledger": json.dumps(ledger)}, edited)
    with pytest.raises(SealError):
        audit(generator=edited)
    with pytest.raises(SealError):
        export(edited, tmp_path / "out")

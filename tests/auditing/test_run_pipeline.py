"""`audit` on roles of different files: harmonised unless asked not to, and said in both cases."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

import privgen
from audits import Harm, HarmVerdict, Outcome
from privgen.cli import app
from privgen.data.images import encode_jpeg, write_png
from privgen.data.phantom import make_phantom
from privgen.encoders.cache import EmbeddingCache
from privgen.encoders.loading import load_encoder
from privgen.encoders.orbit import Whitening, fingerprint, orbit_mean
from privgen.evidence.collect import Evidence, collect
from privgen.evidence.copy_kinds import plant
from privgen.evidence.planted_copies import AuditLook, CopySources, planted_copies
from privgen.reporting import html

ROLES = ("train", "holdout", "synthetic")


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Path]:
    """Train and synthetic tiles as JPEG of quality 20, holdout as PNG; six patients each."""
    base = tmp_path_factory.mktemp("roles")
    for number, role in enumerate(ROLES):
        tiles = make_phantom(
            patients=6, tiles_per_patient=8, seed=number, classes=("LYM", "STR", "TUM")
        )
        lines = ["path,label,patient"]
        for row, (tile, record) in enumerate(zip(tiles.load(), tiles.records, strict=True)):
            file = base / role / record.label / f"{row:03d}{'.png' if number == 1 else '.jpg'}"
            file.parent.mkdir(parents=True, exist_ok=True)
            if number == 1:
                write_png(file, tile)
            else:
                file.write_bytes(encode_jpeg(tile, 20))
            lines.append(f"{record.label}/{file.name},{record.label},{role}{record.patient}")
        if role != "synthetic":
            (base / role / "manifest.csv").write_text("\n".join(lines) + "\n")
    return {role: base / role for role in ROLES}


def audited(folders: Mapping[str, Path], **options: Any) -> privgen.Audit:
    return privgen.audit(**folders, encoder="colour", align=False, **options)


def harm(result: privgen.Audit, which: Harm) -> HarmVerdict:
    return next(each for each in result.verdict.harms if each.harm is which)


def test_by_itself_it_harmonises_and_says_so(folders: Mapping[str, Path]) -> None:
    result = audited(folders)
    told = result.document["data"]["pipeline"]
    assert told["harmonise"] == "auto"
    assert told["applied"]["codings"] == [{"quality": 20, "sampling": "4:2:0", "side_px": 64}]
    (warning,) = [line for line in result.report.warnings if "became pixels" in line]
    assert "train: JPEG of quality 20, colour halved; holdout: no JPEG" in warning
    assert "--harmonise" not in result.document["reproduce"]["command"]
    page = html.render(result.document)
    assert "How the tiles became pixels" in page
    assert "coded as JPEG of quality 20 (4:2:0) at 64 pixels" in page
    assert warning.replace("'", "&#39;") in page
    names = {found.name for found in result.report.results}
    assert "control/pipeline_baseline" in names


def test_left_alone_no_membership_is_judged(folders: Mapping[str, Path]) -> None:
    result = audited(folders, harmonise="off")
    patients = harm(result, Harm.PATIENT_MEMBERSHIP)
    assert patients.outcome is Outcome.INCONCLUSIVE
    told = result.document["data"]["pipeline"]
    assert told["harmonise"] == "off"
    assert told["applied"] is None
    assert any("and were left so" in line for line in result.report.warnings)
    assert "--harmonise off" in result.document["reproduce"]["command"]
    assert "The roles differ in this, and were left as they are." in html.render(result.document)


def test_roles_of_one_kind_of_files_are_embedded_as_they_are() -> None:
    tiles = {
        role: make_phantom(
            patients=6, tiles_per_patient=8, seed=number, classes=("LYM", "STR", "TUM")
        )
        for number, role in enumerate(ROLES)
    }
    result = privgen.audit(
        train=tiles["train"],
        holdout=privgen.TileSet.from_arrays(
            tiles["holdout"].load(),
            tiles["holdout"].labels,
            patients=[f"H{name}" for name in tiles["holdout"].groups],
        ),
        synthetic=tiles["synthetic"],
        encoder="colour",
        align=False,
    )
    assert result.document["data"]["pipeline"]["applied"] is None
    assert not any("became pixels" in line for line in result.report.warnings)
    page = html.render(result.document)
    assert "No difference that would need mending was found" in page


def test_the_command_line_takes_harmonise(folders: Mapping[str, Path], tmp_path: Path) -> None:
    roles = [part for role in ROLES for part in (f"--{role}", str(folders[role]))]
    options = ["--encoder", "colour", "--no-align", "--harmonise", "off"]
    ran = CliRunner().invoke(app, ["audit", *roles, *options, "--out", str(tmp_path / "out")])
    assert ran.exit_code == Outcome.INCONCLUSIVE.exit_code, ran.output
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    assert report["data"]["pipeline"]["harmonise"] == "off"
    refused = CliRunner().invoke(app, ["audit", *roles, "--harmonise", "on"])
    assert refused.exit_code == 2


@pytest.fixture(scope="module")
def evidence(folders: Mapping[str, Path]) -> Evidence:
    opened = {role: privgen.open_tiles(folders[role], min_classes=1) for role in ROLES[:2]}
    synthetic = privgen.open_tiles(folders["synthetic"], min_classes=1, flat=True)
    return collect(
        **opened, synthetic=synthetic, encoder=load_encoder("colour"), seed=0, planted_per_kind=12
    )


def test_what_is_embedded_is_harmonised_and_what_is_proven_is_not(
    evidence: Evidence, folders: Mapping[str, Path]
) -> None:
    step = evidence.pipeline.step
    assert step is not None
    tiles = privgen.open_tiles(folders["holdout"], min_classes=1)
    changed = step.apply(tiles.load())
    np.testing.assert_array_equal(evidence.harmonised(tiles).load(64), changed)
    np.testing.assert_array_equal(
        evidence.features["colour"]["holdout"], load_encoder("colour").embed(changed)
    )
    prints = evidence.data.holdout.fingerprints
    assert prints is not None
    assert list(prints) == [fingerprint(tile) for tile in tiles.load()]


def test_planted_copies_are_embedded_as_synthetic_tiles_would_be(evidence: Evidence) -> None:
    """A copy that was altered goes through the step too; an unaltered one is its train tile."""
    step = evidence.pipeline.step
    assert step is not None
    encoder, seed = load_encoder("colour"), 3
    train, partners = (make_phantom(patients=6, tiles_per_patient=8, seed=seed) for seed in (0, 1))
    pixels = train.load()
    means = orbit_mean(encoder, step.apply(pixels))
    whitening = Whitening.fit(means)
    planted = planted_copies(
        CopySources(
            tiles=train,
            means=means,
            fingerprints=np.array([fingerprint(tile) for tile in pixels]),
        ),
        partners,
        AuditLook(encoder=encoder, whitening=whitening, side=64, step=step),
        kinds=("exact", "stain"),
        count=12,
        seed=seed,
        search=None,
    )
    exact, stain = planted["exact"], planted["stain"]
    np.testing.assert_array_equal(exact.embeddings, whitening.apply(means[exact.sources]))
    rng = np.random.default_rng([seed, *b"stain"])
    copies = plant("stain", pixels[stain.sources], rng)
    np.testing.assert_array_equal(
        stain.embeddings, whitening.apply(orbit_mean(encoder, step.apply(copies)))
    )


def test_the_cache_holds_harmonised_tiles_by_their_own_content(
    folders: Mapping[str, Path], tmp_path: Path
) -> None:
    opened = {role: privgen.open_tiles(folders[role], min_classes=1) for role in ROLES[:2]}
    synthetic = privgen.open_tiles(folders["synthetic"], min_classes=1, flat=True)
    cache = EmbeddingCache(tmp_path / "cache")
    found = [
        collect(
            **opened,
            synthetic=synthetic,
            encoder=load_encoder("colour"),
            seed=0,
            planted_per_kind=4,
            cache=cache,
            harmonise=how,
        )
        for how in ("auto", "off", "auto")
    ]
    first, left, again = (each.features["colour"]["holdout"] for each in found)
    np.testing.assert_array_equal(first, again)
    assert np.abs(first - left).max() > 0

"""Twelve planted secrets are found in nothing that is shared, nor on the terminal."""

import csv
import io
import json
import platform
import socket
import zlib
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, PngImagePlugin
from typer.testing import CliRunner

from privgen.cli import app
from privgen.data.phantom import make_phantom

pytestmark = pytest.mark.slow

SECRETS = {
    "folder of the tiles": "QZFOLDERVV",
    "file name of a tile": "QZFILEVV",
    "name of a column": "qzcolumnvv",
    "cell of a column": "QZCELLVV",
    "patient": "QZPATIENTVV",
    "slide": "QZSLIDEVV",
    "text of a PNG": "QZPNGVV",
    "EXIF of a picture": "QZEXIFVV",
    "tag of a TIFF": "QZTIFFVV",
    "home folder": "QZHOMEVV",
    "host": "QZHOSTVV",
    "user": "QZUSERVV",
}
PATIENTS, TILES, SIDE = 14, 10, 32


def _encoded(tile: np.ndarray, number: int) -> tuple[bytes, str]:
    """The tile as PNG with text and EXIF, or as TIFF with a tag; and its suffix."""
    picture, stream = Image.fromarray(tile), io.BytesIO()
    if number % 2:
        picture.save(stream, "TIFF", tiffinfo={315: SECRETS["tag of a TIFF"]})
        return stream.getvalue(), ".tif"
    text = PngImagePlugin.PngInfo()
    text.add_text("Patient", SECRETS["text of a PNG"])
    exif = Image.Exif()
    exif[315] = SECRETS["EXIF of a picture"]
    picture.save(stream, "PNG", pnginfo=text, exif=exif)
    return stream.getvalue(), ".png"


@pytest.fixture(scope="module")
def tiles(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Tiles of 14 patients in two classes, one of them rare, with a secret in every place."""
    folder = tmp_path_factory.mktemp("data") / SECRETS["folder of the tiles"]
    folder.mkdir()
    made = make_phantom(patients=PATIENTS, tiles_per_patient=TILES, side=SIDE, seed=3)
    pixels = made.load()
    columns = ["path", "label", "patient", "slide", SECRETS["name of a column"]]
    with (folder / "manifest.csv").open("w", newline="") as stream:
        table = csv.writer(stream)
        table.writerow(columns)
        for number, tile in enumerate(pixels):
            data, suffix = _encoded(tile, number)
            name = f"{SECRETS['file name of a tile']}-{number}{suffix}"
            (folder / name).write_bytes(data)
            patient = number // TILES
            label = "rare" if patient % 3 == 0 and number % TILES < 2 else "common"
            table.writerow(
                [
                    name,
                    label,
                    f"{SECRETS['patient']}{patient}",
                    f"{SECRETS['slide']}{patient}",
                    SECRETS["cell of a column"],
                ]
            )
    return folder


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """A home, a host and a user whose names are secrets."""
    home = tmp_path_factory.mktemp("homes") / SECRETS["home folder"]
    home.mkdir()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HOME", str(home))
        for name in ("USER", "LOGNAME", "USERNAME"):
            patch.setenv(name, SECRETS["user"])
        patch.setenv("HOSTNAME", SECRETS["host"])
        patch.setattr(socket, "gethostname", lambda: SECRETS["host"])
        patch.setattr(platform, "node", lambda: SECRETS["host"])
        yield


@pytest.fixture(scope="module")
def shared(
    tiles: Path, machine: None, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, bytes]:
    """All that is written to be shared, and the terminal, by name."""
    work = tmp_path_factory.mktemp("work")
    said: dict[str, bytes] = {}

    def run(*arguments: object) -> str:
        result = CliRunner().invoke(app, [str(each) for each in arguments])
        assert result.exit_code in (0, 1, 4), result.output
        said[f"terminal of {arguments[0]} {len(said)}"] = result.output.encode()
        return result.stdout

    run("data", "check", tiles, "--quick")
    run("data", "check", tiles, "--quick", "--json")
    small = ["--resolution", 32, "--batch", 8, "--kimg", 0.05]
    found = run("train", tiles, *small, "--out", work / "runs", "--json")
    checkpoint = json.loads(found[found.index("{") :])["checkpoint"]
    run_folder = Path(checkpoint).parent.parent.name
    said.popitem()  # the JSON names the private checkpoint on purpose
    cheap = ["--encoder", "colour", "--no-align", "--count", 60]
    run("audit", "--generator", checkpoint, *cheap, "--out", work / "audit", "--json")
    report = work / "audit" / "report.json"
    run("export", checkpoint, "--report", report, "--out", work / "export")
    run("sample", checkpoint, "--count", 20, "--out", work / "samples")
    files = {
        str(path.relative_to(work)).replace(run_folder, "run"): path.read_bytes()
        for path in sorted(work.rglob("*"))
        if path.is_file() and "checkpoints" not in path.parts
    }
    return {**files, **said}


def _readings(content: bytes) -> Iterator[bytes]:
    """The bytes as they are, and unpacked where they are packed."""
    yield content
    start = 0
    while (start := content.find(b"IDAT", start)) >= 0:
        unpacker = zlib.decompressobj()
        with suppress(zlib.error):
            yield unpacker.decompress(content[start + 4 :])
        start += 4


@pytest.mark.parametrize("what", SECRETS)
def test_a_secret_is_in_nothing_that_is_shared(shared: dict[str, bytes], what: str) -> None:
    secret = SECRETS[what].lower().encode()
    assert any(name.startswith("terminal") for name in shared)
    assert {"audit/report.html", "audit/report.json", "export/MODEL_CARD.md"} <= set(shared)
    betraying = [
        name
        for name, content in shared.items()
        if secret in name.lower().encode()
        or any(secret in reading.lower() for reading in _readings(content))
    ]
    assert betraying == []


def test_the_secrets_were_there(tiles: Path) -> None:
    content = b"".join(path.read_bytes() for path in tiles.iterdir())
    for what in list(SECRETS)[2:9]:
        assert SECRETS[what].encode() in content, what


def test_no_class_of_one_to_four_real_tiles_is_counted(shared: dict[str, bytes]) -> None:
    document = json.loads(shared["audit/report.json"])
    counts = [
        count
        for roles in document["data"]["classes"].values()
        for role, count in roles.items()
        if role != "synthetic"
    ]
    assert None in counts
    assert not [count for count in counts if count in (1, 2, 3, 4)]

"""class_names.py: one rule for every door through which a label comes in."""

import unicodedata
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from privgen import limits
from privgen.data import images
from privgen.data.class_names import MOST_BYTES, fault_of, refusal_of_all
from privgen.data.layouts import open_tiles
from privgen.errors import InputError
from privgen.reporting.html import _PATH
from privgen.tiling.labels import open_labels

BAD = [
    "../../escape",
    "a/b",
    "a\\b",
    ".",
    "..",
    ".hidden",
    "v1.png",
    "slide 3.svs",
    "x" * (MOST_BYTES + 1),
    "CON",
    "nul",
    "com1.txt",
    "parts",
    "manifest.csv",
    "@eaDir",
    "nan",
    "<NA>",
    "a\x1b[2Jb",
    "a\u202eb",
    "a\tb",
    "file:x",
]
PIXELS = np.random.default_rng(0).integers(0, 256, (4, 8, 8, 3), dtype=np.uint8)


def in_a_manifest(folder: Path, name: str) -> None:
    rows = [f'{row}.png,"{name if row % 2 else "TUM"}"' for row in range(4)]
    for row, tile in enumerate(PIXELS):
        images.write_png(folder / f"{row}.png", tile)
    (folder / "manifest.csv").write_text("\n".join(["path,label", *rows]), encoding="utf-8")
    open_tiles(folder)


def in_an_archive(folder: Path, name: str) -> None:
    np.savez(folder / "a.npz", images=PIXELS, labels=np.array(["TUM", name] * 2))
    open_tiles(folder / "a.npz")


def in_a_table_of_slides(folder: Path, name: str) -> None:
    (folder / "labels.csv").write_text(f'slide,label\ns,"{name}"\n', encoding="utf-8")
    open_labels(folder / "labels.csv")


def as_a_folder(folder: Path, name: str) -> None:
    if "/" in name or name in (".", "..") or name[0] == "." or name in ("manifest.csv", "@eaDir"):
        pytest.skip("cannot be a class folder at all")
    for label in ("TUM", name):
        (folder / "set" / label).mkdir(parents=True)
        images.write_png(folder / "set" / label / "0.png", PIXELS[0])
    open_tiles(folder / "set")


@pytest.mark.parametrize("name", BAD, ids=ascii)
@pytest.mark.parametrize("door", [in_a_manifest, in_an_archive, in_a_table_of_slides, as_a_folder])
def test_a_bad_name_is_refused_at_every_door(
    door: Callable[[Path, str], None], name: str, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match="a class name") as caught:
        door(tmp_path, name)
    message = str(caught.value)
    assert message.isprintable()
    assert len(message) < 400


@pytest.mark.parametrize(
    "name", ["TUM", "Drüse ä", "Tumör (1)", "01_TUMOR", "Tumor: Positive", "v1.0", "0.0", "腫瘍"]
)
def test_names_in_use_pass(name: str) -> None:
    assert fault_of(name) is None


def test_length_counts_in_bytes_at_its_limit() -> None:
    assert fault_of("x" * (MOST_BYTES - 1)) is None
    assert fault_of("x" * MOST_BYTES) is None
    assert fault_of("x" * (MOST_BYTES + 1)) is not None
    assert fault_of("ü" * (MOST_BYTES // 2)) is None
    assert fault_of("ü" * (MOST_BYTES // 2) + "x") is not None


def test_number_of_classes_at_its_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("privgen.data.class_names.CLASSES", 3)
    assert refusal_of_all("ab") is None
    assert refusal_of_all("abc") is None
    assert "may have 3 classes: got 4" in str(refusal_of_all("abcd"))
    assert limits.CLASSES >= 1000


def test_names_that_are_one_folder_elsewhere_are_refused_and_unicode_forms_joined(
    tmp_path: Path,
) -> None:
    assert "'TUM' and 'Tum'" in str(refusal_of_all(["TUM", "STR", "Tum"]))
    for form in ("NFC", "NFD"):
        folder = tmp_path / unicodedata.normalize(form, "Drüse")  # type: ignore[arg-type]
        folder.mkdir()
        images.write_png(folder / "0.png", PIXELS[int(form == "NFC")])
    (tmp_path / "STR").mkdir()
    images.write_png(tmp_path / "STR" / "0.png", PIXELS[2])
    tiles = open_tiles(tmp_path)
    assert tiles.classes == ("Drüse", "STR")
    assert [remark.what for remark in tiles.remarks] == [
        "class names written in two Unicode forms, each taken for one: 1"
    ]


@given(st.text(min_size=1, max_size=20))
@example("a v1.PNG b")
@example("file:")
@example("x.pth")
def test_a_name_that_passes_is_never_refused_by_a_report(name: str) -> None:
    if fault_of(name) is None:
        assert not _PATH.search(name)
        assert not _PATH.search(f"class {name} comes from 3 patients")


def test_arrays_have_the_rule(tmp_path: Path) -> None:
    from privgen.data.tileset import TileSet

    labels: Any = ["a", "v1.png", "a", "a"]
    with pytest.raises(InputError, match="file's name"):
        TileSet.from_arrays(PIXELS, labels)

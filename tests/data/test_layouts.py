"""layouts.py: each layout is recognised, and each kind of bad input has its one line."""

import os
import shutil
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
import pyarrow
import pytest
from PIL import Image, ImageCms
from pyarrow import parquet

from privgen.data import images
from privgen.data.layouts import open_tiles
from privgen.data.manifest import write_manifest
from privgen.errors import ConfigError, LayoutError, TileError
from privgen.files import sha256_file


def make(root: Path, names: Iterable[str], side: int = 8) -> Path:
    """Write a different random tile under each name; the content is PNG whatever the suffix."""
    for number, name in enumerate(names):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        tile = np.random.default_rng([number, side]).integers(0, 256, (side, side, 3))
        images.write_png(root / name, tile.astype(np.uint8))
    return root


PLAIN = ("normal/2.png", "normal/1.png", "tumour/1.png", "tumour/sub name.png")


def test_plain_class_folders_are_read_in_order_of_name(tmp_path: Path) -> None:
    tiles = open_tiles(make(tmp_path, PLAIN))
    assert tiles.layout == "plain class folders, no patients known"
    assert [record.path for record in tiles.records] == sorted(PLAIN)
    assert tiles.labels.tolist() == ["normal"] * 2 + ["tumour"] * 2
    assert tiles.group_unit == "tile"
    assert tiles.root == tiles.source == tmp_path
    assert all(record.sha256 and record.width == 8 for record in tiles.records)


def test_opening_twice_gives_the_same_set(tmp_path: Path) -> None:
    make(tmp_path, PLAIN)
    assert open_tiles(tmp_path).records == open_tiles(tmp_path).records


def test_clutter_is_not_taken_for_tiles_and_other_files_are_counted(tmp_path: Path) -> None:
    make(tmp_path, PLAIN)
    for name in (".DS_Store", "normal/Thumbs.db", "normal/.hidden.png", "__MACOSX/normal/x.png"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"clutter")
    (tmp_path / "README.txt").write_text("read me")
    (tmp_path / "normal" / "notes.txt").write_text("notes")
    tiles = open_tiles(tmp_path)
    assert len(tiles) == 4
    assert "2 files that are no images were left aside" in tiles.layout


def test_image_is_known_by_content_where_its_suffix_says_nothing(tmp_path: Path) -> None:
    tiles = open_tiles(make(tmp_path, ("a/0001", "b/tile.data")))
    assert [record.path for record in tiles.records] == ["a/0001", "b/tile.data"]


def test_flat_folder_is_one_class_and_class_folders_stay_classes(tmp_path: Path) -> None:
    flat = make(tmp_path / "flat", ("1.png", "2.png"))
    tiles = open_tiles(flat, flat=True)
    assert tiles.classes == ("all",)
    assert tiles.layout == "flat folder without classes, no patients known"
    folders = make(tmp_path / "folders", PLAIN)
    assert open_tiles(folders, flat=True).classes == ("normal", "tumour")
    one = make(tmp_path / "one", ("normal/1.png",))
    assert open_tiles(one, flat=True).classes == ("normal",)


def test_nct_crc_he_is_recognised_and_has_no_patients(tmp_path: Path) -> None:
    training = make(tmp_path / "100K", ("ADI/ADI-AAAMHQMK.tif", "TUM/TUM-YYYQDLHS.tif"))
    tiles = open_tiles(training)
    assert tiles.layout == "plain class folders, NCT-CRC-HE-100K, no patients known"
    assert tiles.group_unit == "tile"
    validation = make(tmp_path / "7K", ("ADI/ADI-TCGA-AAICEQFN.tif", "TUM/TUM-TCGA-YYKLKLPC.tif"))
    assert "CRC-VAL-HE-7K" in open_tiles(validation).layout
    other = make(tmp_path / "other", ("ADI/0001.png", "TUM/0002.png"))
    assert "NCT" not in open_tiles(other).layout


def test_kather_2016_names_give_patient_slide_and_place(tmp_path: Path) -> None:
    make(
        tmp_path,
        (
            "01_TUMOR/10009_CRC-Prim-HE-03_009.tif_Row_301_Col_151.tif",
            "01_TUMOR/10062_CRC-Prim-HE-02_003b.tif_Row_1_Col_301.tif",
            "08_EMPTY/10647_CRC-Prim-HE-10c.tif_Row_1_Col_1.tif",
        ),
    )
    tiles = open_tiles(tmp_path)
    assert "Kather-2016" in tiles.layout
    assert tiles.group_unit == "patient"
    assert tiles.groups.tolist() == ["CRC-Prim-HE-03", "CRC-Prim-HE-02", "CRC-Prim-HE-10"]
    assert tiles.slides.tolist() == [
        "CRC-Prim-HE-03_009",
        "CRC-Prim-HE-02_003b",
        "CRC-Prim-HE-10c",
    ]
    assert [(record.x, record.y) for record in tiles.records] == [(150, 300), (300, 0), (0, 0)]


def test_kather_folders_with_other_names_are_plain_folders(tmp_path: Path) -> None:
    tiles = open_tiles(make(tmp_path, ("01_TUMOR/1.png", "02_STROMA/1.png")))
    assert tiles.layout == "plain class folders, no patients known"


def test_lc25000_is_recognised_with_its_warning(tmp_path: Path) -> None:
    tiles = open_tiles(make(tmp_path, ("colon_aca/colonca123.jpeg", "colon_n/colonn7.jpeg")))
    assert "LC25000" in tiles.layout
    assert "a split by tile is void" in tiles.layout
    assert tiles.group_unit == "tile"


def test_manifest_in_the_folder_gives_the_patients(tmp_path: Path) -> None:
    make(tmp_path, ("normal/1.png", "tumour/1.png"))
    (tmp_path / "manifest.csv").write_text(
        "path,label,patient,scanner\nnormal/1.png,healthy,P1,S\ntumour/1.png,sick,P2,S\n"
    )
    tiles = open_tiles(tmp_path)
    assert tiles.groups.tolist() == ["P1", "P2"]
    assert tiles.classes == ("healthy", "sick")
    assert tiles.layout == "CSV manifest (1 column not read)"
    assert tiles.remarks == ()


def test_csv_of_any_name_is_opened_by_its_path(tmp_path: Path) -> None:
    make(tmp_path, PLAIN)
    listing = tmp_path / "half.csv"
    listing.write_text("path,label\nnormal/1.png,n\ntumour/1.png,t\n")
    tiles = open_tiles(listing)
    assert len(tiles) == 2
    assert [str(remark) for remark in tiles.remarks] == [
        "images beside the tiles that the manifest does not list, left out: 2 (first: normal/2.png)"
    ]
    assert tiles.root == tmp_path
    assert tiles.source == listing
    assert tiles.load().shape == (2, 8, 8, 3)


COLUMNS = "path,label,patient,slide,source_image\n"


@pytest.mark.parametrize(
    ("rows", "unit"),
    [
        (("P1,s1,i1", "P2,s2,i2"), "patient"),
        ((",s1,i1", ",s2,i2"), "slide"),
        ((",,i1", ",,i2"), "source_image"),
        ((",,", ",,"), "tile"),
    ],
)
def test_groups_are_the_coarsest_unit_known(
    rows: tuple[str, str], unit: str, tmp_path: Path
) -> None:
    make(tmp_path, ("a.png", "b.png"))
    (tmp_path / "manifest.csv").write_text(COLUMNS + f"a.png,x,{rows[0]}\nb.png,y,{rows[1]}\n")
    assert open_tiles(tmp_path).group_unit == unit


def test_group_by_picks_the_column(tmp_path: Path) -> None:
    make(tmp_path, ("a.png", "b.png"))
    (tmp_path / "manifest.csv").write_text(COLUMNS + "a.png,x,P1,s1,\nb.png,y,P1,s2,\n")
    assert open_tiles(tmp_path).groups.tolist() == ["P1", "P1"]
    assert open_tiles(tmp_path, group_by="slide").groups.tolist() == ["s1", "s2"]
    assert open_tiles(tmp_path, group_by="tile").groups.tolist() == ["a.png", "b.png"]
    with pytest.raises(LayoutError, match=r"source_image must be known.*2 of 2"):
        open_tiles(tmp_path, group_by="source_image")
    with pytest.raises(ConfigError, match="group_by"):
        open_tiles(tmp_path, group_by="hospital")


def test_patient_known_for_some_tiles_only_is_refused(tmp_path: Path) -> None:
    make(tmp_path, ("a.png", "b.png"))
    (tmp_path / "manifest.csv").write_text(COLUMNS + "a.png,x,P1,s1,\nb.png,y,,s2,\n")
    with pytest.raises(LayoutError, match=r"patient must be known.*1 of 2, the first b.png"):
        open_tiles(tmp_path)
    assert open_tiles(tmp_path, group_by="slide").group_unit == "slide"


NOBODY = ("nan", "NaN", "NA", "N/A", "#N/A", "None", "null", "<NA>", "-", "unknown")


@pytest.mark.parametrize("word", NOBODY)
def test_tiles_of_nobody_are_not_joined_as_one_patient(word: str, tmp_path: Path) -> None:
    make(tmp_path, ("a.png", "b.png"))
    (tmp_path / "manifest.csv").write_text(COLUMNS + f"a.png,x,P1,s1,\nb.png,y,{word},s2,\n")
    with pytest.raises(LayoutError) as caught:
        open_tiles(tmp_path)
    assert f"1 of 2, the first b.png (read as missing: '{word}' (1)). Fill" in str(caught.value)
    (tmp_path / "manifest.csv").write_text(COLUMNS + f"a.png,x,{word},s1,\nb.png,y,{word},s2,\n")
    tiles = open_tiles(tmp_path)
    assert tiles.group_unit == "slide"
    assert tiles.layout == "CSV manifest, no patients known"
    assert [str(remark) for remark in tiles.remarks] == [
        f"tiles whose patient is a word for a missing value, taken for none: 2 (first: {word})"
    ]


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_patients_of_a_manifest_are_read_one_way(suffix: str, tmp_path: Path) -> None:
    names = [f"{number}.png" for number in range(6)]
    make(tmp_path, names)
    written = ["7", "7.0", "Müller", "Mu\u0308ller", "TCGA-AA-0001", "TCGA-AA-0001-01A"]
    columns = {"path": names, "label": list("ababab"), "patient": written}
    write_manifest(tmp_path / f"manifest{suffix}", columns)
    tiles = open_tiles(tmp_path)
    assert tiles.groups.tolist() == ["7", "7", "Müller", "Müller", *["TCGA-AA-0001"] * 2]
    assert tiles.remarks[0].what == "patients written in several ways, each taken for one: 3"


def test_a_column_of_numbers_with_a_gap_is_no_column_of_patients(tmp_path: Path) -> None:
    make(tmp_path, ("a.png", "b.png", "c.png"))

    def write(patients: list[float | None]) -> None:
        table = pyarrow.table(
            {
                "path": ["a.png", "b.png", "c.png"],
                "label": list("xyx"),
                "patient": pyarrow.array(patients, pyarrow.float64()),
                "scan": pyarrow.array([b"\xff"] * 3),
            }
        )
        parquet.write_table(table, tmp_path / "manifest.parquet")

    write([1.0, 2.0, 1.0])
    assert open_tiles(tmp_path).groups.tolist() == ["1", "2", "1"]
    for gap in (None, float("nan")):
        write([1.0, 2.0, gap])
        with pytest.raises(LayoutError, match=r"patient must be known.*1 of 3, the first c.png"):
            open_tiles(tmp_path)


def test_patients_in_bytes_are_text(tmp_path: Path) -> None:
    make(tmp_path, ("a.png", "b.png"))
    columns = {"path": ["a.png", "b.png"], "label": ["x", "y"], "patient": [b"P1", b"P2"]}
    parquet.write_table(pyarrow.table(columns), tmp_path / "manifest.parquet")
    assert open_tiles(tmp_path).groups.tolist() == ["P1", "P2"]
    columns["patient"] = [b"M\xfcller", b"P2"]
    parquet.write_table(pyarrow.table(columns), tmp_path / "manifest.parquet")
    with pytest.raises(LayoutError, match="cannot be read as Parquet"):
        open_tiles(tmp_path)


def test_tcga_slides_name_their_patients_where_nobody_else_does(tmp_path: Path) -> None:
    make(tmp_path, ("a.png", "b.png"))
    slides = ("TCGA-AA-0001-01Z-00-DX1", "TCGA-AA-0001-01A-01-TS1")
    rows = COLUMNS + f"a.png,x,,{slides[0]},\nb.png,y,,{slides[1]},\n"
    (tmp_path / "manifest.csv").write_text(rows)
    tiles = open_tiles(tmp_path)
    assert tiles.groups.tolist() == ["TCGA-AA-0001"] * 2
    assert tiles.layout == "CSV manifest, patients taken from the slides' TCGA barcodes"
    assert open_tiles(tmp_path, group_by="slide").groups.tolist() == list(slides)
    (tmp_path / "manifest.csv").write_text(rows.replace(slides[1], "other"))
    assert open_tiles(tmp_path).group_unit == "slide"


def test_slide_under_two_patients_is_refused(tmp_path: Path) -> None:
    make(tmp_path, ("a.png", "b.png"))
    (tmp_path / "manifest.csv").write_text(COLUMNS + "a.png,x,P1,s1,\nb.png,y,P2,s1,\n")
    with pytest.raises(LayoutError, match=r"slide s1 stands under P1 and P2 \(b.png\)"):
        open_tiles(tmp_path)


def test_manifest_digest_is_checked_against_pixels_or_file(tmp_path: Path) -> None:
    make(tmp_path, ("a.png", "b.png"))
    from_pixels = images.pixel_digest(images.read_tile(tmp_path / "a.png"))

    def write(first: str, second: str) -> None:
        (tmp_path / "manifest.csv").write_text(
            f"path,label,sha256\na.png,x,{first}\nb.png,y,{second}\n"
        )

    write(from_pixels, sha256_file(tmp_path / "b.png"))
    tiles = open_tiles(tmp_path)
    assert tiles.digests.tolist() == [
        from_pixels,
        images.pixel_digest(images.read_tile(tmp_path / "b.png")),
    ]
    write(from_pixels, from_pixels)
    with pytest.raises(TileError, match=r"b.png: is not the picture its manifest names"):
        open_tiles(tmp_path)


BAD_FOLDERS: dict[str, tuple[tuple[str, ...], str]] = {
    "empty": ((), "no image and no class folder"),
    "one class": (("a/1.png",), "at least 2 classes"),
    "loose only": (("1.png", "2.png"), "no folder"),
    "loose beside folders": (("1.png", "a/1.png", "b/1.png"), "beside 2 folders"),
    "nested": (("train/a/1.png", "test/a/1.png"), "directly in class folders"),
}


@pytest.mark.parametrize("name", BAD_FOLDERS)
def test_bad_folder_has_its_one_line(name: str, tmp_path: Path) -> None:
    names, rule = BAD_FOLDERS[name]
    with pytest.raises(LayoutError) as caught:
        open_tiles(make(tmp_path, names))
    assert rule in str(caught.value)
    assert str(tmp_path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_one_class_is_refused_before_any_tile_is_decoded(tmp_path: Path) -> None:
    make(tmp_path, ("a/1.png",))
    (tmp_path / "a" / "2.png").write_bytes(b"broken")
    with pytest.raises(LayoutError, match="at least 2 classes"):
        open_tiles(tmp_path)
    make(tmp_path, ("b/1.png",))
    with pytest.raises(LayoutError, match="at least 3 classes"):
        open_tiles(tmp_path, min_classes=3)


def test_loose_images_beside_folders_are_ambiguous_for_a_flat_folder_too(tmp_path: Path) -> None:
    with pytest.raises(LayoutError, match="beside 1 folders"):
        open_tiles(make(tmp_path, ("1.png", "a/1.png")), flat=True)


def test_empty_class_folder_missing_path_and_other_file_are_named(tmp_path: Path) -> None:
    make(tmp_path, PLAIN)
    (tmp_path / "empty").mkdir()
    with pytest.raises(LayoutError, match=r"empty holds no image"):
        open_tiles(tmp_path)
    with pytest.raises(LayoutError, match="nothing at"):
        open_tiles(tmp_path / "gone")
    with pytest.raises(LayoutError, match=r"folder, a .csv or .parquet manifest, an .npz"):
        open_tiles(tmp_path / "normal" / "1.png")
    with pytest.raises(ConfigError, match="on_bad_tile"):
        open_tiles(tmp_path, on_bad_tile="ignore")  # type: ignore[arg-type]


def test_folder_that_may_not_be_read_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make(tmp_path, PLAIN)

    def refuse(self: Path) -> None:
        raise PermissionError(13, "Permission denied", str(self))

    monkeypatch.setattr(Path, "iterdir", refuse)
    with pytest.raises(LayoutError, match=r"cannot be read .Permission denied"):
        open_tiles(tmp_path)


def test_manifest_rows_without_files_are_counted(tmp_path: Path) -> None:
    make(tmp_path, ("a.png",))
    (tmp_path / "manifest.csv").write_text("path,label\na.png,x\ngone.png,y\ngone2.png,y\n")
    with pytest.raises(LayoutError, match=r"2 of 3 in .* missing, the first gone.png"):
        open_tiles(tmp_path, on_bad_tile="skip")


def spoil(root: Path) -> dict[str, str]:
    """Three bad tiles among the good ones, each with the rule it breaks."""
    good = (root / "tumour" / "1.png").read_bytes()
    (root / "tumour" / "cut.png").write_bytes(good[:-20])
    (root / "normal" / "fake.gif").write_bytes(b"GIF89a")
    wide = np.zeros((8, 9, 3), np.uint8)
    images.write_png(root / "normal" / "wide.png", wide)
    return {
        "normal/fake.gif": "not a PNG, JPEG or TIFF",
        "normal/wide.png": "9x8 pixels, but tiles are square",
        "tumour/cut.png": "truncated",
    }


def test_bad_tile_stops_by_default_and_is_named_with_the_way_out(tmp_path: Path) -> None:
    spoil(make(tmp_path, PLAIN))
    with pytest.raises(TileError) as caught:
        open_tiles(tmp_path)
    assert caught.value.path == str(tmp_path / "normal" / "fake.gif")
    assert "on_bad_tile=skip" in caught.value.rule


def test_bad_tiles_are_skipped_and_listed_when_asked(tmp_path: Path) -> None:
    rules = spoil(make(tmp_path, PLAIN))
    tiles = open_tiles(tmp_path, on_bad_tile="skip")
    assert [record.path for record in tiles.records] == sorted(PLAIN)
    assert [path for path, _ in tiles.skipped] == sorted(rules)
    for path, rule in tiles.skipped:
        assert rules[path] in rule
    assert tiles.load().shape == (4, 8, 8, 3)


def test_skipping_may_not_lose_a_class_or_everything(tmp_path: Path) -> None:
    make(tmp_path, ("a/1.png", "b/1.png"))
    (tmp_path / "b" / "1.png").write_bytes(b"broken")
    with pytest.raises(LayoutError, match="at least 2 classes"):
        open_tiles(tmp_path, on_bad_tile="skip")
    (tmp_path / "a" / "1.png").write_bytes(b"broken")
    with pytest.raises(LayoutError, match=r"no tile of .* can be used: 2 skipped"):
        open_tiles(tmp_path, on_bad_tile="skip")


def test_manifest_may_name_a_link_but_not_a_path_out_of_the_folder(tmp_path: Path) -> None:
    store = make(tmp_path / "store", ("a.png", "b.png"))
    folder = tmp_path / "set"
    folder.mkdir()
    os.symlink(store / "a.png", folder / "a.png")
    shutil.copy(store / "b.png", folder / "b.png")
    (folder / "manifest.csv").write_text("path,label\na.png,x\nb.png,y\n")
    assert len(open_tiles(folder)) == 2
    (folder / "manifest.csv").write_text("path,label\n../store/a.png,x\nb.png,y\n")
    with pytest.raises(LayoutError, match="stay inside"):
        open_tiles(folder)


def test_glas_opens_with_sixteen_patients(real_data: Callable[[str], Path]) -> None:
    tiles = open_tiles(real_data("glas"))
    assert (len(tiles), len(set(tiles.groups)), len(set(tiles.slides))) == (934, 16, 165)
    assert tiles.group_unit == "patient"
    assert tiles.classes == ("adenomatous", "healthy", "moderate", "moderate_to_poor", "poor")
    assert tiles.layout == "CSV manifest"
    assert tiles.skipped == ()
    assert {(record.width, record.height) for record in tiles.records} == {(256, 256)}


def test_lc25000_opens_by_source_image(real_data: Callable[[str], Path]) -> None:
    tiles = open_tiles(real_data("lc25000"))
    assert (len(tiles), len(set(tiles.groups))) == (1373, 341)
    assert tiles.group_unit == "source_image"
    assert tiles.layout.startswith("CSV manifest, LC25000")
    assert tiles.slides.tolist() == tiles.groups.tolist()


def test_parquet_manifest_opens_as_the_same_csv_does(tmp_path: Path) -> None:
    folder = make(tmp_path / "tiles", ("a/1.png", "b/1.png"))
    columns = {
        "path": ["a/1.png", "b/1.png"],
        "label": ["a", "b"],
        "slide": ["s1", "s2"],
        "tissue": [0.5, 0.25],
    }
    write_manifest(folder / "manifest.csv", columns)
    by_csv = open_tiles(folder)
    (folder / "manifest.csv").unlink()
    write_manifest(folder / "manifest.parquet", columns)
    by_parquet = open_tiles(folder)
    assert by_parquet.records == by_csv.records == open_tiles(folder / "manifest.parquet").records
    assert by_csv.layout == "CSV manifest, no patients known"
    assert by_parquet.layout == "Parquet manifest, no patients known"
    assert by_parquet.group_unit == "slide"


def test_two_manifests_in_one_folder_are_refused_but_either_can_be_given(tmp_path: Path) -> None:
    folder = make(tmp_path, ("a/1.png", "b/1.png"))
    for name in ("manifest.csv", "manifest.parquet"):
        write_manifest(folder / name, {"path": ["a/1.png", "b/1.png"], "label": ["a", "b"]})
    with pytest.raises(LayoutError, match="one manifest") as caught:
        open_tiles(folder)
    assert "\n" not in str(caught.value)
    assert len(open_tiles(folder / "manifest.csv")) == 2


def other_profile() -> bytes:
    """sRGB with its primaries exchanged."""
    data = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    tags = {data[at : at + 4]: data[at + 4 : at + 8] for at in range(132, 332, 12)}
    places = [int.from_bytes(tags[tag], "big") for tag in (b"rXYZ", b"bXYZ")]
    red, blue = (data[at : at + 20] for at in places)
    return data.replace(red, b"*" * 20).replace(blue, red).replace(b"*" * 20, blue)


def test_colour_profiles_are_said_kept_and_opened_again_the_same_way(tmp_path: Path) -> None:
    make(tmp_path, ("a/1.png", "b/1.png"))
    picture = Image.fromarray(images.read_tile(tmp_path / "a" / "1.png"))
    picture.save(tmp_path / "a" / "2.png", icc_profile=other_profile())
    stored, applied = open_tiles(tmp_path), open_tiles(tmp_path, icc="apply")
    assert [remark.what for remark in stored.remarks] == [
        "tiles whose colours are others under their colour profile (ICC), taken as stored "
        "(`icc` ignore): 1"
    ]
    assert "brought to sRGB by it (`icc` apply): 1" in applied.remarks[0].what
    assert stored.digests[0] == stored.digests[1] == applied.digests[0] != applied.digests[1]
    np.testing.assert_array_equal(stored.load()[0], stored.load()[1])
    assert (applied.load()[1] != stored.load()[1]).any()

"""Arrays that cannot be audited are refused by name."""

import warnings
from typing import Any

import numpy as np
import pytest

from audits import AuditData, AuditInputError, Planted, Tiles, audit

EYE = np.eye(6, 4)


def patients(prefix: str, count: int = 6) -> list[str]:
    return [f"{prefix}{i // 2}" for i in range(count)]


def data(**changed: Any) -> AuditData:
    roles = {
        "train": Tiles("train", EYE, patients=patients("a")),
        "holdout": Tiles("holdout", EYE + 1, patients=patients("b")),
        "synthetic": Tiles("synthetic", EYE * 2),
    }
    return AuditData(**{**roles, **changed})


class TestTiles:
    def test_defaults_are_one_class_and_a_patient_and_slide_a_tile(self) -> None:
        tiles = Tiles("train", EYE)
        assert tiles.labels.tolist() == ["all"] * 6
        assert tiles.patient_count == 6
        assert tiles.slides.tolist() == tiles.patients.tolist()
        assert tiles.fingerprints is None
        assert tiles.embeddings.dtype == np.float32
        assert len(tiles) == 6

    def test_slides_default_to_the_patient(self) -> None:
        tiles = Tiles("train", EYE, patients=patients("a"))
        assert tiles.slides.tolist() == patients("a")
        assert tiles.patient_count == 3

    @pytest.mark.parametrize(
        ("given", "missing"),
        [
            (["P1", None, "P2", None, "P3", "P3"], "2 of 6 are missing (such as 'None')"),
            (["P1", float("nan"), *"abcd"], "1 of 6 are missing (such as 'nan')"),
            (["NA"] * 6, "6 of 6 are missing (such as 'NA')"),
            (["", *"abcde"], "1 of 6 are missing (such as '')"),
        ],
    )
    @pytest.mark.parametrize("field", ["patients", "slides"])
    def test_nobody_is_no_patient_called_nan(
        self, field: str, given: list[object], missing: str
    ) -> None:
        with pytest.raises(AuditInputError) as caught:
            Tiles("train", EYE, **{field: given})
        assert f"train {field} must be known for every tile, or not be given" in str(caught.value)
        assert missing in str(caught.value)

    def test_patients_are_read_one_way_and_slides_keep_their_barcodes(self) -> None:
        written = ["1.0", " 1", "TCGA-AA-0001-01A", "TCGA-AA-0001", "Mu\u0308ller", "Müller"]
        tiles = Tiles("train", EYE, patients=written, slides=written)
        person = "TCGA-AA-0001"
        assert tiles.patients.tolist() == ["1", "1", person, person, "Müller", "Müller"]
        assert tiles.slides.tolist() == ["1", "1", f"{person}-01A", person, "Müller", "Müller"]
        assert tiles.subset(np.arange(6) < 3).patients.tolist() == ["1", "1", person]
        slides = Tiles("train", EYE, patients=written, barcodes=False)
        assert slides.patients.tolist() == tiles.slides.tolist()
        assert slides.subset(np.arange(6) < 3).patients.tolist() == slides.patients[:3].tolist()

    @pytest.mark.parametrize("given", [[1.0, 2.0] * 3, ["1.2e+12", *"abcde"]])
    def test_patients_that_lost_their_digits_are_refused(self, given: list[object]) -> None:
        with pytest.raises(AuditInputError, match=r"train patients.*the column as text"):
            Tiles("train", EYE, patients=given)

    def test_numbers_may_name_patients(self) -> None:
        assert Tiles("train", EYE, patients=[1, 1, 2, 2, 3, 3]).patients.tolist() == list("112233")

    @pytest.mark.parametrize(
        ("embeddings", "message"),
        [
            (np.empty((0, 4)), r"train embeddings must have shape .* got \(0, 4\)"),
            (np.empty((4, 0)), r"got \(4, 0\)"),
            (np.ones(4), r"got \(4,\)"),
            (np.ones((2, 2, 2)), r"got \(2, 2, 2\)"),
            (np.array([[1.0, np.nan], [1.0, 2.0]]), "1 of 2 rows hold NaN or infinity"),
            (np.array([[1.0, np.inf], [-np.inf, 2.0]]), "2 of 2 rows"),
            (np.array([[1e300, 1.0]]), "overflow float32"),
            (np.array([["a", "b"]]), "must be real numbers: got an array of <U1"),
            (np.array([[1j, 2.0]]), "must be real numbers: got an array of complex128"),
            (np.array([[None, 1]]), "must be real numbers: got an array of object"),
        ],
    )
    def test_bad_embeddings_are_refused_without_a_warning(
        self, embeddings: np.ndarray, message: str
    ) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            with pytest.raises(AuditInputError, match=message):
                Tiles("train", embeddings)

    def test_float16_overflow_is_named(self) -> None:
        with np.errstate(over="ignore"):
            half = np.array([[70_000.0, 1.0]]).astype(np.float16)
        with pytest.raises(AuditInputError, match="float16 overflow is the usual cause"):
            Tiles("train", half)

    @pytest.mark.parametrize("field", ["labels", "patients", "slides", "fingerprints"])
    def test_one_entry_a_tile(self, field: str) -> None:
        with pytest.raises(AuditInputError, match=rf"train {field} must hold one entry per tile"):
            Tiles("train", EYE, **{field: ["x"] * 5})


class TestAuditData:
    def test_roles_lists_only_what_is_there(self) -> None:
        siblings = Tiles("siblings", EYE[:2], patients=["a0", "a1"])
        assert list(data().roles()) == ["train", "holdout", "synthetic"]
        assert list(data(siblings=siblings).roles()) == [
            "train",
            "siblings",
            "holdout",
            "synthetic",
        ]

    @pytest.mark.parametrize("role", ["holdout", "synthetic", "siblings", "reference"])
    def test_all_roles_must_be_equally_wide(self, role: str) -> None:
        with pytest.raises(AuditInputError, match=rf"train has 4 features, {role} 3"):
            data(**{role: Tiles(role, np.eye(3), patients=["a0", "a1", "a2"])})

    @pytest.mark.parametrize("role", ["holdout", "reference"])
    def test_shared_patients_are_refused(self, role: str) -> None:
        shared = Tiles(role, EYE, patients=["c", "c", "a1", "a1", "a2", "c"])
        with pytest.raises(AuditInputError, match=rf"{role} must share no patients: 2 in both"):
            data(**{role: shared})

    @pytest.mark.parametrize(
        ("ours", "theirs"),
        [
            ("1", "1.0"),
            ("Müller", "Mu\u0308ller"),
            ("TCGA-AA-0001", "TCGA-AA-0001-01Z-00-DX1"),
            ("P1", "P1\u200b"),
        ],
    )
    @pytest.mark.parametrize("role", ["holdout", "reference"])
    def test_a_patient_written_in_two_ways_is_shared(
        self, role: str, ours: str, theirs: str
    ) -> None:
        train = Tiles("train", EYE, patients=[ours, *"abcde"])
        other = Tiles(role, EYE + 1, patients=[theirs, *"vwxyz"])
        with pytest.raises(AuditInputError, match=f"{role} must share no patients: 1 in both"):
            data(train=train, **{role: other})

    @pytest.mark.parametrize(
        ("first", "second"),
        [
            ("train", "holdout"),
            ("train", "reference"),
            ("siblings", "holdout"),
            ("siblings", "reference"),
            ("holdout", "reference"),
        ],
    )
    @pytest.mark.parametrize("pair", [("001", "1"), ("P1", "p1"), ("P-1", "P_1")])
    def test_patients_who_may_be_one_person_block_across_roles(
        self, first: str, second: str, pair: tuple[str, str]
    ) -> None:
        names = {role: [f"{role}{i}" for i in range(6)] for role in ("holdout", "reference")}
        names |= {"train": patients("a"), "siblings": patients("a")}
        for role, name in zip((first, second), pair, strict=True):
            names[role] = [name, *names[role][1:]]
        if first == "siblings":  # in train too, as siblings' patients are
            names["train"] = [pair[0], *names["train"][1:]]
        roles = {
            role: Tiles(role, EYE + shift, patients=names[role]) for shift, role in enumerate(names)
        }
        with pytest.raises(AuditInputError) as caught:
            data(**roles)
        assert f"(first: {pair[0]} / {pair[1]})" in str(caught.value)
        assert "differ only in case, leading zeros or signs: 1 do" in str(caught.value)

    def test_alike_names_within_a_role_or_of_single_tiles_block_nothing(self) -> None:
        train = Tiles("train", EYE, patients=["P1", "p1", *"abcd"])
        siblings = Tiles("siblings", EYE + 2, patients=["P1", "p1", *"abcd"])
        assert data(train=train, siblings=siblings).train is train
        lone = Tiles("HOLDOUT", EYE + 1)
        assert data(train=Tiles("holdout", EYE), holdout=lone).holdout is lone

    def test_a_sibling_of_a_patient_who_is_not_in_train_is_refused(self) -> None:
        """Such a tile would water the patient arm down."""
        with pytest.raises(AuditInputError, match=r"1 of their patients are not in train.*b0"):
            data(siblings=Tiles("siblings", EYE[:2], patients=["a0", "b0"]))

    def test_a_fingerprint_in_train_and_holdout_is_refused_but_featureless_tiles_are_not(
        self,
    ) -> None:
        train = Tiles("train", EYE, patients=patients("a"), fingerprints=["", "x", *"pqrs"])
        blank = Tiles("holdout", EYE + 1, patients=patients("b"), fingerprints=["", "y", *"klmn"])
        equal = Tiles("holdout", EYE + 1, patients=patients("b"), fingerprints=["", "x", *"klmn"])
        assert data(train=train, holdout=blank).holdout is blank
        with pytest.raises(AuditInputError, match="share no fingerprints: 1 in both"):
            data(train=train, holdout=equal)

    @pytest.mark.parametrize("role", ["train", "holdout"])
    def test_constant_real_embeddings_are_refused(self, role: str) -> None:
        constant = Tiles(role, np.full((5, 4), 3e38), patients=patients(role, 5))
        with pytest.raises(AuditInputError, match=rf"{role} embeddings are constant \(5 equal"):
            data(**{role: constant})

    @pytest.mark.parametrize("role", ["train", "holdout"])
    def test_a_single_real_tile_is_too_few_and_not_a_constant_embedding(self, role: str) -> None:
        alone = Tiles(role, EYE[:1] + 3, patients=patients(role, 1))
        with pytest.raises(AuditInputError, match=rf"needs more than 4 {role} tiles.*: got 1\."):
            audit(data(**{role: alone}), rng=0)

    def test_constant_synthetic_tiles_are_a_fact_about_the_generator_not_an_error(self) -> None:
        assert len(data(synthetic=Tiles("synthetic", np.ones((5, 4)))).synthetic) == 5

    @pytest.mark.parametrize(
        ("embeddings", "sources", "fingerprints", "message"),
        [
            (np.ones((2, 3)), [0, 1], None, r"planted stain copies must have shape \(2, 4\)"),
            (np.ones((2, 4)), [0, 1, 2], None, r"must have shape \(3, 4\): got \(2, 4\)"),
            (np.full((2, 4), np.nan), [0, 1], None, "must be finite"),
            (np.ones((2, 4)), [0, 6], None, "rows of train, 0 to 5: got 0 to 6"),
            (np.ones((2, 4)), [-1, 2], None, "rows of train, 0 to 5: got -1 to 2"),
            (np.ones((2, 4)), [0, 1], ["x"], "one fingerprint each: got 1 for 2"),
        ],
    )
    def test_planted_copies_must_fit(
        self,
        embeddings: np.ndarray,
        sources: list[int],
        fingerprints: list[str] | None,
        message: str,
    ) -> None:
        planted = Planted(
            embeddings=embeddings.astype(np.float32),
            sources=np.array(sources),
            fingerprints=None if fingerprints is None else np.array(fingerprints),
        )
        with pytest.raises(AuditInputError, match=message):
            data(planted={"stain": planted})

    @pytest.mark.parametrize("kind", ["img2img", "crop_25", "half_paste", "odd_rotation_stain"])
    def test_kinds_are_words_that_may_hold_one_figure(self, kind: str) -> None:
        planted = Planted(embeddings=np.ones((1, 4), dtype=np.float32), sources=np.array([0]))
        assert list(data(planted={kind: planted}).planted) == [kind]

    @pytest.mark.parametrize("kind", ["3fa94bc01d", "a1b2c3d4", "Crop", "p000123"])
    def test_a_kind_is_no_digest_and_no_id(self, kind: str) -> None:
        planted = Planted(embeddings=np.ones((1, 4), dtype=np.float32), sources=np.array([0]))
        with pytest.raises(AuditInputError, match="kinds of planted copies"):
            data(planted={kind: planted})

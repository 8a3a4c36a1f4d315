"""Which image goes with which label map, and what a person is told about pairs that cannot be used."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from bundle_runs import RAS, save_nifti

from custom_components.case_pairs import check_pair, label_values, pair_cases
from custom_components.errors import InputError
from custom_components.labels import LesionLabels

LABELS = LesionLabels({"tumour": 1, "cyst": 2})


def save_pair(root: Path, image: str = "a", label: str = "a", values=None, mask=None, affine=RAS) -> None:
    values = np.arange(60, dtype=np.int16).reshape(3, 4, 5) if values is None else values
    mask = (np.arange(60) % 3).astype(np.uint8).reshape(3, 4, 5) if mask is None else mask
    save_nifti(root / "images" / f"{image}.nii.gz", values)
    save_nifti(root / "labels" / f"{label}.nii.gz", mask, affine)


def pairs_of(root: Path, **options):
    return pair_cases(root / "images", root / "labels", **options)


def test_equal_names_and_nnunet_s_channel_numbers_pair_up(tmp_path):
    save_pair(tmp_path)
    save_pair(tmp_path, "b_0000", "b")
    save_pair(tmp_path, "c_0000", "c_0000")
    pairs, findings = pairs_of(tmp_path)
    assert [(pair.case, pair.image.name, pair.label.name) for pair in pairs] == [
        ("a", "a.nii.gz", "a.nii.gz"),
        ("b", "b_0000.nii.gz", "b.nii.gz"),
        ("c_0000", "c_0000.nii.gz", "c_0000.nii.gz"),
    ]
    assert findings == []


def test_whatever_has_no_partner_and_further_channels_are_findings(tmp_path):
    save_pair(tmp_path, "b_0000", "b")
    save_nifti(tmp_path / "images" / "b_0001.nii.gz", np.zeros((3, 4, 5), np.int16))
    save_pair(tmp_path, "lonely image", "lonely label")
    pairs, findings = pairs_of(tmp_path)
    assert [pair.image.name for pair in pairs] == ["b_0000.nii.gz"]
    told = " ".join(finding.sentence for finding in findings)
    assert len(findings) == 3
    assert "b_0001.nii.gz is a further channel of b_0000.nii.gz" in told
    assert "lonely image.nii.gz has no label map" in told
    assert "lonely label.nii.gz has no image" in told


def test_patient_is_the_case_or_what_the_expression_finds_in_its_name(tmp_path):
    for name in ("P1_scan1", "P1_scan2", "P2_scan1", "unnamed"):
        save_pair(tmp_path, name, name)
    pairs, _ = pairs_of(tmp_path)
    assert [pair.patient for pair in pairs] == [pair.case for pair in pairs]
    pairs, findings = pairs_of(tmp_path, patient_regex=r"(P\d+)_")
    assert [pair.patient for pair in pairs] == ["P1", "P1", "P2"]
    assert [finding.case for finding in findings] == ["unnamed"]
    pairs, _ = pairs_of(tmp_path, patient_regex=r"P\d")
    assert {pair.patient for pair in pairs} == {"P1", "P2"}


@pytest.mark.parametrize(
    ("expression", "message"), [("(P", "is no regular expression"), ("Q", "finds no patient in any case")]
)
def test_expression_that_cannot_work_is_told(tmp_path, expression, message):
    save_pair(tmp_path)
    with pytest.raises(InputError, match=message):
        pairs_of(tmp_path, patient_regex=expression)


def test_missing_and_empty_folders_are_told(tmp_path):
    with pytest.raises(InputError, match=re.escape(f"images {tmp_path / 'images'} is not a folder.")):
        pairs_of(tmp_path)
    save_pair(tmp_path)
    (tmp_path / "labels" / "a.nii.gz").unlink()
    with pytest.raises(InputError, match=r"labels .* holds no NIfTI files"):
        pairs_of(tmp_path)


def filled(value: float) -> np.ndarray:
    mask = np.zeros((3, 4, 5), np.float32)
    mask[1, 2, 3] = value
    return mask


@pytest.mark.parametrize(
    ("faults", "message"),
    [
        ({"mask": np.ones((3, 4, 6), np.uint8)}, r"has shape \(3, 4, 6\), its image"),
        ({"affine": RAS + np.diag([0, 0, 0.5, 0])}, "lies on another grid"),
        ({"values": np.full((3, 4, 5), np.nan, np.float32)}, "holds 60 NaN or infinite voxels"),
        ({"mask": filled(1.5)}, "must hold whole numbers from 0 to 255, 1 of its voxels do not, e.g. 1.5"),
        ({"mask": filled(np.nan)}, "must hold whole numbers"),
        ({"mask": filled(-1)}, "must hold whole numbers"),
        ({"mask": filled(7)}, "must hold 0, 1 and 2 only, it holds 7"),
        ({"values": np.zeros((3, 4, 5, 2), np.int16)}, "must have three dimensions"),
    ],
    ids=["shape", "affine", "NaN", "fraction", "NaN label", "negative", "unknown value", "4D"],
)
def test_fault_of_a_pair_is_told_in_one_sentence(tmp_path, faults, message):
    save_pair(tmp_path, **faults)
    (pair,), _ = pairs_of(tmp_path)
    with pytest.raises(InputError, match=message) as caught:
        check_pair(pair, LABELS)
    assert "\n" not in str(caught.value)


def test_file_that_is_cut_off_is_told(tmp_path):
    save_pair(tmp_path)
    path = tmp_path / "images" / "a.nii.gz"
    path.write_bytes(path.read_bytes()[:60])
    (pair,), _ = pairs_of(tmp_path)
    with pytest.raises(InputError, match=r"cannot read image .*a\.nii\.gz"):
        check_pair(pair, LABELS)


def test_case_without_lesion_is_a_normal_one_and_whole_floats_are_labels(tmp_path):
    save_pair(tmp_path, mask=np.zeros((3, 4, 5), np.uint8))
    save_pair(tmp_path, "b", "b", mask=filled(2.0))
    first, second = pairs_of(tmp_path)[0]
    assert not check_pair(first, LABELS)[1].any()
    assert check_pair(second, LABELS)[1].sum() == 2
    assert label_values([first, second]) == [2]

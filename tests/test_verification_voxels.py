"""Damage to the voxels of a synthetic data set, and sources that have changed or are gone."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from damaged_sets import TWO_CLASSES, findings, only, put, rehash, rewrite
from recorded_sets import write_scans, write_set

from custom_components.synthesis.records import read_manifest, write_manifest


@pytest.fixture
def copied(tmp_path) -> tuple[Path, Path]:
    """A set to damage, cases a and b, and the scans it was made from."""
    scans = write_scans(tmp_path / "copy" / "scans")
    write_set(tmp_path / "copy" / "set", scans)
    return tmp_path / "copy" / "set", scans


# ----------------------------------------------------------------------------------------- voxels


@pytest.mark.parametrize(
    ("name", "change", "sentence"),
    [
        ("images", put((0, 0, 0), 499), "differs from its source in 1 voxel outside the lesions."),
        ("images", lambda stored: stored[:-1], "has shape (19, 18, 12), its source has (20, 18, 12)."),
        ("images", lambda stored: stored.astype(np.int32), "holds int32, its source int16."),
        ("images", put((4, 4, 3), 0), "has a mean_painted of "),
        ("labels", put((0, 0, 0), 1), "disagrees with the instances about 1 voxel."),
        ("labels", put((4, 4, 3), 0), "disagrees with the instances about 1 voxel."),
        ("labels", put((4, 4, 3), 2), "holds 2, which is no lesion class."),
        ("labels", lambda stored: stored[:-1], "has shape (19, 18, 12), its image has (20, 18, 12)."),
        ("labels", lambda stored: -stored.astype(np.int16), "must hold whole numbers from 0 on."),
        ("instances", lambda stored: np.where(stored == 2, 0, stored), "lacks lesion 2, of which the sidecar tells."),
        ("instances", lambda stored: np.where(stored == 2, 7, stored), "holds a lesion 7, of which the sidecar does"),
        (
            "instances",
            lambda stored: np.where(stored == 2, 2**30, stored.astype(np.int32)),
            "holds a lesion 1073741824",
        ),
        ("instances", lambda stored: stored * 0.5, "must hold whole numbers from 0 on."),
    ],
)
def test_damaged_voxels_are_found_even_with_matching_hashes(copied, name, change, sentence):
    root, _ = copied
    rewrite(root / name / "a.nii.gz", change)
    rehash(root)
    found = [text for file, text in findings(root) if file == f"{name}/a.nii.gz"]
    assert any(text.startswith(sentence) for text in found), found


def test_background_is_compared_bit_for_bit(tmp_path):
    scans = tmp_path / "scans"
    scans.mkdir()
    values = np.random.default_rng(0).normal(size=(20, 18, 12)).astype(np.float32)
    values[0, 0, 0] = 0.0
    nib.save(nib.Nifti1Image(values, np.eye(4)), scans / "a.nii.gz")
    write_set(tmp_path / "set", scans)
    assert findings(tmp_path / "set") == []
    rewrite(tmp_path / "set" / "images" / "a.nii.gz", put((0, 0, 0), -0.0))
    rehash(tmp_path / "set")
    assert only(tmp_path / "set")[1] == "differs from its source in 1 voxel outside the lesions."


def test_moved_or_other_header_is_found(copied):
    root, _ = copied
    rewrite(root / "images" / "a.nii.gz", lambda stored: None, cal_max=300, toffset=4)
    rehash(root)
    assert only(root) == (
        "images/a.nii.gz",
        "has other header fields than its source: cal_max, toffset.",
    )


@pytest.mark.parametrize(("name", "of"), [("images", "its source"), ("labels", "its image")])
def test_other_affine_is_found(copied, name, of):
    root, _ = copied
    affine = nib.load(root / name / "a.nii.gz").affine.copy()
    affine[0, 3] += 0.01
    rewrite(root / name / "a.nii.gz", lambda stored: None, affine=affine)
    rehash(root)
    assert (f"{name}/a.nii.gz", f"has another affine than {of}.") in findings(root)


def test_other_scaling_is_found(copied):
    root, _ = copied
    path = root / "images" / "a.nii.gz"
    image = nib.load(path)
    stored = np.asarray(image.dataobj.get_unscaled())
    made = nib.Nifti1Image(stored, None, image.header)
    made.header.set_slope_inter(1.0, -1000.0)
    nib.save(made, path)
    rehash(root)
    assert ("images/a.nii.gz", "is scaled by 1 and -1000, its source by 2 and -1000.") in findings(root)


def test_voxels_of_another_class_are_found(tmp_path):
    write_set(tmp_path / "set", write_scans(tmp_path / "scans"), "plain", TWO_CLASSES)
    rewrite(tmp_path / "set" / "labels" / "a.nii.gz", put((4, 4, 3), 4))
    rehash(tmp_path / "set")
    found = findings(tmp_path / "set")
    assert ("labels/a.nii.gz", "gives 1 voxel of lesion 1 a class of which the sidecar does not tell.") in found


# ----------------------------------------------------------------------------------------- sources


def test_changed_source_is_one_finding(copied):
    rewrite(copied[1] / "a.nii.gz", put((0, 0, 0), 3))
    assert only(copied[0]) == (str(copied[1] / "a.nii.gz"), "has changed since lesions were painted into it.")


def test_missing_source_is_one_finding(copied):
    (copied[1] / "a.nii.gz").unlink()
    assert only(copied[0]) == (str(copied[1] / "a.nii.gz"), "is gone, a source.")


def test_source_of_several_cases_is_one_finding(tmp_path):
    scans = write_scans(tmp_path / "scans")
    write_set(tmp_path / "set", scans, cases_per_scan=3)
    (scans / "a.nii.gz").unlink()
    assert only(tmp_path / "set") == (str(scans / "a.nii.gz"), "is gone, a source.")


def test_missing_input_is_one_finding_for_all_cases_and_can_be_named(copied, tmp_path):
    copied[1].rename(tmp_path / "elsewhere")
    name, sentence = only(copied[0])
    assert name == str(copied[1])
    assert "--source" in sentence
    assert findings(copied[0], source=tmp_path / "elsewhere") == []


def test_input_may_be_the_scan_itself(copied):
    root, scans = copied
    write_manifest(root, read_manifest(root)[:1])
    for path in root.glob("*/b.*"):
        path.unlink()
    assert findings(root, source=scans / "a.nii.gz") == []

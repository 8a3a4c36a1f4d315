"""Which scans are found in an input, what they are called, and which organ masks belong to them."""

from __future__ import annotations

import json

import numpy as np
import pytest
from bundle_runs import save_nifti

from custom_components.errors import InputError
from custom_components.synthesis.cases import list_synthetic_cases
from custom_components.synthesis.scans import find_organs, find_scans

CUBE = np.zeros((2, 2, 2), np.int16)


def save(*paths) -> None:
    for path in paths:
        save_nifti(path, CUBE)


def save_series(folder, name: str = "slice", magic: bool = True) -> None:
    folder.mkdir(parents=True)
    (folder / name).write_bytes(b"\0" * 128 + (b"DICM" if magic else b"----"))


def test_a_folder_is_searched_at_any_depth_for_nifti_files_and_dicom_series(tmp_path):
    save(tmp_path / "b.nii.gz", tmp_path / "deep" / "er" / "c.nii", tmp_path / ".hidden" / "d.nii.gz")
    save_series(tmp_path / "patient" / "series", "0001")
    save_series(tmp_path / "a", "0001.dcm", magic=False)
    save_series(tmp_path / "notes", "readme.txt", magic=False)
    found = find_scans(tmp_path)
    assert [(scan.name, scan.relative) for scan in found] == [
        ("a", "a"),
        ("b", "b.nii.gz"),
        ("deep_er_c", "deep/er/c.nii"),
        ("patient_series", "patient/series"),
    ]
    assert all(scan.label is None for scan in found)


def test_a_single_scan_is_an_input(tmp_path):
    save(tmp_path / "one.nii.gz")
    save_series(tmp_path / "series")
    assert [scan.name for scan in find_scans(tmp_path / "one.nii.gz")] == ["one"]
    assert [(scan.name, scan.relative) for scan in find_scans(tmp_path / "series")] == [("series", "series")]


def test_a_data_set_gives_images_alone_and_their_labels_where_there_are_any(tmp_path):
    save(tmp_path / "images" / "a.nii.gz", tmp_path / "images" / "b.nii.gz", tmp_path / "labels" / "a.nii.gz")
    a, b = find_scans(tmp_path)
    assert (a.name, a.relative, b.relative) == ("a", "images/a.nii.gz", "images/b.nii.gz")
    assert a.label.endswith("labels/a.nii.gz") and b.label is None
    with pytest.raises(InputError, match=r"b\.nii\.gz has no label"):
        find_scans(tmp_path, labelled=True)


def test_groups_of_a_data_set_are_part_of_the_names(tmp_path):
    save(tmp_path / "Normal" / "images" / "a.nii.gz", tmp_path / "Sick" / "images" / "a.nii.gz")
    assert [scan.name for scan in find_scans(tmp_path)] == ["Normal_a", "Sick_a"]


def test_a_datalist_needs_no_labels(tmp_path):
    save(tmp_path / "x.nii.gz")
    (tmp_path / "datalist.json").write_text(json.dumps([{"image": "x.nii.gz", "case": "first"}]))
    assert [(scan.name, scan.relative) for scan in find_scans(tmp_path)] == [("first", "x.nii.gz")]
    with pytest.raises(InputError, match="'label'"):
        find_scans(tmp_path, labelled=True)


def test_inputs_without_scans_or_with_equal_names_are_refused(tmp_path):
    with pytest.raises(InputError, match="does not exist"):
        find_scans(tmp_path / "none")
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="neither NIfTI files nor DICOM"):
        find_scans(tmp_path / "empty")
    save(tmp_path / "two" / "a.nii", tmp_path / "two" / "a.nii.gz")
    with pytest.raises(InputError, match="named 'a'"):
        find_scans(tmp_path / "two")
    with pytest.raises(InputError, match="has no label maps"):
        find_scans(tmp_path / "two", labelled=True)


def test_organ_masks_are_named_as_the_scans_or_lie_as_they_do(tmp_path):
    save(tmp_path / "in" / "p" / "a.nii.gz", tmp_path / "in" / "q" / "b.nii.gz", tmp_path / "in" / "c.nii.gz")
    organs = tmp_path / "organs"
    save(organs / "p_a.nii.gz", organs / "q" / "b.nii")
    found = find_organs(find_scans(tmp_path / "in"), organs)
    assert found == {"p_a": str(organs / "p_a.nii.gz"), "q_b": str(organs / "q" / "b.nii")}


def test_one_organ_mask_is_for_one_scan(tmp_path):
    save(tmp_path / "in" / "a.nii.gz", tmp_path / "in" / "b.nii.gz", tmp_path / "organ.nii.gz")
    scans = find_scans(tmp_path / "in")
    assert find_organs(scans[:1], tmp_path / "organ.nii.gz") == {"a": str(tmp_path / "organ.nii.gz")}
    with pytest.raises(InputError, match="is one file"):
        find_organs(scans, tmp_path / "organ.nii.gz")
    with pytest.raises(InputError, match="no file named as a scan"):
        find_organs(scans[:1], tmp_path / "in" / "..")


def test_cases_of_a_scan_are_numbered_and_never_share_a_name(tmp_path):
    save(tmp_path / "a.nii.gz", tmp_path / "b.nii.gz")
    scans = find_scans(tmp_path)
    assert [case.name for case in list_synthetic_cases(scans, 1)] == ["a", "b"]
    assert [case.name for case in list_synthetic_cases(scans, 2)] == ["a_s1", "a_s2", "b_s1", "b_s2"]

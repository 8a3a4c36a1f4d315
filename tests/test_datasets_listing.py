"""Cases are found in folders and data lists, and those with lesions kept."""

from __future__ import annotations

import json

import nibabel as nib
import numpy as np
import pytest

from custom_components.datasets import find_cases, list_cases, require_cases, with_lesions
from custom_components.errors import InputError
from custom_components.labels import LesionLabels

# ----------------------------------------------------------------------------------------- listing


def touch(*paths):
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


def test_images_and_labels_are_paired_by_name(tmp_path):
    touch(*(tmp_path / kind / f"{name}.nii.gz" for kind in ("images", "labels") for name in ("b", "a")))
    touch(tmp_path / "images" / "notes.txt", tmp_path / "labels" / "unused.nii.gz")
    cases = list_cases(tmp_path)
    assert [case["case"] for case in cases] == ["a", "b"]
    assert cases[0]["image"] == str(tmp_path / "images" / "a.nii.gz")
    assert cases[0]["label"] == str(tmp_path / "labels" / "a.nii.gz")
    assert cases[0]["patient"] == "a"


def test_image_may_be_uncompressed_or_a_dicom_folder(tmp_path):
    touch(tmp_path / "images" / "a.nii", tmp_path / "images" / "b" / "1.dcm")
    touch(tmp_path / "labels" / "a.nii.gz", tmp_path / "labels" / "b.nii")
    cases = list_cases(str(tmp_path))
    assert [(case["case"], case["image"]) for case in cases] == [
        ("a", str(tmp_path / "images" / "a.nii")),
        ("b", str(tmp_path / "images" / "b")),
    ]


@pytest.mark.parametrize("wrap", [lambda entries: entries, lambda entries: {"name": "x", "training": entries}])
@pytest.mark.parametrize("given", ["folder", "file"])
def test_datalist_paths_are_relative_to_its_file_and_keys_are_kept(tmp_path, wrap, given):
    touch(tmp_path / "scans" / "one.nii.gz", tmp_path / "scans" / "one_seg.nii.gz")
    absolute = tmp_path / "elsewhere" / "two.nii.gz"
    touch(absolute)
    entries = [
        {"image": "scans/one.nii.gz", "label": "scans/one_seg.nii.gz", "patient": "P1", "texture": 5},
        {"image": str(absolute), "label": "scans/one_seg.nii.gz", "case": "second"},
    ]
    file = tmp_path / "datalist.json"
    file.write_text(json.dumps(wrap(entries)))
    first, second = list_cases(tmp_path if given == "folder" else file)
    assert first == {
        "image": str(tmp_path / "scans" / "one.nii.gz"),
        "label": str(tmp_path / "scans" / "one_seg.nii.gz"),
        "case": "one",
        "patient": "P1",
        "texture": 5,
    }
    assert second["image"] == str(absolute)
    assert (second["case"], second["patient"]) == ("second", "second")


def test_missing_folder_is_named(tmp_path):
    with pytest.raises(InputError, match=r"nowhere.* does not exist"):
        list_cases(tmp_path / "nowhere")


def test_folder_without_images_or_datalist_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"neither a datalist\.json nor an images"):
        list_cases(tmp_path)


@pytest.mark.parametrize("labels", [True, False])
def test_image_without_label_is_named(tmp_path, labels):
    touch(tmp_path / "images" / "a.nii.gz")
    if labels:
        touch(tmp_path / "labels" / "other.nii.gz")
    with pytest.raises(InputError, match=r"a\.nii\.gz has no label"):
        list_cases(tmp_path)


def test_empty_images_folder_holds_no_cases(tmp_path):
    (tmp_path / "images").mkdir()
    with pytest.raises(InputError, match="holds no cases"):
        list_cases(tmp_path)


@pytest.mark.parametrize(
    ("content", "fault"),
    [
        ("[", "cannot read the datalist"),
        (b"\x1f\x8b\x08\x00", "cannot read the datalist"),
        ('{"validation": []}', "must hold a list"),
        ("7", "must hold a list"),
        ("[]", "holds no cases"),
        ('[{"image": "a.nii.gz", "label": "a.nii.gz"}, {"image": "a.nii.gz"}]', "entry 1 .*'label'"),
        ('["a.nii.gz"]', "entry 0 .*'image'"),
        (
            '[{"image": "a.nii.gz", "label": "gone.nii.gz"}]',
            r"label .*gone\.nii\.gz of case a does not exist",
        ),
        (
            '[{"image": "gone.nii.gz", "label": "a.nii.gz"}]',
            r"image .*gone\.nii\.gz of case gone does not exist",
        ),
        pytest.param('[{"image": 3, "label": "a.nii.gz"}]', "entry 0"),
    ],
)
def test_bad_datalist_is_refused_naming_the_fault(tmp_path, content, fault):
    touch(tmp_path / "a.nii.gz")
    file = tmp_path / "datalist.json"
    file.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(InputError, match=fault):
        list_cases(tmp_path)


def test_real_nodules_are_listed_with_their_patients(data_dir):
    folder = data_dir / "lidc_nodules"
    if not folder.is_dir():
        pytest.skip(f"no folder {folder}")
    cases = list_cases(folder)
    assert len(cases) == len(list((folder / "images").glob("*.nii.gz")))
    assert {case["case"] + ".nii.gz" for case in cases} == {path.name for path in (folder / "images").iterdir()}
    assert all(case["case"].startswith(case["patient"]) for case in cases)


def test_one_image_and_its_mask_take_the_place_of_the_data_set(tmp_path):
    touch(tmp_path / "images" / "a.nii.gz", tmp_path / "labels" / "a.nii.gz")
    assert find_cases(tmp_path) == list_cases(tmp_path)
    assert find_cases(tmp_path, "scans/x.nii.gz", "scans/y.nii.gz") == [
        {"image": "scans/x.nii.gz", "label": "scans/y.nii.gz", "case": "x", "patient": "x"}
    ]


@pytest.mark.parametrize(("given", "missing"), [("image", "mask"), ("mask", "image")])
def test_image_and_mask_go_together(tmp_path, given, missing):
    with pytest.raises(InputError, match=f"{missing} is missing"):
        find_cases(tmp_path, **{given: "a.nii.gz"})


def test_missing_data_set_gives_no_cases_until_they_are_required(tmp_path):
    assert find_cases(tmp_path / "nowhere") == []
    require_cases([{"case": "a"}], tmp_path)
    with pytest.raises(InputError, match="nowhere"):
        require_cases([], tmp_path / "nowhere")


def test_groups_of_a_folder_are_listed_together_each_case_with_its_group(tmp_path):
    for group, names_of in (("Sick", "ab"), ("Healthy", "c")):
        touch(*(tmp_path / group / kind / f"{name}.nii.gz" for kind in ("images", "labels") for name in names_of))
    touch(tmp_path / "Notes" / "readme.txt")
    cases = list_cases(tmp_path)
    assert [(case["case"], case["patient"], case["group"]) for case in cases] == [
        ("c", "c", "Healthy"),
        ("a", "a", "Sick"),
        ("b", "b", "Sick"),
    ]
    assert cases[1]["image"] == str(tmp_path / "Sick" / "images" / "a.nii.gz")
    assert cases[1]["label"] == str(tmp_path / "Sick" / "labels" / "a.nii.gz")


def test_a_case_of_a_group_needs_its_label_too(tmp_path):
    touch(tmp_path / "Sick" / "images" / "a.nii.gz")
    with pytest.raises(InputError, match=r"a\.nii\.gz has no label of the same name in .*Sick"):
        list_cases(tmp_path)


def test_folder_with_images_of_its_own_is_no_folder_of_groups(tmp_path):
    touch(*(tmp_path / kind / "a.nii.gz" for kind in ("images", "labels", "Sick/images", "Sick/labels")))
    assert [case["case"] for case in list_cases(tmp_path)] == ["a"]
    assert "group" not in list_cases(tmp_path)[0]


# ----------------------------------------------------------------------------------------- cases with lesions


HEART = LesionLabels({"scar": 3, "core": 4}, {"pool": 1, "wall": 2})


def label_case(folder, name: str, *values: int) -> dict:
    path = folder / f"{name}.nii.gz"
    nib.save(nib.Nifti1Image(np.array(values, dtype=np.uint8).reshape(-1, 1, 1), np.eye(4)), path)
    return {"case": name, "label": str(path)}


def test_cases_with_a_lesion_of_any_class_are_kept_in_order(tmp_path):
    cases = [
        label_case(tmp_path, "core", 0, 1, 4),
        label_case(tmp_path, "normal", 0, 1, 2),
        label_case(tmp_path, "scar", 0, 3, 2),
    ]
    assert [case["case"] for case in with_lesions(cases, HEART)] == ["core", "scar"]
    assert [case["case"] for case in with_lesions(cases, LesionLabels({"pool": 1}))] == ["core", "normal"]


def test_data_set_without_any_lesion_is_told(tmp_path):
    cases = [label_case(tmp_path, name, 0, 1, 2) for name in "ab"]
    with pytest.raises(InputError, match=r"none of the 2 label maps holds a lesion \(scar = 3, core = 4\)"):
        with_lesions(cases, HEART)
    assert with_lesions([], HEART) == []


def test_label_map_that_cannot_be_read_is_named(tmp_path):
    (tmp_path / "torn.nii.gz").write_bytes(b"no gzip")
    with pytest.raises(InputError, match=r"cannot read label .*torn\.nii\.gz"):
        with_lesions([{"case": "torn", "label": str(tmp_path / "torn.nii.gz")}], HEART)

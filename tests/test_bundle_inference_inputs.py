"""Scans come as files, folders, data lists and DICOM series."""

from __future__ import annotations

import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from bundle_runs import (
    Output,
    same_excepthook,  # noqa: F401 (a fixture)
    save_nifti,
)
from dicom_series import write_dicom_series
from lung_runs import (
    paint_fixture,  # noqa: F401 (a fixture)
    weights_fixture,  # noqa: F401 (a fixture)
)
from small_chest import LESIONS, balls, chest, save_case


def test_folders_of_images_and_labels_are_painted_case_by_case(paint, tmp_path):
    for name, lesions in (("a", LESIONS[:1]), ("b", LESIONS)):
        save_nifti(tmp_path / "data" / "images" / f"{name}.nii.gz", chest())
        save_nifti(tmp_path / "data" / "labels" / f"{name}.nii.gz", balls(lesions=lesions).astype(np.uint8))
    paint(tmp_path / "out", dataset_dir=str(tmp_path / "data"), texture="solid")
    for name, lesions in (("a", LESIONS[:1]), ("b", LESIONS)):
        output = Output(tmp_path / "out", name)
        assert len(output.specs) == len(lesions)
        assert np.array_equal(output.mask.get_fdata() > 0, balls(lesions=lesions))
        assert np.array_equal(output.stored != chest(), balls(lesions=lesions))
    assert len(Output(tmp_path / "out").files()) == 6


def test_case_of_a_datalist_may_have_its_own_name_and_texture(paint, tmp_path):
    save_case(tmp_path / "data")
    entries = [
        {"image": "case.nii.gz", "label": "label.nii.gz", "case": "first", "lesion_texture": "ground_glass"},
        {"image": "case.nii.gz", "label": "label.nii.gz", "case": "second"},
    ]
    (tmp_path / "data" / "datalist.json").write_text(json.dumps(entries))
    paint(tmp_path / "out", dataset_dir=str(tmp_path / "data"), texture=["solid", "none"])
    assert [spec["texture"] for spec in Output(tmp_path / "out", "first").specs] == ["ground_glass"] * 2
    assert [spec["texture"] for spec in Output(tmp_path / "out", "second").specs] == ["solid", "none"]


@pytest.fixture
def dicom(tmp_path) -> dict[str, str]:
    """A series of 0.8 x 0.9 x 2 mm and a mask on its grid."""
    shape, spacing, origin = (34, 30, 14), (0.8, 0.9, 2.0), (-90.0, -140.5, 33.0)
    write_dicom_series(tmp_path / "in" / "series", chest(shape), spacing, origin)
    affine = np.diag([-spacing[0], -spacing[1], spacing[2], 1.0])
    affine[:3, 3] = (-origin[0], -origin[1], origin[2])
    mask = balls(shape, [((18, 14, 7), 5.0)], spacing)
    label = save_nifti(tmp_path / "in" / "label.nii.gz", mask.astype(np.uint8), affine)
    return {"image": str(tmp_path / "in" / "series"), "mask": str(label)}


def test_dicom_series_is_painted_on_its_own_grid(paint, dicom, tmp_path):
    output = paint(tmp_path / "out", "series", **dicom, texture="solid")
    label = nib.load(dicom["mask"])
    mask = label.get_fdata() > 0
    assert np.allclose(output.image.affine, label.affine, atol=1e-4)
    assert output.image.header.get_xyzt_units()[0] == "mm"
    assert (output.image.header["qform_code"], output.image.header["sform_code"]) == (1, 1)
    assert output.stored.dtype == np.int16
    before = chest(mask.shape)
    assert np.array_equal(output.stored[~mask], before[~mask])
    assert np.mean(output.stored[mask] != before[mask]) > 0.95
    assert np.array_equal(output.mask.get_fdata() > 0, mask)


def test_folder_beside_the_slices_of_a_series_does_not_matter(paint, dicom, tmp_path):
    (Path(dicom["image"]) / "thumbnails").mkdir()
    paint(tmp_path / "out", "series", **dicom, texture="solid")

"""Scans whose headers contradict themselves."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from custom_components.errors import InputError
from custom_components.volumes import read_scan, write_scan


def save(path: Path, affine: np.ndarray, told_mm: tuple[float, float, float]) -> Path:
    """A scan whose sform is ``affine``, whatever voxel size its header tells besides."""
    image = nib.Nifti1Image(np.arange(60, dtype=np.int16).reshape(3, 4, 5), affine)
    image.header.set_zooms(told_mm)
    image.header.set_sform(affine, code=2)
    nib.save(nib.Nifti1Image(image.dataobj, None, image.header), path)
    return path


def test_placeholder_affine_gives_way_to_the_voxel_size_of_the_header_with_a_warning(tmp_path):
    path = save(tmp_path / "a.nii.gz", np.diag([-1.0, -1, 1, 1]), (1.5, 1.5, 10))
    with pytest.warns(UserWarning, match=r"a\.nii\.gz: its affine tells of voxels of 1 mm, its header of 1\.5 x 1\.5"):
        scan = read_scan(path)
    np.testing.assert_allclose(scan.affine, np.diag([-1.5, -1.5, 10, 1]))


def test_affine_with_voxels_of_its_own_is_believed(tmp_path):
    path = save(tmp_path / "b.nii.gz", np.diag([-0.7, 0.7, 2, 1]), (1.5, 1.5, 10))
    np.testing.assert_allclose(read_scan(path).affine, np.diag([-0.7, 0.7, 2, 1]))


def test_contradicting_header_is_written_back_as_it_was(tmp_path):
    path = save(tmp_path / "c.nii.gz", np.diag([-1.0, -1, 1, 1]), (1.5, 1.5, 10))
    with pytest.warns(UserWarning):
        scan = read_scan(path)
    write_scan(scan, scan.stored + 1, tmp_path / "out.nii.gz")
    before, after = nib.load(path), nib.load(tmp_path / "out.nii.gz")
    assert np.array_equal(np.asarray(after.dataobj), np.asarray(before.dataobj) + 1)
    for key in ("pixdim", "sform_code", "qform_code", "srow_x", "srow_y", "srow_z", "datatype", "dim"):
        assert np.array_equal(before.header[key], after.header[key]), key


@pytest.mark.parametrize("ending", [".dcm", "", ".IMA"])
def test_series_is_read_whatever_its_files_are_called_and_lie_among(tmp_path, ending):
    pytest.importorskip("pydicom")
    from dicom_series import write_series

    plain = read_scan(write_series(tmp_path / "plain"))
    folder = write_series(tmp_path / "series", ending=ending)
    (folder / "README.txt").write_text("notes")
    (folder / ".DS_Store").write_bytes(bytes(200))
    (folder / "broken.dcm").write_text("no DICOM")
    (folder / "ct.nii.gz").write_bytes(b"no NIfTI")
    (folder / "thumbnails").mkdir()
    scan = read_scan(folder)
    np.testing.assert_array_equal(scan.stored, plain.stored)
    np.testing.assert_array_equal(scan.affine, plain.affine)


def test_part_of_a_series_is_never_read_for_the_whole(tmp_path):
    pytest.importorskip("pydicom")
    from dicom_series import write_series

    # Both under one UID, as scanners write reconstructions of several thicknesses.
    folder = write_series(tmp_path / "series", SeriesInstanceUID="1.2.3")
    for path in write_series(tmp_path / "other", SliceThickness=5.0, SeriesInstanceUID="1.2.3").iterdir():
        path.rename(folder / f"other {path.name}")
    with pytest.raises(InputError, match="exactly one DICOM series, it holds 2"):
        read_scan(folder)

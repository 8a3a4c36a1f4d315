"""Masks between the model's grid and the scan's: crops around spheres, transforms, and the way back."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch
from monai.data import MetaTensor

from custom_components.errors import InputError
from custom_components.mask_cases import find_masks
from custom_components.mask_grids import mask_crop_affine, masks_on_grid
from custom_components.mask_specs import MaskSpec
from custom_components.mask_targets import MaskTarget
from custom_components.masks import bounding_sphere
from custom_components.transforms import ControlSphered, MaskTargetCropd, RandMaskCropd

SHAPE = (40, 36, 30)
AFFINE = np.diag([-0.8, 0.8, 1.2, 1.0])
AFFINE[:3, 3] = (20, -30, 5)


def blob() -> np.ndarray:
    """An ellipsoid with a bump, so that no mirror image equals it; bool."""
    grid = np.indices(SHAPE).astype(float)
    body = ((grid - np.reshape((20, 16, 14), (3, 1, 1, 1))) / np.reshape((8, 5, 4), (3, 1, 1, 1))) ** 2
    bump = (grid - np.reshape((26, 20, 15), (3, 1, 1, 1))) ** 2
    return (body.sum(axis=0) <= 1) | (bump.sum(axis=0) <= 9)


def enclosed(label: np.ndarray, **settings) -> dict:
    label = MetaTensor(torch.from_numpy(label[None].astype(np.uint8)), affine=torch.as_tensor(AFFINE))
    return ControlSphered("label", **settings)({"label": label})


def test_adaptive_crop_has_the_sphere_in_its_middle_and_its_radius_in_voxels():
    affine = mask_crop_affine((3, 4, 5), 6.0, AFFINE, (24, 24, 24), radius_voxels=9)
    np.testing.assert_allclose(np.diag(affine)[:3], 6 / 9)
    np.testing.assert_allclose((affine @ [11.5, 11.5, 11.5, 1])[:3], (3, 4, 5))


def test_control_sphere_of_a_label_is_that_of_all_its_classes():
    label = blob().astype(np.uint8)
    label[20:22, 16, 14] = 2
    out = enclosed(label, class_labels=[1, 2])
    centre, radius = bounding_sphere(label > 0, AFFINE)
    np.testing.assert_allclose(out["control"].numpy(), [*centre, radius])
    assert out["masks"].shape[0] == 2
    assert [int(one.sum()) for one in out["masks"]] == [int((label == 1).sum()), 2]
    assert "label" not in out
    assert (out["boundary"] == 1).all()


def test_boundary_holds_the_labels_asked_for():
    label = blob().astype(np.uint8) * 2
    label[2:5, 2:5, 2:5] = 1
    out = enclosed(label, class_labels=[2], boundary_labels=[1, 2])
    assert int(out["boundary"].sum()) == int((label > 0).sum())


def test_label_without_a_lesion_is_refused():
    with pytest.raises(InputError, match=r"none of \[3\]"):
        enclosed(blob(), class_labels=[3])


@pytest.mark.parametrize("settings", [{"radius_voxels": 9.0}, {"radius_voxels": None, "spacing_mm": [1, 1, 1]}])
def test_crop_brings_the_lesion_back_onto_the_scan(settings):
    """What training shows the network, put back the way that drawn masks are, is the real mask again."""
    size = (24, 24, 24) if settings["radius_voxels"] else (32, 32, 32)
    item = RandMaskCropd("masks", spatial_size=size, **settings)(enclosed(blob()))
    assert item["masks"].min() == -1
    box, classes = masks_on_grid(item["masks"].numpy(), np.asarray(item["masks"].affine), AFFINE, SHAPE)
    back = np.zeros(SHAPE, bool)
    back[box] = classes[0]
    overlap = 2 * (back & blob()).sum() / (back.sum() + blob().sum())
    assert overlap > 0.9


def test_sphere_of_the_crop_touches_the_mask_however_it_is_turned():
    transform = RandMaskCropd("masks", shift_voxels=[1.5] * 3, scale=0.1, mirror=[True] * 4)
    seen = set()
    for seed in range(12):
        transform.set_random_state(seed=seed)
        item = transform(enclosed(blob()))
        lesion = item["masks"][0].numpy() > 0
        sphere = item["sphere"][0].numpy()
        assert sphere[lesion].min() > -0.06  # no further out than a voxel (falloff 10 mm)
        assert sphere[lesion].min() < 0.1
        seen.add(lesion.tobytes())
    assert len(seen) == 12


def test_masks_never_leave_the_boundary_on_the_scan():
    item = RandMaskCropd("masks")(enclosed(blob()))
    boundary = np.zeros(SHAPE, bool)
    boundary[:22] = True
    box, classes = masks_on_grid(item["masks"].numpy(), np.asarray(item["masks"].affine), AFFINE, SHAPE, boundary)
    assert classes.any()
    assert not (classes[0] & ~boundary[box]).any()


def test_drawn_lesion_is_moved_onto_its_sphere_where_there_is_room():
    item = RandMaskCropd("masks")(enclosed(blob()))
    values, affine = item["masks"].numpy(), np.asarray(item["masks"].affine)
    wanted = ((8.0, -17.0, 24.0), 6.0)
    box, classes = masks_on_grid(values, affine, AFFINE, SHAPE, sphere=wanted)
    mask = np.zeros(SHAPE, bool)
    mask[box] = classes[0]
    centre, radius = bounding_sphere(mask, AFFINE)
    np.testing.assert_allclose(centre, wanted[0], atol=0.8)
    assert radius == pytest.approx(wanted[1], abs=0.6)
    closed = np.ones(SHAPE, bool)
    closed[masks_on_grid(values, affine, AFFINE, SHAPE)[0][0].start + 1] = False
    in_place = masks_on_grid(values, affine, AFFINE, SHAPE, closed)
    assert np.array_equal(masks_on_grid(values, affine, AFFINE, SHAPE, closed, sphere=wanted)[1], in_place[1])


def test_lesion_thinner_than_the_scan_s_voxels_becomes_one_of_them():
    thick = np.diag([1.0, 1.0, 20.0, 1.0])
    values = np.full((1, 24, 24, 24), -1.0, np.float32)
    values[0, 10:14, 10:14, 10:14] = 1
    affine = mask_crop_affine((10, 10, 8.0), 3.0, thick, (24, 24, 24), radius_voxels=9)
    _, classes = masks_on_grid(values, affine, thick, (20, 20, 4))
    assert classes.sum() == 1
    _, nothing = masks_on_grid(-np.ones_like(values), affine, thick, (20, 20, 4))
    assert nothing.sum() == 0


def test_target_crop_shows_sphere_and_organ_where_they_are(tmp_path):
    organ = np.zeros(SHAPE, np.uint8)
    organ[:20] = 4
    nib.save(nib.Nifti1Image(organ, AFFINE), tmp_path / "organ.nii.gz")
    centre = tuple((AFFINE @ [19.5, 16, 14, 1])[:3])
    spec = MaskSpec("case", 1, 1, centre, 6.0, 77)
    target = MaskTarget("case", organ=str(tmp_path / "organ.nii.gz"), organ_labels=(4,))
    item = MaskTargetCropd()({"target": target, "spec": spec, "index": 0})
    assert item["seed"] == 77
    assert float(item["sphere"].max()) == pytest.approx(0.6, abs=0.06)
    x = np.asarray(item["sphere"].affine)[0, 3] + np.arange(24) * 6 / 9
    inside = item["boundary"][0, :, 12, 12].numpy() > 0
    np.testing.assert_array_equal(inside[np.abs(x - centre[0]) > 0.5], (x > centre[0])[np.abs(x - centre[0]) > 0.5])


# ------------------------------------------------------------------------------------------------ finding labels


def test_label_files_are_found_in_a_folder_or_by_a_manifest(tmp_path):
    (tmp_path / "labels").mkdir()
    for name in ("b", "a"):
        (tmp_path / "labels" / f"{name}.nii.gz").write_bytes(b"")
    assert [(case["case"], case["patient"]) for case in find_masks(tmp_path)] == [("a", "a"), ("b", "b")]
    (tmp_path / "datalist.json").write_text(
        '[{"label": "labels/a.nii.gz", "patient": "P"}, {"label": "labels/b.nii.gz", "whole": false}]'
    )
    assert [case["patient"] for case in find_masks(tmp_path)] == ["P"]
    assert len(find_masks(tmp_path, whole=False)) == 2
    assert find_masks(tmp_path / "absent") == []


@pytest.mark.parametrize(
    ("content", "named"),
    [
        ("{}", "list"),
        ("[{}]", "entry 0"),
        ("nonsense", "cannot read"),
        ('[{"label": "labels/c.nii.gz"}]', "does not exist"),
        ("[]", "no labels"),
        (None, "neither"),
    ],
)
def test_unfit_data_set_of_masks_is_refused(tmp_path, content, named):
    if content is not None:
        Path(tmp_path / "datalist.json").write_text(content)
    with pytest.raises(InputError, match=named):
        find_masks(tmp_path)

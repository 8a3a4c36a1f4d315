"""Lesions of any set on one common grid."""

from __future__ import annotations

import nibabel as nib
import numpy as np
import pytest
from made_up_lesions import AFFINE, SHAPE, made_up_lesion, write_lesions
from synthetic_sets import small_set

from custom_components.errors import InputError
from custom_components.lesion_crops import list_set, read_crops


def read(root, **options):
    return read_crops(list_set(root), "the set", size=20, progress=False, **options)


def write(root, name, hu, mask, affine):
    for folder, values in (("images", hu), ("labels", mask)):
        (root / folder).mkdir(parents=True, exist_ok=True)
        nib.save(nib.Nifti1Image(values, affine), root / folder / f"{name}.nii.gz")


def test_scan_of_the_common_spacing_is_copied_with_its_own_values(tmp_path):
    hu, mask = made_up_lesion(3)
    crop = read(write_lesions(tmp_path, ["a"], [3]))[0]
    np.testing.assert_array_equal(np.sort(crop.tight_values[crop.tight_mask]), np.sort(hu[mask > 0]))


def test_lesion_is_in_the_middle_of_its_cube_wherever_it_lies(tmp_path):
    hu, mask = made_up_lesion(4)
    write(tmp_path, "a", hu, mask, AFFINE)
    moved = [np.pad(v, ((5, 0), (0, 2), (3, 3)), mode="edge") for v in (hu, mask)]
    write(tmp_path, "b", *moved, AFFINE)
    first, second = read(tmp_path)
    inside = np.argwhere(first.mask)
    np.testing.assert_allclose(inside.mean(axis=0), 9.5, atol=0.2)
    np.testing.assert_array_equal(first.mask, second.mask)
    np.testing.assert_allclose(first.values[first.mask], second.values[second.mask], atol=1e-3)
    assert first.site != second.site


def test_order_and_direction_of_the_arrays_axes_do_not_matter(tmp_path):
    hu, mask = made_up_lesion(5)
    write(tmp_path, "a", hu, mask, AFFINE)
    orientation = np.array([[2, -1], [0, 1], [1, -1]])
    turned = [nib.orientations.apply_orientation(v, orientation) for v in (hu, mask)]
    write(tmp_path, "b", *turned, AFFINE @ nib.orientations.inv_ornt_aff(orientation, SHAPE))
    first, second = read(tmp_path)
    np.testing.assert_array_equal(first.tight_mask, second.tight_mask)
    np.testing.assert_allclose(first.values, second.values, atol=1e-3)


def test_finer_scan_gives_the_same_lesion_at_the_common_spacing(tmp_path):
    hu, mask = made_up_lesion(6)
    write(tmp_path, "a", hu, mask, AFFINE)
    fine = [np.kron(v, np.ones((2, 2, 2))).astype(v.dtype) for v in (hu, mask)]
    write(tmp_path, "b", *fine, AFFINE @ np.diag([0.5, 0.5, 0.5, 1]))
    first, second = read(tmp_path)
    assert second.tight_mask.sum() == pytest.approx(first.tight_mask.sum(), rel=0.1)
    means = [crop.tight_values[crop.tight_mask].mean() for crop in (first, second)]
    assert means[1] == pytest.approx(means[0], abs=25)


def test_lesion_larger_than_the_cube_is_whole_in_its_tight_crop(tmp_path):
    _, mask = made_up_lesion(7)
    crop = read_crops(list_set(write_lesions(tmp_path, ["a"], [7])), "the set", size=8, progress=False)[0]
    assert crop.mask.sum() < mask.sum() == crop.tight_mask.sum()


def test_lesions_of_a_scan_are_told_apart_and_other_labels_are_none(tmp_path):
    label = np.zeros(SHAPE, np.uint8)
    label[3:6, 3:6, 3:6], label[12:16, 12:16, 12:16], label[18:22, 2:6, 2:6] = 3, 4, 2
    write(tmp_path, "a", np.zeros(SHAPE, np.int16), label, AFFINE)
    found = read(tmp_path, labels=(3, 4))
    assert [(crop.name, int(crop.tight_mask.sum())) for crop in found] == [("a_1", 27), ("a_2", 64)]
    together = read(tmp_path, labels=(3, 4), joint=True)
    assert [(crop.name, int(crop.tight_mask.sum())) for crop in together] == [("a", 91)]


def test_cubes_are_as_long_in_mm_along_every_axis(tmp_path):
    crop = read(write_lesions(tmp_path, ["a"], [3]), spacing_mm=(1, 1, 4))[0]
    assert crop.values.shape == crop.mask.shape == (20, 20, 5)


def test_synthetic_set_is_read_by_its_manifest(tmp_path):
    cases = list_set(small_set(tmp_path))
    assert [(case["case"], case["patient"]) for case in cases] == [
        (f"scan_000{n}_s1", f"scan_000{n}") for n in range(3)
    ]
    assert len(read(tmp_path)) == 6
    (tmp_path / "images" / "scan_0001_s1.nii.gz").unlink()
    with pytest.raises(InputError, match=r"image .*scan_0001_s1.nii.gz of case scan_0001_s1 does not exist"):
        list_set(tmp_path)


def test_so_many_lesions_are_drawn_from_the_seed(tmp_path):
    write_lesions(tmp_path, list("abcdefgh"), range(8))
    names = [[crop.name for crop in read(tmp_path, count=3, seed=seed)] for seed in (0, 0, 1)]
    assert len(names[0]) == 3
    assert names[0] == names[1] != names[2]
    assert names[0] == sorted(names[0])
    assert [crop.name for crop in read(tmp_path, count=8)] == list("abcdefgh")


def test_set_without_lesion_and_label_of_another_grid_are_named(tmp_path):
    write(tmp_path / "empty", "a", np.zeros(SHAPE, np.int16), np.zeros(SHAPE, np.uint8), AFFINE)
    with pytest.raises(InputError, match=r"the set: none of its 1 label maps holds a lesion \(label 1\)"):
        read(tmp_path / "empty")
    root = write_lesions(tmp_path / "other", ["a"], [0])
    nib.save(nib.Nifti1Image(made_up_lesion(0)[1], np.eye(4)), root / "labels" / "a.nii.gz")
    with pytest.raises(InputError, match="lies on another grid than its image"):
        read(root)


def test_voxels_that_are_no_numbers_are_told(tmp_path):
    hu, mask = made_up_lesion(0)
    write(tmp_path, "a", np.where(mask, np.nan, hu).astype(np.float32), mask, AFFINE)
    with pytest.raises(InputError, match=r"holds \d+ NaN or infinite voxels"):
        read(tmp_path)

"""From a scan's own grid to a crop and back, for stacks that lie and are stored in any way."""

from __future__ import annotations

import nibabel as nib
import numpy as np
import pytest
from thick_stacks import SPACING, STORED_WAYS, TILTS, affine_of, stored_as

from custom_components.grids import (
    covering_box,
    crop_affine,
    crop_axes,
    from_crop,
    through_plane_last,
    to_crop,
    turn,
)

SHAPE = (13, 11, 5)
# A stack whose slices are closest to sagittal, coronal and axial planes, and one between them.
STACKS = {
    **{name: affine_of(tilt) for name, tilt in TILTS.items()},
    "sagittal": affine_of((10, 80, -5)),
    "coronal": affine_of((-75, 5, 10)),
}
WAYS = STORED_WAYS[::5]  # ten of the 48, with every order and both directions of every axis


def volume(seed: int = 0) -> np.ndarray:
    """Unlike any of its mirror images; zeros lie beside large numbers, where the least interpolation shows."""
    values = np.random.default_rng(seed).integers(0, 4096, SHAPE).astype(np.float32)
    values[::3] = 0
    return values


def read_at(values: np.ndarray, affine: np.ndarray, points_mm: np.ndarray) -> np.ndarray:
    """The voxels that hold points (..., 3) in RAS+ mm; beyond the volume those nearest to them."""
    index = np.rint(nib.affines.apply_affine(np.linalg.inv(affine), points_mm)).astype(int)
    return values[tuple(np.clip(index[..., axis], 0, size - 1) for axis, size in enumerate(values.shape))]


def places(affine: np.ndarray, shape) -> np.ndarray:
    """RAS+ mm of every voxel (X, Y, Z, 3)."""
    return nib.affines.apply_affine(affine, np.moveaxis(np.indices(shape), 0, -1))


# ----------------------------------------------------------------------------------------- orientation


@pytest.mark.parametrize("stack", STACKS)
def test_a_thick_stack_turns_into_the_same_array_however_it_is_stored(stack):
    reference = None
    for way in STORED_WAYS:
        stored, affine = stored_as(volume(), STACKS[stack], way)
        turned, new_affine = turn(stored, affine, through_plane_last(affine))
        reference = (turned, new_affine) if reference is None else reference
        np.testing.assert_array_equal(turned, reference[0])
        np.testing.assert_allclose(new_affine, reference[1], atol=1e-9)
    np.testing.assert_allclose(nib.affines.voxel_sizes(reference[1]), SPACING)


@pytest.mark.parametrize(
    ("stack", "codes"),
    [("straight", "RAS"), ("oblique", "RAS"), ("sagittal", "ASR"), ("coronal", "RSA"), ("short axis", "RSA")],
)
def test_axes_point_to_the_right_front_and_head_in_that_order_but_for_the_slices(stack, codes):
    for way in WAYS:
        _, affine = stored_as(volume(), STACKS[stack], way)
        turned = affine @ nib.orientations.inv_ornt_aff(through_plane_last(affine), SHAPE)
        assert "".join(nib.aff2axcodes(turned)) == codes


@pytest.mark.parametrize("spacing", [(1, 1, 1), (0.8, 0.9, 1.7)])
def test_a_volume_without_thick_slices_is_turned_as_close_to_ras_as_can_be(spacing):
    for way in WAYS:
        stored, affine = stored_as(volume(), affine_of((-75, 5, 10), spacing), way)
        turned, new_affine = turn(stored, affine, through_plane_last(affine))
        expected = nib.as_closest_canonical(nib.Nifti1Image(stored, affine))
        np.testing.assert_array_equal(turned, expected.get_fdata())
        np.testing.assert_allclose(new_affine, expected.affine, atol=1e-9)


@pytest.mark.parametrize("way", WAYS, ids=str)
def test_turning_leaves_every_voxel_where_it_is_in_the_patient(way):
    stored, affine = stored_as(volume(), STACKS["short axis"], way)
    turned, new_affine = turn(stored, affine, through_plane_last(affine))
    np.testing.assert_array_equal(turned, read_at(stored, affine, places(new_affine, turned.shape)))
    corners = places(new_affine, turned.shape)[[0, -1], [0, -1], [0, -1]]
    inside = nib.affines.apply_affine(np.linalg.inv(affine), corners)
    np.testing.assert_allclose(inside, np.rint(inside), atol=1e-9)


# ----------------------------------------------------------------------------------------- crops on the own grid


@pytest.mark.parametrize("stack", STACKS)
@pytest.mark.parametrize("way", WAYS, ids=str)
def test_crop_on_the_scan_s_own_grid_copies_voxels_and_repeats_the_border(stack, way):
    stored, affine = stored_as(volume(), STACKS[stack], way)
    for size, centre in (((6, 7, 3), (6, 5, 2)), ((16, 8, 8), (2, 9, 1))):
        centre_mm = nib.affines.apply_affine(STACKS[stack], centre)
        grid = crop_affine(centre_mm, affine, size, None)
        crop = to_crop(stored, affine, grid, size)
        np.testing.assert_array_equal(crop, read_at(stored, affine, places(grid, size)))


@pytest.mark.parametrize("size", [(6, 7, 3), (8, 8, 4)])
def test_crop_does_not_depend_on_how_the_scan_is_stored(size):
    centre_mm = nib.affines.apply_affine(STACKS["oblique"], (6, 5, 2))
    crops = []
    for way in STORED_WAYS:
        stored, affine = stored_as(volume(), STACKS["oblique"], way)
        crops.append(to_crop(stored, affine, crop_affine(centre_mm, affine, size, None), size))
    for crop in crops[1:]:
        np.testing.assert_array_equal(crop, crops[0])


def test_crop_has_the_centre_in_its_middle():
    for way in WAYS:
        _, affine = stored_as(volume(), STACKS["short axis"], way)
        centre_mm = nib.affines.apply_affine(affine, np.array(affine.shape[:1] * 3) / 2)
        for size in ((6, 7, 3), (8, 8, 4)):
            grid = crop_affine(centre_mm, affine, size, None)
            middle = nib.affines.apply_affine(grid, (np.array(size) - 1) / 2)
            steps = np.linalg.solve(grid[:3, :3], middle - centre_mm)
            assert np.abs(steps).max() <= 0.52


def test_crop_axes_keep_the_spacing_and_direction_of_the_scan_s_own():
    axes = crop_axes(STACKS["sagittal"], None)
    np.testing.assert_allclose(np.sort(np.linalg.norm(axes, axis=0)), np.sort(SPACING))
    own = STACKS["sagittal"][:3, :3]
    overlap = np.abs((axes / np.linalg.norm(axes, axis=0)).T @ (own / np.linalg.norm(own, axis=0)))
    np.testing.assert_allclose(np.sort(overlap, axis=1)[:, -1], 1)
    np.testing.assert_array_equal(crop_axes(STACKS["sagittal"], (1, 2, 3)), np.diag([1, 2, 3]))


@pytest.mark.parametrize("stack", STACKS)
@pytest.mark.parametrize("way", WAYS, ids=str)
def test_pasting_a_crop_back_gives_the_scan_s_own_voxels(stack, way):
    stored, affine = stored_as(volume(), STACKS[stack], way)
    size = (16, 16, 8)
    grid = crop_affine(nib.affines.apply_affine(STACKS[stack], (6, 5, 2)), affine, size, None)
    box = tuple(slice(1, n - 1) for n in stored.shape)
    back = from_crop(to_crop(stored, affine, grid, size), affine=grid, scan_affine=affine, box=box)
    np.testing.assert_array_equal(back, stored[box])


def test_covering_box_holds_every_voxel_that_a_crop_lies_over():
    stored, affine = stored_as(volume(), STACKS["oblique"], WAYS[3])
    size = (4, 4, 2)
    grid = crop_affine(nib.affines.apply_affine(STACKS["oblique"], (6, 5, 2)), affine, size, None)
    marked = np.zeros(stored.shape, dtype=bool)
    marked[covering_box(grid, size, affine, stored.shape)] = True
    index = np.rint(nib.affines.apply_affine(np.linalg.inv(affine), places(grid, size))).astype(int)
    inside = ((index >= 0) & (index < stored.shape)).all(axis=-1)
    assert inside.any()
    assert marked[tuple(index[inside].T)].all()


def test_resampling_at_a_spacing_interpolates_a_linear_scan_exactly():
    """Along any oblique axes: a scan that is a linear function of place has that function's values in the crop."""
    _, affine = stored_as(volume(), STACKS["oblique"], WAYS[7])
    shape = stored_as(volume(), STACKS["oblique"], WAYS[7])[0].shape
    slope = np.array([2.0, -3.0, 5.0])
    values = places(affine, shape) @ slope + 100
    size, spacing = (4, 4, 3), (1.1, 1.3, 2.0)
    grid = crop_affine(nib.affines.apply_affine(STACKS["oblique"], (6, 5, 2)), affine, size, spacing)
    crop = to_crop(values, affine, grid, size)
    np.testing.assert_allclose(crop, places(grid, size) @ slope + 100, rtol=1e-5)
    np.testing.assert_allclose(grid[:3, :3], np.diag(spacing))


def test_helpers_store_a_volume_as_nibabel_would():
    """The tests' own way to permute and flip agrees with nibabel's."""
    for way in STORED_WAYS:
        stored, affine = stored_as(volume(), STACKS["oblique"], way)
        expected = nib.Nifti1Image(volume(), STACKS["oblique"]).as_reoriented(way)
        np.testing.assert_array_equal(stored, expected.get_fdata())
        np.testing.assert_allclose(affine, expected.affine, atol=1e-9)

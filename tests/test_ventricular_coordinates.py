"""Angle, depth and height in walls whose shape is known."""

from __future__ import annotations

import numpy as np
import pytest

from custom_components.ventricular_coordinates import wall_stack

SPACING_MM = 1.5
AFFINE = np.diag([SPACING_MM, SPACING_MM, 8.0, 1.0])


def rings(sizes: list[tuple[float, float]], stretch: float = 1.0) -> np.ndarray:
    """Slices (64, 64, len(sizes)) with cavity 1 and wall 2 of the given radii in voxels; ``stretch`` along Y."""
    x, y = np.mgrid[-31.5:32, -31.5:32]
    reach = np.hypot(x, y / stretch)
    return np.stack([np.where(reach < inner, 1, np.where(reach < outer, 2, 0)) for inner, outer in sizes], axis=-1)


def test_a_ring_s_angle_depth_and_size_are_those_of_geometry():
    (part,) = wall_stack(rings([(12, 20)]), AFFINE, 1, (2,)).slices
    x, y = part.index[:, 0] - 31.5, part.index[:, 1] - 31.5
    assert np.cos(part.angle - np.arctan2(y, x)).min() > np.cos(np.deg2rad(1))
    assert np.abs(part.depth - (np.hypot(x, y) - 12) / 8).max() < 0.12  # a voxel is 0.125
    assert part.cavity_radius_mm == pytest.approx(12 * SPACING_MM, rel=0.01)
    assert part.thickness_mm == pytest.approx(8 * SPACING_MM, rel=0.02)
    assert part.voxel_mm == pytest.approx(SPACING_MM)


def test_depth_grows_by_one_share_a_voxel_and_stays_off_the_edges():
    (part,) = wall_stack(rings([(12, 20)]), AFFINE, 1, (2,)).slices
    row = (part.index[:, 1] == 32) & (part.index[:, 0] > 32)
    np.testing.assert_allclose(part.depth[row], (np.arange(8) + 0.5) / 8, atol=0.02)


def test_an_ellipse_s_angle_is_that_of_the_circle_it_is_stretched_from():
    (part,) = wall_stack(rings([(8, 14)], stretch=1.6), AFFINE, 1, (2,)).slices
    x, y = part.index[:, 0] - 31.5, (part.index[:, 1] - 31.5) / 1.6
    assert np.cos(part.angle - np.arctan2(y, x)).min() > np.cos(np.deg2rad(2))


def test_slices_run_from_apex_to_base_whichever_way_they_are_stored():
    labels = rings([(0, 0), (5, 9), (9, 15), (12, 20)])
    for stored, numbers in ((labels, [1, 2, 3]), (labels[..., ::-1], [2, 1, 0])):
        assert [part.index[0, 2] for part in wall_stack(stored, AFFINE, 1, (2,)).slices] == numbers


def test_slices_lie_along_the_widest_spacing():
    labels = np.moveaxis(rings([(5, 9), (9, 15), (12, 20)]), -1, 0)
    stack = wall_stack(labels, np.diag([8.0, SPACING_MM, SPACING_MM, 1.0]), 1, (2,))
    assert [set(part.index[:, 0]) for part in stack.slices] == [{0}, {1}, {2}]
    np.testing.assert_array_equal(stack.axes, [[0, 1, 0], [0, 0, 1]])


def test_voxels_need_not_be_square():
    labels = rings([(12, 20)])[::2]
    (part,) = wall_stack(labels, np.diag([2 * SPACING_MM, SPACING_MM, 8.0, 1.0]), 1, (2,)).slices
    assert part.cavity_radius_mm == pytest.approx(12 * SPACING_MM, rel=0.02)
    assert 0 < part.depth.min() < 0.15 and 0.85 < part.depth.max() < 1


def test_a_slice_without_cavity_is_counted_around_its_middle():
    (part,) = wall_stack(rings([(0, 10)]), AFFINE, 1, (2,)).slices
    reach = np.hypot(*(part.index[:, :2] - 31.5).T)
    assert np.corrcoef(reach, part.depth)[0, 1] > 0.98


def test_a_heart_without_wall_has_no_slices():
    assert wall_stack(np.zeros((4, 4, 2), int), AFFINE, 1, (2,)).slices == ()

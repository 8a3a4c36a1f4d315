"""Control sphere, and what is done to a drawn mask."""

from __future__ import annotations

import numpy as np
import pytest

from custom_components.masks import bounding_sphere, enclosing_sphere, smooth_masks, sphere_channel, tidy_masks


def ball(size: int, centre, radius: float) -> np.ndarray:
    grid = np.indices((size,) * 3) - np.reshape(centre, (3, 1, 1, 1))
    return (grid**2).sum(axis=0) <= radius**2


@pytest.mark.parametrize(
    ("points", "centre", "radius"),
    [
        ([[1.0, 2, 3]], [1, 2, 3], 0),
        ([[0.0, 0, 0], [2, 0, 0]], [1, 0, 0], 1),
        ([[0.0, 0, 0], [2, 0, 0], [1, 0.5, 0]], [1, 0, 0], 1),
        ([[1.0, 0, 0], [-0.5, np.sqrt(3) / 2, 0], [-0.5, -np.sqrt(3) / 2, 0]], [0, 0, 0], 1),
        ([[1.0, 1, 1], [1, -1, -1], [-1, 1, -1], [-1, -1, 1], [0.2, 0.3, 0.1]], [0, 0, 0], np.sqrt(3)),
    ],
    ids=["a point", "two points", "an obtuse triangle", "a regular triangle", "a tetrahedron"],
)
def test_enclosing_sphere_of_known_shapes(points, centre, radius):
    found_centre, found_radius = enclosing_sphere(np.array(points))
    np.testing.assert_allclose(found_centre, centre, atol=1e-6)
    assert found_radius == pytest.approx(radius, abs=1e-6)


@pytest.mark.parametrize("seed", range(5))
def test_no_smaller_sphere_encloses_random_points(seed):
    points = np.random.default_rng(seed).normal(size=(200, 3)) * (3, 1, 0.5) + 10
    centre, radius = enclosing_sphere(points)
    distances = np.linalg.norm(points - centre, axis=1)
    assert distances.max() == pytest.approx(radius, rel=1e-6)
    # The centre of the smallest sphere lies in the hull of the points on it: no direction leads away from all of them.
    touching = points[distances > radius * (1 - 1e-5)] - centre
    directions = np.random.default_rng(9).normal(size=(2000, 3))
    assert len(touching) >= 2
    assert (touching @ directions.T).max(axis=0).min() > -1e-2 * radius


def test_points_in_a_plane_have_a_sphere():
    angle = np.linspace(0, 2 * np.pi, 90)
    centre, radius = enclosing_sphere(np.stack([np.cos(angle), np.sin(angle), 0 * angle + 4], axis=1))
    np.testing.assert_allclose(centre, [0, 0, 4], atol=1e-3)
    assert radius == pytest.approx(1, abs=1e-3)


def test_bounding_sphere_of_a_ball_is_that_ball_in_millimetres():
    affine = np.diag([0.5, 0.5, 0.5, 1.0])
    affine[:3, 3] = (-3, 7, 100)
    centre, radius = bounding_sphere(ball(31, (14, 15, 16), 9), affine)
    np.testing.assert_allclose(centre, np.array([14, 15, 16]) / 2 + affine[:3, 3], atol=0.05)
    assert radius == pytest.approx(4.5, abs=0.3)


def test_bounding_sphere_of_one_voxel_reaches_to_its_faces():
    mask = np.zeros((3, 3, 3), bool)
    mask[1, 1, 1] = True
    assert bounding_sphere(mask, np.diag([2.0, 2, 2, 1]))[1] == pytest.approx(1)


def test_sphere_channel_is_the_distance_to_the_sphere_in_millimetres_positive_inside():
    affine = np.diag([0.5, 0.5, 0.5, 1.0])
    channel = sphere_channel((2, 2, 2), 2.0, affine, (9, 9, 41), falloff_mm=4.0)
    assert channel[4, 4, 4] == pytest.approx(0.5)
    assert channel[8, 4, 4] == pytest.approx(0)
    assert channel[4, 4, 12] == pytest.approx(-0.5)
    assert channel.min() == -1
    assert sphere_channel((2, 2, 2), 20.0, affine, (9, 9, 9), falloff_mm=4.0).max() == 1
    assert channel.dtype == np.float32


def test_tidy_masks_fills_holes_and_keeps_the_largest_piece_where_asked():
    values = np.where(ball(20, (8, 8, 8), 5), 1.0, -1.0)[None]
    values[0, 8, 8, 8] = -1
    values[0, 17, 17, 17] = 1
    plain = tidy_masks(values, fill_holes=False)
    assert not plain[0, 8, 8, 8]
    assert plain[0, 17, 17, 17]
    tidy = tidy_masks(values, fill_holes=True, largest_component=True)
    assert np.array_equal(tidy[0], ball(20, (8, 8, 8), 5))


def test_smoothing_removes_a_lone_voxel():
    values = np.full((1, 9, 9, 9), -1.0)
    values[0, 4, 4, 4] = 1
    assert tidy_masks(smooth_masks(values, (0, 0, 0))).any()
    assert not tidy_masks(smooth_masks(values, (1, 1, 1))).any()


def test_classes_never_overlap_and_a_hole_takes_the_likeliest_class():
    values = np.full((2, 9, 9, 9), -1.0)
    values[0, 2:7, 2:7, 2:7] = 0.5
    values[1, 3:6, 3:6, 3:6] = 0.8
    values[:, 4, 4, 4] = (-0.9, -0.2)
    masks = tidy_masks(values)
    assert masks.sum(axis=0).max() == 1
    assert masks[1, 4, 4, 4]
    assert masks[1].sum() == 27
    assert masks[0].sum() == 125 - 27

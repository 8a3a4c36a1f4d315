"""Shape measures of masks whose shape is known."""

from __future__ import annotations

import numpy as np
import pytest

from custom_components.metrics import shape_distances, shape_measures


def ellipsoid(axes) -> np.ndarray:
    grid = np.indices((48, 48, 48)) - 23.5
    return ((grid / np.reshape(axes, (3, 1, 1, 1))) ** 2).sum(axis=0) <= 1


def test_measures_of_a_ball():
    measures = shape_measures(ellipsoid((16, 16, 16)), np.diag([0.5, 0.5, 0.5, 1]))
    assert measures["radius_mm"] == pytest.approx(8, rel=0.03)
    assert measures["volume_mm3"] == pytest.approx(4 / 3 * np.pi * 8**3, rel=0.02)
    assert measures["sphere_fill"] == pytest.approx(1, abs=0.08)
    assert measures["elongation"] == pytest.approx(1, abs=0.01)
    assert measures["sphericity"] == pytest.approx(0.93, abs=0.04)  # the staircase has more surface than the ball
    assert measures["surface_to_volume"] == pytest.approx(3 / 8, rel=0.1)


def test_measures_of_an_elongated_ellipsoid():
    measures = shape_measures(ellipsoid((20, 10, 10)), np.eye(4))
    assert measures["elongation"] == pytest.approx(0.5, abs=0.02)
    assert measures["sphere_fill"] == pytest.approx(0.25, abs=0.03)
    assert measures["sphericity"] < shape_measures(ellipsoid((14, 14, 14)), np.eye(4))["sphericity"]


def test_single_voxel_has_a_shape():
    mask = np.zeros((3, 3, 3), bool)
    mask[1, 1, 1] = True
    measures = shape_measures(mask, np.eye(4))
    assert all(np.isfinite(value) for value in measures.values())
    assert measures["elongation"] == pytest.approx(1)


def test_distance_between_sets_is_zero_for_equal_sets_and_the_shift_for_shifted_ones():
    first = [{"sphericity": v, "sphere_fill": v, "surface_to_volume": v, "elongation": v} for v in (0.1, 0.4, 0.7)]
    second = [{**one, "elongation": one["elongation"] + 0.2} for one in first]
    distances = shape_distances(first, second)
    assert distances["elongation"] == pytest.approx(0.2)
    assert distances["sphericity"] == 0

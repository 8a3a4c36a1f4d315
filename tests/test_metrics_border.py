"""Steps across the border of lesions whose steps are known."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from custom_components.metrics import border_steps

SPACING = (1.0, 1.0, 1.0)


def cube(size: int = 12, start: int = 4, stop: int = 8) -> np.ndarray:
    mask = np.zeros((size,) * 3, bool)
    mask[start:stop, start:stop, start:stop] = True
    return mask


def test_even_lesion_has_its_contrast_as_step_and_nothing_beside_it():
    found = border_steps(np.where(cube(), 50.0, -800.0), cube(), SPACING)
    assert found["across"] == 850
    assert (found["within"], found["around"]) == (0, 0)
    assert np.isnan(found["seam"])


def test_ramp_has_no_seam_and_its_slope_is_per_mm():
    x = np.arange(12)[:, None, None] * np.ones((1, 12, 12)) * 30.0
    slab = np.zeros((12, 12, 12), bool)
    slab[4:8] = True
    found = border_steps(x, slab, (0.5, 1.0, 1.0))
    assert found == pytest.approx({"across": 60, "within": 60, "around": 60, "seam": 1})


def test_steps_equal_those_counted_face_by_face():
    rng = np.random.default_rng(3)
    values, mask = rng.normal(size=(7, 6, 8)), ndimage.binary_dilation(rng.random((7, 6, 8)) > 0.95)
    spacing = (0.7, 0.7, 2.0)
    steps = {"across": [], "within": [], "around": []}
    for place in map(tuple, np.argwhere(mask)):
        for axis in range(3):
            for way in (-1, 1):
                line = [tuple(np.add(place, k * way * np.eye(3, dtype=int)[axis])) for k in (-1, 0, 1, 2)]
                back, here, next_, beyond = (
                    p if all(0 <= i < n for i, n in zip(p, mask.shape, strict=True)) else None for p in line
                )
                if next_ is None or mask[next_]:
                    continue
                steps["across"].append(abs(values[next_] - values[here]) / spacing[axis])
                if back is not None and mask[back]:
                    steps["within"].append(abs(values[here] - values[back]) / spacing[axis])
                if beyond is not None and not mask[beyond]:
                    steps["around"].append(abs(values[beyond] - values[next_]) / spacing[axis])
    found = border_steps(values, mask, spacing)
    assert {name: found[name] for name in steps} == pytest.approx({n: np.mean(v) for n, v in steps.items()})
    assert found["seam"] == pytest.approx(2 * found["across"] / (found["within"] + found["around"]))


def test_pasted_lesion_has_a_larger_seam_than_a_blurred_one():
    noise = 20 * np.random.default_rng(0).normal(size=(24, 24, 24))
    mask = cube(24, 7, 17)
    pasted = np.where(mask, 50.0, -800.0) + noise
    blurred = ndimage.gaussian_filter(np.where(mask, 50.0, -800.0), 1.0) + noise
    assert border_steps(pasted, mask, SPACING)["seam"] > 10
    assert border_steps(blurred, mask, SPACING)["seam"] < 2.5


def test_lesion_that_fills_the_volume_has_no_border():
    found = border_steps(np.zeros((4, 4, 4)), np.ones((4, 4, 4), bool), SPACING)
    assert all(np.isnan(value) for value in found.values())

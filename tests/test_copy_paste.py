"""The Copy-Paste baseline: a lesion's own intensities through its own mask, and nothing else changed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from custom_components.baselines import paste_lesion
from custom_components.errors import InputError
from custom_components.lesion_library import PlacedLesion
from custom_components.volumes import Scan

BOX = (slice(2, 12), slice(3, 13), slice(4, 14))


def scan() -> Scan:
    stored = np.random.default_rng(0).integers(0, 400, (16, 17, 18)).astype(np.uint16)
    return Scan(Path("scan.nii.gz"), stored, 2.0, -1000.0, np.diag([1.0, 1.0, 1.0, 1.0]))


def placed(values: bool = True) -> PlacedLesion:
    label = np.zeros((10, 10, 10), np.uint8)
    label[1:9, 1:9, 1:9] = 1
    return PlacedLesion(BOX, label, np.full((10, 10, 10), 50.4, np.float32) if values else None)


@pytest.mark.parametrize("feather_mm", [0, 3])
def test_voxels_outside_the_mask_stay_as_they_are(feather_mm):
    target, lesion = scan(), placed()
    before = target.stored.copy()
    stored = paste_lesion(lesion, target, feather_mm)
    assert stored.dtype == np.uint16
    outside = lesion.label == 0
    np.testing.assert_array_equal(stored[outside], target.stored[BOX][outside])
    np.testing.assert_array_equal(target.stored, before)


def test_intensities_are_copied_to_the_nearest_stored_number():
    lesion = placed()
    assert (paste_lesion(lesion, scan())[lesion.label > 0] == 525).all()


def test_feathering_blends_a_rim_inside_the_mask_only():
    lesion, target = placed(), scan()
    values = 2.0 * paste_lesion(lesion, target, 2.0) - 1000
    deep, rim = values[4:6, 4:6, 4:6], values[1, 4, 4]
    assert (deep == 50).all()
    assert rim == pytest.approx(50.4 / 3 + (2 / 3) * target.values(BOX)[1, 4, 4], abs=1.1)


@pytest.mark.parametrize(("lesion", "width", "named"), [(placed(False), 0, "images"), (placed(), -1, "feather_mm")])
def test_what_cannot_be_pasted_is_refused(lesion, width, named):
    with pytest.raises(InputError, match=named):
        paste_lesion(lesion, scan(), width)

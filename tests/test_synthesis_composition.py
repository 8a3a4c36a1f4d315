"""Masks put together on a scan's grid: numbers, lesions that stay apart, and how far sites are from the border."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from scipy import ndimage

from custom_components.errors import InputError
from custom_components.labels import LesionLabels
from custom_components.specs import find_lesions
from custom_components.synthesis.composition import compose_lesions
from custom_components.synthesis.drawing import border_distance_mm
from custom_components.volumes import Scan

SHAPE = (20, 18, 16)


def scan(affine: np.ndarray | None = None) -> Scan:
    affine = np.diag([-1.0, 2.0, 1.5, 1.0]) if affine is None else affine
    return Scan(Path("scan"), np.zeros(SHAPE, np.int16), 1.0, 0.0, affine)


def cube(start: tuple[int, int, int], size: int = 3, classes: int = 1):
    """A box with a margin of one voxel, and a cube in it, of the last class."""
    box = tuple(slice(max(0, s - 1), s + size + 1) for s in start)
    masks = np.zeros((classes, *(part.stop - part.start for part in box)), bool)
    masks[-1] = True
    inner = tuple(slice(s - part.start, s - part.start + size) for s, part in zip(start, box, strict=True))
    keep = np.zeros_like(masks[0])
    keep[inner] = True
    return box, masks & keep


def test_lesions_are_numbered_from_the_feet_to_the_head_as_components_are():
    masks = [cube((2, 2, 10)), cube((10, 9, 2)), cube((10, 2, 6))]
    found, numbers = compose_lesions(scan(), masks, LesionLabels())
    assert numbers == [3, 1, 2]
    expected, boxes = find_lesions(found.label > 0, scan().affine)
    assert np.array_equal(found.instances, expected)
    assert found.boxes == boxes
    assert found.instances.dtype == np.uint8
    assert found.label.sum() == 3 * 27


def test_lesions_that_touch_are_kept_apart():
    found, _ = compose_lesions(scan(), [cube((5, 5, 5), 4), cube((9, 9, 9), 4), cube((7, 7, 7), 4)], LesionLabels())
    count = ndimage.label(found.label, np.ones((3, 3, 3)))[1]
    assert count == 3 == found.instances.max()
    assert np.array_equal(found.instances > 0, found.label > 0)


def test_a_mask_that_nothing_is_left_of_is_an_error():
    with pytest.raises(InputError, match="lesion 2 of 2 is empty"):
        compose_lesions(scan(), [cube((5, 5, 5), 5), cube((6, 6, 6), 2)], LesionLabels())


def test_classes_lie_over_the_anatomy():
    labels = LesionLabels(classes={"scar": 3, "core": 4}, anatomy={"wall": 2}, joint=True)
    anatomy = np.full(SHAPE, 2, np.uint8)
    found, numbers = compose_lesions(scan(), [cube((5, 5, 5), classes=2)], labels, anatomy)
    assert numbers == [1]
    assert np.unique(found.label).tolist() == [2, 4] and (anatomy == 2).all()
    assert np.array_equal(found.instances == 1, found.label == 4)


@pytest.mark.parametrize("tilt", [0.0, 0.4])
def test_distance_to_the_border_is_that_of_the_nearest_voxel_outside(tilt):
    turn = np.array([[np.cos(tilt), -np.sin(tilt), 0], [np.sin(tilt), np.cos(tilt), 0], [0, 0, 1]])
    affine = np.eye(4)
    affine[:3, :3] = turn @ np.diag([-1.0, 2.0, 1.5])
    organ = np.zeros((60, 40, 50), bool)
    organ[4:56, 5:30, 8:45] = True
    expected = ndimage.distance_transform_edt(organ, sampling=(1, 2, 1.5))
    outside = ndimage.distance_transform_edt(~organ, sampling=(1, 2, 1.5))
    for index in ((30, 17, 26), (5, 17, 26), (30, 28, 9), (4, 5, 8)):
        assert border_distance_mm(organ, affine, (affine @ [*index, 1])[:3]) == pytest.approx(expected[index], abs=1e-3)
    assert border_distance_mm(organ, affine, (affine @ [0, 0, 0, 1])[:3]) == pytest.approx(-outside[0, 0, 0], abs=1e-3)


def test_the_end_of_the_scan_is_a_border_and_no_organ_has_none():
    assert border_distance_mm(np.ones((40, 40, 40), bool), np.eye(4), (3, 20, 20)) == 4
    assert border_distance_mm(None, np.eye(4), (3, 20, 20)) is None

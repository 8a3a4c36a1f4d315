"""Segments of a DICOM segmentation: which voxels, and what they are called."""

from __future__ import annotations

import numpy as np
import pytest

from custom_components.dicom_export.segmentation import number_segments, property_type
from custom_components.errors import InputError


@pytest.mark.parametrize(
    ("lesion_class", "code"),
    [
        ("lesion", "52988006"),
        ("nodule", "27925004"),
        ("Lung nodule", "27925004"),
        ("mi", "22298006"),
        ("pmo", "26036001"),
        ("x", "52988006"),
    ],
)
def test_class_names_have_codes_and_unknown_ones_are_lesions(lesion_class, code):
    assert property_type(lesion_class).value == code


def test_joint_classes_become_segments_of_their_own_whatever_their_values(tmp_path):
    instances = np.zeros((6, 6, 3), np.uint8)
    instances[1:5, 1:5, 1] = 1
    label = instances * 2  # a layout that counts from 1: classes 3 and 4 have become 1 and 2
    label[2:4, 1:5, 1] = 1
    entries = [
        {"spec": {"case": "a", "lesion": 1, "lesion_class": "mi", "voxels": 8, "box": [[1, 5], [1, 5], [1, 2]]}},
        {"spec": {"case": "a", "lesion": 1, "lesion_class": "pmo", "voxels": 8, "box": [[2, 4], [1, 5], [1, 2]]}},
    ]
    segments = number_segments(entries, instances, label)
    np.testing.assert_array_equal(segments == 1, label == 2)
    np.testing.assert_array_equal(segments == 2, label == 1)
    for broken in (entries[:1], [entries[0], {"spec": {**entries[1]["spec"], "voxels": 7}}]):
        with pytest.raises(InputError, match="case a"):
            number_segments(broken, instances, label)

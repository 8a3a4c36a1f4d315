"""What the numbers of a label map mean."""

from __future__ import annotations

import numpy as np
import pytest

from custom_components.errors import InputError
from custom_components.labels import LesionLabels

HEART = LesionLabels({"scar": 3, "core": 4}, {"pool": 1, "wall": 2}, joint=True, centre_on=("wall",))


def row(*values: float) -> np.ndarray:
    """A label map of one line of voxels."""
    return np.array(values).reshape(-1, 1, 1)


def test_by_default_a_mask_of_0_and_1_is_one_class_of_lesions_each_its_own():
    labels = LesionLabels()
    assert labels.names == ["lesion"]
    assert not labels.joint
    labels.check(row(0, 1, 1, 0), "mask")
    assert labels.lesion(row(0, 1, 1, 0)).ravel().tolist() == [False, True, True, False]


def test_lesion_voxels_are_those_of_every_class_and_of_no_anatomy():
    assert HEART.lesion(row(0, 1, 2, 3, 4)).ravel().tolist() == [False, False, False, True, True]


def test_classes_keep_their_order():
    assert LesionLabels({"core": 4, "scar": 3}).names == ["core", "scar"]


def test_crop_region_is_what_it_is_centred_on_or_else_the_lesions():
    assert HEART.region(row(0, 1, 2, 3, 4)).ravel().tolist() == [False, False, True, False, False]
    assert HEART.region(row(0, 1, 1, 3, 4)).ravel().tolist() == [False, False, False, True, True]
    assert LesionLabels().region(row(0, 1)).ravel().tolist() == [False, True]
    several = LesionLabels({"scar": 3, "core": 4}, {"pool": 1, "wall": 2}, centre_on=("wall", "core"))
    assert several.region(row(0, 1, 2, 3, 4)).ravel().tolist() == [False, False, True, False, True]


def test_equal_keys_mean_that_lesions_are_read_alike():
    same = LesionLabels({"scar": 3, "core": 4}, {"pool": 1, "wall": 2}, joint=True)
    assert hash(HEART.key) == hash(same.key) and HEART.key == same.key
    assert hash(HEART) == hash(same) and same == HEART
    others = [
        LesionLabels({"scar": 3, "core": 4}, {"pool": 1, "wall": 2}),
        LesionLabels({"core": 4, "scar": 3}, {"pool": 1, "wall": 2}, joint=True),
        LesionLabels({"scar": 3, "core": 5}, {"pool": 1, "wall": 2}, joint=True),
        LesionLabels({"scar": 3, "core": 4}, {"pool": 1}, joint=True),
    ]
    assert all(HEART.key != other.key for other in others)
    assert all(other != HEART for other in others)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"classes": {}}, "lesion_classes must map at least one class"),
        ({"classes": ["scar"]}, "lesion_classes must map at least one class"),
        ({"classes": {"scar": 0}}, "'scar' must be a whole number from 1 to 255, got 0"),
        ({"classes": {"scar": 256}}, "'scar' must be a whole number from 1 to 255, got 256"),
        ({"classes": {"scar": 3.0}}, "'scar' must be a whole number from 1 to 255, got 3.0"),
        ({"classes": {"scar": True}}, "'scar' must be a whole number from 1 to 255, got True"),
        ({"classes": {"scar": 3}, "anatomy": {"wall": "2"}}, "'wall' must be a whole number from 1 to 255, got '2'"),
        ({"classes": {"scar": 3, "core": 3}}, "must have different labels"),
        ({"classes": {"scar": 3}, "anatomy": {"wall": 3}}, "must have different labels"),
        ({"classes": {"scar": 3}, "anatomy": {"scar": 2}}, "must have different labels"),
        ({"classes": {"scar": 3}, "centre_on": ["wall"]}, "centre_on names 'wall'; known: scar"),
    ],
)
def test_a_meaning_that_cannot_be_is_told_in_one_sentence(settings, message):
    with pytest.raises(InputError, match=message):
        LesionLabels(**settings)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ((0, 3, 5), "label x must hold 0, 1, 2, 3 and 4 only, it holds 5"),
        ((0, 3, -1), "it holds -1"),
        ((0, 3, 3.5), "it holds 3.5"),
        ((0, 3, np.nan), "it holds nan"),
        ((0, 0, 0), "label x is empty"),
        ((0, 1, 2), r"label x holds no lesion \(scar = 3, core = 4\)"),
    ],
)
def test_label_map_with_unknown_values_or_without_lesion_is_told_in_one_sentence(values, message):
    with pytest.raises(InputError, match=message):
        HEART.check(row(*values), "label x")


def test_one_class_of_several_is_enough():
    HEART.check(row(0, 1, 2, 4), "label")
    HEART.check(row(0, 3.0), "label")

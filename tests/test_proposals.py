"""Settings that follow from what was measured."""

from __future__ import annotations

import numpy as np
import pytest

from custom_components.errors import InputError
from custom_components.fingerprint import CaseMeasures, LesionMeasures
from custom_components.proposals import (
    crop_extents,
    lesions_that_fit,
    propose_crop,
    propose_modality,
    propose_percentiles,
    propose_spacing,
    propose_split,
    propose_window,
    smaller_crop,
    texture_names,
)

CUBE, STACK = (8, 8, 8), (8, 8, 1)


def lesion(
    extent=(10.0, 10.0, 10.0), classes=("tumour",), voxels=None, inside=(50.0,), around=(100.0,), relative=(0.5,)
):
    """A lesion as measured; its extent in voxels is that in mm unless given."""
    return LesionMeasures(
        number=1,
        volume_mm3=dict.fromkeys(classes, 100.0),
        voxels=100,
        extent_mm=extent,
        extent_voxels=voxels or extent,
        inside={name: np.array(inside) for name in classes},
        around=np.array(around),
        relative=np.array(relative),
    )


def case(*lesions: LesionMeasures, spacing=(1.0, 1.0, 1.0), name="a", patient=None, lowest=-1000.0, integer=True):
    thick = spacing[2] >= 2 * max(spacing[:2])
    return CaseMeasures(
        name,
        patient or name,
        (64, 64, 40),
        spacing,
        "RAS",
        0.0,
        thick,
        integer,
        lowest,
        1000.0,
        np.zeros(4),
        [*lesions],
        0,
    )


def test_modality_is_that_of_most_scans_and_names_the_option_where_in_doubt():
    assert propose_modality([case(), case(), case(lowest=-3.0)]).value == "CT"
    doubtful = propose_modality([case(lowest=-200.0)])
    assert doubtful.value == "MR"
    assert "--modality CT" in doubtful.reason
    assert "--modality CT" not in propose_modality([case(lowest=0.0)]).reason


@pytest.mark.parametrize(
    ("spacing", "proposed"),
    [((0.8, 0.8, 1.25), 0.93), ((1, 1, 1.99), 1.26), ((1, 1, 2), None), ((0.7, 0.7, 5), None)],
)
def test_spacing_is_isotropic_below_twofold_anisotropy_and_the_scan_s_own_above(spacing, proposed):
    value, reason = propose_spacing([case(spacing=spacing)] * 3)
    assert value == (None if proposed is None else [proposed] * 3)
    assert "median voxel" in reason


def test_spacing_is_that_of_the_median_and_tells_of_those_unlike_it():
    cases = [case(spacing=(1, 1, 1))] * 3 + [case(spacing=(1, 1, 6))]
    assert propose_spacing(cases).value == [1.0] * 3
    assert "1 scans have thick slices" in propose_spacing(cases).reason


@pytest.mark.parametrize(
    ("extent", "size"),
    [
        ((10, 10, 10), [32, 32, 24]),
        ((40, 20, 30), [64, 64, 48]),
        ((3, 3, 3), [32, 32, 16]),
        ((20, 50, 9), [80, 80, 24]),
    ],
)
def test_crop_holds_the_lesion_its_context_and_what_the_network_needs(extent, size):
    spacing, crop = propose_crop([case(lesion(extent))], CUBE)
    assert (spacing.value, crop.value) == ([1.0] * 3, size)


def test_crop_of_a_stack_counts_its_own_slices():
    lesions = [lesion((40.0, 30.0, 60.0), voxels=(30.0, 20.0, 3.0))]
    spacing, crop = propose_crop([case(*lesions, spacing=(1.5, 1.5, 8))], STACK)
    assert (spacing.value, crop.value) == (None, [48, 48, 5])


def test_voxels_grow_where_lesions_are_large_and_what_still_does_not_fit_is_told():
    large = case(lesion((120.0, 90.0, 60.0)))
    spacing, crop = propose_crop([large], CUBE)
    assert spacing.value[0] > 1.5
    assert "enlarged from 1 mm" in spacing.reason
    assert max(crop.value) <= 96
    assert lesions_that_fit(large, crop.value, spacing.value) == [1]
    assert lesions_that_fit(large, [96, 96, 56], [1.0, 1.0, 1.0]) == []
    spacing, crop = propose_crop([case(lesion((500.0, 90.0, 60.0)))], CUBE)
    assert (spacing.value, max(crop.value)) == ([3.0] * 3, 96)


def test_rare_giant_does_not_decide_the_crop():
    many = [lesion((10.0, 10.0, 10.0))] * 300
    assert propose_crop([case(*many, lesion((90.0, 90.0, 90.0)))], CUBE)[1].value == [32, 32, 24]


def test_smaller_crop_holds_three_quarters_of_the_lesions():
    sizes = [10.0, 12.0, 40.0, 60.0]
    cases = [case(*(lesion((size,) * 3) for size in sizes))]
    small = smaller_crop(cases, [1.0] * 3, CUBE)
    assert small == [56, 56, 56]
    fits = (crop_extents(cases[0].lesions, [1.0] * 3) <= np.array(small)).all(axis=1)
    assert fits.mean() == 0.75


def test_window_covers_lesions_and_surroundings_with_a_tenth_to_spare():
    found = lesion(inside=np.linspace(0, 60, 1000), around=np.linspace(80, 140, 1000))
    low, high = propose_window([case(found)], ["tumour"]).value
    assert -20 <= low <= -10
    assert 150 <= high <= 160


@pytest.mark.parametrize(
    ("relative", "headroom"),
    [((0.1, 0.9), 0), ((0.5, 2.2), 1.2), ((-0.6, 0.5), 0.6), ((0, 50), 3)],
    ids=["within", "bright", "dark", "no end"],
)
def test_headroom_makes_room_for_lesions_beyond_their_neighbourhood(relative, headroom):
    percentiles, room = propose_percentiles([case(lesion(relative=np.repeat(relative, 500)))])
    assert percentiles.value == [1, 99]
    assert room.value == pytest.approx(headroom, abs=0.051)


def test_a_fifth_of_the_patients_is_held_out_and_at_least_one():
    cases = [case(lesion(), name=str(number)) for number in range(10)]
    value, reason = propose_split(cases, ["tumour"])[0]
    assert round(value * 10) == 2
    assert "2 of 10" in reason
    assert round(propose_split(cases[:2], ["tumour"])[0].value * 2) == 1
    with pytest.raises(InputError, match="lesions of at least two patients"):
        propose_split([case(lesion(), name="1"), case(lesion(), name="2", patient="1")], ["tumour"])


@pytest.mark.parametrize("owner", range(5))
def test_patient_with_the_only_lesion_of_a_class_is_never_held_out(owner):
    cases = [case(lesion(classes=("tumour", "cyst") if n == owner else ("tumour",)), name=str(n)) for n in range(5)]
    fraction, named = propose_split(cases, ["tumour", "cyst"])
    assert str(owner) not in named
    assert len(named) <= 1
    assert round(fraction.value * 5) == 1


def test_as_many_textures_as_the_lesions_allow():
    assert [len(texture_names(count)) for count in (1, 5, 6, 11, 12, 500)] == [1, 1, 2, 2, 3, 3]

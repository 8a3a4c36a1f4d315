"""The phantom heart: what it must share with real scans, and what it must not leave to chance."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest
from scipy import ndimage

from custom_components.errors import InputError
from custom_components.lesion_transfer import copy_lesions
from custom_components.phantoms import Phantom, short_axis_lesions, short_axis_phantom

SHAPE, SPACING_MM = (64, 64, 5), (2.2, 2.2, 10.0)
SEEDS = range(6)


@cache
def phantom(seed: int, pathological: bool = False) -> Phantom:
    return short_axis_phantom(seed, SHAPE, SPACING_MM, pathological)


def signal(heart: Phantom, label: int) -> float:
    """Median above the middle of the 12-bit scale."""
    return float(np.median(heart.image[heart.labels == label])) - 2048


def test_seed_decides_everything():
    again = short_axis_phantom(3, SHAPE, SPACING_MM, True)
    np.testing.assert_array_equal(again.image, phantom(3, True).image)
    np.testing.assert_array_equal(again.labels, phantom(3, True).labels)
    assert (phantom(4).image != phantom(3).image).mean() > 0.9
    assert (phantom(4).labels != phantom(3).labels).any()


@pytest.mark.parametrize("seed", SEEDS)
def test_image_is_twelve_bit_on_a_centred_grid(seed):
    heart = phantom(seed, True)
    assert heart.image.dtype == np.int16 and heart.labels.dtype == np.uint8
    assert heart.image.shape == heart.labels.shape == SHAPE
    assert heart.image.min() >= 0 and heart.image.max() <= 4095
    np.testing.assert_allclose(np.abs(np.diag(heart.affine)[:3]), SPACING_MM)
    np.testing.assert_allclose(heart.affine @ [*(np.array(SHAPE) - 1) / 2, 1], [0, 0, 0, 1], atol=1e-9)


@pytest.mark.parametrize("seed", SEEDS)
def test_every_slice_shows_a_closed_ring_that_grows_from_the_apex(seed):
    labels = phantom(seed).labels
    assert set(np.unique(labels)) == {0, 1, 2}
    for part in np.moveaxis(labels, -1, 0):
        assert not (ndimage.binary_dilation(part == 1) & (part == 0)).any(), "the wall has a gap"
    areas = (labels > 0).sum(axis=(0, 1))
    assert (np.diff(areas) > 0).all() and areas[0] < 0.65 * areas[-1]


@pytest.mark.parametrize("seed", SEEDS)
def test_wall_is_as_thick_as_a_heart_s(seed):
    labels = phantom(seed).labels[..., -2]
    inner, outer = (np.sqrt(area.sum() / np.pi) * SPACING_MM[0] for area in (labels == 1, labels > 0))
    assert 17 < inner < 32
    assert 7 < outer - inner < 13


@pytest.mark.parametrize("seed", SEEDS)
def test_contrasts_lie_within_those_of_real_scans(seed):
    """Ranges of 33 real normal and 57 pathological cases, signals relative to that of the blood."""
    heart = phantom(seed, True)
    blood = signal(heart, 1)
    assert 0.2 < signal(heart, 2) / blood < 0.85
    assert 0.7 < signal(heart, 3) / blood < 1.45
    assert signal(heart, 2) < signal(heart, 4) < signal(heart, 3), "the core is darker than the infarct"
    assert 1.4 < (np.percentile(heart.image, 99) - 2048) / blood < 4, "fat is brightest"
    assert abs(np.percentile(heart.image, 5) - 2048) / blood < 0.5, "air and lung are near zero"


@pytest.mark.parametrize("seed", SEEDS)
def test_lesion_changes_nothing_but_its_surroundings(seed):
    heart, twin = phantom(seed, True), phantom(seed)
    lesion = heart.labels >= 3
    np.testing.assert_array_equal(heart.labels[~lesion], twin.labels[~lesion])
    assert (twin.labels[lesion] == 2).all()
    far = ndimage.distance_transform_edt(~lesion, sampling=(*SPACING_MM[:2], 1000)) > 12
    np.testing.assert_array_equal(heart.image[far], twin.image[far])
    assert heart.image[lesion].mean() > twin.image[lesion].mean()


@pytest.mark.parametrize("seed", range(20))
def test_infarct_spans_slices_and_encloses_its_core_towards_the_healthy_wall(seed):
    healthy = phantom(seed % 6).labels
    labels = short_axis_lesions(healthy, phantom(0).affine, seed)
    lesion, core = labels >= 3, labels == 4
    assert 0.03 < lesion.sum() / (labels >= 2).sum() < 0.5
    assert lesion.any(axis=(0, 1)).sum() >= 2
    assert core.any() and core.sum() < lesion.sum() / 2
    beside = ndimage.binary_dilation(core, ndimage.generate_binary_structure(3, 1) & np.array([0, 1, 0], bool))
    assert (labels[beside] == 2).sum() <= 0.02 * core.sum()


def test_core_can_be_left_out():
    labels = short_axis_lesions(phantom(0).labels, phantom(0).affine, 1, core=False)
    with_core = short_axis_lesions(phantom(0).labels, phantom(0).affine, 1)
    assert not (labels == 4).any()
    np.testing.assert_array_equal(labels >= 3, with_core >= 3)


def test_any_heart_gets_a_lesion_however_coarse():
    labels = np.zeros((5, 5, 1), np.uint8)
    labels[1:4, 1:4] = 2
    labels[2, 2] = 1
    for seed in range(10):
        assert (short_axis_lesions(labels, np.eye(4), seed) >= 3).any()


def test_phantoms_lesion_can_be_copied_into_another_phantom():
    source, target = phantom(1, True), phantom(2)
    copied = copy_lesions(source.labels, source.affine, target.labels, target.affine)
    shares = [(labels >= 3).sum() / (labels >= 2).sum() for labels in (source.labels, copied)]
    assert shares[1] == pytest.approx(shares[0], rel=0.15)


@pytest.mark.parametrize(
    ("shape", "spacing_mm"),
    [((32, 32, 5), SPACING_MM), ((64, 64), SPACING_MM), (SHAPE, (2.2, 2.2, 0)), ((64, 64, 0), SPACING_MM)],
)
def test_grid_that_shows_no_whole_heart_is_refused(shape, spacing_mm):
    with pytest.raises(InputError, match="shape"):
        short_axis_phantom(0, shape, spacing_mm)


def test_lesion_needs_a_wall():
    with pytest.raises(InputError, match=r"no myocardium \(label 2\)"):
        short_axis_lesions(np.zeros((4, 4, 2), np.uint8), np.eye(4))

"""Measures of painted lesions: histogram distance, PSNR, SSIM, and filling from the surroundings."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from monai.metrics import PSNRMetric, SSIMMetric
from scipy.stats import wasserstein_distance
from skimage.metrics import peak_signal_noise_ratio
from textured_balls import GRID, ball, picture

from custom_components.metrics import fill_from_surroundings, histogram_distance, psnr, ssim

# Histogram distance


@pytest.mark.parametrize("bins", [2, 16, 33])
@pytest.mark.parametrize("value_range", [(-1, 1), (-1000, 400)])
def test_histogram_distance_is_wasserstein_s_on_bin_centres(bins, value_range):
    rng = np.random.default_rng(bins)
    low, high = value_range
    centres = low + (np.arange(bins) + 0.5) * (high - low) / bins
    for _ in range(20):
        first, second = rng.dirichlet(np.full(bins, 0.3)), rng.dirichlet(np.full(bins, 0.3))
        expected = wasserstein_distance(centres, centres, first, second)
        assert histogram_distance(first, second, value_range) == pytest.approx(expected, abs=1e-9 * (high - low))


@pytest.mark.parametrize("shift", [0, 1, 5, 12])
def test_histogram_shifted_by_k_bins_is_k_bin_widths_away(shift):
    shape = np.array([0.1, 0.2, 0.4, 0.3])
    first, second = np.zeros(16), np.zeros(16)
    first[:4], second[shift : shift + 4] = shape, shape
    assert histogram_distance(first, second) == pytest.approx(shift * 2 / 16)
    assert histogram_distance(second, first) == pytest.approx(shift * 2 / 16)


def test_histogram_distance_from_one_end_to_the_other_is_nearly_two():
    ends = np.eye(16)[[0, 15]]
    assert histogram_distance(*ends) == pytest.approx(2 * 15 / 16)
    assert histogram_distance(ends[0].tolist(), np.float32(ends[0])) == 0


# PSNR and SSIM


def test_psnr_of_a_constant_difference_is_known():
    real = 0.5 * picture(0)
    assert psnr(real, real + np.float32(0.2)) == pytest.approx(20, abs=1e-4)
    assert psnr(real, real + np.float32(0.02)) == pytest.approx(40, abs=1e-3)
    assert psnr(real, real + np.float32(0.2), data_range=1.0) == pytest.approx(20 - 20 * math.log10(2), abs=1e-4)
    assert psnr(real, real) == math.inf


def test_psnr_equals_scikit_image_and_monai():
    real, painted = picture(1), picture(2)
    assert psnr(real, painted) == pytest.approx(peak_signal_noise_ratio(real, painted, data_range=2.0), abs=1e-4)
    metric = PSNRMetric(max_val=2.0)
    metric(torch.from_numpy(painted)[None, None], torch.from_numpy(real)[None, None])
    assert psnr(real, painted) == pytest.approx(metric.aggregate().item(), abs=1e-4)


def test_psnr_in_a_mask_sees_the_mask_only():
    real, mask = picture(3), ball(4)
    painted = np.where(mask, real + np.float32(0.2), real)
    assert psnr(real, painted, mask) == pytest.approx(20, abs=1e-4)
    assert psnr(real, painted) == pytest.approx(20 - 10 * math.log10(mask.mean()), abs=1e-4)
    assert psnr(real, np.where(mask, real, 0), mask) == math.inf


def local_ssim(first: np.ndarray, second: np.ndarray, data_range: float, window: int = 7) -> np.ndarray:
    """Wang et al. (2004), Eq. 13, uniform window and sample covariance, where the whole window fits."""
    patches = [
        np.lib.stride_tricks.sliding_window_view(volume.astype(np.float64), (window,) * 3).reshape(
            *(size - window + 1 for size in volume.shape), -1
        )
        for volume in (first, second)
    ]
    mean = [patch.mean(axis=-1) for patch in patches]
    variance = [patch.var(axis=-1, ddof=1) for patch in patches]
    count = window**3
    covariance = ((patches[0] * patches[1]).mean(axis=-1) - mean[0] * mean[1]) * count / (count - 1)
    c1, c2 = (0.01 * data_range) ** 2, (0.03 * data_range) ** 2
    luminance = (2 * mean[0] * mean[1] + c1) / (mean[0] ** 2 + mean[1] ** 2 + c1)
    return luminance * (2 * covariance + c2) / (variance[0] + variance[1] + c2)


@pytest.mark.parametrize("data_range", [2.0, 1.0])
def test_ssim_follows_its_definition_over_crop_and_lesion(data_range):
    real, mask = picture(4), ball(3)
    painted = np.where(mask, 0.5 * real + 0.3 * picture(5), real).astype(np.float32)
    local = local_ssim(real, painted, data_range)
    crop, lesion = ssim(real, painted, mask, data_range)
    assert crop == pytest.approx(local.mean(), abs=1e-6)
    assert lesion == pytest.approx(local[mask[3:-3, 3:-3, 3:-3]].mean(), abs=1e-6)
    assert lesion < crop < 1


def test_ssim_of_the_crop_is_that_of_monai_but_for_the_sample_covariance():
    real = picture(4)
    painted = (0.5 * real + 0.3 * picture(5)).astype(np.float32)
    metric = SSIMMetric(spatial_dims=3, data_range=2.0, kernel_type="uniform", win_size=7)
    metric(torch.from_numpy(painted)[None, None], torch.from_numpy(real)[None, None])
    assert ssim(real, painted, ball(4))[0] == pytest.approx(metric.aggregate().item(), rel=2 / 7**3)


def test_ssim_of_equal_pictures_is_one():
    assert ssim(picture(6), picture(6), ball(4)) == pytest.approx((1, 1))


@pytest.mark.parametrize("slices", [1, 2, 5, 6])
def test_ssim_of_a_short_stack_is_that_of_the_stack_with_its_border_repeated(slices):
    grid = (16, 16, slices)
    real, painted, mask = picture(7, grid), picture(8, grid), np.zeros(grid, dtype=bool)
    mask[4:12, 5:11] = True
    index = np.clip(np.arange(-3, slices + 3), 0, slices - 1)
    local = local_ssim(real[..., index], painted[..., index], 2.0)
    crop, lesion = ssim(real, painted, mask)
    assert lesion == pytest.approx(local[mask[3:-3, 3:-3]].mean(), abs=1e-6)
    assert crop == pytest.approx(local.mean(), abs=1e-6)
    assert ssim(real, real, mask) == pytest.approx((1, 1))


def test_ssim_works_in_thin_crops():
    grid = (16, 16, 10)
    crop, lesion = ssim(picture(7, grid), picture(8, grid), np.ones(grid, dtype=bool))
    assert abs(crop) < 0.1
    assert abs(lesion) < 0.1


# Filling from the surroundings


def test_each_lesion_voxel_takes_a_nearest_outside_value():
    grid = (8, 9, 7)
    image = np.random.default_rng(0).permutation(np.prod(grid)).reshape(grid).astype(np.float32)
    mask = ball(2.5, grid, centre=3.5)
    before = image.copy()
    filled = fill_from_surroundings(image, mask)
    assert filled.dtype == np.float32
    assert np.array_equal(image, before)
    assert np.array_equal(filled[~mask], image[~mask])
    outside = np.argwhere(~mask)
    place = {value: np.array(index) for index, value in np.ndenumerate(image)}
    for voxel in np.argwhere(mask):
        source = place[filled[tuple(voxel)]]
        assert not mask[tuple(source)]
        nearest = ((outside - voxel) ** 2).sum(axis=1).min()
        assert ((source - voxel) ** 2).sum() == nearest


def test_lesion_in_an_even_background_disappears():
    mask = ball(4)
    image = np.where(mask, 0.6, -0.85).astype(np.float32)
    assert np.array_equal(fill_from_surroundings(image, mask), np.full(GRID, -0.85, dtype=np.float32))
    assert np.array_equal(fill_from_surroundings(image, np.zeros(GRID, dtype=bool)), image)

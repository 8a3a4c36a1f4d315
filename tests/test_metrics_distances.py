"""Distances between sets of features against closed forms and independent calculations."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from made_up_lesions import made_up_crops
from monai.metrics import MMDMetric
from monai.metrics.fid import get_fid_score
from scipy.stats import ortho_group, wasserstein_distance

from custom_components.errors import InputError
from custom_components.metrics import frechet_distance, kernel_distance, sliced_wasserstein
from custom_components.metrics.features import FeatureSpace
from custom_components.metrics.frechet import check_covariance
from custom_components.metrics.lesion_features import LESION_FEATURES, lesion_features

RNG = np.random.default_rng(5)
FIRST, SECOND = RNG.normal(size=(60, 4)) @ RNG.normal(size=(4, 4)), RNG.normal(0.5, 2, size=(45, 4))


def exactly(values: np.ndarray, mean, covariance) -> np.ndarray:
    """The set moved and sheared so that its mean and covariance are exactly those."""
    centred = values - values.mean(axis=0)
    white = centred @ np.linalg.inv(np.linalg.cholesky(np.cov(centred.T))).T
    return white @ np.linalg.cholesky(covariance).T + mean


@pytest.mark.parametrize("distance", [frechet_distance, sliced_wasserstein])
def test_distance_of_a_set_to_itself_is_zero(distance):
    assert distance(FIRST, FIRST[::-1]) == pytest.approx(0, abs=1e-9)


def test_frechet_distance_of_gaussians_with_known_one():
    first = exactly(FIRST, [0, 0, 0, 0], np.diag([1.0, 4.0, 9.0, 16.0]))
    second = exactly(SECOND, [1, 2, 0, 0], np.diag([4.0, 1.0, 9.0, 1.0]))
    # Covariances that commute: the sum of the squared differences of deviations, and of means.
    assert frechet_distance(first, second) == pytest.approx((1 + 4) + (1 + 1 + 0 + 9))


def test_frechet_distance_equals_monais_on_full_covariances():
    expected = float(get_fid_score(torch.from_numpy(FIRST), torch.from_numpy(SECOND)))
    assert frechet_distance(FIRST, SECOND) == pytest.approx(expected, rel=1e-8)


def test_frechet_distance_is_that_of_the_subspace_where_covariances_are_singular():
    padded = [np.hstack([values, values[:, :1] * 0]) for values in (FIRST, SECOND)]
    assert frechet_distance(*padded) == pytest.approx(frechet_distance(FIRST, SECOND))


def test_frechet_distance_does_not_depend_on_the_axes():
    turn = ortho_group.rvs(4, random_state=0)
    assert frechet_distance(FIRST @ turn + 3, SECOND @ turn + 3) == pytest.approx(frechet_distance(FIRST, SECOND))


def test_frechet_distance_of_lesion_features_to_a_brighter_set_is_the_squared_shift(tmp_path):
    """The radiomics distance: 70 HU more move mean and percentiles alone, and leave the covariance as it is."""
    crops = made_up_crops(tmp_path, [f"p{k}" for k in range(24)], range(24))
    features = np.array([lesion_features(crop) for crop in crops])
    brighter = [replace(crop, tight_values=crop.tight_values + 70) for crop in crops]
    kept = [
        LESION_FEATURES.index(name) for name in ("mean", "percentile_10", "percentile_90", "deviation", "log_volume")
    ]
    space = FeatureSpace(features[:, kept])
    moved = np.array([lesion_features(crop) for crop in brighter])[:, kept]
    expected = sum((70 / features[:, kept[k]].std(ddof=1)) ** 2 for k in range(3))
    assert frechet_distance(space(features[:, kept]), space(moved)) == pytest.approx(expected, rel=1e-4)


def test_covariance_needs_one_lesion_more_than_features():
    check_covariance(np.zeros((5, 4)), "the set")
    with pytest.raises(InputError, match="the set has 4 lesions, the covariance of 4 features needs at least 5"):
        check_covariance(np.zeros((4, 4)), "the set")


def kernel(x, y):
    return (x @ y / len(x) + 1) ** 3


def test_kernel_distance_equals_the_sum_over_all_pairs():
    first, second = FIRST[:6], SECOND[:4]
    within = [
        np.mean([kernel(a, b) for i, a in enumerate(s) for j, b in enumerate(s) if i != j]) for s in (first, second)
    ]
    between = np.mean([kernel(a, b) for a in first for b in second])
    assert kernel_distance(first, second) == pytest.approx(sum(within) - 2 * between)


def cubic_features(values):
    """Whose inner product is the kernel: all products of three of the features and 1."""
    widened = torch.cat([values / values.shape[1] ** 0.5, torch.ones(len(values), 1, dtype=values.dtype)], dim=1)
    return torch.einsum("ni,nj,nk->nijk", widened, widened, widened).flatten(1)


def test_kernel_distance_equals_monais_mmd_of_the_kernels_features():
    first, second = FIRST[:45], SECOND
    expected = MMDMetric(cubic_features)(torch.from_numpy(first), torch.from_numpy(second))
    assert kernel_distance(first, second) == pytest.approx(float(expected), rel=1e-8)


def test_kernel_distance_is_unbiased():
    rng = np.random.default_rng(0)
    found = [kernel_distance(rng.normal(size=(8, 2)), rng.normal(size=(10, 2))) for _ in range(1500)]
    error = np.std(found) / np.sqrt(len(found))
    assert abs(np.mean(found)) < 3 * error
    assert min(found) < 0


def test_kernel_distance_counts_no_pair_of_a_lesion_with_itself():
    counts = np.array([2, 1, 3])
    names = np.repeat(np.arange(3), counts)
    drawn = FIRST[:3][names]
    pairs = [kernel(drawn[i], drawn[j]) for i in range(6) for j in range(6) if names[i] != names[j]]
    other = [kernel(a, b) for i, a in enumerate(SECOND[:4]) for j, b in enumerate(SECOND[:4]) if i != j]
    expected = np.mean(pairs) + np.mean(other) - 2 * np.mean([kernel(a, b) for a in drawn for b in SECOND[:4]])
    assert kernel_distance(FIRST[:3], SECOND[:4], counts, None) == pytest.approx(expected)


def test_sliced_wasserstein_of_one_feature_is_the_wasserstein_distance():
    expected = wasserstein_distance(FIRST[:, 0], SECOND[:, 0])
    assert sliced_wasserstein(FIRST[:, :1], SECOND[:, :1]) == pytest.approx(expected)


def test_sliced_wasserstein_of_a_shift_is_its_mean_length_along_a_direction():
    shift = np.array([3.0, 0, 4.0])
    found = sliced_wasserstein(FIRST[:, :3], FIRST[:, :3] + shift, directions=4000)
    assert found == pytest.approx(5 / 2, rel=0.03)  # the mean of |cos| over the sphere is 1 / 2


def test_sliced_wasserstein_is_reproducible():
    assert sliced_wasserstein(FIRST, SECOND, seed=3) == sliced_wasserstein(FIRST, SECOND, seed=3)
    assert sliced_wasserstein(FIRST, SECOND, seed=3) != sliced_wasserstein(FIRST, SECOND, seed=4)

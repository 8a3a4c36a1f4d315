"""How different the lesions of a set are from each other."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from made_up_lesions import made_up_crops
from scipy.spatial.distance import euclidean

from custom_components.metrics import psnr
from custom_components.metrics.diversity import feature_spread, pair_similarity, random_pairs, repeated_pairs


@pytest.fixture(scope="module")
def crops(tmp_path_factory):
    return made_up_crops(tmp_path_factory.mktemp("set"), list("abc"), range(3))


def test_spread_is_the_mean_distance_of_pairs():
    values = np.random.default_rng(0).normal(size=(5, 3))
    pairs = [euclidean(values[i], values[j]) for i in range(5) for j in range(i)]
    assert feature_spread(values) == pytest.approx(np.mean(pairs) / np.sqrt(6))


def test_spread_of_a_standard_set_is_about_one_and_grows_with_the_set():
    values = np.random.default_rng(0).normal(size=(300, 20))
    assert feature_spread(values) == pytest.approx(0.99, abs=0.02)
    assert feature_spread(3 * values) == pytest.approx(3 * feature_spread(values))


def test_lesion_drawn_twice_makes_no_pair_with_itself():
    values = np.array([[0.0], [1.0], [5.0]])
    names = [0, 0, 1, 2]
    pairs = [abs(values[i] - values[j])[0] for i in names for j in names if i != j]
    assert feature_spread(values, np.array([2, 1, 1])) == pytest.approx(np.mean(pairs) / np.sqrt(2))


def test_random_pairs_are_all_or_so_many_different_ones():
    assert random_pairs(4, 10) == [(0, 1), (0, 2), (0, 3), (1, 2), (1, 3), (2, 3)]
    some = random_pairs(50, 10, seed=1)
    assert len(set(some)) == 10
    assert all(i < j for i, j in some)
    assert some == random_pairs(50, 10, seed=1) != random_pairs(50, 10, seed=2)


def test_repeated_pairs_share_scan_and_mask(crops):
    again = replace(crops[1], values=crops[1].values + 10)
    elsewhere = replace(crops[1], patient="another")
    assert repeated_pairs([*crops, again, elsewhere]) == [(1, 3)]


def test_similarity_is_that_of_the_voxels_of_either_lesion(crops):
    found = pair_similarity(crops, [(0, 1), (0, 0)])
    union = crops[0].mask | crops[1].mask
    scaled = [np.clip((crop.values + 1000) / 700 - 1, -1, 1) for crop in crops[:2]]
    assert found["psnr"][0] == pytest.approx(psnr(*scaled, union))
    assert np.isinf(found["psnr"][1])
    assert found["ssim"][1] == pytest.approx(1)
    assert found["ssim"][0] < 0.9

"""Nearest training lesions: copies are found however they were moved, and chance resemblance is told by real ones."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from made_up_lesions import made_up_crops

from custom_components.metrics.memorisation import (
    MIRRORS,
    correlation_neighbours,
    feature_neighbours,
    share_nearer,
)


@pytest.fixture(scope="module")
def training(tmp_path_factory):
    return made_up_crops(tmp_path_factory.mktemp("set"), list("abcdef"), range(6))


def neighbours(crops, training, excluded=()):
    return correlation_neighbours(crops, training, excluded, progress=False)


def correlation(one, other, mirror=(1, 1, 1)):
    """Over the voxels of either mask, by numpy."""
    turn = tuple(slice(None, None, step) for step in mirror)
    union = one.mask[turn] | other.mask
    return np.corrcoef(one.scaled(one.values)[turn][union], other.scaled(other.values)[union])[0, 1]


def test_distance_is_one_less_the_best_correlation_over_mirror_images(training):
    found = neighbours(training[:1], training[1:])[0]
    table = np.array([[correlation(training[0], other, mirror) for mirror in MIRRORS] for other in training[1:]])
    assert found.distance[0] == pytest.approx(1 - table.max(), abs=1e-4)
    assert (found.nearest[0], found.mirror[0]) == np.unravel_index(table.argmax(), table.shape)


def test_copy_has_distance_zero_and_its_original_is_named(training):
    found = neighbours(training, training)[0]
    np.testing.assert_allclose(found.distance, 0, atol=1e-4)
    np.testing.assert_array_equal(found.nearest, range(6))


def test_mirrored_copy_with_other_contrast_is_a_copy(training):
    turned = replace(
        training[3], values=0.7 * training[3].values[::-1, :, ::-1] - 200, mask=training[3].mask[::-1, :, ::-1]
    )
    found = neighbours([turned], training)[0]
    assert found.distance[0] == pytest.approx(0, abs=1e-3)
    assert found.nearest[0] == 3
    assert MIRRORS[found.mirror[0]] == (-1, 1, -1)


def test_what_surrounds_a_copy_does_not_matter(training):
    pasted = replace(training[2], values=np.where(training[2].mask, training[2].values, 300))
    assert neighbours([pasted], training)[0].distance[0] == pytest.approx(0, abs=1e-4)


def test_excluded_pairs_are_no_neighbours(training):
    pairs = np.eye(6, dtype=bool)
    everything, others = neighbours(training, training, [pairs])
    assert (everything.nearest == np.arange(6)).all()
    assert (others.nearest != np.arange(6)).all()
    assert (others.distance > 0.01).all()
    assert np.isinf(neighbours(training, training, [np.ones((6, 6), bool)])[1].distance).all()


def test_even_lesion_resembles_nothing(training):
    even = replace(training[0], values=np.full_like(training[0].values, -300))
    assert neighbours([even], training)[0].distance[0] == pytest.approx(1, abs=0.01)


def test_feature_distance_is_the_euclidean_one_over_root_2d():
    features = np.array([[0.0, 0.0], [3.0, 4.0]])
    known = np.array([[0.0, 1.0], [3.0, 4.0]])
    everything, others = feature_neighbours(features, known, [np.array([[False, False], [False, True]])])
    np.testing.assert_allclose(everything.distance, [0.5, 0])
    np.testing.assert_allclose(others.distance, [0.5, np.sqrt(18) / 2])
    np.testing.assert_array_equal(others.nearest, [0, 0])


def test_share_nearer_is_the_percentile_for_lesions_that_copy_nothing():
    rng = np.random.default_rng(0)
    real, synthetic = rng.uniform(size=5000), rng.uniform(size=5000)
    assert share_nearer(synthetic, real, 5) == pytest.approx(0.05, abs=0.01)
    assert share_nearer(np.concatenate([np.zeros(100), synthetic[:100] + 1]), real, 1) == 0.5

"""Sets drawn again: what stays together, and what intervals say."""

from __future__ import annotations

import numpy as np
import pytest

from custom_components.metrics.resampling import DISTANCES, bootstrap, halves_by_patient, interval, resampled_distances

PATIENTS = [f"p{n // 2}" for n in range(60)]


def drawn(synthetic_mean: float, seed: int = 0):
    rng = np.random.default_rng(1)
    real, synthetic = rng.normal(size=(60, 3)), rng.normal(synthetic_mean, 1, size=(40, 3))
    return resampled_distances(real, PATIENTS, synthetic, repeats=60, seed=seed, progress=False)


def test_lesions_of_a_patient_stay_in_one_half():
    first, second = halves_by_patient(PATIENTS, np.random.default_rng(0))
    assert sorted([*first, *second]) == list(range(60))
    assert not {PATIENTS[i] for i in first} & {PATIENTS[i] for i in second}
    assert len(first) == 30


@pytest.mark.parametrize("name", DISTANCES)
def test_equal_distributions_are_as_far_apart_as_halves_and_others_farther(name):
    alike, apart = interval(drawn(0)[name]["difference"]), interval(drawn(1.5)[name]["difference"])
    assert alike["low"] < 0 < alike["high"]
    assert apart["low"] > 0


def test_draws_are_reproducible():
    np.testing.assert_array_equal(drawn(0)["kernel"]["synthetic"], drawn(0)["kernel"]["synthetic"])
    assert not np.array_equal(drawn(0)["kernel"]["synthetic"], drawn(0, seed=1)["kernel"]["synthetic"])


def test_interval_holds_the_middle_of_the_values():
    assert interval(np.arange(1001.0)) == pytest.approx({"median": 500, "low": 25, "high": 975})


def test_bootstrap_interval_of_a_mean_has_the_width_that_theory_tells():
    values = np.random.default_rng(2).normal(size=400)
    found = bootstrap(lambda numbers: float(values[numbers].mean()), [400], 2000, np.random.default_rng(0))
    assert found["high"] - found["low"] == pytest.approx(2 * 1.96 * values.std() / 20, rel=0.1)

"""Which of a scan's values become -1 and 1."""

from __future__ import annotations

import numpy as np
import pytest

from custom_components.errors import InputError
from custom_components.windows import FixedWindow, PercentileWindow, choose_window


def test_fixed_window_is_the_same_for_every_scan():
    window = FixedWindow(-1000, 400)
    assert window(np.array([0.0, 5.0])) == window(np.full(3, 9.0)) == (-1000.0, 400.0)


@pytest.mark.parametrize("values", [(400, -1000), (3, 3), (float("nan"), 3)])
def test_fixed_window_that_does_not_rise_is_refused(values):
    with pytest.raises(InputError, match="hu_window must rise from its first to its second value"):
        FixedWindow(*values)


def test_percentile_window_follows_each_scan_and_leaves_out_its_extremes():
    """Of 0..200 the 1st percentile is 2 and the 99th 198; two spikes among 100 000 voxels move neither far."""
    assert PercentileWindow()(np.arange(201)) == (2.0, 198.0)
    assert PercentileWindow()(10 * np.arange(201) + 7) == (27.0, 1987.0)
    assert PercentileWindow(0, 100)(np.arange(201)) == (0.0, 200.0)
    assert PercentileWindow(25, 50)(np.arange(201)) == (50.0, 100.0)
    values = np.random.default_rng(0).normal(100, 10, 100_000)
    low, high = PercentileWindow()(np.append(values, [1e6, -1e6]))
    assert (low, high) == pytest.approx((100 - 2.326 * 10, 100 + 2.326 * 10), abs=0.5)


@pytest.mark.parametrize("percentiles", [(99, 1), (5, 5), (-1, 99), (1, 101)])
def test_percentiles_that_do_not_rise_within_0_and_100_are_refused(percentiles):
    with pytest.raises(InputError, match="intensity_percentiles must rise within 0 and 100"):
        PercentileWindow(*percentiles)


def test_scan_without_contrast_is_told():
    with pytest.raises(InputError, match=r"the scan has the same value, 7, nearly everywhere around the lesion"):
        PercentileWindow()(np.append(np.full(1000, 7.0), 9.0))


def test_headroom_widens_the_window_on_both_sides_by_a_share_of_it():
    values = np.arange(101.0)
    assert PercentileWindow(10, 60)(values) == (10, 60)
    assert PercentileWindow(10, 60, headroom=0.2)(values) == (0, 70)
    with pytest.raises(InputError, match="intensity_headroom must not be negative"):
        PercentileWindow(headroom=-0.1)


def test_window_is_chosen_by_the_setting_that_is_not_null():
    assert choose_window([-40, 150], None)(np.zeros(3)) == (-40, 150)
    assert choose_window(None, [0, 100], 0.5)(np.array([0.0, 10.0])) == (-5, 15)
    for settings in ((None, None), ([-40, 150], [1, 99])):
        with pytest.raises(InputError, match="one of hu_window and intensity_percentiles must be null"):
            choose_window(*settings)
    with pytest.raises(InputError, match="hu_window must be two rising numbers"):
        choose_window([1, 2, 3])

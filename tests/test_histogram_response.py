"""What Eq. 7 fits to histograms made with known weights, against independent least squares."""

from __future__ import annotations

import numpy as np
import pytest

from custom_components.errors import InputError
from custom_components.metrics import fit_histogram_response
from custom_components.metrics.histogram_response import FLOOR

R, S, OFFSET = 0.3, 0.8, 0.25
RNG = np.random.default_rng(0)
BEFORE = RNG.dirichlet(np.full(16, 2.0), (3, 20))  # controls, sites, bins; none of them near the floor
REQUESTED = np.repeat(RNG.dirichlet(np.full(16, 2.0), (3, 1)), 20, axis=1)


def made(before, requested, noise=0.0):
    exponent = R * np.log(before) + S * np.log(requested) + OFFSET
    return np.exp(exponent + noise * np.random.default_rng(1).normal(size=exponent.shape))


def test_known_weights_are_found():
    fit = fit_histogram_response(BEFORE, REQUESTED, made(BEFORE, REQUESTED), floor=1e-9)
    assert (fit.r, fit.s, fit.offset) == pytest.approx((R, S, OFFSET))
    assert fit.r_squared == pytest.approx(1)
    assert fit.observations == BEFORE.size


def test_offsets_are_known_by_their_sum_only():
    """Whatever p and q of Eq. 7 are apart, histograms with the same sum are the same, and so is the fit."""
    fits = []
    for p, q in ((OFFSET, 0.0), (-1.0, OFFSET + 1.0)):
        achieved = np.exp((R * np.log(BEFORE) + p) + (S * np.log(REQUESTED) + q))
        fits.append(fit_histogram_response(BEFORE, REQUESTED, achieved, floor=1e-9))
    assert fits[0].offset == pytest.approx(fits[1].offset) == pytest.approx(OFFSET)


def test_noisy_fit_equals_the_normal_equations():
    achieved = made(BEFORE, REQUESTED, noise=0.5)
    fit = fit_histogram_response(BEFORE, REQUESTED, achieved, floor=1e-9)
    y, l, h = (np.log(v).ravel() for v in (achieved, BEFORE, REQUESTED))
    a = np.stack([l, h, np.ones_like(l)])
    expected = np.linalg.solve(a @ a.T, a @ y)
    assert (fit.r, fit.s, fit.offset) == pytest.approx(tuple(expected))
    assert fit.r_squared == pytest.approx(np.corrcoef(y, expected @ a)[0, 1] ** 2)
    assert fit.r_squared < 0.99


def test_fit_without_request_has_no_s():
    achieved = np.exp(R * np.log(BEFORE) + OFFSET)
    fit = fit_histogram_response(BEFORE, None, achieved, floor=1e-9)
    assert (fit.r, fit.s, fit.offset) == pytest.approx((R, 0, OFFSET))
    np.testing.assert_allclose(fit.predict(BEFORE, renormalise=False), achieved)


def test_prediction_is_eq_8_and_sums_to_1_where_asked():
    achieved = made(BEFORE, REQUESTED)
    fit = fit_histogram_response(BEFORE, REQUESTED, achieved, floor=1e-9)
    np.testing.assert_allclose(fit.predict(BEFORE, REQUESTED, renormalise=False), achieved)
    shares = fit.predict(BEFORE, REQUESTED)
    np.testing.assert_allclose(shares.sum(axis=-1), 1)
    np.testing.assert_allclose(shares, achieved / achieved.sum(axis=-1, keepdims=True))


def test_empty_bins_count_as_the_floor():
    before, requested, achieved = (v.copy() for v in (BEFORE, REQUESTED, made(BEFORE, REQUESTED)))
    before[..., 0] = requested[..., 5] = achieved[..., 9] = 0
    fit = fit_histogram_response(before, requested, achieved)
    y, l, h = (np.log(np.where(v < FLOOR, FLOOR, v)).ravel() for v in (achieved, before, requested))
    expected, *_ = np.linalg.lstsq(np.c_[l, h, np.ones(y.size)], y, rcond=None)
    assert (fit.r, fit.s, fit.offset) == pytest.approx(tuple(expected))
    assert np.isfinite(fit.predict(before, requested)).all()
    assert fit.floor == FLOOR


def test_copied_histograms_are_told_from_obeyed_ones():
    """r is 1 and s 0 where the lesion looks like what was there, and the other way round where it obeys."""
    copied = fit_histogram_response(BEFORE, REQUESTED, BEFORE, floor=1e-9)
    obeyed = fit_histogram_response(BEFORE, REQUESTED, REQUESTED, floor=1e-9)
    assert (copied.r, copied.s) == pytest.approx((1, 0), abs=1e-9)
    assert (obeyed.r, obeyed.s) == pytest.approx((0, 1), abs=1e-9)


@pytest.mark.parametrize(
    ("before", "requested", "floor", "sentence"),
    [
        (BEFORE, REQUESTED[:, :5], 1e-3, "must have one shape"),
        (BEFORE, REQUESTED, 0.0, "floor must lie between 0 and 1"),
        (BEFORE, BEFORE, 1e-9, "too few or too alike"),
        (np.full((1, 16), 1 / 16), None, 1e-3, "too few or too alike"),
    ],
)
def test_what_cannot_be_fitted_is_told(before, requested, floor, sentence):
    with pytest.raises(InputError, match=sentence):
        fit_histogram_response(before, requested, before, floor)

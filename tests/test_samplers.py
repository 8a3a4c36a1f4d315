"""One reverse step of each sampling algorithm (Eq. 1)."""

from __future__ import annotations

import math

import pytest
import torch

from custom_components.samplers import DDIMSampler, DDPMSampler
from custom_components.schedules import NoiseSchedule

T = 40
STEPS = [(39, 38), (39, 20), (25, 24), (25, 3), (1, 0), (12, 0)]
SAMPLERS = [DDPMSampler(), DDIMSampler(1.0), DDIMSampler(0.5), DDIMSampler(0.0)]


def constant(value: float):
    return lambda like: torch.full_like(like, value)


def forbidden(like):
    raise AssertionError("no noise may be drawn here")


def scalar(value: float) -> torch.Tensor:
    return torch.full((1, 1, 1, 1, 1), value, dtype=torch.float64)


def linear_form(sampler, t: int, s: int, schedule: NoiseSchedule) -> tuple[float, float, float]:
    """The step is ``p x_0 + q x_t + r noise``; returns p, q, r."""
    p = sampler.step(scalar(0), scalar(1), t, s, schedule, constant(0)).item()
    q = sampler.step(scalar(1), scalar(0), t, s, schedule, constant(0)).item()
    r = sampler.step(scalar(0), scalar(0), t, s, schedule, constant(1)).item()
    return p, q, r


def posterior(t: int, s: int, schedule: NoiseSchedule) -> tuple[float, float, float]:
    """q(x_s | x_t, x_0) by Bayes' rule: the product of q(x_s | x_0) and q(x_t | x_s), both Gaussian in x_s."""
    abar_t, abar_s = schedule.alpha_bar(t), schedule.alpha_bar(s)
    alpha = abar_t / abar_s
    prior_precision, likelihood_precision = 1 / (1 - abar_s), alpha / (1 - alpha)
    variance = 1 / (prior_precision + likelihood_precision)
    return (
        variance * prior_precision * math.sqrt(abar_s),
        variance * likelihood_precision / math.sqrt(alpha),
        math.sqrt(variance),
    )


def test_ddpm_step_equals_the_reference_posterior(golden_dir):
    files = sorted(golden_dir.glob("cosine_*_buffers.pt"))
    assert files, f"{golden_dir} holds no cosine_*_buffers.pt"
    for file in files:
        tables = torch.load(file, weights_only=True)
        schedule = NoiseSchedule(len(tables["betas"]))
        rows = [linear_form(DDPMSampler(), t, t - 1, schedule) for t in range(schedule.num_train_timesteps)]
        of_x_0, of_x_t, spread = torch.tensor(rows).unbind(dim=1)
        near = {"rtol": 1e-4, "atol": 1e-7}
        torch.testing.assert_close(of_x_0, tables["posterior_mean_coef1"], **near)
        torch.testing.assert_close(of_x_t, tables["posterior_mean_coef2"], **near)
        torch.testing.assert_close(spread**2, tables["posterior_variance"], **near)


@pytest.mark.parametrize("t", [1, 2, 20, 39])
def test_ddpm_step_to_the_next_timestep_is_the_textbook_posterior(t):
    """Ho et al. 2020, Eq. 6-7."""
    schedule = NoiseSchedule(T)
    abar_t, abar_s = schedule.alpha_bar(t), schedule.alpha_bar(t - 1)
    alpha = abar_t / abar_s
    beta = 1 - alpha
    expected = (
        math.sqrt(abar_s) * beta / (1 - abar_t),
        math.sqrt(alpha) * (1 - abar_s) / (1 - abar_t),
        math.sqrt((1 - abar_s) / (1 - abar_t) * beta),
    )
    assert linear_form(DDPMSampler(), t, t - 1, schedule) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize(("t", "s"), STEPS)
def test_ddpm_step_over_any_gap_is_bayes_rule(t, s):
    schedule = NoiseSchedule(T)
    assert linear_form(DDPMSampler(), t, s, schedule) == pytest.approx(posterior(t, s, schedule), rel=1e-6)


@pytest.mark.parametrize(("t", "s"), STEPS)
def test_ddim_with_eta_1_has_the_mean_and_variance_of_ddpm(t, s):
    schedule = NoiseSchedule(T)
    assert linear_form(DDIMSampler(1.0), t, s, schedule) == pytest.approx(posterior(t, s, schedule), rel=1e-6)


@pytest.mark.parametrize(("t", "s"), STEPS)
def test_ddim_with_eta_between_scales_the_standard_deviation(t, s):
    schedule = NoiseSchedule(T)
    spread = linear_form(DDIMSampler(0.3), t, s, schedule)[2]
    assert spread == pytest.approx(0.3 * posterior(t, s, schedule)[2], rel=1e-6)


@pytest.mark.parametrize(("t", "s"), STEPS)
def test_ddim_with_eta_0_draws_nothing_and_keeps_the_noise_it_saw(t, s):
    schedule = NoiseSchedule(T)
    x_0, epsilon = scalar(0.4), scalar(-1.3)
    x_t = math.sqrt(schedule.alpha_bar(t)) * x_0 + math.sqrt(1 - schedule.alpha_bar(t)) * epsilon
    expected = math.sqrt(schedule.alpha_bar(s)) * 0.4 + math.sqrt(1 - schedule.alpha_bar(s)) * -1.3
    x_s = DDIMSampler(0.0).step(x_t, x_0, t, s, schedule, forbidden)
    assert x_s.item() == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("sampler", SAMPLERS)
@pytest.mark.parametrize(("t", "s"), STEPS)
def test_every_step_leads_to_the_forward_process_s_own_distribution(sampler, t, s):
    """With the true x_0 and x_t from q(x_t | x_0), x_s must have mean sqrt(abar_s) x_0 and variance 1 - abar_s."""
    schedule = NoiseSchedule(T)
    abar_t, abar_s = schedule.alpha_bar(t), schedule.alpha_bar(s)
    p, q, r = linear_form(sampler, t, s, schedule)
    assert p + q * math.sqrt(abar_t) == pytest.approx(math.sqrt(abar_s), rel=1e-6)
    assert q**2 * (1 - abar_t) + r**2 == pytest.approx(1 - abar_s, rel=1e-6)


@pytest.mark.parametrize("sampler", SAMPLERS)
@pytest.mark.parametrize("t", [0, 7, 39])
def test_last_step_returns_the_estimate_itself_without_a_draw(sampler, t):
    x_t, x_0 = torch.randn(2, 2, 1, 3, 3, 3, generator=torch.Generator().manual_seed(0))
    assert torch.equal(sampler.step(x_t, x_0, t, -1, NoiseSchedule(T), forbidden), x_0)


def test_noise_is_asked_for_once_with_the_state_s_shape():
    for sampler in SAMPLERS[:3]:
        asked = []

        def record(like, asked=asked):
            asked.append(like.shape)
            return torch.zeros_like(like)

        sampler.step(torch.zeros(2, 3, 4, 4, 4), torch.zeros(2, 3, 4, 4, 4), 9, 5, NoiseSchedule(T), record)
        assert asked == [(2, 3, 4, 4, 4)]


@pytest.mark.parametrize("eta", [-0.1, 1.1, float("nan")])
def test_eta_out_of_range_is_refused_by_name(eta):
    with pytest.raises(ValueError, match="eta"):
        DDIMSampler(eta)

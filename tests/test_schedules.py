"""The noise schedule (Eq. 2) and the walk of appendix F."""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from itertools import pairwise

import numpy as np
import pytest
import torch

from custom_components.schedules import NoiseSchedule, cosine_betas, resampling_walk, spaced_timesteps

PREDICTION_TYPES = ("epsilon", "v_prediction", "sample")


def reference_walks(content: dict) -> dict[tuple[int, int, int], list[int]]:
    """Every ``"T,jump_length,jump_n_sample": [...]`` of schedules.json, whichever object holds it."""
    walks = {}
    for key, value in content.items():
        if re.fullmatch(r"\d+,\d+,\d+", key):
            walks[tuple(int(number) for number in key.split(","))] = value
        elif isinstance(value, dict):
            walks |= reference_walks(value)
    return walks


def numpy_alphas_cumprod(num_train_timesteps: int, max_beta: float = 0.9999) -> np.ndarray:
    """abar by Nichol and Dhariwal's definition, one step at a time."""

    def f(u):
        return math.cos((u + 0.008) / 1.008 * math.pi / 2) ** 2

    T = num_train_timesteps
    betas = [min(1 - f((t + 1) / T) / f(t / T), max_beta) for t in range(T)]
    return np.cumprod(1 - np.array(betas))


# ----------------------------------------------------------------------------------------- the reference cases


def test_walks_equal_every_reference_list(golden_dir):
    walks = reference_walks(json.loads((golden_dir / "schedules.json").read_text()))
    assert walks, "schedules.json holds no walk"
    for arguments, expected in walks.items():
        assert resampling_walk(*arguments) == expected, f"walk {arguments} differs"


def test_tables_equal_the_reference_tables(golden_dir):
    files = sorted(golden_dir.glob("cosine_*_buffers.pt"))
    assert files, f"{golden_dir} holds no cosine_*_buffers.pt"
    for file in files:
        tables = torch.load(file, weights_only=True)
        T = len(tables["betas"])
        schedule = NoiseSchedule(T)
        near = {"rtol": 1e-5, "atol": 1e-9}
        torch.testing.assert_close(schedule.betas, tables["betas"], **near)
        torch.testing.assert_close(cosine_betas(T).float(), tables["betas"], **near)
        torch.testing.assert_close(schedule.alphas_cumprod, tables["alphas_cumprod"], **near)

        steps, like = torch.arange(T), torch.zeros(T, 1)
        a, b = (table.flatten() for table in schedule.coefficients(steps, like))
        torch.testing.assert_close(a, tables["sqrt_alphas_cumprod"], **near)
        torch.testing.assert_close(b, tables["sqrt_one_minus_alphas_cumprod"], **near)

        # predict_x_0 of a predicted epsilon is x_t / sqrt(abar) - epsilon sqrt(1 / abar - 1)
        one = torch.ones(T, 1)
        of_state = schedule.predict_x_0(like, one, steps, "epsilon").flatten()
        of_noise = schedule.predict_x_0(-one, like, steps, "epsilon").flatten()
        torch.testing.assert_close(of_state, tables["sqrt_recip_alphas_cumprod"], **near)
        torch.testing.assert_close(of_noise, tables["sqrt_recipm1_alphas_cumprod"], **near)


def test_noised_images_equal_the_reference(golden_dir):
    T = json.loads((golden_dir / "schedules.json").read_text())["meta"]["timesteps"]
    schedule, compared = NoiseSchedule(T), 0
    for file in sorted(golden_dir.glob("*_expected.pt")):
        case = torch.load(file, weights_only=True)
        if "x_noisy" in case:
            x_t = schedule.add_noise(case["gt"], case["noise"], case["t"])
            torch.testing.assert_close(x_t, case["x_noisy"], rtol=1e-5, atol=1e-6)
            compared += 1
    assert compared, f"no *_expected.pt of {golden_dir} holds x_noisy"


# ----------------------------------------------------------------------------------------- the noise schedule


@pytest.mark.parametrize("T", [1, 2, 50, 300])
def test_alphas_cumprod_follow_the_cosine_definition(T):
    schedule = NoiseSchedule(T)
    expected = numpy_alphas_cumprod(T)
    np.testing.assert_allclose(schedule.alphas_cumprod.numpy(), expected, rtol=1e-6)
    assert [schedule.alpha_bar(t) for t in range(T)] == pytest.approx(list(expected), rel=1e-9)


def test_largest_beta_is_clipped_as_published():
    assert NoiseSchedule(300).betas.max().item() == pytest.approx(0.9999, rel=1e-6)
    assert NoiseSchedule(300, max_beta=0.9).betas.max().item() == pytest.approx(0.9, rel=1e-6)


def test_clean_timestep_has_no_noise():
    assert NoiseSchedule(10).alpha_bar(-1) == 1.0


def test_add_noise_mixes_each_sample_at_its_own_timestep():
    schedule, T = NoiseSchedule(30), 30
    rng = np.random.default_rng(0)
    x_0, noise = rng.normal(size=(2, 3, 1, 2, 2, 2))
    t = np.array([0, 13, 29])
    abar = numpy_alphas_cumprod(T)[t].reshape(-1, 1, 1, 1, 1)
    expected = np.sqrt(abar) * x_0 + np.sqrt(1 - abar) * noise
    got = schedule.add_noise(torch.tensor(x_0), torch.tensor(noise), torch.tensor(t))
    np.testing.assert_allclose(got.numpy(), expected, rtol=1e-9, atol=1e-12)


def test_coefficients_keep_dtype_and_fit_any_number_of_axes():
    schedule = NoiseSchedule(10)
    for dtype, shape in (
        (torch.float32, (2, 3)),
        (torch.bfloat16, (2, 1, 4, 4)),
        (torch.float64, (2, 1, 2, 2, 2)),
    ):
        a, b = schedule.coefficients(torch.tensor([0, 9]), torch.zeros(shape, dtype=dtype))
        assert a.dtype == b.dtype == dtype
        assert a.shape == b.shape == (2, *[1] * (len(shape) - 1))


def test_velocity_is_the_derivative_along_the_angle():
    # With a = cos(phi) and b = sin(phi), Salimans and Ho define v as d x_phi / d phi.
    schedule, t = NoiseSchedule(40), 17
    phi = math.acos(math.sqrt(numpy_alphas_cumprod(40)[t]))
    x_0, noise, h = 0.3, -1.2, 1e-6

    def x(angle):
        return math.cos(angle) * x_0 + math.sin(angle) * noise

    expected = (x(phi + h) - x(phi - h)) / (2 * h)
    got = schedule.velocity(
        torch.full((1, 1), x_0, dtype=torch.float64),
        torch.full((1, 1), noise, dtype=torch.float64),
        torch.tensor([t]),
    )
    assert got.item() == pytest.approx(expected, abs=1e-8)


@pytest.mark.parametrize("prediction_type", PREDICTION_TYPES)
def test_a_perfect_prediction_gives_back_the_clean_image(prediction_type):
    schedule = NoiseSchedule(25)
    generator = torch.Generator().manual_seed(1)
    x_0, noise = torch.randn(2, 25, 1, 3, generator=generator, dtype=torch.float64)
    t = torch.arange(25)
    target = schedule.training_target(x_0, noise, t, prediction_type)
    x_t = schedule.add_noise(x_0, noise, t)
    torch.testing.assert_close(schedule.predict_x_0(target, x_t, t, prediction_type), x_0)


def test_training_targets_are_noise_velocity_and_image():
    schedule, t = NoiseSchedule(25), torch.tensor([7])
    x_0, noise = torch.tensor([[0.5]]).double(), torch.tensor([[2.0]]).double()
    abar = numpy_alphas_cumprod(25)[7]
    expected = {
        "epsilon": 2.0,
        "v_prediction": math.sqrt(abar) * 2.0 - math.sqrt(1 - abar) * 0.5,
        "sample": 0.5,
    }
    for prediction_type, value in expected.items():
        got = schedule.training_target(x_0, noise, t, prediction_type)
        assert got.item() == pytest.approx(value, rel=1e-9)


def test_unknown_prediction_type_is_named():
    schedule, x, t = NoiseSchedule(5), torch.zeros(1, 1), torch.tensor([0])
    with pytest.raises(ValueError, match=r"prediction_type.*'noise'"):
        schedule.predict_x_0(x, x, t, "noise")
    with pytest.raises(ValueError, match=r"prediction_type.*'noise'"):
        schedule.training_target(x, x, t, "noise")


def test_renoising_by_one_step_uses_that_step_s_beta():
    schedule, t = NoiseSchedule(20), 12
    abar = numpy_alphas_cumprod(20)
    beta = 1 - abar[t] / abar[t - 1]
    x, noise = torch.tensor([0.7]).double(), torch.tensor([-0.4]).double()
    expected = math.sqrt(1 - beta) * 0.7 + math.sqrt(beta) * -0.4
    assert schedule.renoise(x, t - 1, t, noise).item() == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize(("s", "t"), [(-1, 0), (-1, 19), (0, 1), (3, 11), (18, 19)])
def test_noising_in_two_stages_is_noising_at_once(s, t):
    """Through s to t: the image's factor is sqrt(abar_t) and the two noises' variances add up to 1 - abar_t."""
    schedule, abar_t = NoiseSchedule(20), numpy_alphas_cumprod(20)[t]
    one, zero = torch.ones(1).double(), torch.zeros(1).double()

    def through_s(x_0, first, second):
        x_s = x_0 if s < 0 else schedule.add_noise(x_0, first, torch.tensor([s]))
        return schedule.renoise(x_s, s, t, second).item()

    assert through_s(one, zero, zero) == pytest.approx(math.sqrt(abar_t), rel=1e-6)
    variance = through_s(zero, one, zero) ** 2 + through_s(zero, zero, one) ** 2
    assert variance - (s < 0) * through_s(zero, one, zero) ** 2 == pytest.approx(1 - abar_t, rel=1e-6)


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ((0,), "num_train_timesteps"),
        ((-3,), "num_train_timesteps"),
        ((10, 0.0), "max_beta"),
        ((10, 1.0), "max_beta"),
    ],
)
def test_impossible_schedules_are_refused_by_name(arguments, named):
    with pytest.raises(ValueError, match=named):
        NoiseSchedule(*arguments)


# ----------------------------------------------------------------------------------------- the walk


def test_walk_starts_as_the_paper_prints_it():
    """Appendix F: initial step 300, recurrent length 2, sampling frequency 2."""
    printed = [
        300,
        299,
        298,
        299,
        300,
        299,
        298,
        297,
        296,
        297,
        298,
        297,
        296,
        295,
        294,
        295,
        296,
        295,
        294,
        293,
    ]
    assert resampling_walk(301, 2, 2)[: len(printed)] == printed


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ((1,), [0, -1]),
        ((4,), [3, 2, 1, 0, -1]),
        ((4, 2, 1), [3, 2, 1, 0, -1]),
        ((4, 2, 2), [3, 2, 1, 0, 1, 2, 1, 0, -1]),
        ((3, 1, 3), [2, 1, 2, 1, 2, 1, 0, 1, 0, 1, 0, -1]),
        ((3, 10, 5), [2, 1, 0, -1]),
    ],
)
def test_short_walks_equal_those_worked_out_by_hand(arguments, expected):
    assert resampling_walk(*arguments) == expected


@pytest.mark.parametrize("arguments", [(20, 2, 2), (23, 5, 3), (30, 7, 4), (300, 10, 10)])
def test_walk_samples_every_stretch_as_often_as_asked(arguments):
    T, length, times = arguments
    walk = resampling_walk(*arguments)
    assert walk[0] == T - 1
    assert walk[-1] == -1
    moves = list(pairwise(walk))
    assert all(abs(after - before) == 1 for before, after in moves)
    jumps = sum(1 for step in range(T) if step % length == 0 and step + length < T)
    assert len(walk) == T + 1 + 2 * length * (times - 1) * jumps
    down = Counter(before for before, after in moves if after < before)
    for step in range(T):
        # A step inside a repeated stretch (from s + length down to s + 1) is denoised once for each pass.
        s = (step - 1) // length * length
        assert down[step] == (times if step > 0 and s + length < T else 1)


@pytest.mark.parametrize(
    ("arguments", "named"),
    [((0,), "num_steps"), ((5, 0), "jump_length"), ((5, 1, 0), "jump_n_sample"), ((5, -1, 2), "jump_length")],
)
def test_walk_names_the_bad_argument(arguments, named):
    with pytest.raises(ValueError, match=named):
        resampling_walk(*arguments)


# ----------------------------------------------------------------------------------------- subsets of the steps


@pytest.mark.parametrize("T", [1, 37, 300])
def test_spaced_timesteps_are_distinct_even_and_end_at_the_noisiest(T):
    for count in range(1, T + 1):
        steps = spaced_timesteps(T, count)
        gaps = np.diff([-1, *steps])
        assert len(steps) == count
        assert steps[-1] == T - 1
        assert gaps.min() >= 1
        assert gaps.max() - gaps.min() <= 2
        assert np.abs(np.array(steps) + 1 - np.arange(1, count + 1) * T / count).max() <= 0.5


def test_all_timesteps_are_used_where_as_many_are_asked_for():
    assert spaced_timesteps(12, 12) == list(range(12))


@pytest.mark.parametrize("count", [0, -1, 21])
def test_number_of_steps_out_of_range_is_named(count):
    with pytest.raises(ValueError, match=rf"num_inference_steps.*20.*{count}"):
        spaced_timesteps(20, count)


def test_snr_shift_multiplies_the_signal_to_noise_ratio_at_every_step():
    plain, shifted = NoiseSchedule(50), NoiseSchedule(50, snr_shift=0.04)
    for t in (0, 10, 49):
        ratios = [schedule.alpha_bar(t) / (1 - schedule.alpha_bar(t)) for schedule in (plain, shifted)]
        assert ratios[1] == pytest.approx(0.04 * ratios[0], rel=1e-9)
    torch.testing.assert_close(torch.cumprod(1 - shifted.betas.double(), 0)[:40].float(), shifted.alphas_cumprod[:40])


def test_snr_shift_of_nothing_is_refused():
    with pytest.raises(ValueError, match="snr_shift"):
        NoiseSchedule(50, snr_shift=0)

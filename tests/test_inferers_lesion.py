"""What is painted inside the mask: the reverse process of Eq. 1-3, written out and undone."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import pytest
import torch
from inpainting_parts import CONTEXTS, GRID, SAMPLERS, Convolution, FakeNetwork, Oracle, T, example

from custom_components.inferers import LesionInpaintingInferer
from custom_components.samplers import DDPMSampler
from custom_components.schedules import NoiseSchedule


@pytest.mark.parametrize("context", CONTEXTS)
@pytest.mark.parametrize("sampler", SAMPLERS)
@pytest.mark.parametrize("prediction_type", ["epsilon", "v_prediction", "sample"])
def test_network_that_knows_the_image_makes_every_sampler_recover_it(context, sampler, prediction_type):
    inputs, schedule = example(), NoiseSchedule(T)
    x_0 = 1.8 * torch.rand(2, 1, *GRID, generator=torch.Generator().manual_seed(3)) - 0.9
    inferer = LesionInpaintingInferer(
        schedule,
        context=context,
        prediction_type=prediction_type,
        sampler=SAMPLERS[sampler],
        num_inference_steps=5,
        jump_length=2,
        jump_n_sample=2,
    )
    result = inferer(inputs, Oracle(x_0, schedule, prediction_type))
    lesion = inputs[:, 1:] > 0
    torch.testing.assert_close(result[lesion], x_0[lesion], rtol=0, atol=1e-4)


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_every_state_on_the_way_has_the_forward_process_s_mean_and_spread(sampler):
    """With a perfect network, inside and outside: mean sqrt(abar_t) x_0, standard deviation sqrt(1 - abar_t)."""
    schedule, grid = NoiseSchedule(T), (16, 16, 16)
    image = torch.full((1, 1, *grid), -0.5)
    x_0 = torch.full((1, 1, *grid), 0.7)
    mask = torch.zeros(1, 1, *grid)
    mask[..., :8, :, :] = 1
    states = []
    inferer = LesionInpaintingInferer(
        schedule,
        context="diffused",
        sampler=SAMPLERS[sampler],
        num_inference_steps=6,
        jump_length=2,
        jump_n_sample=2,
        on_step=lambda step, t, x: states.append((step, t, x)),
    )
    inferer(torch.cat([image, mask], dim=1), Oracle(x_0, schedule, "v_prediction"), seeds=[0])
    assert len(states) > 6
    for _, t, x in states[1:]:
        abar = schedule.alpha_bar(t)
        for part, mean in ((mask > 0, 0.7), (mask == 0, -0.5)):
            assert x[part].mean().item() == pytest.approx(math.sqrt(abar) * mean, abs=0.1)
            assert x[part].std().item() == pytest.approx(math.sqrt(1 - abar), rel=0.08, abs=1e-6)


def trajectory(image, mask, num_steps, jump, constant, context, clip):
    """Eq. 1-3 and appendix F in numpy, for DDPM, epsilon prediction, one class and constant noise."""
    betas = []
    for t in range(T):
        f = [math.cos(((t + k) / T + 0.008) / 1.008 * math.pi / 2) ** 2 for k in (0, 1)]
        betas.append(min(1 - f[1] / f[0], 0.9999))
    abar = np.append(np.cumprod(1 - np.array(betas)), 1.0)  # abar[-1] is that of the clean image
    used = [round((k + 1) * T / num_steps) - 1 for k in range(num_steps)]
    walk = {
        (4, 1): [3, 2, 1, 0, -1],
        (4, 2): [3, 2, 1, 0, 1, 2, 1, 0, -1],
        (5, 2): [4, 3, 2, 3, 4, 3, 2, 1, 0, 1, 2, 1, 0, -1],
    }[num_steps, jump]
    x = np.full_like(image, constant)
    for before, after in pairwise(walk):
        t, s = used[before], -1 if after < 0 else used[after]
        if after > before:
            alpha = abar[s] / abar[t]
            x = np.sqrt(alpha) * x + np.sqrt(1 - alpha) * constant
            continue
        seen = x[None] if context == "diffused" else np.stack([np.where(mask > 0, x, image), mask])
        epsilon = 0.5 * seen[0] + 0.3 * seen.mean() + 0.02 * t
        x_0 = (x - np.sqrt(1 - abar[t]) * epsilon) / np.sqrt(abar[t])
        x_0 = np.clip(x_0, -1, 1) if clip else x_0
        alpha = abar[t] / abar[s]
        mean = np.sqrt(abar[s]) * (1 - alpha) * x_0 + np.sqrt(alpha) * (1 - abar[s]) * x
        variance = (1 - alpha) * (1 - abar[s]) / (1 - abar[t])
        lesion = mean / (1 - abar[t]) + np.sqrt(variance) * constant
        background = np.sqrt(abar[s]) * image + np.sqrt(1 - abar[s]) * constant
        x = np.where(mask > 0, lesion, background)
    return x


@pytest.mark.parametrize("context", CONTEXTS)
@pytest.mark.parametrize(("num_steps", "jump"), [(4, 1), (4, 2), (5, 2)])
@pytest.mark.parametrize("constant", [0.0, 0.5])
@pytest.mark.parametrize("clip", [True, False])
def test_trajectory_with_constant_noise_equals_the_equations_written_out(context, num_steps, jump, constant, clip):
    inputs = example(samples=1)
    inferer = LesionInpaintingInferer(
        NoiseSchedule(T),
        context=context,
        prediction_type="epsilon",
        sampler=DDPMSampler(),
        num_inference_steps=num_steps,
        jump_length=jump,
        jump_n_sample=jump,
        clip_x_0=clip,
        noise_fn=lambda like: torch.full_like(like, constant),
    )
    result = inferer(inputs.double(), FakeNetwork())
    image, mask = inputs[0].double().numpy()
    expected = trajectory(image, mask, num_steps, jump, constant, context, clip)
    np.testing.assert_allclose(result[0, 0].numpy(), expected, rtol=1e-6, atol=1e-6)


def test_clipping_keeps_the_estimate_within_the_image_range():
    inputs = example()
    lesion = inputs[:, 1:] > 0

    def bright(x, t, context=None):
        return torch.full_like(x[:, :1], 5.0)

    settings = {"prediction_type": "sample", "num_inference_steps": 3}
    clipped = LesionInpaintingInferer(NoiseSchedule(T), clip_x_0=True, **settings)(inputs, bright)
    free = LesionInpaintingInferer(NoiseSchedule(T), clip_x_0=False, **settings)(inputs, bright)
    assert (clipped[lesion] == 1).all()
    assert (free[lesion] == 5).all()


def test_each_class_is_painted_from_its_own_channel():
    inputs, schedule = example(classes=2), NoiseSchedule(T)
    x_0 = torch.stack([torch.full((2, *GRID), -0.25), torch.full((2, *GRID), 0.75)], dim=1)
    inferer = LesionInpaintingInferer(schedule, num_classes=2, num_inference_steps=4)
    result = inferer(inputs, Oracle(x_0, schedule, "v_prediction"))
    for i, value in enumerate((-0.25, 0.75)):
        inside = inputs[:, 1 + i : 2 + i] > 0
        torch.testing.assert_close(result[inside], torch.full((int(inside.sum()),), value), rtol=0, atol=1e-4)


def test_sampling_builds_no_graph():
    inputs = example(samples=1)
    result = LesionInpaintingInferer(NoiseSchedule(T), num_inference_steps=2)(inputs, Convolution(2))
    assert not result.requires_grad

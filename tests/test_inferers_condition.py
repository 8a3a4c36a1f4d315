"""The texture that is asked for: condition, guidance and texture guidance."""

from __future__ import annotations

import pytest
import torch
from inpainting_parts import FakeNetwork, T, example, histograms

from custom_components.errors import InputError
from custom_components.inferers import LesionInpaintingInferer
from custom_components.schedules import NoiseSchedule


def test_guidance_is_null_plus_scale_times_difference():
    inputs, condition, scale = example(), histograms(), 2.5

    class GuidedByHand(FakeNetwork):
        def forward(self, x, timesteps, context=None):
            conditional = FakeNetwork.forward(self, x, timesteps, context)
            null = FakeNetwork.forward(self, x, timesteps, None)
            return null + scale * (conditional - null)

    settings = {"num_inference_steps": 4, "clip_x_0": False}
    guided = LesionInpaintingInferer(NoiseSchedule(T), guidance_scale=scale, **settings)
    plain = LesionInpaintingInferer(NoiseSchedule(T), **settings)
    result = guided(inputs, FakeNetwork(), condition=condition, seeds=[1, 2])
    expected = plain(inputs, GuidedByHand(), condition=condition, seeds=[1, 2])
    torch.testing.assert_close(result, expected, rtol=1e-4, atol=1e-5)
    unguided = plain(inputs, FakeNetwork(), condition=condition, seeds=[1, 2])
    assert not torch.allclose(result, unguided, atol=1e-2)


def test_guidance_doubles_the_calls_only_where_there_is_a_condition():
    inputs = example()
    for scale, condition, calls in ((1.0, histograms(), 3), (2.0, histograms(), 6), (2.0, None, 3)):
        network = FakeNetwork()
        LesionInpaintingInferer(NoiseSchedule(T), num_inference_steps=3, guidance_scale=scale)(
            inputs, network, condition=condition
        )
        assert len(network.calls) == calls


def test_default_condition_is_used_where_the_call_gives_none():
    inputs, condition = example(), histograms(samples=1)[0]
    inferer = LesionInpaintingInferer(NoiseSchedule(T), num_inference_steps=2, condition=condition)
    network = FakeNetwork()
    inferer(inputs, network)
    assert all(torch.equal(context, torch.stack([condition, condition])) for _, _, context in network.calls)
    network, own = FakeNetwork(), histograms()
    inferer(inputs, network, condition=own)
    assert all(torch.equal(context, own) for _, _, context in network.calls)


def test_texture_guidance_makes_a_deaf_network_obey_the_request():
    """A network that always answers with the same x_0, whatever it is asked for."""
    schedule = NoiseSchedule(20)

    def deaf(x, timesteps, context=None):
        return torch.zeros_like(x[:, :1])

    image, mask = torch.zeros(1, 1, 8, 8, 8), torch.zeros(1, 1, 8, 8, 8)
    mask[..., 2:6, 2:6, 2:6] = 1
    request = torch.zeros(1, 1, 16)
    request[..., 11] = 1
    settings = {"prediction_type": "sample", "num_inference_steps": 4}
    inputs = torch.cat([image, mask], dim=1)
    means = []
    for strength in (0.0, 1.0):
        inferer = LesionInpaintingInferer(schedule, texture_guidance=strength, **settings)
        painted = inferer(inputs, deaf, condition=request, seeds=[1])
        assert torch.equal(painted[mask == 0], image[mask == 0])
        means.append(painted[mask > 0].mean().item())
    assert means[0] == pytest.approx(0, abs=1e-6)
    assert means[1] == pytest.approx(11.5 / 8 - 1, abs=1e-6)


@pytest.mark.parametrize("strength", [-0.1, 1.1])
def test_texture_guidance_outside_its_range_is_refused(strength):
    with pytest.raises(InputError, match="texture_guidance"):
        LesionInpaintingInferer(NoiseSchedule(20), texture_guidance=strength)

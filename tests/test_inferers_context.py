"""What the network sees around the lesion, in sampling and in training."""

from __future__ import annotations

import math

import pytest
import torch
from inpainting_parts import CONTEXTS, GRID, Convolution, FakeNetwork, T, example, histograms

from custom_components.inferers import LesionInpaintingInferer
from custom_components.schedules import NoiseSchedule


def one_image(states: torch.Tensor, image: torch.Tensor, masks: torch.Tensor) -> torch.Tensor:
    """The image with every lesion voxel from its own class's state (Eq. 6)."""
    out = image.clone()
    for i in range(masks.shape[1]):
        out = torch.where(masks[:, i : i + 1] > 0, states[:, i : i + 1], out)
    return out


@pytest.mark.parametrize("classes", [1, 2])
def test_diffused_context_shows_the_network_the_state_alone(classes):
    inputs = example(classes=classes)
    x_t = torch.randn(2, classes, *GRID)
    inferer = LesionInpaintingInferer(NoiseSchedule(T), num_classes=classes, context="diffused")
    assert torch.equal(inferer.network_input(x_t, inputs[:, :1], inputs[:, 1:]), x_t)


@pytest.mark.parametrize("classes", [1, 2])
def test_clean_context_shows_the_true_background_around_the_state_and_the_masks(classes):
    inputs = example(classes=classes)
    image, masks = inputs[:, :1], inputs[:, 1:]
    x_t = torch.randn(2, classes, *GRID)
    seen = LesionInpaintingInferer(NoiseSchedule(T), num_classes=classes, context="clean").network_input(
        x_t, image, masks
    )
    assert seen.shape == (2, 1 + classes, *GRID)
    assert torch.equal(seen[:, 1:], masks)
    for i in range(classes):
        inside = masks[:, i] > 0
        assert torch.equal(seen[:, 0][inside], x_t[:, i][inside])
    outside = masks.sum(dim=1) == 0
    assert torch.equal(seen[:, 0][outside], image[:, 0][outside])


@pytest.mark.parametrize("context", CONTEXTS)
def test_sampling_shows_the_network_what_network_input_says(context):
    """The background the network sees is noised to the state's own level (diffused) or the image's (clean)."""
    inputs, network, constant = example(), FakeNetwork(), 0.5
    inferer = LesionInpaintingInferer(
        NoiseSchedule(T),
        context=context,
        num_inference_steps=4,
        noise_fn=lambda like: torch.full_like(like, constant),
    )
    inferer(inputs, network)
    image, outside = inputs[:, :1], inputs[:, 1:] == 0
    for seen, timesteps, _ in network.calls[1:]:
        abar = NoiseSchedule(T).alpha_bar(int(timesteps[0]))
        expected = math.sqrt(abar) * image + math.sqrt(1 - abar) * constant if context == "diffused" else image
        torch.testing.assert_close(seen[:, :1][outside], expected[outside], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("context", CONTEXTS)
@pytest.mark.parametrize("classes", [1, 2])
def test_training_call_is_one_forward_at_the_given_noise_and_timesteps(context, classes):
    inputs, network = example(classes=classes), FakeNetwork(classes)
    noise, timesteps = torch.randn(2, classes, *GRID), torch.tensor([3, 10])
    condition = histograms(classes=classes)
    inferer = LesionInpaintingInferer(NoiseSchedule(T), num_classes=classes, context=context)
    prediction = inferer(inputs, network, noise=noise, timesteps=timesteps, condition=condition)

    abar = torch.tensor([NoiseSchedule(T).alpha_bar(t) for t in (3, 10)]).view(-1, 1, 1, 1, 1)
    image, masks = inputs[:, :1], inputs[:, 1:]
    x_t = abar.sqrt() * image.expand_as(noise) + (1 - abar).sqrt() * noise
    seen = x_t
    if context == "clean":
        seen = torch.cat([one_image(x_t, image, masks), masks], dim=1)
    torch.testing.assert_close(prediction, FakeNetwork(classes)(seen, timesteps, condition))
    (called,) = network.calls
    torch.testing.assert_close(called[0], seen)
    assert torch.equal(called[1], timesteps)
    assert torch.equal(called[2], condition)


def test_training_call_keeps_the_gradient():
    network = Convolution(2)
    inferer = LesionInpaintingInferer(NoiseSchedule(T))
    inferer(example(), network, noise=torch.randn(2, 1, *GRID), timesteps=torch.tensor([1, 2])).sum().backward()
    assert network.layer.weight.grad.abs().sum() > 0


def test_training_call_without_noise_is_refused():
    with pytest.raises(ValueError, match="noise"):
        LesionInpaintingInferer(NoiseSchedule(T))(example(), FakeNetwork(), timesteps=torch.tensor([1, 2]))

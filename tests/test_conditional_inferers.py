"""Cond-Diffusion: the whole crop comes from noise; scan and masks are looked at, never blended in."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from custom_components.conditional_inferers import ConditionalInferer
from custom_components.errors import InputError
from custom_components.inferers import LesionInpaintingInferer
from custom_components.schedules import NoiseSchedule
from custom_components.seeds import PerSampleNoise

T = 12
GRID = (8, 6, 4)


def example(classes: int = 2, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    image = 2 * torch.rand(2, 1, *GRID, generator=generator) - 1
    masks = torch.zeros(2, classes, *GRID)
    for i in range(classes):
        masks[:, i, 1 + 3 * i : 3 + 3 * i, 2:4, 1:3] = 1
    return torch.cat([image, masks], dim=1)


class Recorder(nn.Module):
    """Remembers what it sees; predicts from the state alone, or from all it sees."""

    def __init__(self, looks_around: bool = False) -> None:
        super().__init__()
        self.looks_around, self.seen = looks_around, []

    def forward(self, x, timesteps, context=None):
        self.seen.append((x.clone(), context))
        return 0.5 * x[:, :1] + (x.mean(dim=(1, 2, 3, 4), keepdim=True) if self.looks_around else 0)


def inferer(classes: int = 2, **others) -> ConditionalInferer:
    return ConditionalInferer(NoiseSchedule(T), num_classes=classes, num_inference_steps=4, **others)


def test_it_starts_from_pure_noise_over_the_whole_crop():
    network, inputs = Recorder(), example()
    inferer()(inputs, network, seeds=[3, 4])
    state = network.seen[0][0][:, :1]
    assert torch.equal(state, PerSampleNoise([3, 4])(inputs[:, :1]))


def test_nothing_of_the_scan_is_blended_in():
    """A network that looks at its state alone gives the same crop whatever the scan and the masks are."""
    first = inferer()(example(seed=0), Recorder(), seeds=[3, 4])
    second = inferer()(torch.cat([-example()[:, :1], example()[:, 1:].flip(2)], dim=1), Recorder(), seeds=[3, 4])
    assert torch.equal(first, second)
    outside = example()[:, 1:].sum(dim=1, keepdim=True) == 0
    assert (first != example()[:, :1])[outside].float().mean() > 0.9


def test_network_sees_state_masks_and_the_scan_without_its_lesions():
    inputs, network = example(), Recorder()
    inferer(background_fill=-0.25)(inputs, network, seeds=[0, 1])
    lesion = inputs[:, 1:].sum(dim=1, keepdim=True) > 0
    assert len(network.seen) == 4
    for seen, context in network.seen:
        assert seen.shape == (2, 4, *GRID) and context is None
        assert torch.equal(seen[:, 1:3], inputs[:, 1:])
        assert torch.equal(seen[:, 3:], torch.where(lesion, torch.tensor(-0.25), inputs[:, :1]))


def test_the_lesion_that_was_there_leaves_no_trace():
    inputs = example()
    changed = inputs.clone()
    lesion = inputs[:, 1:].sum(dim=1, keepdim=True) > 0
    changed[:, :1][lesion] = 0.9
    assert torch.equal(*(inferer()(x, Recorder(looks_around=True), seeds=[0, 1]) for x in (inputs, changed)))


def test_training_step_shows_the_noised_image_in_one_channel():
    inputs, network, schedule = example(), Recorder(), NoiseSchedule(T)
    noise, timesteps = torch.randn(2, 1, *GRID), torch.tensor([2, 9])
    prediction = inferer()(inputs, network, noise=noise, timesteps=timesteps, condition=torch.ones(2, 2, 16))
    assert prediction.shape == noise.shape
    seen, context = network.seen[0]
    assert torch.equal(seen[:, :1], schedule.add_noise(inputs[:, :1], noise, timesteps))
    assert torch.equal(seen[:, 1:3], inputs[:, 1:]) and context is None


@pytest.mark.parametrize(
    ("others", "message"),
    [
        ({"context": "clean"}, "context must be masked"),
        ({"blending": "paper"}, "blending must be none"),
        ({"one_image": False}, "one_image must be true"),
        ({"background_fill": 2.0}, "background_fill must lie within -1 and 1"),
    ],
)
def test_settings_of_other_methods_are_refused(others, message):
    with pytest.raises(InputError, match=message):
        inferer(**others)


def test_blending_methods_do_not_take_its_settings():
    with pytest.raises(InputError, match="context must be diffused or clean"):
        LesionInpaintingInferer(NoiseSchedule(T), context="masked")
    with pytest.raises(InputError, match="blending must be paper or published"):
        LesionInpaintingInferer(NoiseSchedule(T), blending="none")


# ------------------------------------------------------------------------ one image for all classes (RePaint)


def repaint() -> LesionInpaintingInferer:
    return LesionInpaintingInferer(NoiseSchedule(T), 2, context="diffused", one_image=True, num_inference_steps=4)


def test_one_image_is_repainted_in_the_union_of_the_classes():
    inputs, network = example(), Recorder(looks_around=True)
    painted = repaint()(inputs, network, condition=torch.ones(2, 2, 16), seeds=[0, 1])
    lesion = inputs[:, 1:].sum(dim=1, keepdim=True) > 0
    assert torch.equal(painted[~lesion], inputs[:, :1][~lesion])
    assert (painted != inputs[:, :1])[lesion].all()
    assert all(seen.shape == (2, 1, *GRID) and context is None for seen, context in network.seen)


def test_one_image_does_not_tell_the_classes_apart():
    inputs = example()
    swapped = inputs[:, [0, 2, 1]]
    assert torch.equal(*(repaint()(x, Recorder(looks_around=True), seeds=[0, 1]) for x in (inputs, swapped)))


def test_one_image_is_noised_everywhere_in_training():
    inputs, network = example(), Recorder()
    noise, timesteps = torch.randn(2, 1, *GRID), torch.tensor([2, 9])
    repaint()(inputs, network, noise=noise, timesteps=timesteps)
    assert torch.equal(network.seen[0][0], NoiseSchedule(T).add_noise(inputs[:, :1], noise, timesteps))

"""The patch U-Net: shapes, patches of slices, and the guess it is written around."""

from __future__ import annotations

import pytest
import torch

from custom_components.errors import InputError
from custom_components.networks import PatchUNet
from custom_components.schedules import NoiseSchedule

TINY = {"channels": [8, 8], "attention_levels": [False, False], "norm_num_groups": 4, "num_head_channels": 4}


@pytest.mark.parametrize("fine", [0, 4])
@pytest.mark.parametrize(("patch", "size"), [((2, 2, 2), (8, 12, 8)), ((4, 4, 1), (16, 8, 6))])
def test_output_has_one_channel_per_class_on_the_input_s_grid(patch, size, fine):
    network = PatchUNet(in_channels=4, out_channels=2, patch_size=patch, fine_channels=fine, **TINY)
    network.check_size(size)
    assert network(torch.randn(2, 4, *size), torch.tensor([0, 299])).shape == (2, 2, *size)


def test_size_that_cannot_be_halved_is_refused_by_its_multiples():
    with pytest.raises(InputError, match=r"multiples of \[8, 8, 2\], got \[16, 16, 5\]"):
        PatchUNet(patch_size=(4, 4, 1), **TINY).check_size([16, 16, 5])


def test_untrained_network_gives_the_best_gaussian_guess_of_the_mask():
    """Independent Gaussian voxels: no estimate of x_0 from x_t is better, so the error is the posterior's."""
    mean, std, shift = -0.8, 0.5, 0.04
    network = PatchUNet(in_channels=2, prior_mean=mean, prior_std=std, snr_shift=shift, **TINY)
    schedule = NoiseSchedule(300, snr_shift=shift)
    generator = torch.Generator().manual_seed(0)
    x_0 = mean + std * torch.randn(4, 1, 16, 16, 16, generator=generator)
    noise = torch.randn(x_0.shape, generator=generator)
    for t in (5, 100, 250):
        timesteps = torch.full((4,), t)
        x_t = schedule.add_noise(x_0, noise, timesteps)
        with torch.no_grad():
            guess = network(torch.cat([x_t, torch.zeros_like(x_t)], dim=1), timesteps)
        precision = 1 / std**2 + schedule.alpha_bar(t) / (1 - schedule.alpha_bar(t))
        assert float((guess - x_0).std()) == pytest.approx(precision**-0.5, rel=0.03)
        assert float((guess - x_0).mean()) == pytest.approx(0, abs=0.02)


def test_averages_are_means_over_neighbourhoods_at_unit_noise():
    network = PatchUNet(pool_sizes=(3, 5), **TINY)
    noise = torch.randn(8, 1, 24, 24, 24, generator=torch.Generator().manual_seed(0))
    for average in network.averages(noise):
        assert average.shape == (8, 1, 12, 12, 12)
        assert float(average[..., 3:9, 3:9, 3:9].std()) == pytest.approx(1, abs=0.15)
    (first, _) = network.averages(torch.ones(1, 1, 24, 24, 24))
    assert float(first[0, 0, 6, 6, 6]) == pytest.approx((8 * 27) ** 0.5)


def test_every_parameter_learns():
    network = PatchUNet(fine_channels=4, **TINY)
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    network(torch.randn(2, 2, 8, 8, 8), torch.tensor([3, 200])).square().mean().backward()
    assert all(parameter.grad is not None and parameter.grad.abs().sum() > 0 for parameter in network.parameters())

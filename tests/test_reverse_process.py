"""What all inferers inherit: the walk from noise, the known values outside the region, progress, seeds."""

from __future__ import annotations

import pytest
import torch

from custom_components.errors import InputError
from custom_components.inferers import LesionInpaintingInferer
from custom_components.mask_inferers import MaskDiffusionInferer
from custom_components.reverse_process import ReverseProcessInferer
from custom_components.schedules import NoiseSchedule

T = 12


class Bare(ReverseProcessInferer):
    """The reverse process as it is."""

    def __call__(self, inputs, network):
        raise NotImplementedError


def halve(x, timesteps, context=None):
    return 0.5 * x


@pytest.mark.parametrize("inferer", [LesionInpaintingInferer, MaskDiffusionInferer])
def test_inferers_share_one_reverse_process(inferer):
    assert issubclass(inferer, ReverseProcessInferer)
    assert inferer.fill is ReverseProcessInferer.fill
    assert inferer.estimate_x_0 is ReverseProcessInferer.estimate_x_0


def test_known_values_come_back_bit_for_bit_outside_the_region():
    known = torch.randn(2, 2, 4, 4, 4)
    region = torch.zeros(2, 2, 4, 4, 4)
    region[:, 0, :2] = 1
    result = Bare(NoiseSchedule(T), num_inference_steps=4).fill(known, region, halve, lambda x_t: x_t, seeds=[1, 2])
    assert torch.equal(result[region == 0], known[region == 0])
    assert (result[region > 0] != known[region > 0]).all()


def test_estimate_passes_through_the_guide_of_a_subclass_and_stays_in_range():
    class Guided(Bare):
        def guide(self, x_0, region, condition):
            return x_0 + 5

    result = Guided(NoiseSchedule(T), num_inference_steps=2).fill(
        torch.zeros(1, 1, 4, 4, 4), torch.ones(1, 1, 4, 4, 4), halve, lambda x_t: x_t
    )
    assert torch.equal(result, torch.ones_like(result))


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"prediction_type": "noise"}, "prediction_type"),
        ({"amp_dtype": "half"}, "amp_dtype"),
        ({"num_inference_steps": T + 1}, "num_inference_steps"),
        ({"jump_length": 0}, "jump_length"),
    ],
)
def test_bad_setting_is_refused_by_name(settings, named):
    with pytest.raises(InputError, match=named):
        Bare(NoiseSchedule(T), **settings)

"""Outside of the mask the image comes back bit for bit, whatever the network says."""

from __future__ import annotations

import pytest
import torch
from inpainting_parts import (
    CONTEXTS,
    SAMPLERS,
    Convolution,
    FakeNetwork,
    T,
    assert_background_untouched,
    example,
    histograms,
)

from custom_components.inferers import LesionInpaintingInferer
from custom_components.schedules import NoiseSchedule


@pytest.mark.parametrize("context", CONTEXTS)
@pytest.mark.parametrize("sampler", SAMPLERS)
@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"guidance_scale": 3.0},
        {"jump_length": 2, "jump_n_sample": 2},
        {"prediction_type": "epsilon", "clip_x_0": False, "num_inference_steps": T},
    ],
    ids=["plain", "guidance", "jumps", "epsilon_all_steps_unclipped"],
)
def test_background_is_bit_exact_outside_mask(context, sampler, settings):
    inputs = example()
    inputs[:, 0, 0] = -0.0
    inferer = LesionInpaintingInferer(
        NoiseSchedule(T), context=context, sampler=SAMPLERS[sampler], **{"num_inference_steps": 4, **settings}
    )
    result = inferer(inputs, FakeNetwork(), condition=histograms())
    assert_background_untouched(result, inputs)
    lesion = inputs[:, 1:] > 0
    assert (result[lesion] != inputs[:, :1][lesion]).all()


@pytest.mark.parametrize("context", CONTEXTS)
def test_background_is_bit_exact_outside_mask_under_bfloat16_autocast(context):
    inputs = example()
    network = Convolution(1 if context == "diffused" else 2)
    inferer = LesionInpaintingInferer(NoiseSchedule(T), context=context, num_inference_steps=3, amp_dtype="bfloat16")
    result = inferer(inputs, network)
    assert network.dtypes == [torch.bfloat16] * 3
    assert result.dtype == torch.float32
    assert_background_untouched(result, inputs)


def test_background_survives_a_network_that_gives_nan():
    inputs = example()
    result = LesionInpaintingInferer(NoiseSchedule(T), num_inference_steps=3)(
        inputs, lambda x, t, context=None: torch.full_like(x[:, :1], float("nan"))
    )
    assert_background_untouched(result, inputs)


@pytest.mark.parametrize("context", CONTEXTS)
def test_background_is_bit_exact_for_two_classes(context):
    inputs = example(classes=2)
    inferer = LesionInpaintingInferer(NoiseSchedule(T), num_classes=2, context=context, num_inference_steps=4)
    assert_background_untouched(inferer(inputs, FakeNetwork(2), condition=histograms(classes=2)), inputs)


def test_empty_mask_gives_back_the_image():
    inputs = example()
    inputs[:, 1:] = 0
    result = LesionInpaintingInferer(NoiseSchedule(T), num_inference_steps=3)(inputs, FakeNetwork())
    assert torch.equal(result, inputs[:, :1])


def test_inputs_are_left_as_they_were():
    inputs, condition = example(), histograms()
    kept, kept_condition = inputs.clone(), condition.clone()
    LesionInpaintingInferer(NoiseSchedule(T), num_inference_steps=3)(inputs, FakeNetwork(), condition=condition)
    assert torch.equal(inputs, kept)
    assert torch.equal(condition, kept_condition)

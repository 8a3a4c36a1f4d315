"""The inpainting inferer in MONAI's engines, and the settings and inputs that it refuses."""

from __future__ import annotations

import pytest
import torch
from inpainting_parts import FakeNetwork, T, assert_background_untouched, example, histograms
from monai.data import DataLoader, Dataset, MetaTensor
from monai.engines import SupervisedEvaluator

from custom_components.engines import LesionSamplingPrepareBatch
from custom_components.inferers import LesionInpaintingInferer
from custom_components.schedules import NoiseSchedule

# ----------------------------------------------------------------------------------------- in MONAI's engines


@pytest.mark.parametrize("batch_size", [1, 2, 3])
def test_paints_inside_supervised_evaluator_as_when_called_bare(batch_size):
    inputs, condition, seeds = example(samples=3), histograms(samples=3), [21, 22, 2**62 + 1]
    items = [
        {
            "image": MetaTensor(inputs[k, :1]),
            "label": MetaTensor(inputs[k, 1:]).byte(),
            "histogram": condition[k],
            "seed": seeds[k],
        }
        for k in range(3)
    ]
    inferer = LesionInpaintingInferer(NoiseSchedule(T), num_inference_steps=4)
    outputs = []
    evaluator = SupervisedEvaluator(
        device=torch.device("cpu"),
        val_data_loader=DataLoader(Dataset(items), batch_size=batch_size),
        network=FakeNetwork(),
        prepare_batch=LesionSamplingPrepareBatch(),
        inferer=inferer,
        decollate=False,
    )
    evaluator.add_event_handler("ITERATION_COMPLETED", lambda engine: outputs.append(engine.state.output["pred"]))
    evaluator.run()
    painted = torch.cat([torch.as_tensor(output) for output in outputs])
    expected = inferer(inputs, FakeNetwork(), condition=condition, seeds=seeds)
    torch.testing.assert_close(torch.Tensor(painted), expected, rtol=1e-5, atol=1e-6)
    assert_background_untouched(torch.Tensor(painted), inputs)


# ----------------------------------------------------------------------------------------- bad arguments


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"num_inference_steps": 0}, "num_inference_steps"),
        ({"num_inference_steps": T + 1}, "num_inference_steps"),
        ({"context": "noisy"}, "context"),
        ({"jump_length": 0}, "jump_length"),
        ({"jump_n_sample": 0}, "jump_n_sample"),
        ({"num_classes": 0}, "num_classes"),
        pytest.param({"prediction_type": "noise"}, "prediction_type"),
        pytest.param({"amp_dtype": "bf16"}, "amp_dtype"),
    ],
)
def test_bad_setting_is_refused_by_name_when_the_inferer_is_made(settings, named):
    with pytest.raises(ValueError, match=named):
        LesionInpaintingInferer(NoiseSchedule(T), **settings)


def test_masks_for_another_number_of_classes_are_refused():
    with pytest.raises(ValueError, match="3 channels in all, got 2"):
        LesionInpaintingInferer(NoiseSchedule(T), num_classes=2)(example(classes=1), FakeNetwork(2))


def test_overlapping_masks_are_refused_before_any_forward():
    inputs, network = example(classes=2), FakeNetwork(2)
    inputs[:, 2] = inputs[:, 1]
    with pytest.raises(ValueError, match="overlap"):
        LesionInpaintingInferer(NoiseSchedule(T), num_classes=2, num_inference_steps=2)(inputs, network)
    assert not network.calls

"""Batches for MONAI's engines."""

from __future__ import annotations

import math

import pytest
import torch
from monai.data import DataLoader, Dataset
from monai.engines import SupervisedTrainer
from torch import nn

from custom_components.engines import LesionDiffusionPrepareBatch, LesionSamplingPrepareBatch
from custom_components.inferers import LesionInpaintingInferer
from custom_components.losses import LesionFocusedLoss
from custom_components.schedules import NoiseSchedule

T = 20
GRID = (4, 4, 4)


def items(count: int, classes: int = 1) -> list[dict]:
    generator = torch.Generator().manual_seed(0)
    masks = torch.zeros(classes, *GRID)
    for i in range(classes):
        masks[i, i] = 1
    return [
        {
            "image": 2 * torch.rand(1, *GRID, generator=generator) - 1,
            "label": masks.to(torch.uint8),
            "histogram": torch.rand(classes, 16, generator=generator),
            "seed": 2**62 + k,
        }
        for k in range(count)
    ]


def batch_of(samples: list[dict]) -> dict:
    return next(iter(DataLoader(Dataset(samples), batch_size=len(samples))))


@pytest.mark.parametrize("device", [None, "cpu", torch.device("cpu")])
@pytest.mark.parametrize("classes", [1, 2])
def test_training_batch_holds_what_the_inferer_and_the_loss_take(device, classes):
    batch = batch_of(items(3, classes))
    prepare = LesionDiffusionPrepareBatch(NoiseSchedule(T), num_classes=classes)
    inputs, target, args, kwargs = prepare(batch, device)
    assert inputs.shape == (3, 1 + classes, *GRID)
    assert inputs.dtype == torch.float32
    assert torch.equal(inputs[:, :1], torch.Tensor(batch["image"]))
    assert torch.equal(inputs[:, 1:], torch.Tensor(batch["label"].float()))
    assert target.shape == (3, 2 * classes, *GRID)
    assert torch.equal(target[:, classes:], inputs[:, 1:])
    assert args == ()
    assert set(kwargs) == {"noise", "timesteps", "condition"}
    assert kwargs["noise"].shape == (3, classes, *GRID)
    assert kwargs["timesteps"].shape == (3,)
    assert kwargs["timesteps"].dtype == torch.long
    assert torch.equal(kwargs["condition"], torch.Tensor(batch["histogram"]))


@pytest.mark.parametrize("prediction_type", ["epsilon", "v_prediction", "sample"])
def test_target_follows_what_the_network_predicts(prediction_type):
    schedule = NoiseSchedule(T)
    inputs, target, _, drawn = LesionDiffusionPrepareBatch(schedule, 2, prediction_type)(batch_of(items(4, 2)), "cpu")
    abar = torch.tensor([schedule.alpha_bar(int(t)) for t in drawn["timesteps"]]).view(-1, 1, 1, 1, 1)
    x_0, noise = inputs[:, :1].expand(-1, 2, -1, -1, -1), drawn["noise"]
    expected = {
        "epsilon": noise,
        "v_prediction": abar.sqrt() * noise - (1 - abar).sqrt() * x_0,
        "sample": x_0,
    }[prediction_type]
    torch.testing.assert_close(target[:, :2], expected)


def test_draws_depend_on_the_sample_s_seed_only():
    prepare, samples = LesionDiffusionPrepareBatch(NoiseSchedule(T)), items(4)
    together = prepare(batch_of(samples), "cpu")[3]
    torch.manual_seed(99)
    for k, sample in enumerate(samples):
        alone = prepare(batch_of([sample]), "cpu")[3]
        assert torch.equal(alone["noise"][0], together["noise"][k])
        assert alone["timesteps"][0] == together["timesteps"][k]
    other = prepare(batch_of([{**samples[0], "seed": 1}]), "cpu")[3]
    assert not torch.equal(other["noise"][0], together["noise"][0])


def test_global_generator_is_not_touched():
    before = torch.get_rng_state()
    batch = {key: torch.stack([torch.as_tensor(item[key]) for item in items(2)]) for key in items(1)[0]}
    LesionDiffusionPrepareBatch(NoiseSchedule(T))(batch, "cpu")
    assert torch.equal(torch.get_rng_state(), before)


def test_timesteps_are_uniform_and_noise_is_standard_normal():
    samples = [{**items(1)[0], "seed": seed} for seed in range(1500)]
    batch = {key: torch.stack([torch.as_tensor(item[key]) for item in samples]) for key in samples[0]}
    drawn = LesionDiffusionPrepareBatch(NoiseSchedule(T))(batch, "cpu")[3]
    counts = torch.bincount(drawn["timesteps"], minlength=T)
    assert len(counts) == T
    # 1500 draws over 20 values: 75 each, standard deviation 8.4
    assert counts.min() > 75 - 5 * 8.4
    assert counts.max() < 75 + 5 * 8.4
    assert abs(drawn["noise"].mean().item()) < 5 / math.sqrt(1500 * 64)
    assert drawn["noise"].std().item() == pytest.approx(1, abs=0.02)


def test_sampling_batch_holds_condition_and_whole_seeds():
    batch = batch_of(items(2))
    inputs, target, args, kwargs = LesionSamplingPrepareBatch()(batch, "cpu")
    assert inputs.shape == (2, 2, *GRID)
    assert torch.equal(target, inputs[:, :1])
    assert args == ()
    assert kwargs["seeds"] == [2**62, 2**62 + 1]
    assert torch.equal(kwargs["condition"], torch.Tensor(batch["histogram"]))


class TinyNetwork(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layer = nn.Conv3d(2, 1, 1)

    def forward(self, x, timesteps, context=None):
        return self.layer(x)


def test_supervised_trainer_minimises_the_lesion_focused_loss():
    schedule, network, losses = NoiseSchedule(T), TinyNetwork(), []
    prepare = LesionDiffusionPrepareBatch(schedule, prediction_type="epsilon")
    inferer = LesionInpaintingInferer(schedule, prediction_type="epsilon", num_inference_steps=5)
    samples = items(4)
    inputs, _, _, drawn = prepare(batch_of(samples), "cpu")
    with torch.no_grad():
        abar = torch.tensor([schedule.alpha_bar(int(t)) for t in drawn["timesteps"]]).view(-1, 1, 1, 1, 1)
        x_t = abar.sqrt() * inputs[:, :1] + (1 - abar).sqrt() * drawn["noise"]
        prediction = network.layer(torch.cat([torch.where(inputs[:, 1:] > 0, x_t, inputs[:, :1]), inputs[:, 1:]], 1))
        error = (prediction - drawn["noise"]).abs()
        expected = torch.stack([error[k][inputs[k, 1:] > 0].mean() for k in range(4)]).mean()
    trainer = SupervisedTrainer(
        device=torch.device("cpu"),
        max_epochs=12,
        train_data_loader=DataLoader(Dataset(samples), batch_size=4),
        network=network,
        optimizer=torch.optim.Adam(network.parameters(), lr=0.15),
        loss_function=LesionFocusedLoss(),
        prepare_batch=prepare,
        inferer=inferer,
        decollate=False,
    )
    trainer.add_event_handler("ITERATION_COMPLETED", lambda engine: losses.append(engine.state.output["loss"].item()))
    trainer.run()
    assert losses[0] == pytest.approx(float(expected), rel=1e-5)
    assert losses[-1] < 0.8 * losses[0]

"""The handlers together in a training, and what a person sees while it runs."""

from __future__ import annotations

from pathlib import Path

import matplotlib.image
import numpy as np
import pytest
import torch
from bundle_runs import names
from ignite.engine import Engine, Events
from monai.data import DataLoader, Dataset
from monai.engines import SupervisedTrainer
from monai.transforms import Compose, RandFlipd
from torch import nn

from custom_components.datasets import ReproducibleDataset
from custom_components.engines import LesionDiffusionPrepareBatch
from custom_components.handlers import (
    AtomicCheckpoint,
    DatasetEpoch,
    EMAHandler,
    IntermediateStates,
    ProgressBar,
    SamplePicture,
)
from custom_components.inferers import LesionInpaintingInferer
from custom_components.losses import LesionFocusedLoss
from custom_components.schedules import NoiseSchedule

# ----------------------------------------------------------------------------------------- a whole training


T = 10
GRID = (4, 4, 4)


def nodules(count: int = 4) -> list[dict]:
    generator = torch.Generator().manual_seed(0)
    mask = torch.zeros(1, *GRID)
    mask[:, 1:3, 1:3] = 1
    return [
        {
            "image": 2 * torch.rand(1, *GRID, generator=generator) - 1,
            "label": mask,
            "histogram": torch.full((1, 16), 1 / 16),
        }
        for _ in range(count)
    ]


class TinyNetwork(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Conv3d(2, 1, 1)

    def forward(self, x, timesteps, context=None):
        return self.layer(x)


def train(folder: Path, epochs: int, resume: bool = False, global_seed: int = 0) -> tuple[dict, dict]:
    """As the bundle trains: real trainer, drawn augmentations, shuffling, average, checkpoints."""
    torch.manual_seed(0)
    network = TinyNetwork()
    schedule = NoiseSchedule(T)
    data = ReproducibleDataset(
        nodules(),
        Compose([RandFlipd(["image", "label"], prob=0.5, spatial_axis=0)]),
        progress=False,
        num_workers=1,
    )
    optimizer = torch.optim.Adam(network.parameters(), lr=0.01)
    average = EMAHandler(network, decay=0.9, start=2, interval=1)
    trainer = SupervisedTrainer(
        device=torch.device("cpu"),
        max_epochs=epochs,
        train_data_loader=DataLoader(data, batch_size=2, shuffle=True),
        network=network,
        optimizer=optimizer,
        loss_function=LesionFocusedLoss(),
        prepare_batch=LesionDiffusionPrepareBatch(schedule),
        inferer=LesionInpaintingInferer(schedule, num_inference_steps=2),
        decollate=False,
        train_handlers=[
            DatasetEpoch(data),
            average,
            AtomicCheckpoint(
                folder,
                {"network": network, "ema_network": average.ema_model, "optimizer": optimizer},
                weights=average.ema_model,
                resume=resume,
            ),
        ],
    )
    torch.manual_seed(global_seed)
    trainer.run()
    return network.state_dict(), average.ema_model.state_dict()


def test_resumed_training_equals_an_uninterrupted_one(tmp_path):
    whole = train(tmp_path / "whole", 4)
    train(tmp_path / "parts", 2)
    resumed = train(tmp_path / "parts", 4, resume=True, global_seed=77)
    for got, expected in zip(resumed, whole, strict=True):
        assert all(torch.equal(got[key], expected[key]) for key in expected)
    assert not torch.equal(whole[0]["layer.weight"], whole[1]["layer.weight"])


# ----------------------------------------------------------------------------------------- what a person sees


def test_data_set_is_told_every_epoch():
    data = ReproducibleDataset([{"x": 0}], [lambda item: item], progress=False, num_workers=1)
    engine, seen, seeds = Engine(lambda engine, batch: seeds.append(batch["seed"])), [], []
    DatasetEpoch(data).attach(engine)
    engine.add_event_handler(Events.ITERATION_STARTED, lambda _: seen.append(data.epoch))
    engine.run(torch.utils.data.DataLoader(data, collate_fn=lambda items: items[0]), max_epochs=3)
    assert seen == [1, 2, 3]
    assert len(set(seeds)) == 3


def test_progress_bar_shows_iterations_and_loss(capsys):
    engine = Engine(lambda engine, batch: {"loss": torch.tensor(0.25)})
    ProgressBar().attach(engine)
    engine.run(range(3), max_epochs=2)
    shown = capsys.readouterr().err
    assert "6/6" in shown
    assert "loss=0.2500" in shown


def test_progress_bar_smooths_the_loss():
    bar = ProgressBar()
    engine = Engine(lambda engine, batch: [{"loss": float(batch)}])
    bar.attach(engine)
    engine.run([1.0, 2.0, 0.0])
    assert bar.average == pytest.approx(0.98 * (0.98 * 1.0 + 0.02 * 2.0))


class PaintsBright(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.unused = nn.Parameter(torch.zeros(1))
        self.batches = 0

    def forward(self, x, timesteps, context=None):
        self.batches += 1
        return torch.ones_like(x[:, :1])


class FakeWriter:
    def __init__(self) -> None:
        self.images: list[tuple[str, np.ndarray, int, str]] = []

    def add_image(self, tag, image, step, dataformats):
        self.images.append((tag, image, step, dataformats))


def test_picture_of_samples_is_saved_at_its_interval(tmp_path):
    items = [{**item, "seed": k} for k, item in enumerate(nodules(4))]
    network, writer = PaintsBright(), FakeWriter()
    inferer = LesionInpaintingInferer(NoiseSchedule(T), prediction_type="sample", num_inference_steps=1)
    picture = SamplePicture(
        inferer,
        network,
        DataLoader(Dataset(items), batch_size=1),
        tmp_path,
        interval=2,
        count=2,
        writer=writer,
    )
    engine = Engine(lambda engine, batch: None)
    picture.attach(engine)
    engine.run([0], max_epochs=3)
    assert names(tmp_path) == ["samples_epoch_0002.png"]
    assert network.batches == 2
    pixels = matplotlib.image.imread(tmp_path / "samples_epoch_0002.png")
    assert pixels.std() > 0.05
    ((tag, shown, step, dataformats),) = writer.images
    assert (tag, step, dataformats) == ("samples", 2, "HWC")
    assert shown.ndim == 3
    assert shown.dtype == np.uint8


def test_intermediate_states_are_written_once_the_lesion_is_clean(tmp_path):
    inputs = torch.stack([torch.cat([item["image"], item["label"]]) for item in nodules(2)])
    settings = {"num_inference_steps": 3, "jump_length": 1, "jump_n_sample": 1}
    inferer = LesionInpaintingInferer(NoiseSchedule(T), on_step=IntermediateStates(tmp_path), **settings)
    network = PaintsBright()
    first = inferer(inputs, network, seeds=[0, 1])
    inferer(inputs, network, seeds=[2, 3])
    files = sorted(tmp_path.iterdir())
    assert len(files) == 2
    kept = torch.load(files[0], weights_only=True)
    assert kept["timesteps"].tolist() == [9, 6, 2, -1]
    assert kept["states"].shape == (4, 2, 1, *GRID)
    torch.testing.assert_close(kept["states"][-1].float(), first, rtol=1e-3, atol=1e-3)

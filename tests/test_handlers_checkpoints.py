"""What a training keeps: the average of its network, and checkpoints that it resumes from."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pytest
import torch
from bundle_runs import names
from ignite.engine import Engine, Events
from torch import nn

from custom_components.errors import InputError
from custom_components.handlers import AtomicCheckpoint, EMAHandler, check_checkpoint

# ----------------------------------------------------------------------------------------- the average


class Weight(nn.Module):
    """One parameter and one buffer."""

    def __init__(self, value: float = 0.0) -> None:
        super().__init__()
        self.value = nn.Parameter(torch.tensor([value]))
        self.register_buffer("count", torch.tensor(0))

    def set(self, value: float) -> None:
        with torch.no_grad():
            self.value.fill_(value)
            self.count.fill_(int(value))


def averages(start: int, interval: int, decay: float, iterations: int = 12) -> list[float]:
    """The average after each iteration of a run that sets the weight to the iteration's square."""
    network = Weight(-5.0)
    handler = EMAHandler(network, decay=decay, start=start, interval=interval)
    found: list[float] = []

    def step(engine, batch):
        network.set(float(engine.state.iteration**2))
        return {}

    engine = Engine(step)
    handler.attach(engine)
    engine.add_event_handler(Events.ITERATION_COMPLETED, lambda _: found.append(handler.ema_model.value.item()))
    engine.run(range(4), max_epochs=iterations // 4)
    assert network.value.item() == iterations**2
    return found


@pytest.mark.parametrize(
    ("start", "interval", "decay"), [(0, 1, 0.9), (4, 2, 0.9), (5, 2, 0.995), (6, 3, 0.5), (100, 1, 0.9)]
)
def test_average_follows_start_interval_and_decay(start, interval, decay):
    expected, average = [], -5.0
    for iteration in range(1, 13):
        if iteration % interval == 0:
            weight = float(iteration**2)
            average = weight if iteration <= start else decay * average + (1 - decay) * weight
        expected.append(average)
    assert averages(start, interval, decay) == pytest.approx(expected, rel=1e-5)


def test_average_is_a_network_of_its_own_that_is_not_trained():
    network = Weight(1.0)
    average = EMAHandler(network).ema_model
    network.set(2.0)
    assert average.value.item() == 1.0
    assert not average.training
    assert not any(parameter.requires_grad for parameter in average.parameters())
    assert network.value.requires_grad


def test_buffers_are_copied_not_averaged():
    network = Weight()
    handler = EMAHandler(network, decay=0.9, start=0, interval=1)
    engine = Engine(lambda engine, batch: network.set(float(engine.state.iteration)))
    handler.attach(engine)
    engine.run(range(3))
    assert handler.ema_model.count.item() == 3


# ----------------------------------------------------------------------------------------- checkpoints


class Run:
    """A training whose steps use momentum and all three global generators, so that any lost state shows."""

    def __init__(self, folder: Path, evaluator: Engine | None = None, **settings) -> None:
        torch.manual_seed(0)
        self.network = nn.Linear(3, 1)
        self.optimizer = torch.optim.Adam(self.network.parameters(), lr=0.1)
        self.engine = Engine(self.step)
        self.checkpoint = AtomicCheckpoint(
            folder,
            {"network": self.network, "optimizer": self.optimizer},
            weights=self.network,
            evaluator=evaluator,
            **settings,
        )
        self.checkpoint.attach(self.engine)

    def step(self, engine, batch):
        x = torch.randn(4, 3) + np.random.normal() + random.random()
        loss = (self.network(x) - 1).square().mean()
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()

    def run(self, epochs: int) -> Run:
        self.engine.run(range(3), max_epochs=epochs)
        return self

    def weights(self) -> torch.Tensor:
        return torch.cat([parameter.detach().flatten() for parameter in self.network.parameters()])


def seed_everything(seed: int) -> None:
    torch.manual_seed(seed)
    np.random.seed(seed)
    random.seed(seed)


def test_resumed_run_ends_exactly_where_an_uninterrupted_one_does(tmp_path):
    whole = Run(tmp_path / "whole")
    seed_everything(1)
    whole.run(4)
    first = Run(tmp_path / "parts")
    seed_everything(1)
    first.run(2)
    second = Run(tmp_path / "parts", resume=True)
    seed_everything(99)
    second.run(4)
    assert torch.equal(second.weights(), whole.weights())
    assert second.engine.state.epoch == 4
    assert second.engine.state.iteration == 12
    for got, expected in zip(
        second.optimizer.state_dict()["state"].values(),
        whole.optimizer.state_dict()["state"].values(),
        strict=True,
    ):
        assert all(torch.equal(got[key], expected[key]) for key in expected)


def test_finished_run_that_is_resumed_does_nothing_more(tmp_path):
    done = Run(tmp_path).run(2)
    again = Run(tmp_path, resume=True).run(2)
    assert torch.equal(again.weights(), done.weights())
    assert again.engine.state.iteration == 6


def test_files_hold_tensors_and_plain_values_only(tmp_path):
    run = Run(tmp_path).run(1)
    assert names(tmp_path) == ["checkpoint_latest.pt", "model.pt", "model_final.pt"]
    latest = torch.load(tmp_path / "checkpoint_latest.pt", weights_only=True)
    assert {"network", "optimizer", "epoch", "iteration", "random"} <= set(latest)
    for name in ("model.pt", "model_final.pt"):
        weights = torch.load(tmp_path / name, weights_only=True)
        assert torch.equal(weights["weight"], run.network.weight)
        assert all(type(value) is torch.Tensor and not value.requires_grad for value in weights.values())


def test_wrapped_network_is_saved_as_the_bare_one(tmp_path):
    network = nn.Linear(3, 1)
    checkpoint = AtomicCheckpoint(tmp_path, {"network": nn.DataParallel(network)}, weights=network)
    engine = Engine(lambda engine, batch: None)
    checkpoint.attach(engine)
    engine.run([0])
    assert set(torch.load(checkpoint.latest, weights_only=True)["network"]) == {"weight", "bias"}


def test_checkpoints_come_at_their_interval_and_at_the_end(tmp_path):
    run, found = Run(tmp_path, interval=2), []

    def look(engine):
        latest = tmp_path / "checkpoint_latest.pt"
        found.append(torch.load(latest, weights_only=True)["epoch"] if latest.exists() else 0)

    run.engine.add_event_handler(Events.EPOCH_COMPLETED, look)
    run.run(5)
    look(run.engine)
    assert found == [0, 2, 2, 4, 4, 5]


def run_with_metrics(folder: Path, values: list[float], epochs: int | None = None, **settings) -> list[float]:
    """A run that is validated after each epoch; the weight is the epoch's number. Returns what model.pt holds then."""
    network, best = Weight(), []
    evaluator = Engine(lambda engine, batch: None)
    checkpoint = AtomicCheckpoint(folder, {"network": network}, weights=network, evaluator=evaluator, **settings)
    trainer = Engine(lambda engine, batch: network.set(float(engine.state.epoch)))

    def validate(engine):
        evaluator.state.metrics = {"val_loss": values[engine.state.epoch - 1]}
        evaluator.fire_event(Events.COMPLETED)

    trainer.add_event_handler(Events.EPOCH_COMPLETED, validate)
    checkpoint.attach(trainer)
    model = folder / "model.pt"
    trainer.add_event_handler(
        Events.EPOCH_COMPLETED,
        lambda _: best.append(torch.load(model, weights_only=True)["value"].item() if model.exists() else None),
    )
    trainer.run([0], max_epochs=epochs or len(values))
    return best


def test_best_weights_are_replaced_only_by_better_ones(tmp_path):
    assert run_with_metrics(tmp_path, [3.0, 5.0, 2.0, 2.0, 2.5, 1.0]) == [1, 1, 3, 3, 3, 6]
    assert torch.load(tmp_path / "model_final.pt", weights_only=True)["value"].item() == 6


def test_metric_that_is_not_a_number_is_never_the_best(tmp_path):
    """Before the first number the latest weights are published, afterwards the best."""
    assert run_with_metrics(tmp_path, [float("nan"), 5.0, float("nan")]) == [1, 2, 2]


def test_best_so_far_survives_a_resume(tmp_path):
    values = [3.0, 2.0, 2.5, 2.2, 1.5]
    run_with_metrics(tmp_path, values, epochs=2)
    assert run_with_metrics(tmp_path, values, resume=True) == [2, 2, 5]


def test_existing_checkpoint_is_refused_and_left_alone(tmp_path):
    Run(tmp_path).run(1)
    kept = {name: (tmp_path / name).read_bytes() for name in names(tmp_path)}
    for attempt in (lambda: check_checkpoint(tmp_path), lambda: Run(tmp_path).run(3)):
        with pytest.raises(InputError, match=r"checkpoint_latest\.pt exists.*--resume.*--overwrite"):
            attempt()
    assert {name: (tmp_path / name).read_bytes() for name in names(tmp_path)} == kept


def test_overwrite_starts_anew(tmp_path):
    Run(tmp_path).run(4)
    run = Run(tmp_path, overwrite=True).run(1)
    assert run.engine.state.iteration == 3
    assert torch.load(tmp_path / "checkpoint_latest.pt", weights_only=True)["epoch"] == 1


def test_nothing_to_resume_is_told_before_any_work(tmp_path):
    run = Run(tmp_path / "empty", resume=True)
    for attempt in (lambda: check_checkpoint(tmp_path / "empty", resume=True), lambda: run.run(1)):
        with pytest.raises(InputError, match=r"nothing to resume.*checkpoint_latest\.pt"):
            attempt()
    assert not (tmp_path / "empty").exists()


def test_checkpoint_of_another_run_names_what_it_lacks(tmp_path):
    Run(tmp_path).run(1)
    network = nn.Linear(3, 1)
    other = AtomicCheckpoint(tmp_path, {"network": network, "lr_scheduler": network}, network, resume=True)
    engine = Engine(lambda engine, batch: None)
    other.attach(engine)
    with pytest.raises(InputError, match="lacks 'lr_scheduler'"):
        engine.run([0])


def test_failing_write_leaves_the_old_files_whole_and_nothing_else(tmp_path, monkeypatch):
    Run(tmp_path).run(1)
    kept = {name: (tmp_path / name).read_bytes() for name in names(tmp_path)}

    def full_disk(state, path):
        Path(path).write_bytes(b"half a checkpoint")
        raise OSError("no space left on device")

    monkeypatch.setattr(torch, "save", full_disk)
    with pytest.raises(OSError, match="no space left"):
        Run(tmp_path, resume=True).run(2)
    assert {name: (tmp_path / name).read_bytes() for name in names(tmp_path)} == kept


def test_only_the_first_process_writes(tmp_path, monkeypatch):
    monkeypatch.setattr("ignite.distributed.get_rank", lambda: 1)
    run_with_metrics(tmp_path / "run", [3.0, 2.0])
    assert not (tmp_path / "run").exists()


def test_gradient_scaler_made_when_the_run_begins_is_saved_and_restored(tmp_path):
    """MONAI's trainer makes its scaler in run(), after the handlers were attached."""

    class Scaler:
        def __init__(self, scale):
            self.scale = scale

        def state_dict(self):
            return {"scale": self.scale}

        def load_state_dict(self, state):
            self.scale = state["scale"]

    first = Run(tmp_path)
    first.engine.scaler = Scaler(1024.0)
    first.run(1)
    second = Run(tmp_path, resume=True)
    second.engine.scaler = Scaler(65536.0)
    second.run(2)
    assert second.engine.scaler.scale == 1024.0

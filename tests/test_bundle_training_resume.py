"""Training goes on from its checkpoints as if it had never stopped, and no kill tears them."""

from __future__ import annotations

import os
import random
import signal
from pathlib import Path

import numpy as np
import pytest
import torch
from bundle_runs import latest, same, scalars, weights
from ignite.engine import Engine, Events
from lung_training import (
    STEPS_PER_EPOCH,
    dataset_dir_fixture,  # noqa: F401 (a fixture)
    train,
)
from torch import nn

from custom_components.handlers import AtomicCheckpoint

# Resuming


def test_interrupted_training_resumes_to_the_same_weights_bit_for_bit(dataset_dir, tmp_path):
    overlays = ["train_cpu.json"]  # its learning rate changes with every epoch
    settings = {"max_epochs": 4, "ema_start": 4, "ema_interval": 2, "learning_rate": 0.01}
    whole = train(dataset_dir, tmp_path / "whole", *overlays, **settings)

    def interrupt(trainer):
        def stop(engine):
            raise KeyboardInterrupt

        trainer.add_event_handler(Events.ITERATION_COMPLETED(once=2 * STEPS_PER_EPOCH + 2), stop)

    with pytest.raises(BaseException):  # noqa: B017 - MONAI may wrap it
        train(dataset_dir, tmp_path / "parts", *overlays, prepare=interrupt, **settings)
    assert latest(tmp_path / "parts")["epoch"] == 2
    torch.manual_seed(1234)
    parts = train(dataset_dir, tmp_path / "parts", *overlays, resume=True, **settings)
    for key in ("network", "ema_network", "optimizer", "lr_scheduler", "epoch", "iteration", "best"):
        assert same(latest(parts)[key], latest(whole)[key]), key
    for name in ("model.pt", "model_final.pt"):
        assert same(weights(parts, name), weights(whole, name)), name


def test_two_epochs_and_two_more_equal_four_in_one_go(dataset_dir, tmp_path):
    whole = train(dataset_dir, tmp_path / "whole", max_epochs=4, learning_rate=0.01)
    train(dataset_dir, tmp_path / "parts", max_epochs=2, learning_rate=0.01)
    halfway = latest(tmp_path / "parts")
    assert (halfway["epoch"], halfway["iteration"]) == (2, 2 * STEPS_PER_EPOCH)
    parts = train(dataset_dir, tmp_path / "parts", max_epochs=4, learning_rate=0.01, resume=True)
    for key in ("network", "ema_network", "optimizer", "epoch", "iteration", "best"):
        assert same(latest(parts)[key], latest(whole)[key]), key
    for tag in ("train_loss", "val_loss"):
        assert scalars(parts / "tensorboard", tag) == scalars(whole / "tensorboard", tag)


def test_overwrite_starts_anew(dataset_dir, tmp_path):
    train(dataset_dir, tmp_path, max_epochs=2)
    train(dataset_dir, tmp_path, max_epochs=1, overwrite=True)
    assert latest(tmp_path)["epoch"] == 1


def test_mixed_precision_scaler_goes_on_where_it_stopped(dataset_dir, tmp_path, monkeypatch):
    class CountingScaler:
        def __init__(self):
            self.steps = 0

        def scale(self, loss):
            return loss

        def step(self, optimizer):
            optimizer.step()
            self.steps += 1

        def update(self):
            pass

        def state_dict(self):
            return {"steps": self.steps}

        def load_state_dict(self, state):
            self.steps = state["steps"]

    monkeypatch.setattr(torch.cuda.amp, "GradScaler", CountingScaler)
    train(dataset_dir, tmp_path, amp=True, max_epochs=1)
    assert latest(tmp_path)["scaler"] == {"steps": STEPS_PER_EPOCH}
    train(dataset_dir, tmp_path, amp=True, max_epochs=2, resume=True)
    assert latest(tmp_path)["scaler"] == {"steps": 2 * STEPS_PER_EPOCH}


# Checkpoints


def checkpointed_engine(folder: Path, resume: bool = False) -> Engine:
    """An engine of one iteration an epoch that writes the epoch's number into a layer's weights."""
    network = nn.Linear(2, 1)

    def step(engine, batch):
        network.weight.data.fill_(engine.state.epoch)

    engine = Engine(step)
    AtomicCheckpoint(folder, {"network": network}, network, resume=resume).attach(engine)
    return engine


def first_value(path: Path) -> float:
    return float(torch.load(path, weights_only=True)["weight"][0, 0])


def test_resuming_restores_every_global_random_generator(tmp_path):
    engine = checkpointed_engine(tmp_path)
    random.seed(1), np.random.seed(2), torch.manual_seed(3)
    random.gauss(0, 1), np.random.randn(), torch.randn(1)
    engine.run([0], max_epochs=1)
    expected = (random.random(), random.gauss(0, 1), np.random.randn(3).tolist(), torch.randn(3).tolist())
    random.seed(9), np.random.seed(9), torch.manual_seed(9)
    drawn = []
    resumed = checkpointed_engine(tmp_path, resume=True)

    @resumed.on(Events.EPOCH_STARTED)
    def draw(_):
        drawn.append((random.random(), random.gauss(0, 1), np.random.randn(3).tolist(), torch.randn(3).tolist()))

    resumed.run([0], max_epochs=2)
    assert drawn == [expected]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs processes that fork")
@pytest.mark.parametrize("torn", ["checkpoint_latest.pt", "model_final.pt"])
def test_kill_while_writing_leaves_every_file_whole(tmp_path, torn):
    engine = checkpointed_engine(tmp_path)
    engine.run([0], max_epochs=1)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    save = torch.save

    def killed_save(state, path):
        save(state, path)
        if Path(path).name.endswith(torn):
            os.truncate(path, 100)
            os.kill(os.getpid(), signal.SIGKILL)

    child = os.fork()
    if child == 0:
        try:
            torch.save = killed_save
            checkpointed_engine(tmp_path, resume=True).run([0], max_epochs=2)
        finally:
            os._exit(1)
    _, status = os.waitpid(child, 0)
    assert os.WIFSIGNALED(status)
    assert os.WTERMSIG(status) == signal.SIGKILL
    assert (tmp_path / torn).read_bytes() == before[torn]
    epoch = torch.load(tmp_path / "checkpoint_latest.pt", weights_only=True)["epoch"]
    assert epoch == (1 if torn == "checkpoint_latest.pt" else 2)
    checkpointed_engine(tmp_path, resume=True).run([0], max_epochs=3)
    assert first_value(tmp_path / "model_final.pt") == 3

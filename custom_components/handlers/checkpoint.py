"""Checkpoints that survive a kill at any moment, and weights that hold nothing but tensors."""

from __future__ import annotations

import random
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import ignite.distributed as idist
import numpy as np
import torch
from ignite.engine import Engine, Events
from torch import nn

from ..errors import InputError, as_flag, first_line
from ..files import check_writable, write_atomically

__all__ = ["AtomicCheckpoint", "check_checkpoint"]


LATEST = "checkpoint_latest.pt"


class AtomicCheckpoint:
    """Saves everything a run needs to go on, and the weights worth keeping; resumes from the latest.

    In ``save_dir``: ``checkpoint_latest.pt`` (all of ``save_dict``, iteration, epoch, random states) after every
    ``interval`` epochs and at the end; ``model.pt`` (tensors only: the averaged weights) where the key metric is the
    best so far, and before the first validation; ``model_final.pt`` (likewise) beside the latest. Every file appears
    whole or not at all. Only the first process of a distributed run writes.

    Args:
        save_dir: folder.
        save_dict: objects with ``state_dict`` (network, optimizer, learning-rate scheduler, ...).
        weights: the network whose state becomes ``model.pt``, usually the averaged one.
        evaluator: its ``state.metrics[metric_name]`` decides what is best; without one, the latest is the best.
        metric_name: key metric, lower is better.
        interval: epochs between checkpoints.
        resume: go on from ``checkpoint_latest.pt``.
        overwrite: start anew although a checkpoint is there.

    Raises:
        InputError: when the run begins, from :func:`check_checkpoint`, or where ``resume`` finds a
            checkpoint that does not fit.
    """

    def __init__(
        self,
        save_dir: str | Path,
        save_dict: Mapping[str, Any],
        weights: nn.Module,
        evaluator: Engine | None = None,
        metric_name: str = "val_loss",
        interval: int = 1,
        resume: bool = False,
        overwrite: bool = False,
    ) -> None:
        self.save_dir = Path(save_dir)
        self.save_dict = {name: getattr(item, "module", item) for name, item in save_dict.items()}
        self.weights = weights
        self.evaluator, self.metric_name, self.interval = evaluator, metric_name, interval
        self.resume, self.overwrite = as_flag(resume, "resume"), as_flag(overwrite, "overwrite")
        self.best = float("inf")

    @property
    def latest(self) -> Path:
        return self.save_dir / LATEST

    def attach(self, engine: Engine) -> None:
        engine.add_event_handler(Events.STARTED, self.start)
        engine.add_event_handler(Events.EPOCH_COMPLETED(every=self.interval), self.save)
        engine.add_event_handler(Events.COMPLETED, self.save_last)
        if self.evaluator is not None:
            self.evaluator.add_event_handler(Events.COMPLETED, self.save_best)

    def start(self, engine: Engine) -> None:
        check_checkpoint(self.save_dir, self.resume, self.overwrite)
        if not self.resume:
            return
        try:
            state = torch.load(self.latest, map_location="cpu", weights_only=True)
            lacking = [name for name in self.save_dict if name not in state]
            if lacking:
                raise InputError(f"it lacks {lacking[0]!r}")
            for name, item in self.save_dict.items():
                item.load_state_dict(state[name])
        except Exception as error:
            raise InputError(f"cannot resume from {self.latest}: {first_line(error)}") from error
        # MONAI's trainer makes its gradient scaler when the run begins, after the handlers were attached.
        scaler = getattr(engine, "scaler", None)
        if scaler is not None and "scaler" in state:
            scaler.load_state_dict(state["scaler"])
        engine.state.epoch, engine.state.iteration = state["epoch"], state["iteration"]
        self.best = state["best"]
        restore_random_state(state["random"])

    def save(self, engine: Engine) -> None:
        if idist.get_rank() != 0:
            return
        state = {name: item.state_dict() for name, item in self.save_dict.items()}
        state |= {
            "epoch": engine.state.epoch,
            "iteration": engine.state.iteration,
            "best": self.best,
            "random": random_state(),
        }
        scaler = getattr(engine, "scaler", None)
        if scaler is not None:
            state["scaler"] = scaler.state_dict()
        write_atomically(self.latest, lambda path: torch.save(state, path))
        self._save_weights("model_final.pt")
        if self.best == float("inf"):
            self._save_weights("model.pt")

    def save_last(self, engine: Engine) -> None:
        if engine.state.epoch % self.interval:
            self.save(engine)

    def save_best(self, evaluator: Engine) -> None:
        value = float(evaluator.state.metrics[self.metric_name])
        if value < self.best:
            self.best = value
            if idist.get_rank() == 0:
                self._save_weights("model.pt")

    def _save_weights(self, name: str) -> None:
        state = {key: value.detach().cpu().clone() for key, value in self.weights.state_dict().items()}
        write_atomically(self.save_dir / name, lambda path: torch.save(state, path))


def check_checkpoint(save_dir: str | Path, resume: bool = False, overwrite: bool = False) -> None:
    """Says before any work whether a run may write its checkpoints to a folder.

    Raises:
        InputError: where ``resume`` finds no checkpoint, or one is there and neither ``resume`` nor ``overwrite`` is
            set, or the folder cannot be written to.
    """
    latest = Path(save_dir) / LATEST
    resume, overwrite = as_flag(resume, "resume"), as_flag(overwrite, "overwrite")
    if resume and not latest.is_file():
        raise InputError(f"nothing to resume: {latest} does not exist.")
    if latest.is_file() and not (resume or overwrite):
        raise InputError(
            f"{latest} exists: pass --resume true to go on from it, --overwrite true to start anew, "
            "or another --output_dir."
        )
    check_writable(save_dir)


def random_state() -> dict[str, Any]:
    """The states of Python's, numpy's and torch's global generators, in types that ``weights_only`` loads."""
    kind, keys, position, has_gauss, cached = np.random.get_state()
    version, internal, gauss = random.getstate()
    state = {
        "python": [version, list(internal), gauss],
        "numpy": [kind, torch.from_numpy(keys.astype(np.int64)), position, has_gauss, cached],
        "torch": torch.get_rng_state(),
    }
    if torch.cuda.is_available():
        state["cuda"] = torch.cuda.get_rng_state_all()
    return state


def restore_random_state(state: Mapping[str, Any]) -> None:
    """Puts back what :func:`random_state` took."""
    version, internal, gauss = state["python"]
    random.setstate((version, tuple(internal), gauss))
    kind, keys, position, has_gauss, cached = state["numpy"]
    np.random.set_state((kind, keys.numpy().astype(np.uint32), position, has_gauss, cached))
    torch.set_rng_state(state["torch"])
    if torch.cuda.is_available() and "cuda" in state:
        torch.cuda.set_rng_state_all(state["cuda"])

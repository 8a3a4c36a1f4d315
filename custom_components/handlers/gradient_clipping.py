"""Bounds the gradient before every step."""

from __future__ import annotations

import torch
from ignite.engine import Engine
from monai.engines.utils import IterationEvents
from torch import nn

from ..errors import InputError

__all__ = ["GradientClipping"]


class GradientClipping:
    """Scales the gradient of a trainer's network down to a largest norm, between the backward pass and the step.

    Args:
        network: what is trained.
        max_norm: Euclidean norm over all parameters.

    Raises:
        InputError: for a norm that is not above 0.
    """

    def __init__(self, network: nn.Module, max_norm: float) -> None:
        if not max_norm > 0:
            raise InputError(f"max_gradient_norm must be above 0, got {max_norm}.")
        self.network, self.max_norm = network, max_norm

    def attach(self, engine: Engine) -> None:
        engine.add_event_handler(IterationEvents.BACKWARD_COMPLETED, self)

    def __call__(self, engine: Engine) -> None:
        scaler = getattr(engine, "scaler", None)
        if scaler is not None:  # gradients of mixed precision are scaled up until now
            scaler.unscale_(engine.optimizer)
        torch.nn.utils.clip_grad_norm_(self.network.parameters(), self.max_norm)

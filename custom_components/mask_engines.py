"""Batches for mask diffusion in MONAI's engines."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from monai.engines.utils import PrepareBatch
from torch import Tensor

from .engines import draw_noise, stack_inputs
from .schedules import NoiseSchedule

__all__ = ["MaskDiffusionPrepareBatch", "MaskSamplingPrepareBatch"]

KEYS = ("sphere", "boundary")  # the inferer's input (N, 2, X, Y, Z)


class MaskDiffusionPrepareBatch(PrepareBatch):
    """A batch for one training step: draws t and noise by the samples' seeds, builds the target that
    :class:`~custom_components.losses.LesionFocusedLoss` takes, the boundary in the place of the lesion masks.

    Args:
        schedule: the noise schedule.
        prediction_type: what the network predicts; the target follows.

    The batch holds ``masks`` (N, n, X, Y, Z) in [-1, 1], ``sphere`` and ``boundary`` (N, 1, X, Y, Z), ``seed`` (N,).
    """

    def __init__(self, schedule: NoiseSchedule, prediction_type: str = "sample") -> None:
        self.schedule, self.prediction_type = schedule, prediction_type

    def __call__(
        self,
        batchdata: Mapping[str, Any],
        device: str | torch.device | None = None,
        non_blocking: bool = False,
        **kwargs: Any,
    ) -> tuple[Tensor, Tensor, tuple, dict[str, Tensor]]:
        """Returns inputs (N, 2, ...), target (N, 2n, ...), (), and masks, noise, timesteps for the inferer."""
        inputs = stack_inputs(batchdata, KEYS, device, non_blocking)
        masks = torch.as_tensor(batchdata["masks"]).to(inputs)
        noise, timesteps = draw_noise(batchdata["seed"], masks, self.schedule.num_train_timesteps, device)
        target = self.schedule.training_target(masks, noise, timesteps, self.prediction_type)
        where = inputs[:, 1:].expand_as(target)
        return (
            inputs,
            torch.cat([target, where], dim=1),
            (),
            {"masks": masks, "noise": noise, "timesteps": timesteps},
        )


class MaskSamplingPrepareBatch(PrepareBatch):
    """A batch of masks to draw: sphere and boundary as input, the masks' seeds and radii for the inferer."""

    def __call__(
        self,
        batchdata: Mapping[str, Any],
        device: str | torch.device | None = None,
        non_blocking: bool = False,
        **kwargs: Any,
    ) -> tuple[Tensor, Tensor, tuple, dict[str, Any]]:
        """Returns inputs (N, 2, ...), the sphere (N, 1, ...) as target, (), and seeds and radii_mm."""
        inputs = stack_inputs(batchdata, KEYS, device, non_blocking)
        radii = [float(control[3]) for control in batchdata["control"]]
        return inputs, inputs[:, :1], (), {"seeds": [int(seed) for seed in batchdata["seed"]], "radii_mm": radii}

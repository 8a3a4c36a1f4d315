"""Pictures of drawn masks while a training runs."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from .progress import EpochPicture

__all__ = ["MaskPicture"]


class MaskPicture(EpochPicture):
    """Draws masks for the control spheres of the first validation batch.

    The batches hold ``masks``, ``sphere``, ``boundary``, ``control`` and ``seed``. Arguments as
    :class:`~custom_components.handlers.progress.EpochPicture`.
    """

    def draw(self, device: torch.device) -> Callable[[Path], np.ndarray]:
        from ..mask_panels import save_mask_grid  # here, since matplotlib is needed for pictures alone

        batch = next(iter(self.loader))
        inputs = torch.cat([torch.as_tensor(batch[key]).float() for key in ("sphere", "boundary")], dim=1)
        seeds, radii = [int(seed) for seed in batch["seed"]], [float(control[3]) for control in batch["control"]]
        drawn = self.inferer(inputs.to(device), self.network, seeds=seeds, radii_mm=radii).cpu()
        real = torch.as_tensor(batch["masks"])
        rows = list(zip(inputs[:, 0].numpy(), real.numpy(), drawn.numpy(), strict=True))[: self.count]
        return lambda path: save_mask_grid(rows, path)

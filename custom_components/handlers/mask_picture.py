"""Pictures of drawn masks while a training runs."""

from __future__ import annotations

from pathlib import Path

import ignite.distributed as idist
import torch
from ignite.engine import Engine, Events
from monai.inferers import Inferer
from torch import nn
from torch.utils.data import DataLoader
from torch.utils.tensorboard import SummaryWriter

from ..files import write_atomically
from ..mask_panels import save_mask_grid

__all__ = ["MaskPicture"]


class MaskPicture:
    """Every few epochs draws masks for the control spheres of some validation lesions and saves the picture.

    Args:
        inferer: the sampling inferer.
        network: usually the averaged one.
        loader: validation batches with ``masks``, ``sphere``, ``boundary`` and ``seed``; the first one is drawn.
        output_dir: where ``samples_epoch_N.png`` goes.
        interval: epochs between pictures.
        count: masks in a picture.
        writer: TensorBoard writer that gets the picture too.
    """

    def __init__(
        self,
        inferer: Inferer,
        network: nn.Module,
        loader: DataLoader,
        output_dir: str | Path,
        interval: int = 10,
        count: int = 8,
        writer: SummaryWriter | None = None,
    ) -> None:
        self.inferer, self.network, self.loader = inferer, network, loader
        self.output_dir, self.interval, self.count, self.writer = Path(output_dir), interval, count, writer

    def attach(self, engine: Engine) -> None:
        engine.add_event_handler(Events.EPOCH_COMPLETED(every=self.interval), self)

    def __call__(self, engine: Engine) -> None:
        if idist.get_rank() != 0:
            return
        batch = next(iter(self.loader))
        device = next(self.network.parameters()).device
        inputs = torch.cat([torch.as_tensor(batch[key]).float() for key in ("sphere", "boundary")], dim=1)
        drawn = self.inferer(inputs.to(device), self.network, seeds=[int(seed) for seed in batch["seed"]]).cpu()
        real = torch.as_tensor(batch["masks"])
        rows = list(zip(inputs[:, 0].numpy(), real.numpy(), drawn.numpy(), strict=True))[: self.count]
        path = self.output_dir / f"samples_epoch_{engine.state.epoch:04d}.png"
        picture: list = []
        write_atomically(path, lambda temporary: picture.append(save_mask_grid(rows, temporary)))
        if self.writer is not None:
            self.writer.add_image("samples", picture[0], engine.state.epoch, dataformats="HWC")

"""What a person sees while a training runs."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import ignite.distributed as idist
import numpy as np
import torch
from ignite.engine import Engine, Events
from monai.inferers import Inferer
from torch import nn
from torch.utils.data import DataLoader
from tqdm import tqdm

from ..datasets import ReproducibleDataset
from ..errors import InputError, as_flag
from ..files import write_atomically

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter

__all__ = ["DatasetEpoch", "EpochPicture", "IntermediateStates", "ProgressBar", "SamplePicture"]


class DatasetEpoch:
    """Tells a :class:`ReproducibleDataset` which epoch begins, so that every epoch draws anew."""

    def __init__(self, dataset: ReproducibleDataset) -> None:
        self.dataset = dataset

    def attach(self, engine: Engine) -> None:
        engine.add_event_handler(Events.EPOCH_STARTED, lambda e: self.dataset.set_epoch(e.state.epoch))


class ProgressBar:
    """A bar over all iterations of a run, with the running loss and the time left, on the first process."""

    def __init__(self, loss_of: Callable[[dict], float] | None = None) -> None:
        self.loss_of = loss_of or (lambda output: torch.as_tensor(output["loss"]).item())
        self.average: float | None = None

    def attach(self, engine: Engine) -> None:
        engine.add_event_handler(Events.STARTED, self._open)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self._advance)
        engine.add_event_handler(Events.COMPLETED, self._close)

    def _open(self, engine: Engine) -> None:
        total = (engine.state.max_epochs or 0) * (engine.state.epoch_length or 0)
        self.bar = tqdm(
            total=total or None,
            desc="training",
            initial=engine.state.iteration,
            disable=idist.get_rank() != 0,
            mininterval=2,
        )

    def _advance(self, engine: Engine) -> None:
        output = engine.state.output
        loss = self.loss_of(output[0] if isinstance(output, list) else output)
        self.average = loss if self.average is None else 0.98 * self.average + 0.02 * loss
        self.bar.set_postfix(loss=f"{self.average:.4f}", epoch=engine.state.epoch, refresh=False)
        self.bar.update()

    def _close(self, engine: Engine) -> None:
        self.bar.close()


class EpochPicture:
    """Every few epochs draws a picture of what the network makes of validation data, and saves it.

    A subclass says in :meth:`draw` what the picture shows.

    Args:
        inferer: the sampling inferer.
        network: usually the averaged one.
        loader: validation batches.
        output_dir: where ``samples_epoch_N.png`` goes.
        interval: epochs between pictures.
        count: samples in a picture.
        writer: TensorBoard writer that gets the picture too.
    """

    def __init__(
        self,
        inferer: Inferer,
        network: nn.Module,
        loader: DataLoader,
        output_dir: str | Path,
        interval: int = 10,
        count: int = 4,
        writer: SummaryWriter | None = None,
    ) -> None:
        self.inferer, self.network, self.loader = inferer, network, loader
        self.output_dir, self.interval, self.count, self.writer = Path(output_dir), interval, count, writer

    def attach(self, engine: Engine) -> None:
        engine.add_event_handler(Events.EPOCH_COMPLETED(every=self.interval), self)

    def draw(self, device: torch.device) -> Callable[[Path], np.ndarray]:
        """Samples on a device; returns what saves the picture to a path and gives its pixels (H, W, 3)."""
        raise NotImplementedError

    def __call__(self, engine: Engine) -> None:
        if idist.get_rank() != 0:
            return
        save = self.draw(next(self.network.parameters()).device)
        path = self.output_dir / f"samples_epoch_{engine.state.epoch:04d}.png"
        picture: list = []
        write_atomically(path, lambda temporary: picture.append(save(temporary)))
        if self.writer is not None:
            self.writer.add_image("samples", picture[0], engine.state.epoch, dataformats="HWC")


class SamplePicture(EpochPicture):
    """Repaints some validation lesions by their own histogram (columns: real, painted, difference; one row a lesion).

    The batches hold ``image``, ``label``, ``histogram`` and ``seed``. Arguments as :class:`EpochPicture`.
    """

    def draw(self, device: torch.device) -> Callable[[Path], np.ndarray]:
        from ..panels import save_sample_grid  # here, since matplotlib is needed for pictures alone

        rows: list[tuple[torch.Tensor, torch.Tensor, torch.Tensor]] = []
        for batch in self.loader:
            image, mask = (torch.as_tensor(batch[key]).float().to(device) for key in ("image", "label"))
            condition = torch.as_tensor(batch["histogram"]).to(device)
            seeds = [int(seed) for seed in batch["seed"]]
            inputs = torch.cat([image, mask], dim=1)
            painted = self.inferer(inputs, self.network, condition=condition, seeds=seeds)
            rows.extend(zip(image.cpu(), painted.cpu(), mask.cpu(), strict=True))
            if len(rows) >= self.count:
                break
        made = getattr(self.inferer, "made", "painted")
        return lambda path: save_sample_grid(rows[: self.count], path, made)


class IntermediateStates:
    """Keeps the states x_t of the reverse process: the inferer's ``on_step``.

    Each batch of lesions becomes one file ``states_NNNN.pt`` with ``timesteps`` (K,) and ``states`` (K, N, n, X, Y, Z)
    in float16, written when the state is clean.

    Args:
        output_dir: folder of the files.
        interval: keep every so many steps (the first and the last always).
        overwrite: replace the files of an earlier run.
        resume: number the files after those of an earlier run.

    Raises:
        InputError: where files of an earlier run are there and neither of the two is set.
    """

    def __init__(
        self, output_dir: str | Path, interval: int = 1, overwrite: bool = False, resume: bool = False
    ) -> None:
        self.output_dir, self.interval = Path(str(output_dir)), interval
        earlier = len(list(self.output_dir.glob("states_*.pt")))
        resume = as_flag(resume, "resume")
        if earlier and not (resume or as_flag(overwrite, "overwrite")):
            raise InputError(f"{self.output_dir} holds states already: pass --overwrite true or another --output_dir.")
        self.kept: list[tuple[int, torch.Tensor]] = []
        self.batches = earlier if resume else 0

    def __call__(self, step: int, timestep: int, x: torch.Tensor) -> None:
        if step == 0:
            self.kept = []
        if step % self.interval == 0 or timestep < 0:
            self.kept.append((timestep, x.detach().as_subclass(torch.Tensor).half().cpu()))
        if timestep < 0:
            timesteps, states = zip(*self.kept, strict=True)
            content = {"timesteps": torch.tensor(timesteps), "states": torch.stack(states)}
            path = self.output_dir / f"states_{self.batches:04d}.pt"
            write_atomically(path, lambda temporary: torch.save(content, temporary))
            self.batches += 1

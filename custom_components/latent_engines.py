"""Batches for autoencoders and for diffusion in their latent space, in MONAI's engines."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from monai.engines.utils import PrepareBatch
from torch import Tensor, nn

from .combiners import MultiChannelCombiner
from .engines import draw_noise, stack_inputs
from .latent_inferers import latent_network
from .schedules import NoiseSchedule

__all__ = ["LatentDiffusionPrepareBatch", "ReconstructionPrepareBatch"]


class ReconstructionPrepareBatch(PrepareBatch):
    """A batch to reconstruct: its image is the input and the target."""

    def __call__(
        self,
        batchdata: Mapping[str, Any],
        device: str | torch.device | None = None,
        non_blocking: bool = False,
        **kwargs: Any,
    ) -> tuple[Tensor, Tensor]:
        """Returns the batch's ``image`` (N, 1, X, Y, Z), float32 in [-1, 1], twice."""
        image = stack_inputs(batchdata, ("image",), device, non_blocking).as_subclass(Tensor)
        return image, image


class LatentDiffusionPrepareBatch(PrepareBatch):
    """A batch for one training step in latent space: encodes the image, draws t and noise, builds the target.

    Each sample draws from its own generator, as in :class:`~custom_components.engines.LesionDiffusionPrepareBatch`.

    Args:
        schedule: the noise schedule.
        network: the :class:`~custom_components.networks.LatentUNet` that is trained.
        num_classes: number of lesion classes n.
        prediction_type: what the network predicts; the target follows.

    The batch holds ``image`` (N, 1, X, Y, Z) in [-1, 1], ``label`` (N, n, X, Y, Z) in {0, 1} and ``seed`` (N,).

    Raises:
        InputError: where the network's autoencoder was not trained.
    """

    def __init__(
        self,
        schedule: NoiseSchedule,
        network: nn.Module,
        num_classes: int = 1,
        prediction_type: str = "v_prediction",
    ) -> None:
        self.schedule, self.network = schedule, latent_network(network)
        self.network.check_autoencoder()
        self.combiner = MultiChannelCombiner(num_classes)
        self.prediction_type = prediction_type

    def __call__(
        self,
        batchdata: Mapping[str, Any],
        device: str | torch.device | None = None,
        non_blocking: bool = False,
        **kwargs: Any,
    ) -> tuple[Tensor, Tensor, tuple, dict[str, Tensor]]:
        """Returns inputs (N, 1 + n, ...), target (N, C, x, y, z), (), and latent, noise, timesteps for the inferer."""
        inputs = stack_inputs(batchdata, ("image", "label"), device, non_blocking).as_subclass(Tensor)
        image, _ = self.combiner.split(inputs)
        latent = self.network.encode(image)
        noise, timesteps = draw_noise(batchdata["seed"], latent, self.schedule.num_train_timesteps, device)
        target = self.schedule.training_target(latent, noise, timesteps, self.prediction_type)
        return inputs, target, (), {"latent": latent, "noise": noise, "timesteps": timesteps}

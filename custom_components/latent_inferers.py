"""Cond-Diffusion (L) (section 4.1): the whole crop is generated in an autoencoder's latent space."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from monai.inferers import Inferer
from monai.networks.utils import eval_mode
from torch import Tensor, nn
from torch.nn.functional import adaptive_avg_pool3d

from .combiners import MultiChannelCombiner
from .networks import LatentUNet
from .reverse_process import ReverseProcessInferer
from .schedules import NoiseSchedule

__all__ = ["LatentConditionalInferer", "ReconstructionInferer", "latent_network"]


def latent_network(network: nn.Module) -> LatentUNet:
    """The network itself, looked for behind a DistributedDataParallel."""
    return getattr(network, "module", network)


class LatentConditionalInferer(ReverseProcessInferer):
    """Generates whole crops with lesions where the masks say; nothing keeps their background the scan's.

    The network is shown the masks (their share of each latent voxel) and the latent of the image whose lesions are
    filled with a constant (Chen et al. 2024; Rombach et al. 2022, section 4.3). Sampling starts from noise
    everywhere and blends nothing in; what the decoder makes of the last latent is the result.

    MONAI's LatentDiffusionInferer draws all noise from the global generator and knows neither masks nor this
    project's samplers; the call is that of :class:`~custom_components.inferers.LesionInpaintingInferer` instead.

    Args:
        schedule: the noise schedule.
        num_classes: number of lesion classes n.
        fill: what the lesions are filled with in the background shown to the network, in [-1, 1].
        others: see :class:`~custom_components.reverse_process.ReverseProcessInferer`; latents are not clipped.

    Raises:
        InputError: for an unknown prediction type or AMP type, or steps outside 1..T.
    """

    activity = "painting"

    def __init__(self, schedule: NoiseSchedule, num_classes: int = 1, fill: float = 0.0, **others: Any) -> None:
        super().__init__(schedule, clip_x_0=False, **others)
        self.combiner = MultiChannelCombiner(num_classes)
        self.filling = fill

    def __call__(
        self,
        inputs: Tensor,
        network: nn.Module,
        *,
        latent: Tensor | None = None,
        noise: Tensor | None = None,
        timesteps: Tensor | None = None,
        condition: Tensor | None = None,
        seeds: Sequence[int] | None = None,
        **kwargs: Any,
    ) -> Tensor:
        """
        Args:
            inputs: (N, 1 + n, X, Y, Z): the image in [-1, 1], then one mask per class in {0, 1}.
            network: a :class:`~custom_components.networks.LatentUNet`.
            latent: (N, C, x, y, z), the image's latent where it is known already; training only.
            noise: (N, C, x, y, z), training only.
            timesteps: (N,), training only.
            condition: histograms, which this method does not use.
            seeds: one seed per sample.

        Returns:
            Sampling: (N, 1, X, Y, Z) in [-1, 1], the generated crop. Training: (N, C, x, y, z), the prediction.
        """
        inputs = torch.as_tensor(inputs).as_subclass(Tensor)
        image, masks = self.combiner.split(inputs)
        shown = self.shown(image, masks, network)
        if timesteps is not None:
            if noise is None:
                raise ValueError("a training step needs noise as well as timesteps.")
            latent = latent_network(network).encode(image) if latent is None else latent
            return network(torch.cat([self.schedule.add_noise(latent, noise, timesteps), shown], dim=1), timesteps)
        start = torch.zeros_like(shown[:, masks.shape[1] :])  # nothing of it is kept
        z_0 = self.fill(start, torch.ones_like(start), network, lambda z_t: torch.cat([z_t, shown], dim=1), seeds=seeds)
        return latent_network(network).decode(z_0).clamp(-1, 1)

    def shown(self, image: Tensor, masks: Tensor, network: nn.Module) -> Tensor:
        """What the network sees besides z_t: (N, n + C, x, y, z), the masks' shares and the background's latent."""
        self.combiner.check_disjoint(masks)
        background = torch.where((masks > 0).any(dim=1, keepdim=True), self.filling, image)
        latent = latent_network(network).encode(background)
        return torch.cat([adaptive_avg_pool3d(masks, latent.shape[2:]), latent], dim=1)


class ReconstructionInferer(Inferer):
    """What an autoencoder makes of an image: the first channel of its inputs, whatever follows."""

    def __call__(self, inputs: Tensor, network: nn.Module, *args: Any, **kwargs: Any) -> Tensor:
        """(N, 1 + ..., X, Y, Z) -> (N, 1, X, Y, Z) in [-1, 1]."""
        with eval_mode(network):  # in training mode it would move its codebook
            return network(torch.as_tensor(inputs).as_subclass(Tensor)[:, :1])[0].clamp(-1, 1)

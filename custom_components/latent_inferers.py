"""Cond-Diffusion (L) (section 4.1): the whole crop is generated in an autoencoder's latent space."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from monai.inferers import Inferer
from monai.networks.utils import eval_mode
from torch import Tensor, nn
from torch.nn.functional import adaptive_avg_pool3d

from .conditional_inferers import ConditionalInferer
from .networks import LatentUNet
from .schedules import NoiseSchedule

__all__ = ["LatentConditionalInferer", "ReconstructionInferer", "latent_network"]


def latent_network(network: nn.Module) -> LatentUNet:
    """The network itself, looked for behind a DistributedDataParallel."""
    return getattr(network, "module", network)


class LatentConditionalInferer(ConditionalInferer):
    """:class:`~custom_components.conditional_inferers.ConditionalInferer` on latents (Chen et al. 2024).

    The network sees (N, 2 C + n, x, y, z): the state z_t, noise everywhere at first, the masks' shares of each latent
    voxel, and the latent of the scan with every lesion voxel put to ``background_fill`` (Rombach et al. 2022, section
    4.3). What the decoder makes of z_0 is the result: even a background that the network kept passes the autoencoder.

    MONAI's LatentDiffusionInferer knows neither masks nor this project's samplers and walks, and draws its noise from
    the global generator, so that a sample would depend on its batch.

    Args:
        schedule: the noise schedule.
        num_classes: number of lesion classes n.
        others: see :class:`~custom_components.conditional_inferers.ConditionalInferer`; estimates of z_0 have no bounds
            to be clipped to.

    Raises:
        InputError: as ConditionalInferer.
    """

    def __init__(self, schedule: NoiseSchedule, num_classes: int = 1, **others: Any) -> None:
        super().__init__(schedule, num_classes, clip_x_0=False, **others)

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
            condition: not used.
            seeds: one seed per sample.

        Returns:
            Sampling: (N, 1, X, Y, Z) in [-1, 1], the generated crop. Training: (N, C, x, y, z), the prediction.
        """
        if timesteps is None:
            return super().__call__(inputs, network, seeds=seeds)
        if noise is None:
            raise ValueError("a training step needs noise as well as timesteps.")
        image, masks = self.classes.split(torch.as_tensor(inputs).as_subclass(Tensor))
        latent = latent_network(network).encode(image) if latent is None else latent
        z_t = self.schedule.add_noise(latent, noise, timesteps)
        return network(torch.cat([z_t, self.shown(image, masks, network)], dim=1), timesteps)

    def shown(self, image: Tensor, masks: Tensor, network: nn.Module) -> Tensor:
        """What the network sees besides z_t, (N, n + C, x, y, z): the masks' shares and the background's latent."""
        lesion = masks.amax(dim=1, keepdim=True) > 0
        background = latent_network(network).encode(image.masked_fill(lesion, self.background_fill))
        return torch.cat([adaptive_avg_pool3d(masks, background.shape[2:]), background], dim=1)

    def sample(
        self,
        image: Tensor,
        masks: Tensor,
        network: nn.Module,
        condition: Tensor | None = None,
        seeds: Sequence[int] | None = None,
    ) -> Tensor:
        """The reverse process and the decoder, (N, 1, X, Y, Z); arguments as :meth:`__call__`."""
        self.classes.check_disjoint(masks)
        shown = self.shown(image, masks, network)
        nothing = torch.zeros_like(shown[:, masks.shape[1] :])  # is known of z_0
        everywhere = torch.ones_like(nothing)
        z_0 = self.fill(nothing, everywhere, network, lambda z_t: torch.cat([z_t, shown], dim=1), None, seeds)
        return latent_network(network).decode(z_0).clamp(-1, 1)


class ReconstructionInferer(Inferer):
    """What an autoencoder makes of an image: the first channel of its inputs, whatever follows."""

    made = "reconstructed"  # heading of a picture

    def __call__(self, inputs: Tensor, network: nn.Module, *args: Any, **kwargs: Any) -> Tensor:
        """(N, 1 + ..., X, Y, Z) -> (N, 1, X, Y, Z) in [-1, 1]."""
        with eval_mode(network):  # in training mode it would move its codebook
            return network(torch.as_tensor(inputs).as_subclass(Tensor)[:, :1])[0].clamp(-1, 1)

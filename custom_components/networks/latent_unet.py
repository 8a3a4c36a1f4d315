"""A diffusion U-Net in the latent space of an autoencoder, and the autoencoder with it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from monai.networks.nets import DiffusionModelUNet
from torch import Tensor, nn

from ..errors import InputError
from ..weights import load_weights
from .histogram_unet import keep_slices
from .vq_autoencoder import VQAutoencoder

__all__ = ["LatentUNet"]


class LatentUNet(nn.Module):
    """DiffusionModelUNet on latents, conditioned by its input channels (Rombach et al. 2022).

    Its weights hold the autoencoder's, which never change: one file is the whole model. The autoencoder stays in
    evaluation mode, since in training mode it would move its codebook.

    Args:
        autoencoder: of C latent channels.
        num_classes: number of lesion classes n.
        channels, attention_levels, num_res_blocks, norm_num_groups, num_head_channels: as DiffusionModelUNet.
        autoencoder_weights: weights of a trained autoencoder; None where the weights of the whole will be loaded.

    Shapes:
        x: (N, 2 C + n, x, y, z): the noisy latent, the masks' share of each latent voxel, the background's latent;
        timesteps: (N,); context is ignored; returns (N, C, x, y, z).

    Raises:
        InputError: where the autoencoder's weights are missing, do not fit it or come from no training.
    """

    def __init__(
        self,
        autoencoder: VQAutoencoder,
        num_classes: int = 1,
        channels: Sequence[int] = (64, 128),
        attention_levels: Sequence[bool] = (False, True),
        num_res_blocks: Sequence[int] | int = 2,
        norm_num_groups: int = 16,
        num_head_channels: int = 32,
        autoencoder_weights: str | Path | None = None,
    ) -> None:
        super().__init__()
        self.autoencoder = autoencoder.requires_grad_(False)
        latent_channels, halvings = autoencoder.embedding_dim, 2 ** (len(channels) - 1)
        in_plane = autoencoder.in_plane
        self.divisor = tuple(
            n if in_plane and axis == 2 else n * halvings for axis, n in enumerate(autoencoder.divisor)
        )
        self.unet = DiffusionModelUNet(
            spatial_dims=3,
            in_channels=2 * latent_channels + num_classes,
            out_channels=latent_channels,
            num_res_blocks=num_res_blocks,
            channels=channels,
            attention_levels=attention_levels,
            norm_num_groups=norm_num_groups,
            num_head_channels=num_head_channels,
            use_flash_attention=True,
        )
        if in_plane:
            keep_slices(self.unet)
        if autoencoder_weights is not None:
            load_weights(autoencoder, autoencoder_weights)
            if not autoencoder.is_trained:
                raise InputError(f"the autoencoder in {autoencoder_weights} was never trained.")
        self.train()

    def train(self, mode: bool = True) -> LatentUNet:
        super().train(mode)
        self.autoencoder.eval()
        return self

    def check_size(self, spatial_size: Sequence[int]) -> None:
        """Raises InputError where a crop of that many voxels cannot be halved as often as it has to be."""
        if any(size < n or size % n for size, n in zip(spatial_size, self.divisor, strict=True)):
            raise InputError(f"spatial_size must be multiples of {list(self.divisor)}, got {list(spatial_size)}.")

    def check_autoencoder(self) -> None:
        """Raises InputError where the autoencoder's weights come from no training."""
        if not self.autoencoder.is_trained:
            raise InputError(
                "the latent diffusion model has no trained autoencoder: pass --autoencoder_weights with the model.pt "
                "of a training by autoencoder.json."
            )

    @torch.no_grad()
    def encode(self, image: Tensor) -> Tensor:
        """(N, 1, X, Y, Z) in [-1, 1] -> (N, C, x, y, z) of mean 0 and variance 1.

        Raises:
            InputError: where the crop does not suit, or as :meth:`check_autoencoder`.
        """
        self.check_size(image.shape[2:])
        self.check_autoencoder()
        return self.autoencoder.to_latent(image)

    @torch.no_grad()
    def decode(self, latent: Tensor) -> Tensor:
        """(N, C, x, y, z) -> (N, 1, X, Y, Z)."""
        return self.autoencoder.to_image(latent)

    def forward(self, x: Tensor, timesteps: Tensor, context: Tensor | None = None) -> Tensor:
        return self.unet(x, timesteps)

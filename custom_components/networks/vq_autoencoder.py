"""MONAI's vector-quantised autoencoder, for crops with thick slices too, with latents on one scale."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from monai.networks.nets import VQVAE
from monai.networks.nets.vqvae import Decoder, Encoder
from torch import Tensor, nn

from ..errors import InputError

__all__ = ["VQAutoencoder"]

LEAST_USE = 0.5  # latent voxels of a batch, in the moving average, below which a code counts as unused


class VQAutoencoder(VQVAE):
    """VQVAE (van den Oord et al. 2017) each level of which halves the crop; the VQ-GAN's generator (Esser et al. 2021).

    A latent diffusion model works on the encoder's output before the quantisation, which then belongs to the decoder
    (Rombach et al. 2022, section 3.1, VQ-reg). While it trains, the autoencoder keeps running moments of that output,
    one pair a channel, so that :meth:`to_latent` gives values of mean 0 and variance 1.

    Codes that hardly any latent voxel is nearest to would drift away, until a handful does all the work: while it
    trains, each of them, and at first every one, moves to the encoder's output at a voxel drawn from the batch.

    Args:
        in_channels: channels of the image.
        channels: width of each level.
        num_res_layers: residual layers of each level.
        num_embeddings: vectors of the codebook.
        embedding_dim: C, channels of the latent.
        commitment_cost: weight of the distance of the encoder's output to its code in the quantisation loss.
        decay: share that the codebook's moving averages keep at each step.
        in_plane: levels halve the first two axes only, for stacks of few thick slices.

    Shapes:
        image: (N, in_channels, X, Y, Z) in [-1, 1] with X, Y (and Z, unless ``in_plane``) multiples of
        ``2 ** len(channels)``; the call returns its reconstruction and the quantisation loss, a scalar.
    """

    def __init__(
        self,
        in_channels: int = 1,
        channels: Sequence[int] = (64, 128),
        num_res_layers: int = 2,
        num_embeddings: int = 1024,
        embedding_dim: int = 8,
        commitment_cost: float = 0.25,
        decay: float = 0.99,
        in_plane: bool = False,
    ) -> None:
        levels = len(channels)
        super().__init__(
            spatial_dims=3,
            in_channels=in_channels,
            out_channels=in_channels,
            channels=channels,
            num_res_layers=num_res_layers,
            num_res_channels=channels,
            downsample_parameters=((2, 4, 1, 1),) * levels,
            upsample_parameters=((2, 4, 1, 1, 0),) * levels,
            num_embeddings=num_embeddings,
            embedding_dim=embedding_dim,
            commitment_cost=commitment_cost,
            decay=decay,
        )
        if in_plane:  # which VQVAE's own checks of its parameters do not admit
            stride, kernel = (2, 2, 1), (4, 4, 3)
            self.encoder = Encoder(
                3,
                in_channels,
                embedding_dim,
                channels,
                num_res_layers,
                channels,
                ((stride, kernel, 1, 1),) * levels,
                0.0,
                "RELU",
            )
            self.decoder = Decoder(
                3,
                embedding_dim,
                in_channels,
                channels,
                num_res_layers,
                channels,
                ((stride, kernel, 1, 1, 0),) * levels,
                0.0,
                "RELU",
                None,
            )
        self.in_plane = in_plane
        self.divisor = (2**levels, 2**levels, 1 if in_plane else 2**levels)
        self.moments = nn.BatchNorm3d(embedding_dim, eps=1e-8, affine=False)

    @property
    def is_trained(self) -> bool:
        """Whether it, or the training whose weights it holds, has seen a batch."""
        return bool(self.moments.num_batches_tracked > 0)

    def check_size(self, spatial_size: Sequence[int]) -> None:
        """Raises InputError where a crop of that many voxels cannot be halved as often as it has to be."""
        if any(size < n or size % n for size, n in zip(spatial_size, self.divisor, strict=True)):
            raise InputError(f"spatial_size must be multiples of {list(self.divisor)}, got {list(spatial_size)}.")

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        self.check_size(image.shape[2:])
        z = self.encode(image)
        if self.training:
            self._revive_codes(z.detach().float())
            self.moments.momentum = 0.05 if self.is_trained else 1.0  # the first batch counts alone
            self.moments(z.detach().float())
        quantised, loss = self.quantize(z)
        return self.decode(quantised), loss

    @torch.no_grad()
    def _revive_codes(self, z: Tensor) -> None:
        codebook = self.quantizer.quantizer
        unused = codebook.ema_cluster_size < LEAST_USE
        outputs = z.movedim(1, -1).flatten(0, -2)
        moved = outputs[torch.randint(len(outputs), (int(unused.sum()),), device=z.device)]
        codebook.embedding.weight[unused] = codebook.ema_w[unused] = moved
        codebook.ema_cluster_size[unused] = 1

    def to_latent(self, image: Tensor) -> Tensor:
        """(N, in_channels, X, Y, Z) -> (N, C, x, y, z), the encoder's output at mean 0 and variance 1."""
        self.check_size(image.shape[2:])
        return (self.encode(image) - self._mean) / self._std

    def to_image(self, latent: Tensor) -> Tensor:
        """(N, C, x, y, z) -> (N, in_channels, X, Y, Z), by way of the codebook."""
        return self.decode_stage_2_outputs(latent * self._std + self._mean)

    @property
    def _mean(self) -> Tensor:
        return self.moments.running_mean.view(1, -1, 1, 1, 1)

    @property
    def _std(self) -> Tensor:
        return torch.sqrt(self.moments.running_var + self.moments.eps).view(1, -1, 1, 1, 1)

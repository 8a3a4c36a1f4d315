"""MONAI's diffusion U-Net on patches of voxels, for smooth things such as masks."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from einops import rearrange
from monai.networks.nets import DiffusionModelUNet
from monai.networks.nets.diffusion_model_unet import get_timestep_embedding
from torch import Tensor, nn

from ..errors import InputError
from ..schedules import NoiseSchedule
from .histogram_unet import FineStage

__all__ = ["PatchUNet"]


class PatchUNet(nn.Module):
    """DiffusionModelUNet whose voxels are patches stacked in channels (space to depth), and a fine stage behind it.

    A patch of its own size along each axis suits thick slices: (2, 2, 1) leaves them apart.

    The network predicts x_0, written around the best guess that a Gaussian of mean m and standard deviation s allows:
    given x_t = a x_0 + b eps (a^2 = abar_t, b^2 = 1 - abar_t) it is ``m + a s^2 (x_t - a m) / (a^2 s^2 + b^2)``, with
    standard error ``b s / sqrt(a^2 s^2 + b^2)``; the U-Net learns the rest, in units of that error (the preconditioning
    of Karras et al. 2022). Little noise is then removed by the guess alone, and what is learned is the shape.

    Through much noise a shape shows in averages only: means of x_t over neighbourhoods of ``pool_sizes`` patches,
    scaled to unit noise, join the patches as further channels.

    Args:
        in_channels: number of input channels, the first ``out_channels`` of them the noisy state x_t.
        out_channels: number of lesion classes n.
        channels, attention_levels, num_res_blocks, norm_num_groups, num_head_channels: as DiffusionModelUNet.
        patch_size: voxels of a patch along each axis.
        fine_channels: width of the :class:`FineStage` at full resolution; 0 leaves it out.
        num_train_timesteps, snr_shift: of the noise schedule, see :class:`~custom_components.schedules.NoiseSchedule`.
        prior_mean, prior_std: m and s.
        pool_sizes: widths of the neighbourhoods, in patches, odd; none for no averages.

    Shapes:
        x: (N, in_channels, X, Y, Z), each axis a multiple of ``patch_size * 2 ** (len(channels) - 1)``;
        timesteps: (N,) in 0..T-1; context is ignored; returns x_0 (N, out_channels, X, Y, Z).
    """

    def __init__(
        self,
        in_channels: int = 2,
        out_channels: int = 1,
        channels: Sequence[int] = (32, 64),
        attention_levels: Sequence[bool] = (False, True),
        num_res_blocks: Sequence[int] | int = 1,
        norm_num_groups: int = 8,
        num_head_channels: int = 16,
        patch_size: Sequence[int] = (2, 2, 2),
        fine_channels: int = 0,
        num_train_timesteps: int = 300,
        snr_shift: float = 1.0,
        prior_mean: float = -0.8,
        prior_std: float = 0.5,
        pool_sizes: Sequence[int] = (3, 5),
    ) -> None:
        super().__init__()
        self.out_channels, self.prior = out_channels, (prior_mean, prior_std)
        alphas_cumprod = NoiseSchedule(num_train_timesteps, snr_shift=snr_shift).alphas_cumprod
        self.register_buffer("alphas_cumprod", alphas_cumprod, persistent=False)
        self.patch_size, self.pool_sizes = tuple(patch_size), tuple(pool_sizes)
        self.divisor = tuple(size * 2 ** (len(channels) - 1) for size in self.patch_size)
        block = math.prod(self.patch_size)
        self.unet = DiffusionModelUNet(
            spatial_dims=3,
            in_channels=in_channels * block + out_channels * len(pool_sizes),
            out_channels=out_channels * block,
            num_res_blocks=num_res_blocks,
            channels=channels,
            attention_levels=attention_levels,
            norm_num_groups=norm_num_groups,
            num_head_channels=num_head_channels,
            use_flash_attention=True,
        )
        embed_dim = channels[0] * 4
        self.fine = (
            FineStage(in_channels + out_channels, out_channels, fine_channels, embed_dim) if fine_channels else None
        )

    def check_size(self, spatial_size: Sequence[int]) -> None:
        """Raises InputError where the network cannot halve a crop of that many voxels as often as it has to."""
        pairs = list(zip(spatial_size, self.divisor, strict=True))
        if any(size < divisor or size % divisor for size, divisor in pairs):
            raise InputError(f"spatial_size must be multiples of {list(self.divisor)}, got {list(spatial_size)}.")

    def forward(self, x: Tensor, timesteps: Tensor, context: Tensor | None = None) -> Tensor:
        patch = dict(zip("pqr", self.patch_size, strict=True))
        state = x[:, : self.out_channels]
        patches = rearrange(x, "n c (x p) (y q) (z r) -> n (c p q r) x y z", **patch)
        out = self.unet(torch.cat([patches, *self.averages(state)], dim=1), timesteps)
        out = rearrange(out, "n (c p q r) x y z -> n c (x p) (y q) (z r)", **patch)
        if self.fine is not None:
            embedding = self.unet.time_embed(get_timestep_embedding(timesteps, self.unet.block_out_channels[0]).to(x))
            out = out + self.fine(torch.cat([x, out], dim=1), embedding)
        mean, variance = self.prior[0], self.prior[1] ** 2
        abar = self.alphas_cumprod[timesteps].to(x).view(-1, 1, 1, 1, 1)
        a, b, spread = abar.sqrt(), (1 - abar).sqrt(), abar * variance + 1 - abar
        guess = mean + a * variance / spread * (state - a * mean)
        return guess - b * (variance / spread).sqrt() * out

    def averages(self, state: Tensor) -> list[Tensor]:
        """Means of a state (N, n, X, Y, Z) over neighbourhoods, (N, n, ...) on the patches' grid, unit noise."""
        block = math.prod(self.patch_size)
        means = nn.functional.avg_pool3d(state, self.patch_size)
        found = []
        for size in self.pool_sizes:
            padded = nn.functional.pad(means, (size // 2,) * 6)
            found.append(math.sqrt(block * size**3) * nn.functional.avg_pool3d(padded, size, stride=1))
        return found

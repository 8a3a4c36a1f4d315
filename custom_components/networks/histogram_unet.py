"""MONAI's diffusion U-Net, conditioned on the lesion's texture histogram at every level (Eq. 5)."""

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

__all__ = ["HistogramUNet"]


class FineStage(nn.Module):
    """Three convolutions at full resolution after a U-Net on patches; adds nothing at initialisation.

    Averaging noise over neighbouring voxels is what the last reverse steps need most; on patches that is hard to learn.

    Args:
        in_channels: network input and U-Net output together.
        out_channels: number of lesion classes.
        channels: width.
        embed_dim: width of the timestep embedding, which scales and shifts the features.
    """

    def __init__(self, in_channels: int, out_channels: int, channels: int, embed_dim: int) -> None:
        super().__init__()
        self.conv_in = nn.Conv3d(in_channels, channels, 3, padding=1)
        self.conv_mid = nn.Conv3d(channels, channels, 3, padding=1)
        self.conv_out = nn.Conv3d(channels, out_channels, 3, padding=1)
        self.modulation = nn.Linear(embed_dim, 4 * channels)
        for module in (self.conv_out, self.modulation):
            nn.init.zeros_(module.weight)
            nn.init.zeros_(module.bias)

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        modulation = self.modulation(nn.functional.silu(embedding))[..., None, None, None]
        scale_in, shift_in, scale_mid, shift_mid = modulation.chunk(4, dim=1)
        x = nn.functional.silu(self.conv_in(x) * (1 + scale_in) + shift_in)
        x = nn.functional.silu(self.conv_mid(x) * (1 + scale_mid) + shift_mid)
        return self.conv_out(x)


def keep_slices(unet: DiffusionModelUNet) -> None:
    """Makes every level of MONAI's U-Net halve and double the first two axes only; it has no option for that."""
    for block in (*unet.down_blocks, *unet.up_blocks):
        if getattr(block, "downsampler", None) is not None:
            block.downsampler.op.conv.stride = (2, 2, 1)
        if getattr(block, "upsampler", None) is not None:
            block.upsampler.upsample_non_trainable.scale_factor = (2.0, 2.0, 1.0)


class HistogramUNet(nn.Module):
    """DiffusionModelUNet that a texture histogram really steers; predicts the velocity v_t.

    The histogram h (16 bins over [-1, 1]) of each lesion class acts in three ways:

    1. cross-attention (section 3.2), one token for each bin, at the levels named in ``attention_levels``;
    2. an embedding added to the timestep's, which reaches every residual block of every level;
    3. the output is written around the best guess that h alone allows. If lesion voxels were independent draws with
       h's mean m and standard deviation s, the expected velocity given x_t = a x_0 + b eps would be
       ``v_h = (a b (1 - s^2) x_t - b m) / (a^2 s^2 + b^2)`` with standard error ``s / sqrt(a^2 s^2 + b^2)``
       (a^2 = abar_t, b^2 = 1 - abar_t). The U-Net learns what is left, in units of that error. This is the
       preconditioning of Karras et al. (2022) with the requested texture's moments in place of the data set's.

    The first ``state_channels`` input channels are the noisy state x_t; further ones (masks) are context.

    Args:
        in_channels: number of input channels.
        out_channels: number of lesion classes n.
        state_channels: 1 where all classes share one noisy image (masks do not overlap), n where each has its own.
        channels, attention_levels, num_res_blocks, norm_num_groups, num_head_channels: as DiffusionModelUNet.
        patch_size: the image enters as ``patch_size``^3 (``in_plane``: ^2) blocks of voxels stacked in channels
            (space to depth) and leaves so, which saves time at the finest level; 1 turns it off.
        in_plane: blocks and levels halve the first two axes only, for stacks of few thick slices.
        fine_channels: width of the :class:`FineStage` at full resolution behind the U-Net; 0 leaves it out.
        noise_scales: odd widths in voxels; for each, the fine stage also sees what x_t differs from its mean over a
            box of that width (one voxel deep where ``in_plane``), in units of the noise's standard deviation at t. At
            low noise levels that nearly is what it has to predict, and amplifying it itself is slow to learn.
        num_bins: bins of the histogram.
        context_dim: width of a histogram token.
        num_train_timesteps: T of the noise schedule.
        prior_mean, prior_std: m and s where no histogram is given.

    Shapes:
        x: (N, in_channels, X, Y, Z) with X, Y (and Z, unless ``in_plane``) divisible by
        ``patch_size * 2 ** (len(channels) - 1)``;
        timesteps: (N,) in 0..T-1; context: (N, n, num_bins) or (N, n * num_bins), all zeros (or None) for the null
        condition; returns (N, n, X, Y, Z).
    """

    def __init__(
        self,
        in_channels: int = 2,
        out_channels: int = 1,
        state_channels: int = 1,
        channels: Sequence[int] = (48, 96),
        attention_levels: Sequence[bool] = (False, True),
        num_res_blocks: Sequence[int] | int = 1,
        norm_num_groups: int = 8,
        num_head_channels: int = 16,
        patch_size: int = 2,
        in_plane: bool = False,
        fine_channels: int = 16,
        noise_scales: Sequence[int] = (),
        num_bins: int = 16,
        context_dim: int = 64,
        num_train_timesteps: int = 300,
        prior_mean: float = -0.1,
        prior_std: float = 0.5,
    ) -> None:
        super().__init__()
        self.out_channels, self.state_channels, self.num_bins = out_channels, state_channels, num_bins
        self.patch = {"p": patch_size, "q": patch_size, "r": 1 if in_plane else patch_size}
        halvings = 2 ** (len(channels) - 1)
        self.divisor = (patch_size * halvings, patch_size * halvings, 1 if in_plane else patch_size * halvings)
        self.prior = (prior_mean, prior_std)
        block = math.prod(self.patch.values())
        self.unet = DiffusionModelUNet(
            spatial_dims=3,
            in_channels=in_channels * block,
            out_channels=out_channels * block,
            num_res_blocks=num_res_blocks,
            channels=channels,
            attention_levels=attention_levels,
            norm_num_groups=norm_num_groups,
            num_head_channels=num_head_channels,
            with_conditioning=True,
            cross_attention_dim=context_dim,
            num_class_embeds=1,
            use_flash_attention=True,
        )
        if in_plane:
            keep_slices(self.unet)
        # DiffusionModelUNet adds class_embedding(class_labels) to the timestep embedding: the place for h.
        embed_dim = channels[0] * 4
        self.unet.class_embedding = nn.Sequential(
            nn.Linear(out_channels * num_bins, embed_dim), nn.SiLU(), nn.Linear(embed_dim, embed_dim)
        )
        if any(scale < 3 or scale % 2 == 0 for scale in noise_scales):
            raise InputError(f"noise_scales must be odd and at least 3, got {list(noise_scales)}.")
        self.noise_scales, self.in_plane = tuple(noise_scales), in_plane
        fine_inputs = in_channels + out_channels + state_channels * len(self.noise_scales)
        self.fine = FineStage(fine_inputs, out_channels, fine_channels, embed_dim) if fine_channels else None
        self.bin_embedding = nn.Parameter(0.02 * torch.randn(out_channels * num_bins, context_dim))
        self.bin_height = nn.Linear(1, context_dim)
        self.register_buffer("bin_centres", (torch.arange(num_bins) + 0.5) * 2 / num_bins - 1, persistent=False)
        alphas_cumprod = NoiseSchedule(num_train_timesteps).alphas_cumprod
        self.register_buffer("alphas_cumprod", alphas_cumprod, persistent=False)

    def check_size(self, spatial_size: Sequence[int]) -> None:
        """Raises InputError where the network cannot halve a crop of that many voxels as often as it has to."""
        if any(size < n or size % n for size, n in zip(spatial_size, self.divisor, strict=True)):
            wanted = self.divisor[0] if len(set(self.divisor)) == 1 else list(self.divisor)
            raise InputError(f"spatial_size must be multiples of {wanted}, got {list(spatial_size)}.")

    def texture_moments(self, context: Tensor) -> tuple[Tensor, Tensor]:
        """Mean m and variance s^2 of each class's histogram. (N, n, num_bins) -> two of (N, n)."""
        mass = context.sum(dim=-1)
        share = context / mass.clamp(min=1e-6).unsqueeze(-1)
        mean = (share * self.bin_centres).sum(dim=-1)
        within_bin = (2 / self.num_bins) ** 2 / 12
        variance = (share * (self.bin_centres - mean.unsqueeze(-1)) ** 2).sum(dim=-1) + within_bin
        null = mass < 1e-6
        return mean.masked_fill(null, self.prior[0]), variance.masked_fill(null, self.prior[1] ** 2)

    def noise_estimates(self, x: Tensor, b: Tensor) -> list[Tensor]:
        """For each of ``noise_scales`` x_t less its local mean, over the noise's level: (N, state_channels, ...)."""
        state, estimates = x[:, : self.state_channels], []
        for scale in self.noise_scales:
            size = (scale, scale, 1 if self.in_plane else scale)
            padding = tuple(length // 2 for length in size)
            mean = nn.functional.avg_pool3d(state, size, stride=1, padding=padding, count_include_pad=False)
            estimates.append((state - mean) / b)
        return estimates

    def forward(self, x: Tensor, timesteps: Tensor, context: Tensor | None = None) -> Tensor:
        if context is None:
            context = x.new_zeros(x.shape[0], self.out_channels, self.num_bins)
        context = context.to(x).reshape(x.shape[0], self.out_channels, self.num_bins)
        abar = self.alphas_cumprod[timesteps].to(x).view(-1, 1, 1, 1, 1)
        a, b = abar.sqrt(), (1 - abar).sqrt()
        heights = self.num_bins * context.flatten(1)
        tokens = self.bin_embedding + self.bin_height(heights.unsqueeze(-1))
        patches = rearrange(x, "n c (x p) (y q) (z r) -> n (c p q r) x y z", **self.patch)
        residual = self.unet(patches, timesteps, context=tokens, class_labels=heights)
        residual = rearrange(residual, "n (c p q r) x y z -> n c (x p) (y q) (z r)", **self.patch)
        if self.fine is not None:
            embedding = self.unet.time_embed(get_timestep_embedding(timesteps, self.unet.block_out_channels[0]).to(x))
            residual = residual + self.fine(torch.cat([x, residual, *self.noise_estimates(x, b)], dim=1), embedding)

        mean, variance = (moment[..., None, None, None] for moment in self.texture_moments(context))
        spread = abar * variance + 1 - abar
        guess = (a * b * (1 - variance) * x[:, : self.state_channels] - b * mean) / spread
        return guess + (variance / spread).sqrt() * residual

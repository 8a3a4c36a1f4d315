"""The published LeFusion network: a U-Net factorised into work within slices and work along the through-plane axis."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from ..errors import InputError
from .axial_attention import LinearAttention, RelativePositionBias, SliceAttention, ThroughPlaneAttention
from .in_plane import InPlaneConv, InPlaneUpsample, ResidualBlock

__all__ = ["FactorisedUNet"]


class TimestepEmbedding(nn.Module):
    """(N,) -> (N, width): sines, then cosines, of ``width / 2`` wavelengths from 2 pi to 20000 pi steps."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.width = width

    def forward(self, timesteps: Tensor) -> Tensor:
        half = self.width // 2
        rates = torch.exp(torch.arange(half, device=timesteps.device) * (-math.log(10000) / (half - 1)))
        angles = timesteps.unsqueeze(1) * rates
        return torch.cat([angles.sin(), angles.cos()], dim=1)


class FactorisedUNet(nn.Module):
    """The published network, factorised over the axes of a volume with thick or few slices.

    Each level has two residual blocks of in-plane (1, 3, 3) convolutions, linear attention within every slice and
    attention along the through-plane axis; only the plane is halved from level to level. The timestep's embedding,
    with the condition beside it, scales and shifts the features of every residual block. Parameters bear the
    published names without the wrappers' ``fn``: :mod:`custom_components.published` reads published files.

    Args:
        in_channels: number of input channels.
        out_channels: number of output channels, one for each lesion class.
        width: channels at full resolution.
        multipliers: channels of each level, in units of ``width``.
        condition_dim: length of the condition, 16 for each lesion class; 0 for a network without condition.
        num_heads, head_dim: number and width of the attention heads.
        num_buckets: buckets of the relative position bias.
        max_distance: slices beyond which that bias no longer grows.
        norm_num_groups: groups of the normalisations.
        through_plane_axis: which of the three spatial axes goes through the slices; 2 is this project's Z.

    Shapes:
        x: (N, in_channels, X, Y, Z), the two axes within the plane divisible by ``2 ** (len(multipliers) - 1)``;
        timesteps: (N,) in 0..T-1; context: (N, classes, bins) or (N, condition_dim), all zeros (or None) for the
        null condition, which has a learned embedding; returns (N, out_channels, X, Y, Z).
    """

    def __init__(
        self,
        in_channels: int = 1,
        out_channels: int = 1,
        width: int = 64,
        multipliers: Sequence[int] = (1, 2, 4, 8),
        condition_dim: int = 16,
        num_heads: int = 8,
        head_dim: int = 32,
        num_buckets: int = 32,
        max_distance: int = 32,
        norm_num_groups: int = 8,
        through_plane_axis: int = 2,
    ) -> None:
        super().__init__()
        if through_plane_axis not in (0, 1, 2):
            raise InputError(f"through_plane_axis must be 0, 1 or 2, got {through_plane_axis!r}.")
        if width % 2 or any(width * m % norm_num_groups for m in (1, *multipliers)):
            raise InputError(f"width must be even and divisible by norm_num_groups {norm_num_groups}, got {width}.")
        self.through_plane_axis = through_plane_axis
        self.condition_dim = condition_dim
        self.divisor = 2 ** (len(multipliers) - 1)
        channels = [width * m for m in multipliers]
        embed_dim = 4 * width + condition_dim
        heads = (num_heads, head_dim)

        if condition_dim:
            self.null_cond_emb = nn.Parameter(torch.randn(1, condition_dim))
        self.time_rel_pos_bias = RelativePositionBias(num_heads, num_buckets, max_distance)
        self.time_mlp = nn.Sequential(
            TimestepEmbedding(width), nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, 4 * width)
        )
        self.init_conv = InPlaneConv(in_channels, width, 7)
        self.init_temporal_attn = ThroughPlaneAttention(width, *heads)

        def level(before: int, after: int, resample: nn.Module | None) -> nn.ModuleList:
            blocks = [ResidualBlock(c, after, embed_dim, norm_num_groups) for c in (before, after)]
            attention = [LinearAttention(after, *heads), ThroughPlaneAttention(after, *heads)]
            return nn.ModuleList([*blocks, *attention, *([] if resample is None else [resample])])

        pairs = list(zip([width, *channels[:-1]], channels, strict=True))
        last = len(pairs) - 1
        self.downs = nn.ModuleList(
            level(before, after, InPlaneConv(after, after, 4, stride=2) if k < last else None)
            for k, (before, after) in enumerate(pairs)
        )
        self.mid_block1 = ResidualBlock(channels[-1], channels[-1], embed_dim, norm_num_groups)
        self.mid_spatial_attn = SliceAttention(channels[-1], *heads)
        self.mid_temporal_attn = ThroughPlaneAttention(channels[-1], *heads)
        self.mid_block2 = ResidualBlock(channels[-1], channels[-1], embed_dim, norm_num_groups)
        self.ups = nn.ModuleList(
            level(2 * after, before, InPlaneUpsample(before) if k < last else None)
            for k, (before, after) in enumerate(reversed(pairs))
        )
        self.final_conv = nn.ModuleList(
            [ResidualBlock(2 * width, width, None, norm_num_groups), InPlaneConv(width, out_channels, 1)]
        )

    def check_size(self, spatial_size: Sequence[int]) -> None:
        """Raises InputError where the network cannot halve a crop of that many voxels as often as it has to."""
        in_plane = [size for axis, size in enumerate(spatial_size) if axis != self.through_plane_axis]
        if any(size < self.divisor or size % self.divisor for size in in_plane):
            raise InputError(
                f"spatial_size must be multiples of {self.divisor} on all axes but the through-plane axis "
                f"{self.through_plane_axis}, got {list(spatial_size)}."
            )

    def embed(self, timesteps: Tensor, context: Tensor | None) -> Tensor:
        """(N, embed_dim): the timestep's embedding, the condition beside it."""
        sinusoid, mlp = self.time_mlp[0], self.time_mlp[1:]
        embedding = mlp(sinusoid(timesteps).to(mlp[0].weight.dtype))
        if not self.condition_dim:
            return embedding
        null = self.null_cond_emb.expand(timesteps.shape[0], -1)
        if context is not None:
            context = context.to(null).reshape(null.shape)
            null = torch.where(context.any(dim=1, keepdim=True), context, null)
        return torch.cat([embedding, null.to(embedding)], dim=1)

    def forward(self, x: Tensor, timesteps: Tensor, context: Tensor | None = None) -> Tensor:
        embedding = self.embed(timesteps, context)
        axis = 2 + self.through_plane_axis
        x = x.movedim((axis, 1), (1, -1)).contiguous()
        bias = self.time_rel_pos_bias(x.shape[1])

        first = self.init_conv(x)
        x = self.init_temporal_attn(first, bias)
        skips = []
        for block1, block2, in_plane, through_plane, *halve in self.downs:
            x = through_plane(in_plane(block2(block1(x, embedding), embedding)), bias)
            skips.append(x)
            x = halve[0](x) if halve else x
        x = self.mid_block1(x, embedding)
        x = self.mid_temporal_attn(self.mid_spatial_attn(x), bias)
        x = self.mid_block2(x, embedding)
        for block1, block2, in_plane, through_plane, *double in self.ups:
            x = torch.cat([x, skips.pop()], dim=-1)
            x = through_plane(in_plane(block2(block1(x, embedding), embedding)), bias)
            x = double[0](x) if double else x
        block, out = self.final_conv
        x = out(block(torch.cat([x, first], dim=-1)))
        return x.movedim((1, -1), (axis, 1)).contiguous()

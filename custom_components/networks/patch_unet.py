"""MONAI's diffusion U-Net on patches of voxels, for smooth things such as masks."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from einops import rearrange
from monai.networks.nets import DiffusionModelUNet
from monai.networks.nets.diffusion_model_unet import get_timestep_embedding
from torch import Tensor, nn

from ..errors import InputError
from .histogram_unet import FineStage

__all__ = ["PatchUNet"]


class PatchUNet(nn.Module):
    """DiffusionModelUNet whose voxels are patches stacked in channels (space to depth), and a fine stage behind it.

    A patch of its own size along each axis suits thick slices: (2, 2, 1) leaves them apart.

    Args:
        in_channels: number of input channels.
        out_channels: number of output channels.
        channels, attention_levels, num_res_blocks, norm_num_groups, num_head_channels: as DiffusionModelUNet.
        patch_size: voxels of a patch along each axis.
        fine_channels: width of the :class:`FineStage` at full resolution; 0 leaves it out.

    Shapes:
        x: (N, in_channels, X, Y, Z), each axis a multiple of ``patch_size * 2 ** (len(channels) - 1)``;
        timesteps: (N,); context is ignored; returns (N, out_channels, X, Y, Z).
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
        fine_channels: int = 16,
    ) -> None:
        super().__init__()
        self.patch_size = tuple(patch_size)
        self.divisor = tuple(size * 2 ** (len(channels) - 1) for size in self.patch_size)
        block = self.patch_size[0] * self.patch_size[1] * self.patch_size[2]
        self.unet = DiffusionModelUNet(
            spatial_dims=3,
            in_channels=in_channels * block,
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
        a, b, c = self.patch_size
        patches = rearrange(x, "n k (x a) (y b) (z c) -> n (k a b c) x y z", a=a, b=b, c=c)
        coarse = self.unet(patches, timesteps)
        out = rearrange(coarse, "n (k a b c) x y z -> n k (x a) (y b) (z c)", a=a, b=b, c=c)
        if self.fine is None:
            return out
        embedding = self.unet.time_embed(get_timestep_embedding(timesteps, self.unet.block_out_channels[0]).to(x))
        return out + self.fine(torch.cat([x, out], dim=1), embedding)

"""SwinUNETR for volumes of any size, and slice by slice for stacks of thick slices."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from monai.networks.nets import SwinUNETR
from torch import Tensor, nn

__all__ = ["SwinSegmenter"]

DIVISOR = 32  # SwinUNETR halves every axis five times


class SwinSegmenter(nn.Module):
    """MONAI's SwinUNETR. (N, C, X, Y, Z) -> (N, K, X, Y, Z).

    SwinUNETR halves all axes five times, which a stack of ten slices does not stand: padded to 32 slices, two thirds of
    what it works on are padding, and its windows join slices that lie 10 mm apart as if they were neighbouring pixels.
    ``in_plane`` therefore segments each slice by a two-dimensional SwinUNETR that sees the neighbouring slices as
    further channels. Sizes that are no multiple of 32 are padded by repeating the border, and cut again.

    Args:
        in_channels, out_channels: C and K.
        feature_size: a multiple of 12.
        in_plane: whether Z is the axis of thick slices.
        neighbours: slices seen on either side, where ``in_plane``; beyond the stack its last slice is repeated.
        others: see SwinUNETR.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        feature_size: int = 48,
        in_plane: bool = False,
        neighbours: int = 1,
        **others: Any,
    ) -> None:
        super().__init__()
        self.in_plane, self.neighbours = in_plane, neighbours
        self.net = SwinUNETR(
            in_channels * (1 + 2 * neighbours) if in_plane else in_channels,
            out_channels,
            feature_size=feature_size,
            spatial_dims=2 if in_plane else 3,
            **others,
        )

    def forward(self, x: Tensor) -> Tensor:
        x = x.as_subclass(torch.Tensor)
        if not self.in_plane:
            return self._padded(x)
        count, depth = x.shape[0], x.shape[-1]
        x = F.pad(x, (self.neighbours, self.neighbours, 0, 0, 0, 0), mode="replicate")
        stacks = torch.cat([x[..., offset : offset + depth] for offset in range(2 * self.neighbours + 1)], dim=1)
        images = stacks.permute(0, 4, 1, 2, 3).flatten(0, 1)
        return self._padded(images).unflatten(0, (count, depth)).permute(0, 2, 3, 4, 1)

    def _padded(self, x: Tensor) -> Tensor:
        size = x.shape[2:]
        padding = [part for n in reversed(size) for part in (0, -n % DIVISOR)]
        out = self.net(F.pad(x, padding, mode="replicate") if any(padding) else x)
        return out[(slice(None), slice(None), *(slice(n) for n in size))]

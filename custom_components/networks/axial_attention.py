"""Attention within slices and along the through-plane axis, for tensors with the channels last: (N, D, H, W, C).

On a CPU each one works through the volume in pieces small enough for the caches; a GPU takes it whole.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .in_plane import is_recorded

__all__ = ["LinearAttention", "RelativePositionBias", "SliceAttention", "ThroughPlaneAttention"]

CPU_PIECE = 4096  # voxels; their queries, keys and values for 8 heads of 32 take 12 MB


def in_pieces(rows: Tensor) -> tuple[Tensor, ...]:
    """Splits (B, L, C) along B."""
    if rows.device.type != "cpu" or is_recorded():
        return (rows,)
    return rows.split(max(1, CPU_PIECE // rows.shape[1]))


class ChannelNorm(nn.Module):
    """Normalises the channels of every voxel and scales them by gamma, stored as (1, C, 1, 1, 1)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.ones(1, channels, 1, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        return F.layer_norm(x, x.shape[-1:], self.gamma.flatten())


class Rotary(nn.Module):
    """Rotary position embedding (Su et al. 2021): turns each pair of features by position times frequency.

    The frequencies belong to the weights: published checkpoints carry them.
    """

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.register_buffer("freqs", 10000.0 ** -(torch.arange(0, dim, 2) / dim))

    def table(self, length: int) -> tuple[Tensor, Tensor]:
        """Cosines and signed sines for :meth:`forward`, each (L, 1, dim)."""
        angles = torch.arange(length, device=self.freqs.device).unsqueeze(1) * self.freqs.float()
        sine = torch.stack([-angles.sin(), angles.sin()], dim=-1)
        return angles.cos().repeat_interleave(2, dim=-1).unsqueeze(1), sine.flatten(1).unsqueeze(1)

    @staticmethod
    def forward(x: Tensor, table: tuple[Tensor, Tensor]) -> Tensor:
        """x: (..., L, heads, dim)."""
        cosine, sine = table
        swapped = x.unflatten(-1, (-1, 2)).flip(-1).flatten(-2)
        return torch.addcmul(x * cosine, swapped, sine)


class RelativePositionBias(nn.Module):
    """A learned addition to the attention scores by the distance of two slices (T5, Raffel et al. 2020).

    Half of the buckets are for slices behind, half for those ahead; in each half the near distances have buckets of
    their own, and the farther ones share buckets that widen logarithmically up to ``max_distance``.

    Args:
        heads: number of attention heads.
        buckets: number of buckets.
        max_distance: slices; all beyond share the last bucket.
    """

    def __init__(self, heads: int, buckets: int = 32, max_distance: int = 32) -> None:
        super().__init__()
        self.max_distance = max_distance
        self.relative_attention_bias = nn.Embedding(buckets, heads)

    def bucket(self, length: int, device: torch.device | None = None) -> Tensor:
        """(L, L) bucket of query i and key j."""
        half = self.relative_attention_bias.num_embeddings // 2
        exact = half // 2
        position = torch.arange(length, device=device)
        offset = position - position.unsqueeze(1)
        distance = offset.abs()
        growth = (distance.clamp(min=1) / exact).log() / math.log(self.max_distance / exact)
        far = (exact + (growth * (half - exact)).long()).clamp(max=half - 1)
        return torch.where(distance < exact, distance, far) + half * (offset > 0)

    def forward(self, length: int) -> Tensor:
        """(heads, L, L)."""
        table = self.relative_attention_bias
        return table(self.bucket(length, table.weight.device)).permute(2, 0, 1)


class LinearAttention(nn.Module):
    """Residual attention within each slice whose cost grows linearly with its voxels.

    With queries normalised over their features and keys over the slice's voxels, ``(q k^T) v = q (k^T v)``. Since v
    is linear in the normed input y, so is the rest: ``k^T v = (k^T y) W_v``, and the output projection is applied to
    that small matrix and not to every voxel.

    Args:
        channels: C.
        heads, head_dim: number and width of the heads.
    """

    def __init__(self, channels: int, heads: int, head_dim: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm = ChannelNorm(channels)
        self.to_qkv = nn.Conv2d(channels, 3 * heads * head_dim, 1, bias=False)
        self.to_out = nn.Conv2d(heads * head_dim, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        to_q, to_k, to_v = self.to_qkv.weight.flatten(1).chunk(3)
        to_v = to_v.unflatten(0, (self.heads, -1)).transpose(1, 2)
        to_out = self.to_out.weight.flatten(1).t().unflatten(0, (self.heads, -1)) * to_v.shape[2] ** -0.5
        slices = x.flatten(0, 1).flatten(1, 2)
        return torch.cat([self.attend(s, to_q, to_k, to_v, to_out) for s in in_pieces(slices)]).view_as(x)

    def attend(self, x: Tensor, to_q: Tensor, to_k: Tensor, to_v: Tensor, to_out: Tensor) -> Tensor:
        """(S, H * W, C) -> the same; ``to_v``: (heads, C, head_dim), ``to_out``: (heads, head_dim, C)."""
        y = self.norm(x)
        q = F.linear(y, to_q).unflatten(-1, (self.heads, -1)).softmax(dim=-1).flatten(-2)
        k = torch.bmm(to_k.expand(x.shape[0], -1, -1), y.transpose(1, 2)).softmax(dim=-1)
        # (heads, S * head_dim, C): what the keys gather, one matrix product for each head
        gathered = torch.bmm(k, y.to(k)).unflatten(1, (self.heads, -1)).transpose(0, 1).flatten(1, 2)
        memory = torch.bmm(gathered, to_v.to(gathered)).unflatten(1, (x.shape[0], -1)).flatten(0, 1)
        memory = torch.bmm(memory, to_out.unsqueeze(1).expand(-1, x.shape[0], -1, -1).flatten(0, 1).to(memory))
        memory = memory.unflatten(0, (self.heads, -1)).transpose(0, 1).flatten(1, 2)
        return x + torch.baddbmm(self.to_out.bias.to(q), q, memory.to(q))


class SoftmaxAttention(nn.Module):
    """Residual attention among the rows of (B, L, C).

    Args:
        channels: C.
        heads, head_dim: number and width of the heads.
        rotary: embed the position along L.
    """

    def __init__(self, channels: int, heads: int, head_dim: int, rotary: bool) -> None:
        super().__init__()
        self.heads = heads
        self.norm = ChannelNorm(channels)
        self.rotary_emb = Rotary(min(32, head_dim)) if rotary else None
        self.to_qkv = nn.Linear(channels, 3 * heads * head_dim, bias=False)
        self.to_out = nn.Linear(heads * head_dim, channels, bias=False)

    def rows(self, x: Tensor, bias: Tensor | None = None) -> Tensor:
        """(B, L, C), bias (heads, L, L) -> (B, L, C), the attention's part without the residual."""
        table = None if self.rotary_emb is None else self.rotary_emb.table(x.shape[1])
        return torch.cat([self.attend(piece, table, bias) for piece in in_pieces(x)])

    def attend(self, x: Tensor, table: tuple[Tensor, Tensor] | None, bias: Tensor | None) -> Tensor:
        qkv = self.to_qkv(self.norm(x)).unflatten(-1, (3, self.heads, -1))
        if table is None:
            q, k, v = qkv.unbind(2)
        else:
            q, k = self.rotary_emb(qkv[:, :, :2].flatten(2, 3), table).chunk(2, dim=2)
            v = qkv[:, :, 2]
        q, k, v = (part.to(qkv).transpose(1, 2) for part in (q, k, v))
        bias = None if bias is None else bias.to(q).unsqueeze(0)
        return self.to_out(F.scaled_dot_product_attention(q, k, v, bias).transpose(1, 2).flatten(2))


class SliceAttention(SoftmaxAttention):
    """Full attention among the voxels of each slice."""

    def __init__(self, channels: int, heads: int, head_dim: int) -> None:
        super().__init__(channels, heads, head_dim, rotary=False)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.rows(x.flatten(0, 1).flatten(1, 2)).view_as(x)


class ThroughPlaneAttention(SoftmaxAttention):
    """Attention among the voxels at the same place of all slices, which knows their order and distance."""

    def __init__(self, channels: int, heads: int, head_dim: int) -> None:
        super().__init__(channels, heads, head_dim, rotary=True)

    def forward(self, x: Tensor, bias: Tensor) -> Tensor:
        """``bias``: (heads, D, D)."""
        columns = x.flatten(2, 3).transpose(1, 2)
        rows = self.rows(columns.flatten(0, 1), bias)
        return x + rows.view(columns.shape).transpose(1, 2).unflatten(2, x.shape[2:4])

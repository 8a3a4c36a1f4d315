"""A plain transcription of the published network's operations: the yardstick for numbers and for speed.

One function per operation on tensors (N, C, D, H, W), as one would write them down first: three-dimensional
convolutions with (1, k, k) kernels, einops around every attention, einsum inside it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor

Weights = Mapping[str, Tensor]


def part(weights: Weights, name: str) -> dict[str, Tensor]:
    """The entries below ``name``."""
    return {key[len(name) + 1 :]: value for key, value in weights.items() if key.startswith(name + ".")}


def in_plane_conv(x: Tensor, w: Weights, padding: int) -> Tensor:
    return F.conv3d(x, w["weight"], w["bias"], padding=(0, padding, padding))


def sinusoid(t: Tensor, width: int) -> Tensor:
    """(N,) -> (N, width): sines, then cosines, of wavelengths rising geometrically up to 10000 * 2 pi."""
    rates = torch.exp(-math.log(10000) * torch.arange(width // 2, device=t.device) / (width // 2 - 1))
    angles = t[:, None] * rates
    return torch.cat([angles.sin(), angles.cos()], dim=-1)


def layer_norm(x: Tensor, gamma: Tensor) -> Tensor:
    """Over the channels of every voxel."""
    variance, mean = torch.var_mean(x, dim=1, correction=0, keepdim=True)
    return (x - mean) / (variance + 1e-5).sqrt() * gamma


def residual_block(x: Tensor, embedding: Tensor | None, w: Weights, groups: int = 8) -> Tensor:
    h = in_plane_conv(x, part(w, "block1.proj"), 1)
    h = F.group_norm(h, groups, w["block1.norm.weight"], w["block1.norm.bias"])
    if embedding is not None:
        modulation = F.linear(F.silu(embedding), w["mlp.1.weight"], w["mlp.1.bias"])
        scale, shift = rearrange(modulation, "n c -> n c 1 1 1").chunk(2, dim=1)
        h = h * (scale + 1) + shift
    h = in_plane_conv(F.silu(h), part(w, "block2.proj"), 1)
    h = F.silu(F.group_norm(h, groups, w["block2.norm.weight"], w["block2.norm.bias"]))
    return h + (in_plane_conv(x, part(w, "res_conv"), 0) if "res_conv.weight" in w else x)


def linear_attention(x: Tensor, w: Weights, heads: int) -> Tensor:
    """Per slice; queries are normalised over the features, keys over the positions."""
    n, _, _, height, _ = x.shape
    y = rearrange(layer_norm(x, w["norm.gamma"]), "n c d h w -> (n d) c h w")
    qkv = F.conv2d(y, w["to_qkv.weight"]).chunk(3, dim=1)
    q, k, v = (rearrange(part, "b (a e) h w -> b a e (h w)", a=heads) for part in qkv)
    q, k = q.softmax(dim=-2) * q.shape[-2] ** -0.5, k.softmax(dim=-1)
    memory = torch.einsum("b a e p, b a f p -> b a e f", k, v)
    y = torch.einsum("b a e f, b a e p -> b a f p", memory, q)
    y = rearrange(y, "b a f (h w) -> b (a f) h w", h=height)
    y = F.conv2d(y, w["to_out.weight"], w["to_out.bias"])
    return x + rearrange(y, "(n d) c h w -> n c d h w", n=n)


def rotate(x: Tensor, freqs: Tensor) -> Tensor:
    """Rotary embedding: turns each pair of neighbouring features by position times the pair's frequency."""
    angles = torch.arange(x.shape[-2], device=x.device)[:, None] * freqs
    even, odd = rearrange(x, "... (pair two) -> two ... pair", two=2)
    turned = even * angles.cos() - odd * angles.sin(), even * angles.sin() + odd * angles.cos()
    return rearrange(torch.stack(turned), "two ... pair -> ... (pair two)")


def attend(x: Tensor, w: Weights, heads: int, bias: Tensor | None = None) -> Tensor:
    """Softmax attention over the last axis but one of (..., L, C)."""
    q, k, v = (rearrange(y, "... l (a e) -> ... a l e", a=heads) for y in F.linear(x, w["to_qkv.weight"]).chunk(3, -1))
    q = q * q.shape[-1] ** -0.5
    if "rotary_emb.freqs" in w:
        q, k = rotate(q, w["rotary_emb.freqs"]), rotate(k, w["rotary_emb.freqs"])
    scores = torch.einsum("... i e, ... j e -> ... i j", q, k)
    scores = scores if bias is None else scores + bias
    y = torch.einsum("... i j, ... j e -> ... i e", scores.softmax(dim=-1), v)
    return F.linear(rearrange(y, "... a l e -> ... l (a e)"), w["to_out.weight"])


def through_plane_attention(x: Tensor, w: Weights, heads: int, bias: Tensor) -> Tensor:
    height = x.shape[3]
    y = rearrange(layer_norm(x, w["norm.gamma"]), "n c d h w -> n (h w) d c")
    return x + rearrange(attend(y, w, heads, bias), "n (h w) d c -> n c d h w", h=height)


def in_plane_attention(x: Tensor, w: Weights, heads: int) -> Tensor:
    height = x.shape[3]
    y = rearrange(layer_norm(x, w["norm.gamma"]), "n c d h w -> n d (h w) c")
    return x + rearrange(attend(y, w, heads), "n d (h w) c -> n c d h w", h=height)


def position_bias(table: Tensor, length: int, max_distance: int = 32) -> Tensor:
    """(buckets, heads) -> (heads, L, L): half of the buckets behind, half ahead, each half exact, then logarithmic."""
    half, exact = table.shape[0] // 2, table.shape[0] // 4
    rows = []
    for i in range(length):
        for j in range(length):
            distance = abs(j - i)
            bucket = distance
            if distance >= exact:
                growth = math.log(distance / exact) / math.log(max_distance / exact)
                bucket = min(exact + int(growth * (half - exact)), half - 1)
            rows.append(bucket + (half if j > i else 0))
    return rearrange(table[torch.tensor(rows, device=table.device)], "(i j) a -> a i j", i=length)


def plain_forward(weights: Weights, x: Tensor, t: Tensor, context: Tensor | None = None) -> Tensor:
    """The whole network. x: (N, C, D, H, W); t: (N,); context: (N, condition), None for the null condition."""
    table = weights["time_rel_pos_bias.relative_attention_bias.weight"]
    heads, bias = table.shape[1], position_bias(table, x.shape[2])
    width = weights["init_conv.weight"].shape[0]
    embedding = F.linear(sinusoid(t, width), weights["time_mlp.1.weight"], weights["time_mlp.1.bias"])
    embedding = F.linear(F.gelu(embedding), weights["time_mlp.3.weight"], weights["time_mlp.3.bias"])
    if "null_cond_emb" in weights:
        null = weights["null_cond_emb"].expand(x.shape[0], -1)
        embedding = torch.cat([embedding, null if context is None else context], dim=-1)

    def level(x: Tensor, name: str) -> Tensor:
        for index in "01":
            x = residual_block(x, embedding, part(weights, f"{name}.{index}"))
        x = linear_attention(x, part(weights, f"{name}.2"), heads)
        return through_plane_attention(x, part(weights, f"{name}.3"), heads, bias)

    first = in_plane_conv(x, part(weights, "init_conv"), weights["init_conv.weight"].shape[-1] // 2)
    x = through_plane_attention(first, part(weights, "init_temporal_attn"), heads, bias)
    levels = len({key.split(".")[1] for key in weights if key.startswith("downs.")})
    skips = []
    for k in range(levels):
        x = level(x, f"downs.{k}")
        skips.append(x)
        if k < levels - 1:
            w = part(weights, f"downs.{k}.4")
            x = F.conv3d(x, w["weight"], w["bias"], stride=(1, 2, 2), padding=(0, 1, 1))
    x = residual_block(x, embedding, part(weights, "mid_block1"))
    x = in_plane_attention(x, part(weights, "mid_spatial_attn"), heads)
    x = through_plane_attention(x, part(weights, "mid_temporal_attn"), heads, bias)
    x = residual_block(x, embedding, part(weights, "mid_block2"))
    for k in range(levels):
        x = level(torch.cat([x, skips.pop()], dim=1), f"ups.{k}")
        if k < levels - 1:
            w = part(weights, f"ups.{k}.4")
            x = F.conv_transpose3d(x, w["weight"], w["bias"], stride=(1, 2, 2), padding=(0, 1, 1))
    x = residual_block(torch.cat([x, first], dim=1), None, part(weights, "final_conv.0"))
    return in_plane_conv(x, part(weights, "final_conv.1"), 0)

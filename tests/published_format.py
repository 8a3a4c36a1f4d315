"""Writes checkpoints in the published format, for tests that have no published file."""

from __future__ import annotations

import math
import re
from pathlib import Path

import torch
from torch import Tensor

from custom_components.networks import FactorisedUNet

TINY = {"width": 8, "multipliers": (1, 2), "num_heads": 2, "head_dim": 8}


def random_network(seed: int = 0, **settings) -> FactorisedUNet:
    """A tiny network none of whose parameters has a special value."""
    torch.manual_seed(seed)
    network = FactorisedUNet(**{**TINY, **settings})
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.05 * torch.randn(parameter.shape))
    return network.eval()


def published_name(name: str) -> str:
    """The wrappers of the published program: a residual, a normalisation and, but for linear attention, a reshaping."""
    attention = re.fullmatch(r"(.*(?:attn|(?:downs|ups)\.\d\.([23])))\.(norm|to_qkv|to_out|rotary_emb)\.(.*)", name)
    if attention is None:
        return name
    module, index, part, rest = attention.groups()
    wrappers = "fn" if part == "norm" else "fn.fn" if index == "2" else "fn.fn.fn"
    return f"{module}.{wrappers}.{part}.{rest}"


def cosine_tables(T: int) -> dict[str, Tensor]:
    """Two of the tables that lie beside the published weights."""
    f = [math.cos((t / T + 0.008) / 1.008 * math.pi / 2) ** 2 for t in range(T + 1)]
    betas = torch.tensor([min(1 - f[t + 1] / f[t], 0.9999) for t in range(T)])
    return {"betas": betas, "alphas_cumprod": torch.cumprod(1 - betas, dim=0)}


def published_checkpoint(
    model: FactorisedUNet, ema: FactorisedUNet, T: int = 20, prefix: str = "denoise_fn.module."
) -> dict:
    """``{"step", "model", "ema", "scaler"}``."""
    outer = "module." if prefix.startswith("module.") else ""

    def tensors(network: FactorisedUNet) -> dict[str, Tensor]:
        tables = {outer + name: table for name, table in cosine_tables(T).items()}
        return tables | {prefix + published_name(name): value for name, value in network.state_dict().items()}

    return {"step": 3000, "model": tensors(model), "ema": tensors(ema), "scaler": {}}


def save_published(path: Path, T: int = 20, **settings) -> tuple[FactorisedUNet, FactorisedUNet]:
    """Writes a file with two random networks and returns them: model and ema."""
    model, ema = random_network(0, **settings), random_network(1, **settings)
    torch.save(published_checkpoint(model, ema, T), path)
    return model, ema

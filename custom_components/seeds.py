"""Randomness that depends on what is drawn, not on when, where or in which batch it is drawn."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import torch
from torch import Tensor

__all__ = ["PerSampleNoise", "derive_seed"]


def derive_seed(*parts: object) -> int:
    """A 63-bit seed from any printable parts, such as (run seed, case, lesion); the same on every machine."""
    digest = hashlib.sha256("\x1f".join(str(part) for part in parts).encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


class PerSampleNoise:
    """Gaussian noise with one generator per sample, so that a sample does not depend on what shares its batch.

    Draws are made on the CPU and then moved, so they are the same on every device.

    Args:
        seeds: one seed for each sample of the batch.
    """

    def __init__(self, seeds: Sequence[int]) -> None:
        self.generators = [torch.Generator().manual_seed(int(seed)) for seed in seeds]

    def __call__(self, like: Tensor) -> Tensor:
        """Noise of the shape, dtype and device of ``like`` (N, ...), N being the number of seeds."""
        if like.shape[0] != len(self.generators):
            raise ValueError(f"{len(self.generators)} seeds were given for a batch of {like.shape[0]} samples.")
        draws = [torch.randn(like.shape[1:], generator=generator) for generator in self.generators]
        return torch.stack(draws).to(like)

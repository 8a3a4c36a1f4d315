"""Whether a network takes patches of a size, told before any work."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from ..errors import InputError, first_line

__all__ = ["check_patch_size"]


def check_patch_size(network: nn.Module, spatial_size: Sequence[int], in_channels: int = 1) -> None:
    """Raises InputError where a network fails on a patch (1, in_channels, X, Y, Z), or gives one of another size."""
    device, training = next(network.parameters()).device, network.training
    try:
        with torch.no_grad():
            out = network.eval()(torch.zeros(1, in_channels, *spatial_size, device=device))
    except (RuntimeError, ValueError) as error:
        raise InputError(f"spatial_size {list(spatial_size)} does not fit the network: {first_line(error)}") from error
    finally:
        network.train(training)
    if list(out.shape[2:]) != list(spatial_size):
        raise InputError(f"spatial_size {list(spatial_size)} becomes {list(out.shape[2:])} in the network.")

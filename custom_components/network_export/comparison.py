"""How far an exported file's output lies from that of the network it was made from."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import InputError
from .interface import example_inputs

__all__ = ["Comparison", "compare"]


@dataclass(frozen=True)
class Comparison:
    """The largest difference of two outputs.

    Attributes:
        shape: of the image, (N, C, X, Y, Z).
        difference: largest absolute difference.
        largest: largest absolute value of the network's own output.
    """

    shape: tuple[int, ...]
    difference: float
    largest: float

    @property
    def relative(self) -> float:
        """The difference in units of the output's largest value."""
        return self.difference / max(self.largest, torch.finfo(torch.float32).tiny)


def compare(
    network: nn.Module,
    exported: Callable[..., Tensor],
    described: Mapping[str, Any],
    spatial_size: Sequence[int],
    batch: int,
    device: torch.device,
) -> Comparison:
    """Runs both on the same inputs, drawn within their value ranges.

    Raises:
        InputError: where the exported file does not run, or its output has another shape or is not finite.
    """
    inputs = [tensor.to(device) for tensor in example_inputs(described, spatial_size, batch, seed=batch)]
    with torch.no_grad():
        wanted = network(*inputs)
        try:
            got = exported(*inputs)
        except Exception as error:
            raise InputError(f"the exported file does not run on {tuple(inputs[0].shape)}: {error}") from error
    if got.shape != wanted.shape or not torch.isfinite(got).all():
        raise InputError(
            f"the exported file gives {tuple(got.shape)} for {tuple(inputs[0].shape)}, or values that are not finite; "
            f"the network gives {tuple(wanted.shape)}."
        )
    difference = (got.to(wanted) - wanted).abs().max().item()
    return Comparison(tuple(inputs[0].shape), difference, wanted.abs().max().item())

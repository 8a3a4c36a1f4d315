"""Test-time mirroring."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from typing import Any

import torch
from monai.inferers import Inferer
from torch import Tensor

from .errors import InputError

__all__ = ["MirroringInferer"]


class MirroringInferer(Inferer):
    """The mean of a network's outputs over all mirrorings of the volume along some axes.

    Args:
        inferer: what applies the network, such as a sliding window.
        axes: spatial axes 0, 1, 2 to mirror along; none: the inferer alone. Three axes make eight passes.

    Raises:
        InputError: for other axes.
    """

    def __init__(self, inferer: Inferer, axes: Sequence[int] | None = None) -> None:
        super().__init__()
        self.inferer, self.axes = inferer, tuple(axes or ())
        if not set(self.axes) <= {0, 1, 2} or len(set(self.axes)) < len(self.axes):
            raise InputError(f"mirror_axes must be different numbers of 0, 1 and 2, got {axes!r}.")

    def __call__(self, inputs: Tensor, network: Callable[..., Tensor], *args: Any, **kwargs: Any) -> Tensor:
        """Inputs (N, C, X, Y, Z) to outputs (N, K, X, Y, Z)."""
        inputs = inputs.as_subclass(torch.Tensor)
        subsets = [part for count in range(len(self.axes) + 1) for part in itertools.combinations(self.axes, count)]
        total: Tensor | None = None
        for subset in subsets:
            turned = [axis + 2 for axis in subset]
            output = self.inferer(inputs.flip(turned), network, *args, **kwargs).flip(turned)
            total = output if total is None else total + output
        return total / len(subsets)

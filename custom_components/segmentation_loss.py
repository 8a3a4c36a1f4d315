"""The loss of a segmentation network with deep supervision."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from monai.losses import DeepSupervisionLoss, DiceCELoss
from torch import Tensor

__all__ = ["SegmentationLoss"]


class SegmentationLoss(DeepSupervisionLoss):
    """Soft Dice and cross-entropy in equal parts over background and classes, at every level of the decoder.

    The levels weigh 1, 1/2, 1/4, ..., divided by their sum as in nnU-Net, so that the learning rate means the
    same with any number of levels. The Dice is that of the whole batch (nnU-Net's "batch Dice" of small patches):
    patches without a lesion then do not count as failures.

    Args:
        level_weights: of the levels from the finest; scaled to a sum of 1 over the levels there are.
        others: see MONAI's DiceCELoss.

    Called with logits (N, 1 + n, X, Y, Z), or (N, levels, 1 + n, X, Y, Z) as MONAI's DynUNet gives them in training,
    and class numbers (N, 1, X, Y, Z).
    """

    def __init__(self, level_weights: Sequence[float] = (1.0, 0.5, 0.25, 0.125), **others: Any) -> None:
        settings = {"include_background": False, "to_onehot_y": True, "softmax": True, "batch": True, **others}
        super().__init__(DiceCELoss(**settings))
        self.level_weights = list(level_weights)

    def get_weights(self, levels: int = 1) -> list[float]:
        weights = self.level_weights[: max(1, levels)]
        return [weight / sum(weights) for weight in weights]

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        """The loss, a scalar."""
        input, target = (torch.as_tensor(part).as_subclass(torch.Tensor) for part in (input, target))
        levels = input.unbind(dim=1) if input.ndim > target.ndim else (input,)
        return super().forward(list(levels), target)

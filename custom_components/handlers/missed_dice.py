"""What a segmentation training tries to make small on its validation cases."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from monai.handlers import MeanDice
from torch import Tensor

__all__ = ["MissedDice"]


class MissedDice(MeanDice):
    """1 minus the mean Dice over cases and classes: 0 is perfect; a case without a class does not count for it.

    Args:
        num_classes: with the background.

    The evaluator's output holds ``pred``, logits (N, num_classes, X, Y, Z), and ``label``, numbers of classes
    (N, 1, X, Y, Z).
    """

    def __init__(self, num_classes: int) -> None:
        super().__init__(
            include_background=False, num_classes=num_classes, output_transform=_class_numbers, save_details=False
        )

    def compute(self) -> float:
        return 1.0 - float(super().compute())


def _class_numbers(output: Mapping[str, Any]) -> tuple[Tensor, Tensor]:
    predicted, label = (torch.as_tensor(output[key]).as_subclass(torch.Tensor) for key in ("pred", "label"))
    return predicted.argmax(dim=1, keepdim=True), label.long()

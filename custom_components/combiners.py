"""Multi-channel decomposition of an image and its combination (section 3.2, Eq. 6)."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["MultiChannelCombiner"]


class MultiChannelCombiner:
    """One channel per lesion class, and back to one image.

    Args:
        num_classes: n, the number of lesion classes.

    Raises:
        ValueError: where a tensor has another number of channels, or masks of two classes overlap.
    """

    def __init__(self, num_classes: int = 1) -> None:
        if num_classes < 1:
            raise ValueError(f"num_classes must be at least 1, got {num_classes}.")
        self.num_classes = num_classes

    def decompose(self, image: Tensor) -> Tensor:
        """(N, 1, X, Y, Z) -> (N, n, X, Y, Z): the image once for each class."""
        if image.shape[1] != 1:
            raise ValueError(f"the image must have 1 channel, got {image.shape[1]}.")
        return image.expand(-1, self.num_classes, *image.shape[2:])

    def split(self, inputs: Tensor) -> tuple[Tensor, Tensor]:
        """(N, 1 + n, X, Y, Z) -> image (N, 1, X, Y, Z) and one mask per class (N, n, X, Y, Z)."""
        if inputs.shape[1] != 1 + self.num_classes:
            raise ValueError(
                f"the input must hold the image and one mask for each of {self.num_classes} classes, "
                f"{1 + self.num_classes} channels in all, got {inputs.shape[1]}."
            )
        return inputs[:, :1], inputs[:, 1:]

    def check_disjoint(self, masks: Tensor) -> None:
        """Raises ValueError where the masks (N, n, X, Y, Z) of two classes overlap."""
        if bool(((masks > 0).sum(dim=1) > 1).any()):
            raise ValueError("the masks of two lesion classes overlap.")

    def combine(self, channels: Tensor, masks: Tensor, background: Tensor) -> Tensor:
        """``sum_i M_f^(i) o^(i)`` inside the lesions, the background's own values, bit for bit, elsewhere.

        Args:
            channels: (N, n, X, Y, Z), one generated image per class.
            masks: (N, n, X, Y, Z) in {0, 1}, not overlapping.
            background: (N, 1, X, Y, Z).
        """
        self.check_disjoint(masks)
        lesion = masks > 0
        combined = torch.where(lesion, channels, torch.zeros_like(channels)).sum(dim=1, keepdim=True)
        return torch.where(lesion.any(dim=1, keepdim=True), combined.to(background.dtype), background)

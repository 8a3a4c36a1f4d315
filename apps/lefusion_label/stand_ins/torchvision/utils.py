"""The two functions of torchvision that MONAI Label imports, for its pictures of two-dimensional images."""

from __future__ import annotations

from pathlib import Path

import torch
from PIL import Image
from torch import Tensor

__all__ = ["make_grid", "save_image"]


def make_grid(tensor: Tensor, nrow: int = 8, padding: int = 2, normalize: bool = False, pad_value: float = 0) -> Tensor:
    """Images (N, C, H, W), (C, H, W) or (H, W) side by side, ``nrow`` in a row: (3 or C, H', W').

    ``normalize`` shifts and scales all of them together to [0, 1].
    """
    images = tensor.reshape(-1, *tensor.shape[-3:]) if tensor.dim() > 2 else tensor[None, None]
    images = images.expand(-1, 3, -1, -1) if images.shape[1] == 1 else images
    if normalize:
        low, high = images.min(), images.max()
        images = (images - low) / (high - low).clamp(min=1e-5)
    if len(images) == 1:
        return images[0]
    across = min(nrow, len(images))
    down = -(-len(images) // across)
    height, width = images.shape[-2] + padding, images.shape[-1] + padding
    grid = torch.full((images.shape[1], down * height + padding, across * width + padding), float(pad_value))
    for number, image in enumerate(images):
        top, left = padding + number // across * height, padding + number % across * width
        grid[:, top : top + image.shape[-2], left : left + image.shape[-1]] = image
    return grid


def save_image(tensor: Tensor, fp: str | Path) -> None:
    """Writes images in [0, 1] as one picture (see :func:`make_grid`)."""
    grid = make_grid(tensor).mul(255).add(0.5).clamp(0, 255).to(torch.uint8)
    Image.fromarray(grid.permute(1, 2, 0).cpu().numpy()).save(fp)

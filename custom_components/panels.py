"""Pictures: what was, what was asked for, what was painted."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import matplotlib
import numpy as np
import torch

matplotlib.use("Agg")

from matplotlib import pyplot as plt  # noqa: E402

__all__ = ["save_sample_grid"]


def _figure_pixels(figure: plt.Figure) -> np.ndarray:
    figure.canvas.draw()
    return np.asarray(figure.canvas.buffer_rgba())[..., :3].copy()


def _centre_slice(volume: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """The axial slice of ``volume`` (X, Y, Z) where the mask is largest, ready for imshow (rows run downwards)."""
    return volume[:, :, int(mask.sum(axis=(0, 1)).argmax())].T[::-1]


def save_sample_grid(
    rows: Sequence[tuple[torch.Tensor, torch.Tensor, torch.Tensor]], path: str | Path
) -> np.ndarray:
    """One row a lesion: real, painted, their difference, mask outline; returns the pixels (H, W, 3) uint8.

    Args:
        rows: triples of image (1, X, Y, Z) in [-1, 1], painted image, masks (n, X, Y, Z).
        path: PNG file.
    """
    figure, axes = plt.subplots(len(rows), 3, figsize=(7.5, 2.5 * len(rows)), squeeze=False)
    for line, (image, painted, masks) in zip(axes, rows, strict=True):
        mask = masks.sum(dim=0).numpy()
        before, after = image[0].numpy(), painted[0].numpy()
        outline = _centre_slice(mask, mask) > 0
        for axis, volume, title, limit in zip(
            line, (before, after, after - before), ("real", "painted", "difference"), (1, 1, 2), strict=True
        ):
            colours = "gray" if limit == 1 else "coolwarm"
            axis.imshow(_centre_slice(volume, mask), cmap=colours, vmin=-limit, vmax=limit)
            if limit == 1 and outline.any() and not outline.all():
                axis.contour(outline, levels=[0.5], colors="tab:orange", linewidths=0.7)
            axis.set_title(title, fontsize=9)
            axis.axis("off")
    figure.tight_layout()
    figure.savefig(path, dpi=100)
    pixels = _figure_pixels(figure)
    plt.close(figure)
    return pixels

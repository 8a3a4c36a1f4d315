"""Pictures of masks: slices, outlines and surfaces."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import matplotlib

matplotlib.use("Agg")

import numpy as np
from matplotlib import pyplot as plt
from mpl_toolkits.mplot3d.art3d import Poly3DCollection
from scipy import ndimage
from skimage import measure

__all__ = ["draw_surface", "save_mask_grid"]

CLASS_COLOURS = ("#d95f02", "#7570b3", "#1b9e77", "#e7298a")


def save_mask_grid(rows: Sequence[tuple[np.ndarray, np.ndarray, np.ndarray]], path: str | Path) -> np.ndarray:
    """One column a mask: control sphere, real mask, drawn mask, in the slice where the real one is largest.

    Args:
        rows: triples of sphere (X, Y, Z), real masks (n, X, Y, Z) and drawn masks, both lesion above 0.
        path: PNG file.

    Returns:
        The pixels (H, W, 3) uint8.
    """
    figure, axes = plt.subplots(3, len(rows), figsize=(1.5 * len(rows), 4.8), squeeze=False, layout="constrained")
    for line, name in zip(axes, ("sphere", "real", "drawn"), strict=True):
        line[0].set_ylabel(name)
    for column, (sphere, real, drawn) in zip(axes.T, rows, strict=True):
        z = int((real > 0).any(axis=0).sum(axis=(0, 1)).argmax())
        column[0].imshow(sphere[:, :, z].T[::-1], cmap="gray", vmin=-1, vmax=1)
        for axis, masks in zip(column[1:], (real, drawn), strict=True):
            classes = ((masks > 0) * np.arange(1, len(masks) + 1).reshape(-1, 1, 1, 1)).max(axis=0)
            axis.imshow(classes[:, :, z].T[::-1], cmap="viridis", vmin=0, vmax=len(masks), interpolation="nearest")
        for axis in column:
            axis.set_xticks([])
            axis.set_yticks([])
    figure.savefig(path, dpi=100)
    figure.canvas.draw()
    pixels = np.asarray(figure.canvas.buffer_rgba())[..., :3].copy()
    plt.close(figure)
    return pixels


def draw_surface(
    axis: plt.Axes,
    masks: np.ndarray,
    spacing_mm: Sequence[float] = (1.0, 1.0, 1.0),
    reach_mm: float | None = None,
    smoothing: float = 0.6,
) -> None:
    """Draws the surfaces of masks into a 3D axis, one colour a class.

    Args:
        axis: made with ``projection="3d"``.
        masks: (n, X, Y, Z) bool.
        spacing_mm: voxel size.
        reach_mm: half the width of what is shown; None fits the masks.
        smoothing: standard deviation in voxels of the blur before the surface is taken, for the picture only.
    """
    where = np.argwhere(masks.any(axis=0))
    spacing = np.asarray(spacing_mm, dtype=float)
    middle = (where.min(axis=0) + where.max(axis=0)) / 2 * spacing
    widest = ((np.ptp(where, axis=0) + 1) * spacing).max() / 2
    for mask, colour in zip(masks, CLASS_COLOURS, strict=False):
        if not mask.any():
            continue
        blurred = ndimage.gaussian_filter(np.pad(mask.astype(float), 3), smoothing)
        vertices, faces, _, _ = measure.marching_cubes(blurred, min(0.5, blurred.max() / 2), spacing=tuple(spacing))
        mesh = Poly3DCollection((vertices - 3 * spacing - middle)[faces], facecolor=colour, shade=True)
        axis.add_collection3d(mesh)
    reach = 1.1 * (widest if reach_mm is None else reach_mm)
    axis.set(xlim=(-reach, reach), ylim=(-reach, reach), zlim=(-reach, reach))
    axis.set_box_aspect((1, 1, 1))
    axis.set_axis_off()

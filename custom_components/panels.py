"""Pictures: what was, what was asked for, what was painted."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import matplotlib
import nibabel as nib
import numpy as np
import torch

matplotlib.use("Agg")

from matplotlib import pyplot as plt

from .specs import LesionSpec

__all__ = ["save_case_panel", "save_sample_grid", "save_texture_grid"]


def _figure_pixels(figure: plt.Figure) -> np.ndarray:
    figure.canvas.draw()
    return np.asarray(figure.canvas.buffer_rgba())[..., :3].copy()


def _centre_slice(volume: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """The axial slice of ``volume`` (X, Y, Z) where the mask is largest, ready for imshow (rows run downwards)."""
    return volume[:, :, int(mask.sum(axis=(0, 1)).argmax())].T[::-1]


def save_sample_grid(rows: Sequence[tuple[torch.Tensor, torch.Tensor, torch.Tensor]], path: str | Path) -> np.ndarray:
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


def save_case_panel(
    before: np.ndarray,
    after: np.ndarray,
    mask: np.ndarray,
    affine: np.ndarray,
    specs: Sequence[LesionSpec],
    window: Sequence[float],
    path: str | Path,
    width_mm: float = 64.0,
    max_lesions: int = 8,
) -> None:
    """Original, mask, result and difference in three planes through each lesion.

    Args:
        before, after: (X, Y, Z) in the scan's units.
        mask: (X, Y, Z) bool.
        affine: voxel indices to RAS+ mm; the picture shows the scan turned to radiological convention.
        specs: the lesions; the picture shows the first ``max_lesions``.
        window: values shown black and white.
        path: PNG file.
        width_mm: what is shown around a lesion.
    """
    turn = nib.orientations.io_orientation(affine)
    volumes = [nib.orientations.apply_orientation(v, turn) for v in (before, after, mask.astype(np.uint8))]
    turned = affine @ nib.orientations.inv_ornt_aff(turn, before.shape)
    spacing = np.sqrt((turned[:3, :3] ** 2).sum(axis=0))
    shown = list(specs)[:max_lesions]
    figure, axes = plt.subplots(3 * len(shown), 4, figsize=(10, 7.6 * len(shown)), squeeze=False, layout="constrained")
    half = (window[1] - window[0]) / 2
    for number, spec in enumerate(shown):
        middle = np.rint(np.linalg.solve(turned, [*spec.centre_mm, 1.0])[:3]).astype(int)
        reach = np.ceil(width_mm / 2 / spacing).astype(int)
        for row, (normal, plane) in enumerate(((2, "axial"), (1, "coronal"), (0, "sagittal"))):
            first, second = (axis for axis in range(3) if axis != normal)
            window_slices = [
                slice(max(0, middle[a] - reach[a]), middle[a] + reach[a] + 1) if a != normal else middle[a]
                for a in range(3)
            ]
            # Rows run upwards in the array and downwards in a picture; the patient's right is on the left.
            pictures = [v[tuple(window_slices)].T[::-1, ::-1] for v in volumes]
            old, new, outline = pictures
            line = axes[3 * number + row]
            style = {"aspect": spacing[second] / spacing[first], "interpolation": "nearest"}
            gray = {"cmap": "gray", "vmin": window[0], "vmax": window[1], **style}
            line[0].imshow(old, **gray)
            line[1].imshow(old, **gray)
            line[2].imshow(new, **gray)
            line[3].imshow(new - old, cmap="coolwarm", vmin=-half * 1.4, vmax=half * 1.4, **style)
            if outline.any() and not outline.all():
                line[1].contour(outline, levels=[0.5], colors="tab:orange", linewidths=1)
            for axis in line:
                axis.set_xticks([])
                axis.set_yticks([])
            line[0].set_ylabel(plane)
            if row == 0:
                name = f"{spec.texture.replace('_', ' ')}, {2 * spec.radius_mm:.0f} mm"
                for axis, title in zip(line, ("original", "mask", f"result: {name}", "difference"), strict=True):
                    axis.set_title(title, fontsize=10)
    left_out = len(specs) - len(shown)
    if left_out:
        figure.suptitle(f"first {len(shown)} of {len(specs)} lesions", fontsize=11)
    figure.savefig(path, dpi=90)
    plt.close(figure)


def save_texture_grid(
    before: np.ndarray,
    painted: Mapping[str, np.ndarray],
    mask: np.ndarray,
    affine: np.ndarray,
    specs: Sequence[LesionSpec],
    window: Sequence[float],
    path: str | Path,
    width_mm: float = 56.0,
) -> None:
    """One row a lesion: the original with the mask's outline, then the same lesion in every texture (axial).

    Args:
        before: (X, Y, Z) in the scan's units.
        painted: texture -> the painted scan.
        mask, affine, specs, window, path: as :func:`save_case_panel`.
        width_mm: what is shown around a lesion.
    """
    turn = nib.orientations.io_orientation(affine)
    turned = affine @ nib.orientations.inv_ornt_aff(turn, before.shape)
    spacing = np.sqrt((turned[:3, :3] ** 2).sum(axis=0))
    reach = np.ceil(width_mm / 2 / spacing).astype(int)
    titles = ["healthy scan and mask", *(name.replace("_", " ") for name in painted)]
    volumes = [nib.orientations.apply_orientation(v, turn) for v in (before, *painted.values(), mask.astype(np.uint8))]
    size = (2.4 * len(titles), 2.5 * len(specs))
    figure, axes = plt.subplots(len(specs), len(titles), figsize=size, squeeze=False, layout="constrained")
    for line, spec in zip(axes, specs, strict=True):
        middle = np.rint(np.linalg.solve(turned, [*spec.centre_mm, 1.0])[:3]).astype(int)
        part = (*(slice(max(0, middle[a] - reach[a]), middle[a] + reach[a] + 1) for a in (0, 1)), middle[2])
        *pictures, outline = (v[part].T[::-1, ::-1] for v in volumes)
        for axis, picture in zip(line, pictures, strict=True):
            axis.imshow(picture, cmap="gray", vmin=window[0], vmax=window[1], aspect=spacing[1] / spacing[0])
            axis.set_xticks([])
            axis.set_yticks([])
        if outline.any() and not outline.all():
            line[0].contour(outline, levels=[0.5], colors="tab:orange", linewidths=1)
        line[0].set_ylabel(f"{2 * spec.radius_mm:.0f} mm")
    for axis, title in zip(axes[0], titles, strict=True):
        axis.set_title(title, fontsize=11)
    figure.savefig(path, dpi=110)
    plt.close(figure)

"""Pictures: what was, what was asked for, what was painted."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

import matplotlib
import nibabel as nib
import numpy as np
import torch

matplotlib.use("Agg")

from matplotlib import pyplot as plt

from .grids import THICK_SLICES, through_plane_last, turn
from .specs import LesionSpec

__all__ = ["save_case_panel", "save_sample_grid", "save_texture_grid"]

COLOURS = ("tab:orange", "tab:red", "tab:cyan", "tab:green")  # of the lesion classes' outlines


def _figure_pixels(figure: plt.Figure) -> np.ndarray:
    figure.canvas.draw()
    return np.asarray(figure.canvas.buffer_rgba())[..., :3].copy()


def _centre_slice(volume: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """The axial slice of ``volume`` (X, Y, Z) where the mask is largest, ready for imshow (rows run downwards)."""
    return volume[:, :, int(mask.sum(axis=(0, 1)).argmax())].T[::-1]


def save_sample_grid(
    rows: Sequence[tuple[torch.Tensor, torch.Tensor, torch.Tensor]], path: str | Path, made: str = "painted"
) -> np.ndarray:
    """One row a lesion: real, painted, their difference, mask outline; returns the pixels (H, W, 3) uint8.

    Args:
        rows: triples of image (1, X, Y, Z) in [-1, 1], painted image, masks (n, X, Y, Z).
        path: PNG file.
        made: what was done to the painted image, its heading.
    """
    figure, axes = plt.subplots(len(rows), 3, figsize=(7.5, 2.5 * len(rows)), squeeze=False)
    for line, (image, painted, masks) in zip(axes, rows, strict=True):
        mask = masks.sum(dim=0).numpy()
        before, after = image[0].numpy(), painted[0].numpy()
        outlines = [_centre_slice(part.numpy(), mask) > 0 for part in masks]
        for axis, volume, title, limit in zip(
            line, (before, after, after - before), ("real", made, "difference"), (1, 1, 2), strict=True
        ):
            colours = "gray" if limit == 1 else "coolwarm"
            axis.imshow(_centre_slice(volume, mask), cmap=colours, vmin=-limit, vmax=limit)
            if limit == 1:
                _draw_outlines(axis, outlines, 0.7)
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
    masks: Mapping[str, np.ndarray],
    affine: np.ndarray,
    specs: Sequence[LesionSpec],
    path: str | Path,
    width_mm: float = 64.0,
    max_lesions: int = 8,
    to_values: Callable[[np.ndarray], np.ndarray] = np.asarray,
) -> None:
    """Original, mask, result and difference in three planes, or three slices of a thick stack, through each lesion.

    Args:
        before, after: (X, Y, Z) in the scan's units, or what ``to_values`` makes such of.
        masks: lesion class -> (X, Y, Z) bool.
        affine: voxel indices to RAS+ mm; the picture shows the scan turned to radiological convention.
        specs: the lesions, classes painted jointly one after the other; the picture shows the first ``max_lesions``.
        path: PNG file.
        width_mm: what is shown around a lesion.
        to_values: stored numbers to the scan's units; only what is shown is converted.
    """
    orientation = through_plane_last(affine)
    volumes = [turn(v, affine, orientation)[0] for v in (before, after)]
    outlines = [turn(mask.view(np.uint8), affine, orientation)[0] for mask in masks.values()]
    turned = turn(before, affine, orientation)[1]
    spacing = nib.affines.voxel_sizes(turned)
    lesions: dict[int, list[LesionSpec]] = {}
    for spec in specs:
        lesions.setdefault(spec.lesion, []).append(spec)
    shown = list(lesions.values())[:max_lesions]
    figure, axes = plt.subplots(3 * len(shown), 4, figsize=(10, 7.6 * len(shown)), squeeze=False, layout="constrained")
    for number, parts in enumerate(shown):
        low, high = parts[0].window
        half = (high - low) / 2
        middle = np.rint(np.linalg.solve(turned, [*parts[0].centre_mm, 1.0])[:3]).astype(int)
        reach = np.ceil(width_mm / 2 / spacing).astype(int)
        if spacing[2] >= THICK_SLICES * spacing[:2].max():
            slices = _lesion_slices(parts, affine, turned, volumes[0].shape[2])
            planes = [(2, f"slice {z + 1}", z) for z in slices]
            middle[:2] = np.rint(np.linalg.solve(turned, [*parts[0].crop_centre_mm, 1.0])[:2]).astype(int)
        else:
            planes = [(2, "axial", middle[2]), (1, "coronal", middle[1]), (0, "sagittal", middle[0])]
        for row, (normal, plane, position) in enumerate(planes):
            first, second = (axis for axis in range(3) if axis != normal)
            part = tuple(
                slice(max(0, middle[a] - reach[a]), middle[a] + reach[a] + 1) if a != normal else position
                for a in range(3)
            )
            # Rows run upwards in the array and downwards in a picture; the patient's right is on the left.
            old, new = (to_values(v[part]).T[::-1, ::-1] for v in volumes)
            line = axes[3 * number + row]
            style = {"aspect": spacing[second] / spacing[first], "interpolation": "nearest"}
            gray = {"cmap": "gray", "vmin": low, "vmax": high, **style}
            line[0].imshow(old, **gray)
            line[1].imshow(old, **gray)
            line[2].imshow(new, **gray)
            line[3].imshow(new - old, cmap="coolwarm", vmin=-half * 1.4, vmax=half * 1.4, **style)
            _draw_outlines(line[1], (outline[part].T[::-1, ::-1] for outline in outlines))
            for axis in line:
                axis.set_xticks([])
                axis.set_yticks([])
            line[0].set_ylabel(plane)
            if row == 0:
                titles = ("original", "mask" + _legend(masks), f"result: {_describe(parts)}", "difference")
                for axis, title in zip(line, titles, strict=True):
                    axis.set_title(title, fontsize=10 if len(masks) == 1 else 7)
    left_out = len(lesions) - len(shown)
    if left_out:
        figure.suptitle(f"first {len(shown)} of {len(lesions)} lesions", fontsize=11)
    figure.savefig(path, dpi=90)
    plt.close(figure)


def _lesion_slices(parts: Sequence[LesionSpec], affine: np.ndarray, turned: np.ndarray, depth: int) -> list[int]:
    """Three slices of a stack of ``depth`` slices, spread over a lesion."""
    corners = np.concatenate([list(itertools.product(*[(a, b - 1) for a, b in spec.box])) for spec in parts])
    index = nib.affines.apply_affine(np.linalg.solve(turned, affine), corners)[:, 2]
    low, high = round(index.min()), round(index.max())
    if high - low < 2:  # too few slices of its own: its neighbours too
        low = min(max(0, low - 1), max(0, depth - 3))
        return [min(low + i, depth - 1) for i in range(3)]
    return [round(low + (high - low) * share) for share in ((0, 0.5, 1) if high - low < 4 else (0.25, 0.5, 0.75))]


def _draw_outlines(axis: plt.Axes, shapes: Iterable[np.ndarray], width: float = 1.0) -> None:
    """The outline of each class's mask (rows, columns), in its colour."""
    for shape, colour in zip(shapes, itertools.cycle(COLOURS), strict=False):
        if shape.any() and not shape.all():
            axis.contour(shape, levels=[0.5], colors=colour, linewidths=width)


def _legend(masks: Mapping[str, np.ndarray]) -> str:
    """Which colour outlines which class, where there are several."""
    if len(masks) == 1:
        return ""
    names = (f"{name} {colour.removeprefix('tab:')}" for name, colour in zip(masks, COLOURS, strict=False))
    return ": " + ", ".join(names)


def _describe(parts: Sequence[LesionSpec]) -> str:
    """Texture and size of a lesion; of each class where it has several."""
    if len(parts) == 1 and parts[0].lesion_class == "lesion":
        return f"{parts[0].texture.replace('_', ' ')}, {2 * parts[0].radius_mm:.0f} mm"
    return ", ".join(f"{p.lesion_class} {p.texture.replace('_', ' ')} {p.volume_mm3 / 1000:.1f} ml" for p in parts)


def save_texture_grid(
    before: np.ndarray,
    painted: Mapping[str, np.ndarray],
    masks: Mapping[str, np.ndarray],
    affine: np.ndarray,
    specs: Sequence[LesionSpec],
    path: str | Path,
    width_mm: float = 56.0,
) -> None:
    """One row a lesion, or three slices of one lesion in a thick stack: original, then the lesion in every texture.

    Args:
        before: (X, Y, Z) in the scan's units.
        painted: texture -> the painted scan.
        masks, affine, path: as :func:`save_case_panel`.
        specs: one for each lesion.
        width_mm: what is shown around a lesion.
    """
    orientation = through_plane_last(affine)
    volumes = [turn(v, affine, orientation)[0] for v in (before, *painted.values())]
    outlines = [turn(mask.astype(np.uint8), affine, orientation)[0] for mask in masks.values()]
    turned = turn(before, affine, orientation)[1]
    spacing = nib.affines.voxel_sizes(turned)
    reach = np.ceil(width_mm / 2 / spacing).astype(int)
    rows = []
    for spec in specs:
        thick = len(specs) == 1 and spacing[2] >= THICK_SLICES * spacing[:2].max()
        middle = np.linalg.solve(turned, [*(spec.crop_centre_mm if thick else spec.centre_mm), 1.0])[:3]
        middle = np.rint(middle).astype(int)
        slices = _lesion_slices([spec], affine, turned, volumes[0].shape[2]) if thick else [middle[2]]
        size = f"{2 * spec.radius_mm:.0f} mm"
        rows += [(spec, middle, z, f"slice {z + 1}" if thick else size) for z in slices]
    titles = ["healthy scan and mask" + _legend(masks), *(name.replace("_", " ") for name in painted)]
    size = (2.4 * len(titles), 2.5 * len(rows))
    figure, axes = plt.subplots(len(rows), len(titles), figsize=size, squeeze=False, layout="constrained")
    for line, (spec, middle, z, name) in zip(axes, rows, strict=True):
        part = (*(slice(max(0, middle[a] - reach[a]), middle[a] + reach[a] + 1) for a in (0, 1)), z)
        low, high = spec.window
        for axis, volume in zip(line, volumes, strict=True):
            picture = volume[part].T[::-1, ::-1]
            axis.imshow(picture, cmap="gray", vmin=low, vmax=high, aspect=spacing[1] / spacing[0])
            axis.set_xticks([])
            axis.set_yticks([])
        _draw_outlines(line[0], (outline[part].T[::-1, ::-1] for outline in outlines))
        line[0].set_ylabel(name)
    for axis, title in zip(axes[0], titles, strict=True):
        axis.set_title(title, fontsize=11 if len(masks) == 1 else 8)
    figure.savefig(path, dpi=110)
    plt.close(figure)

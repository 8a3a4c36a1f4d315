"""Pictures of masks: slices, outlines and surfaces."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import matplotlib

matplotlib.use("Agg")

import nibabel as nib
import numpy as np
from matplotlib import pyplot as plt
from matplotlib.colors import ListedColormap
from mpl_toolkits.mplot3d.art3d import Poly3DCollection
from scipy import ndimage
from skimage import measure

from .grids import shifted
from .mask_specs import MaskSpec

__all__ = ["draw_surface", "save_mask_grid", "save_mask_panel"]

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
        mesh = Poly3DCollection((vertices - 3 * spacing - middle)[faces], facecolors=colour, shade=True)
        axis.add_collection3d(mesh)
    reach = 1.1 * (widest if reach_mm is None else reach_mm)
    axis.set(xlim=(-reach, reach), ylim=(-reach, reach), zlim=(-reach, reach))
    axis.set_box_aspect((1, 1, 1), zoom=1.5)
    axis.set_axis_off()


def save_mask_panel(
    labels: Mapping[int, np.ndarray],
    class_labels: Sequence[int],
    organ: np.ndarray | None,
    background: np.ndarray | None,
    affine: np.ndarray,
    specs: Sequence[MaskSpec],
    path: str | Path,
    max_masks: int = 8,
) -> None:
    """Each mask with its control sphere and the organ in three planes, and its surface.

    Args:
        labels: sample -> label map (X, Y, Z).
        class_labels: the labels of the lesion classes.
        organ: (X, Y, Z) bool; None for none.
        background: the scan's values (X, Y, Z), shown in gray; None for none.
        affine: voxel indices to RAS+ mm; the picture shows the scan turned to radiological convention.
        specs: the masks; the picture shows the first ``max_masks``.
        path: PNG file.
    """
    shown = list(specs)[:max_masks]
    figure = plt.figure(figsize=(10, 2.7 * len(shown)), layout="constrained")
    for row, spec in enumerate(shown):
        # Only what is near the sphere is turned and drawn: a scan is large.
        reach = 1.6 * spec.radius_mm * np.linalg.norm(np.linalg.inv(affine[:3, :3]), axis=1) + 2
        index = np.linalg.solve(affine, [*spec.centre_mm, 1.0])[:3]
        limits = zip(index, reach, labels[spec.sample].shape, strict=True)
        box = tuple(slice(max(0, int(i - r)), min(n, int(i + r) + 2)) for i, r, n in limits)
        local = shifted(affine, box)
        way = nib.orientations.io_orientation(local)
        gray = np.zeros(labels[spec.sample][box].shape) if background is None else background[box]
        parts = [gray, np.ones(gray.shape) if organ is None else organ[box], labels[spec.sample][box]]
        gray, inside, label = (nib.orientations.apply_orientation(part, way) for part in parts)
        turned = local @ nib.orientations.inv_ornt_aff(way, parts[0].shape)
        spacing = np.sqrt((turned[:3, :3] ** 2).sum(axis=0))
        middle = np.linalg.solve(turned, [*spec.centre_mm, 1.0])[:3]
        for column, (normal, plane) in enumerate(((2, "axial"), (1, "coronal"), (0, "sagittal"))):
            axis = figure.add_subplot(len(shown), 4, 4 * row + column + 1)
            _draw_plane(axis, (gray, inside, label), class_labels, normal, middle, spacing, spec.radius_mm)
            axis.set_title(
                plane if column else f"{plane}, r = {spec.radius_mm:.1f} mm, sample {spec.sample}", fontsize=9
            )
        surface = figure.add_subplot(len(shown), 4, 4 * row + 4, projection="3d")
        surface.set_axis_off()
        if label.any():
            draw_surface(surface, np.stack([label == number for number in class_labels]), spacing)
    if len(specs) > len(shown):
        figure.suptitle(f"first {len(shown)} of {len(specs)} masks", fontsize=11)
    figure.savefig(path, dpi=90)
    plt.close(figure)


def _draw_plane(
    axis: plt.Axes,
    volumes: tuple[np.ndarray, np.ndarray, np.ndarray],
    class_labels: Sequence[int],
    normal: int,
    middle: np.ndarray,
    spacing: np.ndarray,
    radius_mm: float,
) -> None:
    """One plane through a sphere's middle: scan, organ (outside it darker), label outlines, the sphere dashed."""
    at = int(np.clip(np.rint(middle[normal]), 0, volumes[0].shape[normal] - 1))
    first, second = (a for a in range(3) if a != normal)
    # Rows run upwards in the array and downwards in a picture; the patient's right is on the left.
    gray, inside, label = (np.take(volume, at, axis=normal).T[::-1, ::-1] for volume in volumes)
    width, height = gray.shape[1] * spacing[first], gray.shape[0] * spacing[second]
    extent = (0, width, height, 0)
    span = np.ptp(gray)
    shade = 0.55 + 0 * gray if span == 0 else 0.15 + 0.7 * (gray - gray.min()) / span
    axis.imshow(np.where(inside > 0, shade, 0.6 * shade), cmap="gray", vmin=0, vmax=1, extent=extent)
    for number, colour in zip(class_labels, CLASS_COLOURS, strict=False):
        where = (label == number).astype(float)
        axis.imshow(np.ma.masked_equal(where, 0), cmap=ListedColormap([colour]), alpha=0.75, extent=extent)
    place = (width - (middle[first] + 0.5) * spacing[first], height - (middle[second] + 0.5) * spacing[second])
    axis.add_patch(plt.Circle(place, radius_mm, fill=False, linestyle="--", color="white", linewidth=1))
    axis.set(xlim=(0, width), ylim=(height, 0), xticks=[], yticks=[])


def save_shape_gallery(
    rows: Mapping[str, Sequence[np.ndarray]],
    spheres: Sequence[tuple[MaskSpec, np.ndarray]],
    path: str | Path,
) -> None:
    """Surfaces of masks side by side, one row a method, one column a control sphere, as figure A1 of the paper.

    Args:
        rows: method -> its masks, each (n, X, Y, Z) bool, in the order of ``spheres``.
        spheres: the spec and the affine (voxel indices to mm) of each column.
        path: PNG file.
    """
    count = len(spheres)
    figure = plt.figure(figsize=(1.5 * count, 1.6 * (len(rows) + 1)))
    turn = np.linspace(0, 2 * np.pi, 25)
    for column, (spec, affine) in enumerate(spheres):
        spacing = np.sqrt((affine[:3, :3] ** 2).sum(axis=0))
        axis = figure.add_subplot(len(rows) + 1, count, column + 1, projection="3d")
        polar = np.linspace(0, np.pi, 13)
        x, y = np.outer(np.sin(polar), np.cos(turn)), np.outer(np.sin(polar), np.sin(turn))
        z = np.outer(np.cos(polar), np.ones_like(turn))
        axis.plot_wireframe(x, y, z, color="0.6", linewidth=0.4)
        axis.set(xlim=(-1.1, 1.1), ylim=(-1.1, 1.1), zlim=(-1.1, 1.1))
        axis.set_box_aspect((1, 1, 1), zoom=1.5)
        axis.set_axis_off()
        axis.set_title(f"r = {spec.radius_mm:.1f} mm", fontsize=9)
        for row, masks in enumerate(rows.values(), start=1):
            axis = figure.add_subplot(len(rows) + 1, count, row * count + column + 1, projection="3d")
            axis.set_axis_off()
            if masks[column].any():
                draw_surface(axis, masks[column], spacing, spec.radius_mm)
    for row, name in enumerate(("control sphere", *rows)):
        height = 1 - (row + 0.5) / (len(rows) + 1)
        figure.text(0.005, height, name.replace("_", "\n"), rotation=90, va="center", ha="left", fontsize=9)
    figure.subplots_adjust(left=0.03, right=1, bottom=0, top=0.95, wspace=0, hspace=0)
    figure.savefig(path, dpi=110)
    plt.close(figure)

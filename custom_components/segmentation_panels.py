"""Pictures of segmentations: a slice, its lesion from near, and the outlines of what was found and what is true."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import matplotlib
import nibabel as nib
import numpy as np

matplotlib.use("Agg")

from matplotlib import pyplot as plt
from matplotlib.lines import Line2D

from .grids import through_plane_last, turn
from .segmentation_views import SegmentationView

__all__ = ["save_segmentation_panel"]

COLOURS = ("tab:orange", "tab:red", "tab:cyan", "tab:purple")  # of the classes, as found
REFERENCE_COLOURS = ("lime", "yellow", "deepskyblue", "white")  # of the classes, as they are
NEAR_MM = 48.0  # shown around a lesion, or more where the lesion is larger


def save_segmentation_panel(views: Sequence[SegmentationView], path: str | Path) -> None:
    """Each view in a row: the slice where its focus is largest, the same from near, and with outlines.

    Args:
        views: at least one.
        path: PNG file.
    """
    figure, axes = plt.subplots(len(views), 3, figsize=(9, 3.1 * len(views)), squeeze=False, layout="constrained")
    for line, view in zip(axes, views, strict=True):
        _draw(line, view)
    classes = list(views[0].classes)
    lines = [Line2D([], [], color=COLOURS[i % 4], label=f"{name}, found") for i, name in enumerate(classes)]
    if any(view.reference is not None for view in views):
        lines += [
            Line2D([], [], color=REFERENCE_COLOURS[i % 4], label=f"{name}, reference") for i, name in enumerate(classes)
        ]
    figure.legend(handles=lines, loc="outside lower center", ncols=len(lines), fontsize=8)
    figure.savefig(path, dpi=100)
    plt.close(figure)


def _draw(line: Sequence[plt.Axes], view: SegmentationView) -> None:
    orientation = through_plane_last(view.affine)

    def turned(volume: np.ndarray) -> np.ndarray:
        return turn(volume, view.affine, orientation)[0]

    image, affine = turn(view.image, view.affine, orientation)
    spacing = nib.affines.voxel_sizes(affine)
    labelled = (view.predicted > 0) if view.reference is None else (view.predicted > 0) | (view.reference > 0)
    focus = turned(np.asarray(labelled if view.focus is None else view.focus).astype(np.uint8)) > 0
    z = int(focus.sum(axis=(0, 1)).argmax()) if focus.any() else image.shape[2] // 2
    low, high = np.percentile(image[:, :, z], (1, 99))
    inside = np.argwhere(focus[:, :, z]) if focus.any() else np.array([np.array(image.shape[:2]) // 2])
    first, last = inside.min(axis=0), inside.max(axis=0)
    reach = np.ceil(np.maximum(NEAR_MM / spacing[:2], 1.6 * (last - first + 1)) / 2).astype(int)
    middle = (first + last) // 2
    near = tuple(slice(max(0, int(middle[a] - reach[a])), int(middle[a] + reach[a]) + 1) for a in (0, 1))
    # Radiological convention: the patient's right is on the left, anterior at the top.
    for axis, box in zip(line, ((slice(None), slice(None)), near, near), strict=True):
        picture = image[:, :, z][box].T[::-1, ::-1]
        axis.imshow(picture, cmap="gray", vmin=low, vmax=max(high, low + 1e-6), aspect=spacing[1] / spacing[0])
        axis.set_xticks([])
        axis.set_yticks([])
    for label, colours in ((view.reference, REFERENCE_COLOURS), (view.predicted, COLOURS)):
        if label is None:
            continue
        part = turned(label)[:, :, z][near].T[::-1, ::-1]
        for number, value in enumerate(view.classes.values()):
            mask = part == value
            if mask.any():
                edge = np.pad(mask, 1).astype(float)
                x, y = np.arange(edge.shape[1]) - 1, np.arange(edge.shape[0]) - 1
                line[2].contour(x, y, edge, [0.5], colors=[colours[number % 4]], linewidths=1.3)
    seen = image[:, :, z][near].shape  # outlines reach half a pixel beyond the picture, which stays as it is
    line[2].set_xlim(-0.5, seen[0] - 0.5)
    line[2].set_ylim(seen[1] - 0.5, -0.5)
    height, width = image.shape[1], image.shape[0]
    line[0].add_patch(
        plt.Rectangle(
            (width - 1 - near[0].stop + 0.5, height - 1 - near[1].stop + 0.5),
            near[0].stop - near[0].start,
            near[1].stop - near[1].start,
            fill=False,
            edgecolor="white",
            linewidth=0.8,
        )
    )
    line[0].set_ylabel(view.title, fontsize=8)
    line[0].set_title(f"slice {z + 1} of {image.shape[2]}", fontsize=8)

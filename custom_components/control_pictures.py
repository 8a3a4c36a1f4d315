"""Pictures of how lesions obey their control: histograms (figure A3), and one site painted in many ways (A4, 6)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from .lesion_crops import LesionCrop
from .panels import plt

__all__ = ["save_crop_grid", "save_response_figure"]

BEFORE, REQUESTED, PREDICTED, ACHIEVED = "#9ecae1", "#f4a3c0", "#f2b134", "#1f4e8c"
INCHES = 1.55  # side of one crop's picture


def save_crop_grid(
    rows: Sequence[tuple[str, Sequence[LesionCrop], Sequence[str]]],
    titles: Sequence[str],
    path: str | Path,
    outlined: int = 1,
) -> None:
    """Axial slices through the middle of crops, one row a site.

    Args:
        rows: of each its name, its crops, and what is written below each of them.
        titles: of the columns.
        path: PNG or JPEG file.
        outlined: so many columns show the outline of the mask.
    """
    low_space = any(any(captions) for _, _, captions in rows)
    size = (INCHES * len(titles) + 0.4, (INCHES + 0.25 * low_space) * len(rows) + 0.3)
    figure, axes = plt.subplots(len(rows), len(titles), figsize=size, squeeze=False, layout="constrained")
    for line, (name, crops, captions) in zip(axes, rows, strict=True):
        for number, (axis, crop, caption) in enumerate(zip(line, crops, captions, strict=True)):
            middle = crop.values.shape[2] // 2
            # Rows run upwards in the array and downwards in a picture; the patient's right is on the left.
            values, mask = (volume[:, :, middle].T[::-1, ::-1] for volume in (crop.values, crop.mask))
            low, high = crop.window
            aspect = crop.spacing_mm[1] / crop.spacing_mm[0]
            axis.imshow(values, cmap="gray", vmin=low, vmax=high, aspect=aspect, interpolation="nearest")
            if number < outlined and mask.any() and not mask.all():
                axis.contour(mask, levels=[0.5], colors="tab:orange", linewidths=1)
            axis.set_xticks([])
            axis.set_yticks([])
            axis.set_xlabel(caption, fontsize=7)
        line[0].set_ylabel(name, fontsize=8)
    for axis, title in zip(axes[0], titles, strict=True):
        axis.set_title(title, fontsize=9)
    figure.get_layout_engine().set(w_pad=0.02, h_pad=0.02, wspace=0.01, hspace=0.01)
    figure.savefig(path, dpi=100)
    plt.close(figure)


def save_response_figure(
    before: np.ndarray,
    requested: Mapping[str, np.ndarray | None],
    predicted: Mapping[str, np.ndarray],
    achieved: Mapping[str, np.ndarray],
    samples: Mapping[str, int],
    window: tuple[float, float],
    path: str | Path,
    unit: str = "HU",
) -> None:
    """Figure A3: what was there, what was requested, what Eq. 7 and 8 predict and what was painted.

    Args:
        before: (sites, num_bins), histograms of the lesions' regions before painting.
        requested: control -> (sites, num_bins), or None for no control; one column each.
        predicted, achieved: control -> (sites, num_bins).
        samples: title of a row -> number of the site it shows.
        window: values at the ends of the histograms.
        path: PNG file.
        unit: of the window.
    """
    bins = before.shape[1]
    width = (window[1] - window[0]) / bins
    centres = window[0] + width * (np.arange(bins) + 0.5)
    pick = {"average": slice(None), **samples}
    figure, axes = plt.subplots(
        1 + len(pick),
        1 + len(requested),
        figsize=(2.1 * (1 + len(requested)), 1.45 * (1 + len(pick)) + 0.3),
        sharex=True,
        layout="constrained",
    )
    axes[0, 0].axis("off")
    titles = ("before", *(name.replace("_", " ") for name in requested))
    for row, (name, sites) in enumerate(pick.items(), start=1):
        axes[row, 0].bar(centres, _mean(before[sites]), width, color=BEFORE, label="before painting")
        axes[row, 0].set_ylabel(name.replace("_", " "), fontsize=8)
    for column, (control, wanted) in enumerate(requested.items(), start=1):
        if wanted is None:
            axes[0, column].text(0.5, 0.5, "no control", ha="center", transform=axes[0, column].transAxes, fontsize=9)
        else:
            axes[0, column].bar(centres, _mean(wanted), width, color=REQUESTED, label="requested")
        for row, sites in enumerate(pick.values(), start=1):
            axis = axes[row, column]
            axis.bar(centres, _mean(achieved[control][sites]), width, color=ACHIEVED, label="achieved")
            told = _mean(predicted[control][sites])
            axis.bar(centres, told, width, color=PREDICTED, alpha=0.45, label="predicted (Eq. 7, 8)")
            axis.stairs(told, np.append(centres - width / 2, window[1]), color="#b87a00", linewidth=0.9)
    for axis, title in zip(axes[0], titles, strict=True):
        axis.set_title(title, fontsize=9)
    axes[0, 1].set_ylabel("requested", fontsize=8)
    top = max(bar.get_height() for axis in axes.flat for bar in axis.patches if hasattr(bar, "get_height"))
    for axis in axes.flat:
        axis.set_ylim(0, 1.05 * top)
        axis.set_yticks([])
        axis.tick_params(labelsize=7)
        axis.spines[["top", "right", "left"]].set_visible(False)
    for axis in axes[-1]:
        axis.set_xlabel(unit, fontsize=8)
    handles = {}
    for axis in axes.flat:
        handles.update(dict(zip(*axis.get_legend_handles_labels()[::-1], strict=True)))
    axes[0, 0].legend(handles.values(), handles.keys(), loc="center", fontsize=7, frameon=False)
    figure.savefig(path, dpi=100)
    plt.close(figure)


def _mean(histograms: np.ndarray) -> np.ndarray:
    """(num_bins,) of one site's histogram, or the average of several."""
    return np.asarray(histograms).reshape(-1, np.shape(histograms)[-1]).mean(axis=0)

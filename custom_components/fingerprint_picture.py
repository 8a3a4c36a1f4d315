"""A data set's fingerprint as histograms."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import matplotlib
import numpy as np

matplotlib.use("Agg")

from matplotlib import pyplot as plt
from matplotlib.ticker import LogLocator, NullFormatter

from .fingerprint import CaseMeasures, pooled
from .panels import COLOURS

__all__ = ["save_fingerprint"]


def save_fingerprint(
    cases: Sequence[CaseMeasures],
    classes: Sequence[str],
    path: str | Path,
    size_mm: Sequence[float],
    window: Sequence[float] | None,
) -> None:
    """Voxel sizes, scan sizes, lesions a case, volumes, extents beside the proposed crop, intensities; a PNG.

    Args:
        cases: with at least one lesion among them.
        classes: the lesion classes.
        path: PNG file.
        size_mm: of the proposed crop along x, y, z, drawn into the extents.
        window: the proposed window, drawn into the intensities; None where each crop has its own.
    """
    lesions = [lesion for case in cases for lesion in case.lesions]
    figure, axes = plt.subplots(2, 3, figsize=(12, 6.4))
    _by_axis(axes[0, 0], [case.spacing_mm for case in cases], "voxel size (mm)", "cases")
    _by_axis(axes[0, 1], [case.size for case in cases], "scan size (voxels)", "cases")
    counts = [len(case.lesions) for case in cases]
    axes[0, 2].hist(counts, bins=np.arange(max(counts) + 2) - 0.5, color="tab:gray", rwidth=0.85)
    axes[0, 2].set(xlabel="lesions a case", ylabel="cases")
    axes[0, 2].xaxis.get_major_locator().set_params(integer=True)

    volumes = {name: [x.volume_mm3[name] for x in lesions if name in x.volume_mm3] for name in classes}
    everything = np.concatenate([*volumes.values()]) / 1000
    bins = np.geomspace(everything.min() * 0.9, everything.max() * 1.1, 25)
    for i, (name, values) in enumerate(volumes.items()):
        axes[1, 0].hist(np.array(values) / 1000, bins=bins, color=COLOURS[i % len(COLOURS)], alpha=0.6, label=name)
    axes[1, 0].set(xscale="log", xlabel="volume of a lesion (ml)", ylabel="lesions")
    axes[1, 0].xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes[1, 0].xaxis.set_major_formatter("{x:g}")
    axes[1, 0].xaxis.set_minor_formatter(NullFormatter())
    axes[1, 0].legend(fontsize=8)

    _by_axis(axes[1, 1], [lesion.extent_mm for lesion in lesions], "extent of a lesion (mm), dashed: crop", "lesions")
    for i, length in enumerate(size_mm):
        axes[1, 1].axvline(length, color=f"C{i}", linestyle="--", linewidth=1 + (2 - i))

    values = pooled(cases, classes)
    near = np.concatenate([part for name, part in values.items() if name != "whole"])
    low, high = np.percentile(near, (0.2, 99.8))
    low, high = (min(low, window[0]), max(high, window[1])) if window else (low, high)
    bins = np.linspace(low - 0.1 * (high - low), high + 0.1 * (high - low), 60)
    colours = {"whole": "lightgray", "around": "tab:blue"}
    colours |= {name: COLOURS[i % len(COLOURS)] for i, name in enumerate(classes)}
    for name, part in values.items():
        filled = name == "whole"
        weights = np.full(len(part), 1 / max(len(part), 1))
        axes[1, 2].hist(
            part,
            bins=bins,
            weights=weights,
            color=colours[name],
            histtype="stepfilled" if filled else "step",
            linewidth=1.5,
            label=f"inside {name}" if name in classes else {"whole": "whole scan", "around": "around lesions"}[name],
        )
    axes[1, 2].set_ylim(top=1.35 * axes[1, 2].get_ylim()[1])  # room for the legend
    for value in window or ():
        axes[1, 2].axvline(value, color="black", linestyle="--", linewidth=1)
    axes[1, 2].set(xlabel="intensity" + (", dashed: window" if window else ""), ylabel="share of voxels")
    axes[1, 2].legend(fontsize=8, framealpha=0.6, loc="upper right")
    figure.tight_layout()
    figure.savefig(path, dpi=100)
    plt.close(figure)


def _by_axis(axis: plt.Axes, values: Sequence[Sequence[float]], title: str, count: str) -> None:
    """Three histograms, one for each direction, side by side."""
    columns = np.array(values, dtype=float).T
    low, high = columns.min(), columns.max()
    room = max(0.05 * (high - low), 0.02 * high)
    axis.hist(list(columns), bins=np.linspace(low - room, high + room, 11), label=["x", "y", "z"])
    axis.set(xlabel=title, ylabel=count)
    axis.legend(fontsize=8)

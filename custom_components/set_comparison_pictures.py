"""Pictures of a comparison of lesion sets: features, nearest distances, the closest pairs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import matplotlib
import numpy as np

matplotlib.use("Agg")

from matplotlib import pyplot as plt

from .lesion_crops import LesionCrop
from .metrics.memorisation import MIRRORS, Neighbours

__all__ = ["save_closest_pairs", "save_feature_distributions", "save_nearest_distances"]

REAL, SYNTHETIC = "tab:blue", "tab:orange"
COLUMNS, MOST_FEATURES = 6, 24


def save_feature_distributions(names: Sequence[str], real: np.ndarray, synthetic: np.ndarray, path: str | Path) -> None:
    """Histograms of each feature in both sets, as shares of the set; the first 24 features.

    Args:
        names: of the d features.
        real, synthetic: (n, d) and (m, d).
        path: PNG file.
    """
    shown = min(len(names), MOST_FEATURES)
    columns = min(COLUMNS, shown)
    rows = -(-shown // columns)
    size = (2.3 * max(columns, 2), 1.9 * rows + 0.5)
    figure, axes = plt.subplots(rows, columns, figsize=size, squeeze=False, layout="constrained")
    for axis in axes.flat[shown:]:
        axis.axis("off")
    for axis, name, one, other in zip(axes.flat, names, real.T, synthetic.T, strict=False):
        # Single far-off lesions would leave no room for the others: they are counted in the outermost bins.
        low, high = np.percentile(np.concatenate([one, other]), (1, 99))
        high = high if high > low else low + 1
        bins = np.linspace(low, high, 16)
        for values, colour, label in (
            (one, REAL, f"real ({len(one)})"),
            (other, SYNTHETIC, f"synthetic ({len(other)})"),
        ):
            weights = np.full(len(values), 1 / len(values))
            inside = np.clip(values, low, high)
            axis.hist(inside, bins, weights=weights, color=colour, alpha=0.25)
            axis.hist(inside, bins, weights=weights, color=colour, histtype="step", linewidth=1.3, label=label)
        axis.set_title(name.replace("_", " "), fontsize=9)
        axis.tick_params(labelsize=7)
        axis.xaxis.get_major_locator().set_params(nbins=4)
    for line in axes:
        line[0].set_ylabel("share", fontsize=8)
    handles, labels = axes.flat[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=2, fontsize=9, frameon=False)
    figure.savefig(path, dpi=110)
    plt.close(figure)


def save_nearest_distances(synthetic: np.ndarray, real: np.ndarray, percentiles: Sequence[float], path: Path) -> None:
    """Distances of synthetic and of real lesions to their nearest training lesion, with percentiles of the real ones.

    Args:
        synthetic, real: (n,) and (m,), finite.
        percentiles: of the real ones, drawn as lines.
        path: PNG file.
    """
    figure, axis = plt.subplots(figsize=(7, 3.6), layout="constrained")
    bins = np.linspace(0, max(synthetic.max(), real.max(), 1e-6), 31)
    for values, colour, label in (
        (real, REAL, f"real, nearest of another patient ({len(real)})"),
        (synthetic, SYNTHETIC, f"synthetic ({len(synthetic)})"),
    ):
        weights = np.full(len(values), 1 / len(values))
        axis.hist(values, bins, weights=weights, color=colour, alpha=0.25)
        axis.hist(values, bins, weights=weights, color=colour, histtype="step", linewidth=1.5, label=label)
    for percentile, style in zip(percentiles, (":", "--", "-."), strict=False):
        value = np.percentile(real, percentile)
        axis.axvline(value, color="black", linestyle=style, linewidth=1, label=f"percentile {percentile:g} of the real")
    axis.set(xlabel="1 - correlation with the nearest training lesion (0: a copy)", ylabel="share of lesions")
    axis.legend(fontsize=8)
    figure.savefig(path, dpi=110)
    plt.close(figure)


def save_closest_pairs(
    crops: Sequence[LesionCrop],
    training: Sequence[LesionCrop],
    neighbours: Neighbours,
    path: str | Path,
    pairs: int = 6,
) -> None:
    """The synthetic lesions nearest to a training lesion, each beside it, in the three planes through their middle.

    The training lesion is shown as the mirror image by which the two resemble each other.

    Args:
        crops: of the synthetic lesions.
        training: of the training lesions.
        neighbours: of the former among the latter.
        path: PNG file.
        pairs: how many.
    """
    order = np.argsort(neighbours.distance, kind="stable")[:pairs]
    figure, axes = plt.subplots(
        len(order), 6, figsize=(10, 1.75 * len(order) + 0.4), squeeze=False, layout="constrained"
    )
    for line, i in zip(axes, order, strict=True):
        crop, other = crops[i], training[neighbours.nearest[i]]
        turn = tuple(slice(None, None, step) for step in MIRRORS[neighbours.mirror[i]])
        for column, (values, mask, shown) in enumerate(
            ((crop.values, crop.mask, crop), (other.values[turn], other.mask[turn], other))
        ):
            low, high = shown.window
            for k, normal in enumerate((2, 1, 0)):
                axis = line[3 * column + k]
                middle = values.shape[normal] // 2
                # Rows run upwards in the array and downwards in a picture; the patient's right is on the left.
                picture, outline = (np.take(v, middle, normal).T[::-1, ::-1] for v in (values, mask))
                kept = [crop.spacing_mm[a] for a in range(3) if a != normal]
                axis.imshow(picture, cmap="gray", vmin=low, vmax=high, aspect=kept[1] / kept[0])
                if outline.any() and not outline.all():
                    axis.contour(outline, [0.5], colors=SYNTHETIC if column == 0 else REAL, linewidths=0.8)
                axis.set_xticks([])
                axis.set_yticks([])
            # At the left edge of its three pictures: a case's name may be longer than one of them.
            line[3 * column].set_title(_shorten(shown.name), fontsize=7, loc="left")
        line[0].set_ylabel(f"{neighbours.distance[i]:.3f}", fontsize=9)
    figure.suptitle("synthetic (left) and nearest training lesion (right), 1 - correlation: 0 is a copy", fontsize=10)
    figure.savefig(path, dpi=110)
    plt.close(figure)


def _shorten(name: str, most: int = 45) -> str:
    return name if len(name) <= most else f"{name[: most - 1]}…"

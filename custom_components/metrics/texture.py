"""How far apart two lesion textures are."""

from __future__ import annotations

import numpy as np

__all__ = ["histogram_distance"]


def histogram_distance(first: np.ndarray, second: np.ndarray, value_range: tuple[float, float] = (-1, 1)) -> float:
    """Earth mover's distance (Wasserstein-1) between two histograms over the same bins, in units of the range.

    Args:
        first, second: (num_bins,), each summing to 1.
        value_range: what the bins span; 2.0 is the largest possible distance of histograms over [-1, 1], nearly.
    """
    first, second = np.asarray(first, dtype=np.float64), np.asarray(second, dtype=np.float64)
    width = (value_range[1] - value_range[0]) / first.size
    return float(np.abs(np.cumsum(first - second)).sum() * width)

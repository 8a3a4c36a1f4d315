"""Sliced Wasserstein distance between two sets of features (table A4: SWD, of other features here); MONAI has none."""

from __future__ import annotations

import numpy as np
from scipy.stats import wasserstein_distance

__all__ = ["sliced_wasserstein"]


def sliced_wasserstein(first: np.ndarray, second: np.ndarray, directions: int = 64, seed: int = 0) -> float:
    """Mean over random directions of the Wasserstein-1 distance between the sets' projections.

    Args:
        first, second: (n, d) and (m, d).
        directions: how many, drawn evenly from the unit sphere.
        seed: of the draw.
    """
    axes = np.random.default_rng(seed).normal(size=(np.shape(first)[1], directions))
    axes /= np.linalg.norm(axes, axis=0)
    projected = (np.asarray(first) @ axes, np.asarray(second) @ axes)
    return float(np.mean([wasserstein_distance(*pair) for pair in zip(projected[0].T, projected[1].T, strict=True)]))

"""Kernel distance: the squared maximum mean discrepancy with a cubic kernel (table A3: KID, of other features here).

MONAI's MMDMetric has the linear kernel of a mapping and wants sets of one size; with the cubic kernel's mapping and
such sets the two agree (tests).
"""

from __future__ import annotations

import numpy as np

__all__ = ["kernel_distance"]


def kernel_distance(
    first: np.ndarray,
    second: np.ndarray,
    first_counts: np.ndarray | None = None,
    second_counts: np.ndarray | None = None,
) -> float:
    """Unbiased estimate of the squared discrepancy under ``k(x, y) = (x.y / d + 1)^3``; it may fall below 0.

    Args:
        first, second: (n, d) and (m, d), n and m at least 2.
        first_counts, second_counts: (n,) and (m,), how often each one was drawn when a set is resampled. A lesion drawn
            twice makes no pair with itself, so that the estimate stays unbiased.
    """
    first, second = (np.asarray(values, dtype=np.float64) for values in (first, second))
    counts = [
        np.ones(len(values)) if given is None else np.asarray(given, dtype=np.float64)
        for values, given in ((first, first_counts), (second, second_counts))
    ]
    within = sum(
        _mean_of_pairs(_kernel(values, values), weights)
        for values, weights in zip((first, second), counts, strict=True)
    )
    between = counts[0] @ _kernel(first, second) @ counts[1] / (counts[0].sum() * counts[1].sum())
    return float(within - 2 * between)


def _kernel(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    return (first @ second.T / first.shape[1] + 1) ** 3


def _mean_of_pairs(kernel: np.ndarray, counts: np.ndarray) -> float:
    """Mean over all pairs of two different ones, each as often as both were drawn."""
    pairs = np.outer(counts, counts)
    np.fill_diagonal(pairs, 0)
    return float((pairs * kernel).sum() / pairs.sum())

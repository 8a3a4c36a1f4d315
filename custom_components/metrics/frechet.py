"""Frechet distance between two sets of features, each taken for a Gaussian (table A3: FID, of other features here).

MONAI's FIDMetric takes the root of a product of covariances by ``scipy.linalg.sqrtm(disp=...)``, which SciPy 1.18 no
longer has, and where they are singular it adds to their diagonals. Sets here are small and drawn again, so that this
is the rule; the form below is exact then. On full covariances the two agree (tests).
"""

from __future__ import annotations

import numpy as np

from ..errors import InputError

__all__ = ["check_covariance", "frechet_distance"]


def frechet_distance(first: np.ndarray, second: np.ndarray) -> float:
    """``|m1 - m2|^2 + tr(S1 + S2 - 2 (S1 S2)^(1/2))`` of the sets' means m and covariances S.

    With the centred sets X1 and X2, each over the square root of its number less one, S = X^T X, and the trace of
    ``(S1 S2)^(1/2)`` is the sum of the singular values of ``X1 X2^T``. So no root of a matrix is needed, and the
    covariances may be singular, as those of a resampled set often are.

    Args:
        first, second: (n, d) and (m, d), n and m at least 2.
    """
    first, second = (np.asarray(values, dtype=np.float64) for values in (first, second))
    shift = first.mean(axis=0) - second.mean(axis=0)
    roots = [(values - values.mean(axis=0)) / np.sqrt(len(values) - 1) for values in (first, second)]
    shared = np.linalg.svd(roots[0] @ roots[1].T, compute_uv=False).sum()
    return float(shift @ shift + sum((root**2).sum() for root in roots) - 2 * shared)


def check_covariance(features: np.ndarray, title: str) -> None:
    """Raises InputError where a set (n, d) is too small for a covariance of full rank, which needs d + 1."""
    count, size = features.shape
    if count < size + 1:
        raise InputError(
            f"{title} has {count} lesion{'s' * (count != 1)}, the covariance of {size} features needs at least "
            f"{size + 1}: --components {max(1, count - 1)} or less compares fewer of their principal components."
        )

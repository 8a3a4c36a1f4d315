"""Whether synthetic lesions copy training lesions: how near each one's nearest is, against how near real ones are."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.spatial.distance import cdist
from tqdm import tqdm

from ..lesion_crops import LesionCrop

__all__ = ["MIRRORS", "Neighbours", "correlation_neighbours", "feature_neighbours", "share_nearer"]

MIRRORS = tuple(itertools.product((1, -1), repeat=3))  # steps along x, y, z: -1 turns an axis around


@dataclass(frozen=True)
class Neighbours:
    """The nearest training lesion of each of n lesions.

    Attributes:
        distance: (n,), 0 for a copy; infinite where every training lesion is left out.
        nearest: (n,) its number.
        mirror: (n,) the number of the mirror image in :data:`MIRRORS` by which the lesion resembles it.
    """

    distance: np.ndarray
    nearest: np.ndarray
    mirror: np.ndarray


def correlation_neighbours(
    crops: Sequence[LesionCrop],
    training: Sequence[LesionCrop],
    excluded: Sequence[np.ndarray] = (),
    progress: bool = True,
) -> list[Neighbours]:
    """Neighbours by 1 less the normalised correlation of two lesions, centred on each other, where either lies.

    It is the same for a lesion that was moved, made brighter or given more contrast, and for its mirror images.

    Args:
        crops: whose neighbours to find.
        training: the m lesions among which they are.
        excluded: (n, m) bool each, pairs that are left out.
        progress: show a bar.

    Returns:
        The neighbours with all pairs, and without those of each of ``excluded``.
    """
    flat = np.stack([crop.scaled(crop.values).ravel() for crop in training]).astype(np.float32)
    masks = np.stack([crop.mask.ravel() for crop in training]).astype(np.float32)
    own, rest, free = flat * masks, flat * (1 - masks), 1 - masks
    rest_squared = rest * flat
    known_n, known_sum, known_squares = masks.sum(axis=1), own.sum(axis=1), (own * flat).sum(axis=1)
    distance = np.empty((len(crops), len(training)), dtype=np.float32)
    mirror = np.empty(distance.shape, dtype=np.int8)
    for i, crop in enumerate(tqdm(crops, desc="nearest training lesions", delay=1, disable=not progress)):
        values, mask = crop.scaled(crop.values), crop.mask
        turned = [tuple(slice(None, None, step) for step in steps) for steps in MIRRORS]
        s = np.stack([values[part].ravel() for part in turned]).astype(np.float32)
        m = np.stack([mask[part].ravel() for part in turned]).astype(np.float32)
        # Sums over the union of both masks: what lies in the training lesion's, and the rest of this lesion's.
        count = known_n + m @ free.T
        sum_s = s @ masks.T + (s * m) @ free.T
        sum_ss = s**2 @ masks.T + (s**2 * m) @ free.T
        sum_r = known_sum + m @ rest.T
        sum_rr = known_squares + m @ rest_squared.T
        sum_sr = s @ own.T + (s * m) @ rest.T
        covariance = sum_sr - sum_s * sum_r / count
        variances = (sum_ss - sum_s**2 / count) * (sum_rr - sum_r**2 / count)
        # Where one of them is the same everywhere, there is no correlation.
        defined = variances > 1e-12 * count**2
        correlation = np.where(defined, covariance / np.sqrt(np.where(defined, variances, 1)), 0)
        mirror[i] = correlation.argmax(axis=0)
        distance[i] = np.clip(1 - correlation.max(axis=0), 0, 2)
    return [_nearest(distance, mirror, pairs) for pairs in (None, *excluded)]


def feature_neighbours(
    features: np.ndarray, training: np.ndarray, excluded: Sequence[np.ndarray] = ()
) -> list[Neighbours]:
    """Neighbours by the Euclidean distance of standardised features (n, d) and (m, d), over ``sqrt(2 d)``.

    ``excluded`` and what is returned are as in :func:`correlation_neighbours`.
    """
    distance = cdist(features, training) / np.sqrt(2 * features.shape[1])
    mirror = np.zeros(distance.shape, dtype=np.int8)
    return [_nearest(distance, mirror, pairs) for pairs in (None, *excluded)]


def _nearest(distance: np.ndarray, mirror: np.ndarray, excluded: np.ndarray | None) -> Neighbours:
    """The least of distances (n, m) and its mirror image, without pairs (n, m)."""
    if excluded is not None:
        distance = np.where(excluded, np.inf, distance)
    nearest = distance.argmin(axis=1)
    lines = np.arange(len(distance))
    return Neighbours(distance[lines, nearest].astype(np.float64), nearest, mirror[lines, nearest])


def share_nearer(synthetic: np.ndarray, real: np.ndarray, percentile: float) -> float:
    """Share of synthetic lesions nearer to a training lesion than the so many percent nearest of the real ones.

    Args:
        synthetic, real: (n,) and (m,) distances to the nearest training lesion; those of the real ones are finite.
        percentile: such as 1 or 5; so many percent are to be expected of lesions that copy nothing.
    """
    return float((synthetic < np.percentile(real, percentile)).mean())

"""How different the lesions of one set are from each other (section 4, figure 6: lower similarity is more diverse)."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np
from scipy.spatial.distance import pdist
from tqdm import tqdm

from ..lesion_crops import LesionCrop
from .image_quality import psnr, ssim

__all__ = ["feature_spread", "pair_similarity", "random_pairs", "repeated_pairs"]


def feature_spread(features: np.ndarray, counts: np.ndarray | None = None) -> float:
    """Mean distance between two lesions of a set in standardised features, over ``sqrt(2 d)``.

    The set that the features are standardised by has a root mean square of 1, and a mean slightly below.

    Args:
        features: (n, d), n at least 2.
        counts: (n,), how often each was drawn when the set is resampled; a lesion makes no pair with itself.
    """
    weights = np.ones(len(features)) if counts is None else np.asarray(counts, dtype=np.float64)
    first, second = np.triu_indices(len(features), 1)
    mean = np.average(pdist(features), weights=weights[first] * weights[second])
    return float(mean / np.sqrt(2 * features.shape[1]))


def random_pairs(count: int, most: int, seed: int = 0) -> list[tuple[int, int]]:
    """Pairs of different numbers below ``count``: all of them, or so many drawn without repetition."""
    pairs = list(itertools.combinations(range(count), 2))
    if len(pairs) <= most:
        return pairs
    return [pairs[i] for i in np.sort(np.random.default_rng(seed).choice(len(pairs), most, replace=False))]


def repeated_pairs(crops: Sequence[LesionCrop]) -> list[tuple[int, int]]:
    """Pairs of lesions painted into the same mask at the same place of a scan, as figure 6 compares them."""
    sites: dict[tuple[str, str], list[int]] = {}
    for number, crop in enumerate(crops):
        sites.setdefault((crop.patient, crop.site), []).append(number)
    return [pair for numbers in sites.values() for pair in itertools.combinations(numbers, 2)]


def pair_similarity(
    crops: Sequence[LesionCrop], pairs: Sequence[tuple[int, int]], progress: bool = False
) -> dict[str, np.ndarray]:
    """Similarity of lesions, centred on each other, where either lies.

    Returns:
        ``psnr`` in dB, infinite for equal lesions, and ``ssim``, each (number of pairs,), of values scaled by the
        window to [-1, 1].
    """
    found: dict[str, list[float]] = {"psnr": [], "ssim": []}
    for one, other in tqdm(pairs, desc="comparing pairs", delay=1, disable=not progress):
        union = crops[one].mask | crops[other].mask
        values = [crops[i].scaled(crops[i].values) for i in (one, other)]
        found["psnr"].append(psnr(*values, union))
        found["ssim"].append(ssim(*values, union)[1])
    return {name: np.array(values) for name, values in found.items()}

"""How close a painted lesion is to the real one (appendix D)."""

from __future__ import annotations

import math

import numpy as np
from scipy import ndimage
from skimage.metrics import structural_similarity

__all__ = ["fill_from_surroundings", "psnr", "ssim"]


def psnr(real: np.ndarray, painted: np.ndarray, mask: np.ndarray | None = None, data_range: float = 2.0) -> float:
    """Peak signal-to-noise ratio in dB, over all voxels or those of a mask; infinite where the two are equal.

    Args:
        real, painted: (X, Y, Z) in [-1, 1].
        mask: (X, Y, Z) bool.
        data_range: largest possible difference, 2 for [-1, 1].
    """
    error = (np.asarray(real, dtype=np.float64) - painted) ** 2
    mean = float((error[mask] if mask is not None else error).mean())
    return math.inf if mean == 0 else 10 * math.log10(data_range**2 / mean)


def ssim(real: np.ndarray, painted: np.ndarray, mask: np.ndarray, data_range: float = 2.0) -> tuple[float, float]:
    """Structural similarity (7-voxel window) averaged over the crop, and over the lesion's voxels.

    Returns:
        (crop, lesion), each at most 1.
    """
    score, local = structural_similarity(
        np.asarray(real, dtype=np.float64),
        np.asarray(painted, dtype=np.float64),
        data_range=data_range,
        full=True,
    )
    return float(score), float(local[mask].mean())


def fill_from_surroundings(image: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """The image without its lesion: each lesion voxel takes the value of the nearest voxel outside the mask."""
    indices = ndimage.distance_transform_edt(mask, return_distances=False, return_indices=True)
    return image[tuple(indices)]

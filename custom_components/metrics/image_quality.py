"""How close a painted lesion is to the real one (appendix D).

MONAI's PSNRMetric and SSIMMetric know no mask and its SSIM no crop thinner than the window; scikit-image's gives the
similarity of every voxel, of which the lesion's are taken here.
"""

from __future__ import annotations

import math

import numpy as np
from scipy import ndimage
from skimage.metrics import structural_similarity

__all__ = ["fill_from_surroundings", "psnr", "ssim"]

WINDOW = 7  # voxels along each axis, of the structural similarity


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

    An axis shorter than the window, such as the slices of a short stack, is padded by repeating its border.

    Returns:
        (crop, lesion), each at most 1.
    """
    padding = [(WINDOW // 2,) * 2 if size < WINDOW else (0, 0) for size in mask.shape]
    score, local = structural_similarity(
        *(np.pad(np.asarray(values, dtype=np.float64), padding, mode="edge") for values in (real, painted)),
        win_size=WINDOW,
        data_range=data_range,
        full=True,
    )
    own = tuple(slice(before, before + size) for (before, _), size in zip(padding, mask.shape, strict=True))
    return float(score), float(local[own][mask].mean())


def fill_from_surroundings(image: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """The image without its lesion: each lesion voxel takes the value of the nearest voxel outside the mask."""
    indices = ndimage.distance_transform_edt(mask, return_distances=False, return_indices=True)
    return image[tuple(indices)]

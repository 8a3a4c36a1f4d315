"""First-order, shape and texture features of a lesion, after the families that radiomics sorts them into."""

from __future__ import annotations

import numpy as np
from scipy import ndimage, stats
from skimage.feature import graycomatrix, graycoprops

from ..lesion_crops import LesionCrop
from .shapes import SHAPE_MEASURES, shape_measures

__all__ = ["FIRST_ORDER", "LESION_FEATURES", "SHAPE", "TEXTURE", "lesion_features"]

FIRST_ORDER = ("mean", "deviation", "skewness", "kurtosis", "percentile_10", "percentile_90", "entropy", "contrast")
SHAPE = ("log_volume", *SHAPE_MEASURES)
TEXTURE = ("glcm_contrast", "glcm_homogeneity", "glcm_energy", "glcm_correlation", "glcm_entropy")
LESION_FEATURES = (*FIRST_ORDER, *SHAPE, *TEXTURE)

LEVELS = 16  # grey levels over the window, as many as the texture histogram's bins
SHELL_MM = 3.0  # around a lesion, that it is contrasted with
ANGLES = (0.0, np.pi / 4, np.pi / 2, 3 * np.pi / 4)


def lesion_features(crop: LesionCrop) -> np.ndarray:
    """The features of a lesion, in the order of :data:`LESION_FEATURES`.

    First-order features are those of the voxels in the mask, in the scan's units; ``contrast`` is their mean less that
    of a shell of 3 mm around it, ``entropy`` (bits) that of 16 levels over the window. Texture features are those of
    the grey-level co-occurrence matrix of voxels next to each other within the mask, over the directions along the axes
    and the diagonals of the planes; without such a pair (a lesion of one voxel) they are those of an even texture.

    Returns:
        (18,) float64.
    """
    return np.array([*_first_order(crop), *_shape(crop), *_texture(crop)])


def _first_order(crop: LesionCrop) -> list[float]:
    values = crop.tight_values[crop.tight_mask].astype(np.float64)
    deviation = float(values.std())
    even = deviation < 1e-6 * max(1.0, abs(float(values.mean())))
    distance = ndimage.distance_transform_edt(~crop.tight_mask, sampling=crop.spacing_mm)
    shell = crop.tight_values[(distance > 0) & (distance <= max(SHELL_MM, *crop.spacing_mm))]
    counts = np.bincount(_levels(crop)[crop.tight_mask], minlength=LEVELS)
    return [
        float(values.mean()),
        deviation,
        0.0 if even else float(stats.skew(values)),
        0.0 if even else float(stats.kurtosis(values)),
        *(float(v) for v in np.percentile(values, (10, 90))),
        float(stats.entropy(counts, base=2)),
        float(values.mean() - shell.mean()),
    ]


def _shape(crop: LesionCrop) -> list[float]:
    measures = shape_measures(crop.tight_mask, np.diag([*crop.spacing_mm, 1.0]))
    return [float(np.log(measures["volume_mm3"])), *(measures[name] for name in SHAPE_MEASURES)]


def _texture(crop: LesionCrop) -> list[float]:
    # Level 0 stands for what is outside the mask; its row and column are left out of the matrix.
    levels = np.where(crop.tight_mask, _levels(crop) + 1, 0).astype(np.uint8)
    total = np.zeros((LEVELS, LEVELS))
    for axis in range(3):
        for plane in np.moveaxis(levels, axis, 0):
            if plane.any():
                matrix = graycomatrix(plane, [1], ANGLES, levels=LEVELS + 1, symmetric=True)
                total += matrix[1:, 1:].sum(axis=(2, 3))
    if not total.any():
        total[0, 0] = 1
    total /= total.sum()
    measures = (graycoprops(total[:, :, None, None], name) for name in ("contrast", "homogeneity", "energy"))
    measures = [float(values[0, 0]) for values in measures]
    return [*measures, float(graycoprops(total[:, :, None, None], "correlation")[0, 0]), _entropy(total)]


def _entropy(matrix: np.ndarray) -> float:
    return float(stats.entropy(matrix.ravel(), base=2))


def _levels(crop: LesionCrop) -> np.ndarray:
    """Grey levels 0 to 15 over the window."""
    return np.clip((crop.scaled(crop.tight_values) + 1) / 2 * LEVELS, 0, LEVELS - 1).astype(int)

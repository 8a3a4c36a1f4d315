"""How well a segmentation agrees with its reference."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from monai.metrics import compute_dice, compute_surface_dice

__all__ = ["dice", "mean_and_spread", "surface_dice"]


def dice(predicted: np.ndarray, reference: np.ndarray) -> float:
    """Dice coefficient of two masks (X, Y, Z) bool, 0 to 1: twice the overlap over the sum of the volumes.

    NaN where both are empty: such a case says nothing. 0 where one of them is.
    """
    if not (predicted.any() or reference.any()):
        return float("nan")
    return float(compute_dice(*_batches(predicted, reference), include_background=True, ignore_empty=False))


def surface_dice(
    predicted: np.ndarray, reference: np.ndarray, spacing_mm: Sequence[float], tolerance_mm: float
) -> float:
    """Normalised surface Dice (NSD) of two masks (X, Y, Z) bool, 0 to 1.

    The share of both masks' border voxels that lie within ``tolerance_mm`` of the other mask's border (MONAI's
    ``compute_surface_dice``, counting border voxels). NaN where both are empty, 0 where one of them is.

    Args:
        predicted, reference: masks on one grid.
        spacing_mm: voxel size along each axis.
        tolerance_mm: distance up to which a border voxel is right.
    """
    if not (predicted.any() and reference.any()):
        return 0.0 if predicted.any() or reference.any() else float("nan")
    spacing = [float(size) for size in spacing_mm]
    masks = _batches(predicted, reference)
    return float(compute_surface_dice(*masks, [float(tolerance_mm)], include_background=True, spacing=spacing))


def _batches(*masks: np.ndarray) -> list[torch.Tensor]:
    return [torch.from_numpy(np.ascontiguousarray(mask)).float()[None, None] for mask in masks]


def mean_and_spread(values: Sequence[float]) -> dict[str, float | int | None]:
    """Mean, standard deviation (of a sample, n - 1; 0 for a single one) and number of the values that are no NaN.

    JSON knows no NaN: without any value, mean and deviation are None.
    """
    found = np.array([value for value in values if not np.isnan(value)], dtype=np.float64)
    if not found.size:
        return {"mean": None, "sd": None, "n": 0}
    spread = float(found.std(ddof=1)) if found.size > 1 else 0.0
    return {"mean": float(found.mean()), "sd": spread, "n": int(found.size)}

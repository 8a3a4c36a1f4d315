"""The grey levels of real lesions that Hand-Crafted texture is drawn around."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from scipy import ndimage

from ..errors import InputError

__all__ = ["core_moments", "level_ranges", "read_levels"]

CORE = 0.75  # of the smoothed mask's largest value: nearer to the border a voxel is part lesion, part surroundings
PERCENTILES = (10, 90)


def core_moments(image: np.ndarray, mask: np.ndarray, softness: float = 1.0, in_plane: bool = False) -> np.ndarray:
    """Mean and standard deviation of a lesion's core, clear of its soft border: (2,).

    Args:
        image: (X, Y, Z), normalised.
        mask: (X, Y, Z) bool, not empty.
        softness: standard deviation in voxels of the Gaussian filter on the mask.
        in_plane: smooth along the first two axes only.
    """
    weight = ndimage.gaussian_filter(mask.astype(np.float64), (softness, softness, 0 if in_plane else softness))
    weight[~mask] = 0
    core = image[weight >= CORE * weight.max()]
    return np.array([core.mean(), core.std()])


def level_ranges(moments: Sequence[np.ndarray]) -> dict[str, list[float]]:
    """``{"mean": [low, high], "std": [low, high]}``: the 10th and 90th percentile over lesions' moments (2,) each."""
    ranges = np.percentile(np.stack(moments), PERCENTILES, axis=0).T.round(2) + 0.0  # no -0.0
    return dict(zip(("mean", "std"), ranges.tolist(), strict=True))


def read_levels(path: str | Path) -> Mapping[str, Mapping[str, Any]]:
    """The ``levels`` of a file of ``lefusion fit_texture_levels``; InputError where it is none."""
    try:
        content = json.loads(Path(path).read_text())
    except (OSError, ValueError) as error:
        raise InputError(f"cannot read the texture levels {path}: {error}.") from error
    levels = content.get("levels") if isinstance(content, dict) else None
    if not isinstance(levels, dict) or not all(isinstance(ranges, dict) for ranges in levels.values()):
        raise InputError(f"{path} holds no texture levels: a dictionary under 'levels' with one for each lesion class.")
    return levels

"""Data sets of made-up lesions: noisy ellipsoids of differing size, brightness and place, one a scan."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import nibabel as nib
import numpy as np
from scipy import ndimage

from custom_components.lesion_crops import LesionCrop, list_set, read_crops

SHAPE = (24, 24, 24)
AFFINE = np.diag([-1.0, -1.0, 1.0, 1.0])


def made_up_lesion(seed: int, brightness: float = 0.0) -> tuple[np.ndarray, np.ndarray]:
    """HU (24, 24, 24) int16 and mask uint8 of a lesion with smooth texture in even surroundings."""
    rng = np.random.default_rng(seed)
    axes, centre = rng.uniform(2.5, 5.5, 3), 11.5 + rng.uniform(-2, 2, 3)
    grid = np.indices(SHAPE)
    offset = (grid - centre.reshape(3, 1, 1, 1)) / axes.reshape(3, 1, 1, 1)
    mask = (offset**2).sum(axis=0) <= 1
    texture = ndimage.gaussian_filter(rng.normal(size=SHAPE), rng.uniform(0.7, 1.6))
    inside = rng.uniform(-500, 0) + brightness + rng.uniform(60, 160) * texture / texture.std()
    hu = np.where(mask, inside, -850 + 30 * rng.normal(size=SHAPE))
    return hu.astype(np.int16), mask.astype(np.uint8)


def write_lesions(root: Path, names: Sequence[str], seeds: Sequence[int], brightness: float = 0.0) -> Path:
    """A data set with images/ and labels/: of each name the lesion of its seed."""
    for folder in ("images", "labels"):
        (root / folder).mkdir(parents=True, exist_ok=True)
    for name, seed in zip(names, seeds, strict=True):
        for folder, values in zip(("images", "labels"), made_up_lesion(seed, brightness), strict=True):
            nib.save(nib.Nifti1Image(values, AFFINE), root / folder / f"{name}.nii.gz")
    return root


def made_up_crops(root: Path, names: Sequence[str], seeds: Sequence[int], size: int = 20) -> list[LesionCrop]:
    """The lesions as they are compared."""
    return read_crops(list_set(write_lesions(root, names, seeds)), "set", size=size, progress=False)

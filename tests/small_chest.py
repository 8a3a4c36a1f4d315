"""A small chest scan with two lesions in it, and ways that its grid may lie."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from bundle_runs import RAS, save_nifti

# A scan of 36 x 32 x 30 voxels with two lesions, (centre, radius) in voxels: 9 and 8 voxels wide.
SHAPE = (36, 32, 30)
LESIONS = (((12, 13, 9), 4.0), ((24.5, 20.5, 20.5), 3.7))


def affine_of(spacing: Sequence[float], flips: Sequence[int] = (1, 1, 1), tilt_degrees: float = 0.0) -> np.ndarray:
    """Voxel indices to RAS+ mm: voxel size, direction of each axis, and a rotation about two axes."""
    angle = np.deg2rad(tilt_degrees)
    cos, sin = np.cos(angle), np.sin(angle)
    about_x = np.array([[1, 0, 0], [0, cos, -sin], [0, sin, cos]])
    about_z = np.array([[cos, -sin, 0], [sin, cos, 0], [0, 0, 1]])
    affine = np.eye(4)
    affine[:3, :3] = about_x @ about_z @ np.diag(np.multiply(spacing, flips))
    affine[:3, 3] = (31.5, -12.25, 140)
    return affine


def chest(shape: Sequence[int] = SHAPE) -> np.ndarray:
    """Lung of about -850 HU with noise, and a wall of +40 HU; int16."""
    values = np.random.default_rng(0).normal(-850, 30, shape)
    values[:4] = 40
    return np.rint(values).astype(np.int16)


def balls(
    shape: Sequence[int] = SHAPE, lesions: Sequence = LESIONS, spacing: Sequence[float] = (1, 1, 1)
) -> np.ndarray:
    """A mask of balls, (centre in voxels, radius in mm); bool."""
    grid = np.indices(shape).astype(float)
    mask = np.zeros(shape, dtype=bool)
    for centre, radius in lesions:
        offset = (grid - np.reshape(centre, (3, 1, 1, 1))) * np.reshape(spacing, (3, 1, 1, 1))
        mask |= (offset**2).sum(axis=0) <= radius**2
    return mask


def save_case(
    folder: Path, stored: np.ndarray | None = None, mask: np.ndarray | None = None, affine: np.ndarray = RAS, **how: Any
) -> dict[str, str]:
    """A scan ``case.nii.gz`` and its mask, as the bundle's ``image`` and ``mask`` keys."""
    image = save_nifti(folder / "case.nii.gz", chest() if stored is None else stored, affine, **how)
    label = save_nifti(folder / "label.nii.gz", (balls() if mask is None else mask).astype(np.uint8), affine)
    return {"image": str(image), "mask": str(label)}


GEOMETRIES = {
    "axis-aligned": affine_of((1, 1, 1)),
    "negative diagonal": affine_of((1, 1, 1), flips=(-1, -1, 1)),
    "anisotropic": affine_of((0.7, 0.7, 5), flips=(-1, -1, 1)),
    "oblique": affine_of((0.9, 0.8, 1.25), flips=(-1, 1, 1), tilt_degrees=17),
    "permuted axes": affine_of((1.5, 0.8, 0.9))[:, [2, 0, 1, 3]],
}

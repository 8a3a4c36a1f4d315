"""Small made-up chests: a body with two air-filled lungs, in air."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from bundle_runs import save_nifti

SPACING_MM = 2.0


def lungs(shape: tuple[int, int, int] = (88, 64, 64)) -> np.ndarray:
    """Two ellipsoids, (X, Y, Z) bool."""
    place = np.indices(shape) - (np.array(shape).reshape(3, 1, 1, 1) - 1) / 2
    halves = np.array([0.17 * shape[0], 0.3 * shape[1], 0.42 * shape[2]]).reshape(3, 1, 1, 1)
    found = np.zeros(shape, bool)
    for side in (-1, 1):
        offset = np.array([side * 0.22 * shape[0], 0, 0]).reshape(3, 1, 1, 1)
        found |= (((place - offset) / halves) ** 2).sum(axis=0) <= 1
    return found


def chest(seed: int = 0, shape: tuple[int, int, int] = (88, 64, 64)) -> np.ndarray:
    """HU (X, Y, Z) int16: air around a body, lungs in it."""
    place = np.indices(shape[:2]) - (np.array(shape[:2]).reshape(2, 1, 1) - 1) / 2
    body = ((place / (np.array(shape[:2]) * 0.46).reshape(2, 1, 1)) ** 2).sum(axis=0) <= 1
    values = np.where(body[..., None], 40.0, -1000.0) * np.ones(shape)
    values[lungs(shape)] = -850
    noise = np.random.default_rng(seed).normal(0, 20, shape)
    return np.rint(values + noise).astype(np.int16)


def affine() -> np.ndarray:
    """Voxels of ``SPACING_MM``, the second axis towards the patient's back as CT has it."""
    matrix = np.diag([-SPACING_MM, -SPACING_MM, SPACING_MM, 1.0])
    matrix[:3, 3] = (80, 60, -300)
    return matrix


def save_chests(folder: Path, names: str = "abc") -> Path:
    """A chest of its own for each name, below ``folder``."""
    for seed, name in enumerate(names):
        save_nifti(folder / f"{name}.nii.gz", chest(seed), affine())
    return folder

"""Small stacks of thick slices with two lesion classes, stored in any orientation: what several test files need."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import nibabel as nib
import numpy as np

from custom_components.labels import LesionLabels

LABELS = LesionLabels({"scar": 3, "core": 4}, {"pool": 1, "wall": 2}, joint=True, centre_on=("wall", "scar", "core"))
SPACING = (1.5, 1.5, 8.0)
# Every way to store a volume: the array axis that each axis becomes, and its direction.
STORED_WAYS = [
    np.column_stack([order, signs])
    for order in itertools.permutations(range(3))
    for signs in itertools.product((1, -1), repeat=3)
]
TILTS = {"straight": (0, 0, 0), "oblique": (20, -35, 12), "short axis": (-38, 30, -20)}


def affine_of(
    tilt_degrees: Sequence[float] = TILTS["oblique"],
    spacing: Sequence[float] = SPACING,
    origin: Sequence[float] = (-31.7, 12.3, 95.1),
) -> np.ndarray:
    """Voxel indices to RAS+ mm of a volume that is turned about x, then y, then z."""
    turned = np.eye(3)
    for axis, degrees in enumerate(tilt_degrees):
        cos, sin = np.cos(np.deg2rad(degrees)), np.sin(np.deg2rad(degrees))
        step = np.eye(3)
        a, b = [k for k in range(3) if k != axis]
        step[a, a], step[a, b], step[b, a], step[b, b] = cos, -sin, sin, cos
        turned = step @ turned
    return nib.affines.from_matvec(turned @ np.diag(spacing), origin)


def stored_as(volume: np.ndarray, affine: np.ndarray, way: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The same volume with its array axes permuted and flipped: (X, Y, Z) and its affine, every voxel where it was."""
    axes = np.argsort(way[:, 0])
    stored = volume.transpose(axes)
    step, origin = affine[:3, :3][:, axes].copy(), affine[:3, 3].copy()
    for axis, source in enumerate(axes):
        if way[source, 1] < 0:
            stored = np.flip(stored, axis)
            origin += step[:, axis] * (stored.shape[axis] - 1)
            step[:, axis] *= -1
    return np.ascontiguousarray(stored), nib.affines.from_matvec(step, origin)


def ring(shape: Sequence[int] = (28, 26, 6), core: bool = True, lesion: bool = True) -> np.ndarray:
    """A label map of a ring-shaped wall (2) around a pool (1), with scar (3) and, within it, a core (4); uint8."""
    x, y, z = np.indices(shape)
    radius = np.hypot(x - 14, y - 12)
    label = np.where(radius < 4.5, 1, np.where(radius < 8.5, 2, 0)).astype(np.uint8)
    label[..., 0] = 0
    scar = (label == 2) & (x >= 15) & (y >= 10) & (z >= 2) & (z <= 4)
    if lesion:
        label[scar] = 3
    if lesion and core:
        label[scar & (radius > 5.5) & (radius < 7) & (z == 3)] = 4
    return label


def signal(label: np.ndarray, seed: int = 0, bright: int = 200) -> np.ndarray:
    """A scan of a label map: dark wall, bright pool, scar and core between, noise; whole numbers within 0 and 255."""
    noise = np.random.default_rng(seed).normal(0, 12, label.shape)
    values = np.array([90, 150, 40, bright, 100])[label] + noise
    return np.rint(values).clip(0, 255)

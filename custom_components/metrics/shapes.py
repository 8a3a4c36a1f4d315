"""Shape of a mask in a few numbers, and how far two sets of masks lie apart in them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from scipy.stats import wasserstein_distance
from skimage import measure

from ..masks import bounding_sphere

__all__ = ["SHAPE_MEASURES", "shape_distances", "shape_measures"]

SHAPE_MEASURES = ("sphericity", "sphere_fill", "surface_to_volume", "elongation")


def shape_measures(mask: np.ndarray, affine: np.ndarray) -> dict[str, float]:
    """Shape of a mask; the surface is that of marching cubes on the mask itself.

    Args:
        mask: (X, Y, Z) bool, not empty.
        affine: voxel indices to mm, along the axes.

    Returns:
        volume_mm3; radius_mm of the smallest enclosing sphere; sphericity ``pi^(1/3) (6 V)^(2/3) / A``, 1 for a ball;
        sphere_fill, the volume's share of that sphere; surface_to_volume in 1/mm; elongation, the square root of the
        least over the largest variance of the voxels' places along an axis, 1 for a ball.
    """
    spacing = np.sqrt((affine[:3, :3] ** 2).sum(axis=0))
    volume = float(mask.sum()) * float(np.prod(spacing))
    vertices, faces, _, _ = measure.marching_cubes(np.pad(mask.astype(np.float32), 1), 0.5, spacing=tuple(spacing))
    surface = float(measure.mesh_surface_area(vertices, faces))
    _, radius = bounding_sphere(mask, affine)
    places = np.argwhere(mask) * spacing
    # A voxel is no point: it spreads along each axis by spacing^2 / 12.
    variances = np.linalg.eigvalsh(np.cov(places.T, bias=True) + np.diag(spacing**2 / 12))
    return {
        "volume_mm3": volume,
        "radius_mm": radius,
        "sphericity": np.pi ** (1 / 3) * (6 * volume) ** (2 / 3) / surface,
        "sphere_fill": volume / (4 / 3 * np.pi * radius**3),
        "surface_to_volume": surface / volume,
        "elongation": float(np.sqrt(variances[0] / variances[-1])),
    }


def shape_distances(first: Sequence[Mapping[str, float]], second: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Wasserstein distance between two sets of masks in each of :data:`SHAPE_MEASURES`."""
    return {
        name: float(wasserstein_distance([one[name] for one in first], [one[name] for one in second]))
        for name in SHAPE_MEASURES
    }

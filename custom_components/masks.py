"""Control sphere, and what is done to a drawn mask (section 3.3)."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence

import numpy as np
from scipy import ndimage
from scipy.optimize import minimize
from scipy.spatial import ConvexHull, QhullError

__all__ = ["bounding_sphere", "enclosing_sphere", "smooth_masks", "sphere_channel", "tidy_masks"]


def enclosing_sphere(points: np.ndarray) -> tuple[np.ndarray, float]:
    """The smallest sphere around points (N, 3): centre (3,) and radius, to about 1e-6 of the radius.

    With c the centre and s = R^2 - |c|^2, R^2 is least where |c|^2 + s is, under ``s + 2 p.c >= |p|^2`` for every point
    p: a convex quadratic program. It is solved for a few points at a time, joined by the farthest of the others until
    none lies outside.
    """
    points = np.unique(np.asarray(points, dtype=np.float64), axis=0)
    if len(points) > 50:
        with contextlib.suppress(QhullError):  # which it raises where all of them lie in a plane
            points = points[ConvexHull(points).vertices]
    middle = points.mean(axis=0)
    scale = np.sqrt(((points - middle) ** 2).sum(axis=1).max())
    if scale == 0:
        return middle, 0.0
    unit = (points - middle) / scale
    squares = (unit**2).sum(axis=1)
    active = [int(squares.argmax())]
    centre = np.zeros(3)
    for _ in range(len(unit)):
        distances = np.linalg.norm(unit - centre, axis=1)
        farthest = int(distances.argmax())
        if farthest in active and len(active) > 1:
            break
        if farthest not in active:
            active.append(farthest)
        chosen, wanted = unit[active], squares[active]
        result = minimize(
            lambda v: v[:3] @ v[:3] + v[3],
            [*centre, wanted.max()],
            jac=lambda v: np.array([*(2 * v[:3]), 1.0]),
            constraints={
                "type": "ineq",
                "fun": lambda v, p=chosen, w=wanted: v[3] + 2 * p @ v[:3] - w,
                "jac": lambda v, p=chosen: np.hstack([2 * p, np.ones((len(p), 1))]),
            },
            method="SLSQP",
            options={"ftol": 1e-14, "maxiter": 200},
        )
        centre = result.x[:3]
    radius = float(np.linalg.norm(unit - centre, axis=1).max())
    return middle + scale * centre, scale * radius


def bounding_sphere(mask: np.ndarray, affine: np.ndarray) -> tuple[np.ndarray, float]:
    """The control sphere of a mask: the smallest sphere around the middles of its voxels' faces.

    Args:
        mask: (X, Y, Z) bool, not empty.
        affine: voxel indices to mm.

    Returns:
        Centre (3,) in mm and radius in mm.
    """
    surface = mask & ~ndimage.binary_erosion(mask)  # what lies deeper cannot touch the sphere
    voxels = np.argwhere(surface)
    half = np.concatenate([0.5 * np.eye(3), -0.5 * np.eye(3)])
    faces = (voxels[:, None] + half).reshape(-1, 3)
    return enclosing_sphere(faces @ affine[:3, :3].T + affine[:3, 3])


def sphere_channel(
    centre_mm: Sequence[float],
    radius_mm: float,
    affine: np.ndarray,
    shape: Sequence[int],
    falloff_mm: float = 10.0,
) -> np.ndarray:
    """The control sphere as a network sees it: the signed distance to it, positive inside.

    Unlike a binary ball it tells every voxel where the sphere is, to a fraction of a voxel, and how large a voxel is.

    Args:
        centre_mm, radius_mm: of the sphere.
        affine: of the crop, voxel indices to mm.
        shape: of the crop.
        falloff_mm: distance at which the channel becomes 1 or -1; 0 makes it a binary ball of 1 and -1, as published.

    Returns:
        (X, Y, Z) float32, ``(r - |p - c|) / falloff`` at the voxel's place p, within [-1, 1].
    """
    index = np.indices(tuple(shape)).reshape(3, -1)
    offset = affine[:3, :3] @ index + (affine[:3, 3] - np.asarray(centre_mm, dtype=np.float64))[:, None]
    distance = np.linalg.norm(offset, axis=0).reshape(tuple(shape))
    if falloff_mm == 0:
        return np.where(distance <= radius_mm, 1, -1).astype(np.float32)
    return np.clip((radius_mm - distance) / falloff_mm, -1, 1).astype(np.float32)


def smooth_masks(values: np.ndarray, sigma: Sequence[float]) -> np.ndarray:
    """The smoothing kernel of section 3.3: a Gaussian over drawn values (n, X, Y, Z).

    Args:
        values: in [-1, 1], lesion above 0.
        sigma: standard deviation along each axis in voxels; 0 for none.
    """
    if not any(sigma):
        return values
    return np.stack([ndimage.gaussian_filter(value, sigma, mode="nearest") for value in values])


def tidy_masks(values: np.ndarray, fill_holes: bool = True, largest_component: bool = False) -> np.ndarray:
    """Masks of drawn values: one class a voxel, without holes, in one piece where asked for.

    Args:
        values: (n, X, Y, Z), lesion above 0.
        fill_holes: a hole in the union of the classes becomes the class that is likeliest there.
        largest_component: keep the union's largest component (26 neighbours) only.

    Returns:
        (n, X, Y, Z) bool, not overlapping.
    """
    union = values.max(axis=0) > 0
    if fill_holes:
        union = ndimage.binary_fill_holes(union)
    if largest_component and union.any():
        labels, _ = ndimage.label(union, np.ones((3, 3, 3)))
        union = labels == np.bincount(labels[union]).argmax()
    classes = np.arange(len(values)).reshape(-1, 1, 1, 1)
    return union & (values.argmax(axis=0) == classes)

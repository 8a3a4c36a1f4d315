"""Where a voxel lies in the wall of the left ventricle, whatever the heart's size: angle, depth and height.

The three numbers are those that cardiac models commonly use (rotational, transmural, apicobasal), worked out slice by
slice from a label map of a short-axis stack alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy import ndimage

__all__ = ["WallSlice", "WallStack", "wall_stack"]


@dataclass(frozen=True)
class WallSlice:
    """The M wall voxels of one slice.

    Attributes:
        index: (M, 3) voxel indices into the label map.
        angle: (M,) radians around the slice's centre, in [-pi, pi], once the ellipse that fits the slice has been
            made a circle: 0 along the stack's first in-plane axis, pi / 2 along its second.
        depth: (M,) in (0, 1), from the cavity's edge to the outer edge.
        cavity_radius_mm, thickness_mm: of the ring that has the same areas as cavity and wall.
        voxel_mm: width of the square that has the same area as a voxel.
    """

    index: np.ndarray
    angle: np.ndarray
    depth: np.ndarray
    cavity_radius_mm: float
    thickness_mm: float
    voxel_mm: float


@dataclass(frozen=True)
class WallStack:
    """The slices that hold wall, from the apex to the base.

    Attributes:
        slices: one entry for each. The relative height of number n of N is (n + 1/2) / N.
        axes: (2, 3) orthogonal unit vectors in RAS+ that span the slices; angles turn from the first to the second.
    """

    slices: tuple[WallSlice, ...]
    axes: np.ndarray


def wall_stack(labels: np.ndarray, affine: np.ndarray, cavity: int, wall: Sequence[int]) -> WallStack:
    """Angle, depth and height of every wall voxel of a short-axis stack.

    The slices lie along the array axis with the widest spacing (the last one where all are equal). Apex is the end
    with the smaller cross-sections.

    Args:
        labels: (X, Y, Z) whole numbers.
        affine: 4x4, voxel indices to RAS+ mm.
        cavity: the label of the ventricle's cavity.
        wall: the labels that make up the wall: myocardium and whatever lies in it.
    """
    spacing = np.sqrt((affine[:3, :3] ** 2).sum(axis=0))
    through = 2 - int(np.argmax(np.round(spacing, 3)[::-1]))
    plane = [axis for axis in range(3) if axis != through]
    first, second = (affine[:3, axis] for axis in plane)
    first = first / np.linalg.norm(first)
    second = second - (second @ first) * first
    axes = np.stack([first, second / np.linalg.norm(second)])

    stacked = np.moveaxis(labels, through, -1)
    is_wall, is_cavity = np.isin(stacked, wall), stacked == cavity
    numbers = np.flatnonzero(is_wall.any(axis=(0, 1)))
    areas, half = (is_wall | is_cavity)[..., numbers].sum(axis=(0, 1)), len(numbers) // 2
    if half and areas[:half].sum() > areas[-half:].sum():
        numbers = numbers[::-1]
    to_mm = axes @ affine[:3, plane]
    slices = []
    for number in numbers:
        ring = _wall_slice(is_wall[..., number], is_cavity[..., number], to_mm)
        slices.append(replace(ring, index=np.insert(ring.index, through, number, axis=1)))
    return WallStack(tuple(slices), axes)


def _wall_slice(wall: np.ndarray, cavity: np.ndarray, to_mm: np.ndarray) -> WallSlice:
    """One slice (X, Y); ``to_mm`` (2, 2) takes in-plane indices to mm. Its indices are in-plane, (M, 2)."""
    spacing = np.sqrt((to_mm**2).sum(axis=0))
    centre = np.argwhere(cavity if cavity.any() else wall).mean(axis=0)
    if not cavity.any():  # towards the apex the cavity ends first: the middle of the wall takes its place
        cavity = np.zeros_like(wall)
        cavity[tuple(np.rint(centre).astype(int))] = True
    index = np.argwhere(wall)
    x, y = _rounding(to_mm @ (np.argwhere(wall | cavity) - centre).T) @ to_mm @ (index - centre).T
    heart = np.pad(ndimage.binary_fill_holes(wall | cavity), 1)
    outward = ndimage.distance_transform_edt(heart, sampling=spacing)[1:-1, 1:-1][wall]
    inward = ndimage.distance_transform_edt(~cavity, sampling=spacing)[wall]
    # Distances end at the middle of the nearest voxel beyond the edge; the edge is half a voxel before it.
    voxel = spacing.min()
    inward, outward = np.maximum(inward - voxel / 2, voxel / 4), outward - voxel / 2
    voxel_mm2 = abs(np.linalg.det(to_mm))
    inner, outer = (float(np.sqrt(area.sum() * voxel_mm2 / np.pi)) for area in (cavity, wall | cavity))
    depth = inward / (inward + outward)
    return WallSlice(index, np.arctan2(y, x), depth, inner, outer - inner, float(np.sqrt(voxel_mm2)))


def _rounding(points: np.ndarray) -> np.ndarray:
    """The stretch without rotation, (2, 2), that makes the ellipse of some points (2, M) a circle."""
    variance, directions = np.linalg.eigh(points @ points.T / points.shape[1])
    if not variance[0] > 1e-6 * variance[1]:  # a single row of voxels
        return np.eye(2)
    return directions / np.sqrt(variance) @ directions.T

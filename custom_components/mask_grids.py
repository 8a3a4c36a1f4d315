"""From a control sphere to the model's grid around it, and from there onto the scan's grid."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from .grids import covering_box, crop_affine, from_crop, shifted
from .masks import bounding_sphere, smooth_masks, tidy_masks

__all__ = ["mask_crop_affine", "masks_on_grid"]


def mask_crop_affine(
    centre_mm: Sequence[float],
    radius_mm: float,
    scan_affine: np.ndarray,
    spatial_size: Sequence[int],
    radius_voxels: float | None = None,
    spacing_mm: Sequence[float] | None = None,
) -> np.ndarray:
    """Affine (4x4) of a crop with the control sphere in its middle.

    Args:
        centre_mm, radius_mm: the control sphere.
        scan_affine: of the scan, voxel indices to mm.
        spatial_size: voxels of the crop.
        radius_voxels: the crop's voxels are so large that the sphere's radius is that many of them, along RAS+: small
            and large lesions are drawn in equal detail. None for a fixed voxel size.
        spacing_mm: that fixed size; None for the scan's own grid (see :func:`~custom_components.grids.crop_affine`).
    """
    if radius_voxels is None:
        return crop_affine(centre_mm, scan_affine, spatial_size, spacing_mm)
    spacing = radius_mm / radius_voxels
    affine = np.diag([spacing, spacing, spacing, 1.0])
    affine[:3, 3] = np.asarray(centre_mm) - spacing * (np.array(spatial_size) - 1) / 2
    return affine


def masks_on_grid(
    values: np.ndarray,
    affine: np.ndarray,
    scan_affine: np.ndarray,
    scan_shape: Sequence[int],
    boundary: np.ndarray | None = None,
    smoothing: Sequence[float] = (0, 0, 0),
    fill_holes: bool = True,
    largest_component: bool = False,
    sphere: tuple[Sequence[float], float] | None = None,
) -> tuple[tuple[slice, ...], np.ndarray]:
    """Drawn values as masks on the scan's grid, never outside the boundary.

    A lesion so thin that it passes between the scan's voxel centres becomes the allowed voxel nearest to its middle.

    Args:
        values: (n, x, y, z) in [-1, 1] on the crop, lesion above 0.
        affine: of the crop, voxel indices to mm.
        scan_affine, scan_shape: of the scan.
        boundary: (X, Y, Z) bool on the scan's grid; None for everywhere.
        smoothing: see :func:`~custom_components.masks.smooth_masks`, in voxels of the crop.
        fill_holes, largest_component: see :func:`~custom_components.masks.tidy_masks`.
        sphere: control sphere (centre and radius in mm) to which the drawn lesion is moved and scaled, where the
            boundary leaves it room; None puts it where it was drawn.

    Returns:
        A box of the scan and the masks in it, (n, *box) bool, not overlapping.
    """
    values = smooth_masks(values, smoothing)
    if sphere is not None and (values > 0).any():
        box = covering_box(affine, values.shape[1:], scan_affine, scan_shape, margin=0)
        if boundary is None or boundary[box].all():
            affine = _onto_sphere(affine, tidy_masks(values, fill_holes, largest_component), sphere)
    box = covering_box(affine, values.shape[1:], scan_affine, scan_shape, margin=0)
    allowed = True if boundary is None else boundary[box]
    on_scan = np.stack([from_crop(value, affine, scan_affine, box) for value in values])
    on_scan = np.where(allowed, on_scan, -1)
    drawn = np.argwhere(values > 0)
    free = np.argwhere(np.broadcast_to(allowed, on_scan.shape[1:]))
    if len(drawn) and len(free) and on_scan.max() <= 0:
        places_mm = free @ scan_affine[:3, :3].T + shifted(scan_affine, box)[:3, 3]
        middle_mm = (affine @ [*drawn[:, 1:].mean(axis=0), 1.0])[:3]
        on_scan[(drawn[0, 0], *free[np.linalg.norm(places_mm - middle_mm, axis=1).argmin()])] = 1
    return box, tidy_masks(on_scan, fill_holes, largest_component) & allowed


def _onto_sphere(affine: np.ndarray, masks: np.ndarray, sphere: tuple[Sequence[float], float]) -> np.ndarray:
    """The crop's affine moved and scaled so that the smallest sphere around its masks is the one given."""
    (wanted, wanted_radius), (centre, radius) = sphere, bounding_sphere(masks.any(axis=0), affine)
    factor = wanted_radius / radius
    out = affine.copy()
    out[:3, :3] *= factor
    out[:3, 3] = np.asarray(wanted) + factor * (affine[:3, 3] - centre)
    return out

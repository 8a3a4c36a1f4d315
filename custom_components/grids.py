"""From a scan's own grid to the model's crop around a lesion, and back."""

from __future__ import annotations

from collections.abc import Sequence

import nibabel as nib
import numpy as np
from scipy import ndimage

__all__ = [
    "box_extent",
    "covering_box",
    "crop_affine",
    "crop_axes",
    "from_crop",
    "resample",
    "shifted",
    "through_plane_last",
    "to_crop",
    "turn",
]

THICK_SLICES = 2.0  # a stack whose slices are this many times thicker than its pixels are wide is one of thick slices


def through_plane_last(affine: np.ndarray) -> np.ndarray:
    """How to turn a volume to the axes closest to RAS+, as nibabel's orientation (3, 2); no resampling is needed.

    The slices of a thick stack always come last, however it lies in the body: a short-axis stack of the heart is
    oblique, and its through-plane direction may be closest to any of the patient's axes.
    """
    orientation = nib.orientations.io_orientation(affine)
    spacing = nib.affines.voxel_sizes(affine)
    order = list(np.argsort(orientation[:, 0]))
    thick = int(spacing.argmax())
    if spacing[thick] >= THICK_SLICES * np.delete(spacing, thick).max():
        order = [axis for axis in order if axis != thick] + [thick]
    for new, old in enumerate(order):
        orientation[old, 0] = new
    return orientation


def turn(volume: np.ndarray, affine: np.ndarray, orientation: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """A volume (X, Y, Z) and its affine after permuting and flipping axes by a nibabel orientation."""
    turned = nib.orientations.apply_orientation(volume, orientation)
    return turned, affine @ nib.orientations.inv_ornt_aff(orientation, volume.shape)


def crop_axes(scan_affine: np.ndarray, spacing_mm: Sequence[float] | None) -> np.ndarray:
    """Steps (3x3, columns) in mm from a crop's voxel to the next along each of its axes.

    With a spacing the crop lies along RAS+; without one (None) it keeps the scan's own grid, turned by
    :func:`through_plane_last`.
    """
    if spacing_mm is not None:
        return np.diag(np.asarray(spacing_mm, dtype=np.float64))
    return (scan_affine @ nib.orientations.inv_ornt_aff(through_plane_last(scan_affine), (1, 1, 1)))[:3, :3]


def box_extent(box: Sequence[slice], affine: np.ndarray, axes: np.ndarray) -> np.ndarray:
    """Size (3,) of a volume's bounding box, turned to a crop's axes (3x3, see :func:`crop_axes`), in its voxels."""
    voxels = np.array([part.stop - part.start for part in box])
    return np.abs(np.linalg.solve(axes, affine[:3, :3])) @ voxels


def crop_affine(
    centre_mm: Sequence[float],
    scan_affine: np.ndarray,
    spatial_size: Sequence[int],
    spacing_mm: Sequence[float] | None,
) -> np.ndarray:
    """Affine (4x4) of a crop along :func:`crop_axes` with a point of the scan in its middle.

    The grid is shifted by at most half a voxel so that the scan's voxel nearest to the centre falls on a crop voxel:
    a scan that has the model's spacing and lies along the axes is then copied without interpolation.
    """
    size, axes = np.array(spatial_size), crop_axes(scan_affine, spacing_mm)
    # A crop of even size has its middle half a voxel below its anchor; the small odd
    # fraction, which no common spacing hits, breaks ties the same way in every orientation.
    target_mm = np.array(centre_mm) + axes @ (np.where(size % 2 == 0, 0.5, 0.0) - 0.0137)
    index = np.rint(np.linalg.solve(scan_affine, [*target_mm, 1.0])[:3])
    anchor_mm = (scan_affine @ [*index, 1.0])[:3]
    return nib.affines.from_matvec(axes, anchor_mm - axes @ (size // 2))


def covering_box(
    affine: np.ndarray,
    shape: Sequence[int],
    scan_affine: np.ndarray,
    scan_shape: Sequence[int],
    margin: int = 2,
) -> tuple[slice, ...]:
    """The part of a scan that a crop lies over, plus a margin of voxels (at least one voxel thick)."""
    corners = np.array(np.meshgrid(*[(0, n - 1) for n in shape], [1])).reshape(4, -1)
    index = (np.linalg.solve(scan_affine, affine @ corners))[:3]
    low = np.floor(index.min(axis=1)).astype(int) - margin
    high = np.ceil(index.max(axis=1)).astype(int) + margin + 1
    box = []
    for start, stop, size in zip(low, high, scan_shape, strict=True):
        start = int(np.clip(start, 0, size - 1))
        box.append(slice(start, int(np.clip(stop, start + 1, size))))
    return tuple(box)


def shifted(affine: np.ndarray, box: Sequence[slice]) -> np.ndarray:
    """The affine of a box of a volume."""
    out = affine.copy()
    out[:3, 3] = (affine @ [*(part.start for part in box), 1.0])[:3]
    return out


def resample(
    values: np.ndarray,
    affine: np.ndarray,
    new_affine: np.ndarray,
    new_shape: Sequence[int],
    outside: str,
    order: int = 1,
) -> np.ndarray:
    """Interpolation of (X, Y, Z) values onto another grid, in double precision, as float32.

    ``order`` 1 is trilinear, 0 takes the nearest voxel.

    Beyond the volume, ``outside`` is ``border`` (its edge is repeated) or ``zeros``.
    """
    # Rounded to what an affine can tell: grids that coincide then do so exactly, and voxels are copied.
    matrix = np.linalg.solve(affine, new_affine).round(9)
    mode = {"border": "nearest", "zeros": "grid-constant"}[outside]
    out = ndimage.affine_transform(
        np.asarray(values, dtype=np.float64), matrix[:3, :3], matrix[:3, 3], tuple(new_shape), order=order, mode=mode
    )
    return out.astype(np.float32)


def to_crop(
    values: np.ndarray, scan_affine: np.ndarray, affine: np.ndarray, shape: Sequence[int], outside: str = "border"
) -> np.ndarray:
    """A volume's values (X, Y, Z) on another grid, float32; only the part under that grid is touched.

    Beyond the volume, ``outside`` is ``border`` (its edge is repeated) or ``zeros``.
    """
    box = covering_box(affine, shape, scan_affine, values.shape)
    return resample(values[box], shifted(scan_affine, box), affine, shape, outside)


def from_crop(crop: np.ndarray, affine: np.ndarray, scan_affine: np.ndarray, box: Sequence[slice]) -> np.ndarray:
    """A crop's values on the grid of a box of the scan, float32 of the box's shape."""
    shape = [part.stop - part.start for part in box]
    return resample(crop, affine, shifted(scan_affine, box), shape, "border")

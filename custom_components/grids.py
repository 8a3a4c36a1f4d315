"""From a scan's own grid to the model's crop around a lesion, and back."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy import ndimage

__all__ = ["covering_box", "crop_affine", "from_crop", "resample", "shifted", "to_crop"]


def crop_affine(
    centre_mm: Sequence[float],
    scan_affine: np.ndarray,
    spatial_size: Sequence[int],
    spacing_mm: Sequence[float],
) -> np.ndarray:
    """Affine (4x4) of a crop in RAS+ axes with a lesion's centre in its middle.

    The grid is shifted by at most half a voxel so that the scan's voxel nearest to the centre falls on a crop voxel:
    a scan that has the model's spacing and lies along the axes is then copied without interpolation.
    """
    size, spacing = np.array(spatial_size), np.array(spacing_mm)
    # A crop of even size has its middle half a voxel below its anchor; the small odd
    # fraction, which no common spacing hits, breaks ties the same way in every orientation.
    target_mm = np.array(centre_mm) + spacing * (np.where(size % 2 == 0, 0.5, 0.0) - 0.0137)
    index = np.rint(np.linalg.solve(scan_affine, [*target_mm, 1.0])[:3])
    anchor_mm = (scan_affine @ [*index, 1.0])[:3]
    affine = np.diag([*spacing_mm, 1.0]).astype(np.float64)
    affine[:3, 3] = anchor_mm - spacing * (size // 2)
    return affine


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
    values: np.ndarray, affine: np.ndarray, new_affine: np.ndarray, new_shape: Sequence[int], outside: str
) -> np.ndarray:
    """Trilinear interpolation of (X, Y, Z) values onto another grid, in double precision, as float32.

    Beyond the volume, ``outside`` is ``border`` (its edge is repeated) or ``zeros``.
    """
    matrix = np.linalg.solve(affine, new_affine)
    mode = {"border": "nearest", "zeros": "grid-constant"}[outside]
    out = ndimage.affine_transform(
        np.asarray(values, dtype=np.float64), matrix[:3, :3], matrix[:3, 3], tuple(new_shape), order=1, mode=mode
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

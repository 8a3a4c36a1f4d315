"""Where the background of a painted scan comes from: the scan, always; or a method that generates it, to compare."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from .errors import InputError
from .grids import covering_box, shifted
from .volumes import Scan

__all__ = ["BACKGROUNDS", "check_paste", "covered_by_crop", "covered_by_crops", "largest_difference"]

BACKGROUNDS = ("scan", "generated")
PASTES = ("lesion", "crop")


def check_paste(paste: str, background: str) -> None:
    """Whether a method's crops may be pasted so.

    Args:
        paste: ``lesion``: the lesions' voxels only; ``crop``: whole crops.
        background: where the background of the method's crops comes from: ``scan`` or ``generated``.

    Raises:
        InputError: for other words, and for ``crop`` where the background is the scan's.
    """
    for key, value, allowed in (("paste", paste, PASTES), ("background", background, BACKGROUNDS)):
        if value not in allowed:
            raise InputError(f"{key} must be {' or '.join(allowed)}, got {value!r}.")
    if paste == "crop" and background == "scan":
        raise InputError(
            "paste must be lesion: this config paints into the scan's own background, which stays as it is."
        )


def largest_difference(stored: np.ndarray, scan: Scan, instances: np.ndarray) -> float:
    """Largest difference of voxels (X, Y, Z), as stored, to a scan outside its lesions, absolute, in its units."""
    outside = (stored != scan.stored) & (instances == 0)
    if not outside.any():
        return 0.0
    before, after = (values[outside].astype(np.float64) for values in (scan.stored, stored))
    return float(np.abs(scan.slope * (after - before)).max())


def covered_by_crop(
    affine: np.ndarray,
    shape: Sequence[int],
    scan_affine: np.ndarray,
    scan_shape: Sequence[int],
    margin: float = 0.0,
) -> tuple[tuple[slice, ...], np.ndarray]:
    """Voxels of a scan whose centres lie within the voxels of a crop: a box of the scan and which of it, bool.

    Args:
        affine, shape: of the crop.
        scan_affine, scan_shape: of the scan.
        margin: by which the crop is larger on every side, in its voxels.
    """
    box = covering_box(affine, shape, scan_affine, scan_shape)
    size = [part.stop - part.start for part in box]
    # Rounded to what an affine can tell, so that voxels on the crop's very border fall alike everywhere.
    matrix = np.linalg.solve(affine, shifted(scan_affine, box)).round(9)
    place = matrix[:3, :3] @ np.indices(size).reshape(3, -1) + matrix[:3, 3:]
    low, high = -0.5 - margin, np.array(shape).reshape(3, 1) - 0.5 + margin
    inside = ((place >= low) & (place < high)).all(axis=0)
    return box, inside.reshape(size)


def covered_by_crops(lesions: Sequence[Mapping[str, Any]], scan: Scan) -> np.ndarray:
    """Voxels of a scan under any of its lesions' crops, bool (X, Y, Z), to check what was pasted.

    A thousandth of a voxel more counts, since a file tells its affine in single precision.

    Args:
        lesions: the sidecar's entries, with ``crop_affine`` and ``crop_size``.
        scan: the scan.
    """
    covered = np.zeros(scan.stored.shape, bool)
    for affine, shape in {(tuple(map(tuple, e["crop_affine"])), tuple(e["crop_size"])) for e in lesions}:
        box, inside = covered_by_crop(np.array(affine), shape, scan.affine, covered.shape, margin=1e-3)
        covered[box] |= inside
    return covered

"""Copy-Paste (section 4.1): a real lesion's own intensities, put into a normal scan through its own mask."""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from ..errors import InputError
from ..lesion_library import PlacedLesion
from ..volumes import Scan

__all__ = ["paste_lesion"]


def paste_lesion(lesion: PlacedLesion, scan: Scan, feather_mm: float = 0.0) -> np.ndarray:
    """A box of a scan with a copied lesion in it; voxels outside the lesion's mask are those of the scan, bit for bit.

    Args:
        lesion: a lesion with intensities, placed on the scan's grid.
        scan: the normal scan, in the units of the lesion's own.
        feather_mm: width of the rim inside the mask in which the scan passes into the lesion; 0 for a hard edge, as
            in the paper.

    Returns:
        The voxels of ``lesion.box``, in the scan's stored form.

    Raises:
        InputError: for a lesion without intensities or a negative width.
    """
    if lesion.values is None:
        raise InputError("a lesion without an image has no intensities to paste: the library must hold images.")
    if not 0 <= feather_mm < np.inf:
        raise InputError(f"feather_mm must be a number of at least 0, got {feather_mm!r}.")
    mask, values = lesion.label > 0, lesion.values
    if feather_mm > 0:
        depth_mm = ndimage.distance_transform_edt(np.pad(mask, 1), sampling=scan.spacing_mm)[1:-1, 1:-1, 1:-1]
        weight = np.minimum(depth_mm / (feather_mm + scan.spacing_mm.min()), 1)
        values = weight * values + (1 - weight) * scan.values(lesion.box)
    stored = scan.stored[lesion.box].copy()
    stored[mask] = scan.to_stored(values[mask])
    return stored

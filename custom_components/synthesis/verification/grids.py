"""Grid, data type and header of a written scan against those of its source."""

from __future__ import annotations

import numpy as np

from ...volumes import Scan

__all__ = ["grid_faults", "header_faults"]

# Fields that a file has anew: how it is stored, and what says that it is synthetic. Shape and scaling are compared
# as they are read.
OWN_FIELDS = {"sizeof_hdr", "magic", "vox_offset", "dim", "scl_slope", "scl_inter", "descrip"}


def grid_faults(scan: Scan, reference: Scan, of: str) -> list[str]:
    """Sentences on shape and affine where they differ from those of another scan, called ``of``."""
    if scan.stored.shape != reference.stored.shape:
        return [f"has shape {scan.stored.shape}, {of} has {reference.stored.shape}."]
    # An affine is stored in single precision.
    if not np.array_equal(scan.affine.astype(np.float32), reference.affine.astype(np.float32)):
        return [f"has another affine than {of}."]
    return []


def header_faults(scan: Scan, source: Scan) -> list[str]:
    """Sentences on data type, scaling and header fields where they differ from the source's."""
    found = []
    if scan.stored.dtype.newbyteorder("=") != source.stored.dtype.newbyteorder("="):
        found.append(f"holds {scan.stored.dtype}, its source {source.stored.dtype}.")
    if (scan.slope, scan.intercept) != (source.slope, source.intercept):
        found.append(
            f"is scaled by {scan.slope:g} and {scan.intercept:g}, its source by {source.slope:g} and "
            f"{source.intercept:g}."
        )
    if source.header is not None and scan.header is not None:
        fields = [name for name in source.header if name not in OWN_FIELDS and name in scan.header]
        differing = [name for name in fields if not _same(scan.header[name], source.header[name])]
        if differing and not found:
            found.append(f"has other header fields than its source: {', '.join(differing)}.")
    return found


def _same(a: np.ndarray, b: np.ndarray) -> bool:
    return np.array_equal(a, b, equal_nan=np.asarray(a).dtype.kind == "f")

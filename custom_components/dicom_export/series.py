"""The slices of a DICOM series, in the order of the scan's last axis, on one regular grid."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pydicom

from ..errors import InputError, first_line
from ..volumes import Scan, dicom_files

__all__ = ["read_headers", "read_slice"]

TO_RAS = np.diag([-1.0, -1.0, 1.0])
TOLERANCE = 0.1  # of a voxel


def read_slice(path: Path, pixels: bool = True) -> pydicom.Dataset:
    """A DICOM file, with or without its pixels.

    Raises:
        InputError: where it cannot be read.
    """
    try:
        # Files without preamble are DICOM for ITK, which found this one, too.
        return pydicom.dcmread(path, stop_before_pixels=not pixels, force=True)
    except Exception as error:
        raise InputError(f"cannot read slice {path}: {first_line(error)}") from error


def read_headers(scan: Scan) -> list[pydicom.Dataset]:
    """The slices of a scan that was read from a series folder, without their pixels; each knows its ``filename``.

    Slice k is ``scan.stored[:, :, k]``: its columns run along the first axis of the array, its rows along the second.

    Raises:
        InputError: where a slice lies elsewhere than the scan's affine says, as in series with a tilted gantry,
            uneven spacing or missing slices, or has another size.
    """
    headers = [read_slice(path, pixels=False) for path in dicom_files(scan.path)]
    columns, rows, depth = scan.stored.shape
    if len(headers) != depth:
        raise InputError(f"the series in {scan.path} has {len(headers)} files for {depth} slices.")
    for k, header in enumerate(headers):
        name = Path(header.filename).name
        if (header.get("Columns"), header.get("Rows")) != (columns, rows):
            raise InputError(f"slice {name} of {scan.path} has another size than the series.")
        corners = [(0, 0), (columns - 1, 0), (0, rows - 1)]
        own = [_position(header, scan.path, *corner) for corner in corners]
        expected = [(scan.affine @ [*corner, k, 1.0])[:3] for corner in corners]
        shift_mm = float(np.abs(np.subtract(own, expected)).max())
        if not shift_mm < TOLERANCE * scan.spacing_mm.min():
            raise InputError(
                f"the slices in {scan.path} do not lie on one regular grid (tilted gantry, uneven spacing or missing "
                f"slices): {name} lies {shift_mm:.3g} mm beside its place."
            )
    return headers


def _position(header: pydicom.Dataset, folder: Path, column: int, row: int) -> np.ndarray:
    """A pixel's position in RAS+ mm (DICOM PS3.3 C.7.6.2.1.1, whose coordinates are LPS+)."""
    try:
        along_row, along_column = np.asarray(_numbers(header.ImageOrientationPatient)).reshape(2, 3)
        row_spacing, column_spacing = _numbers(header.PixelSpacing)
        origin = np.asarray(_numbers(header.ImagePositionPatient))
    except (AttributeError, TypeError, ValueError) as error:
        raise InputError(f"slice {Path(header.filename).name} of {folder} does not tell where it lies.") from error
    return TO_RAS @ (origin + along_row * column_spacing * column + along_column * row_spacing * row)


def _numbers(values: Sequence[object]) -> list[float]:
    return [float(value) for value in values]

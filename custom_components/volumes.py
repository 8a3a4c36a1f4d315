"""Scans as they are stored: read without loss, checked, and written back on their own grid, type and header."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import nibabel as nib
import numpy as np
from monai.transforms import LoadImage

from .datasets import SCAN_SUFFIXES
from .errors import InputError, first_line
from .files import write_atomically
from .labels import LesionLabels

__all__ = [
    "Scan",
    "check_same_grid",
    "check_scan",
    "dicom_files",
    "newest_change",
    "read_label",
    "read_mask",
    "read_scan",
    "write_scan",
]


@dataclass(frozen=True)
class Scan:
    """A 3D scan as stored.

    Attributes:
        path: file or DICOM series folder.
        stored: (X, Y, Z) voxels in the file's own data type, before slope and intercept.
        slope, intercept: value = slope * stored + intercept.
        affine: 4x4, voxel indices to RAS+ mm, as far as the file tells it.
        header: the NIfTI header, None for DICOM.
    """

    path: Path
    stored: np.ndarray
    slope: float
    intercept: float
    affine: np.ndarray
    header: nib.Nifti1Header | None = None

    def values(self, box: tuple[slice, ...] = (slice(None),) * 3) -> np.ndarray:
        """Voxel values in the scan's units (HU), float32, of the whole scan or a box of it."""
        return (self.stored[box] * np.float64(self.slope) + self.intercept).astype(np.float32)

    def to_stored(self, values: np.ndarray) -> np.ndarray:
        """Values in the scan's units as stored numbers: rounded and kept in range for integer types."""
        stored = (np.asarray(values, dtype=np.float64) - self.intercept) / self.slope
        kind = self.stored.dtype
        if np.issubdtype(kind, np.integer):
            limits = np.iinfo(kind)
            stored = np.clip(np.rint(stored), limits.min, limits.max)
        return stored.astype(kind)

    @property
    def spacing_mm(self) -> np.ndarray:
        """Voxel size along each array axis."""
        return np.sqrt((self.affine[:3, :3] ** 2).sum(axis=0))


def read_scan(path: str | Path) -> Scan:
    """Reads a NIfTI file or a folder with one DICOM series. The last scan read is kept in memory.

    Raises:
        InputError: where it is missing, unreadable, not three-dimensional, or several series lie in the folder.
    """
    path = Path(path)
    if not path.exists():
        raise InputError(f"image {path} does not exist.")
    return _read_cached(path, newest_change(path))


@lru_cache(maxsize=1)
def _read_cached(path: Path, changed: float) -> Scan:
    return _read_dicom(path) if path.is_dir() else _read_nifti(path, "image")


def newest_change(path: Path) -> float:
    """When a file, or the newest file of a folder, was last written (seconds since the epoch)."""
    return max((p.stat().st_mtime for p in path.iterdir()), default=0) if path.is_dir() else path.stat().st_mtime


def _read_nifti(path: Path, role: str) -> Scan:
    if not path.name.endswith(SCAN_SUFFIXES):
        raise InputError(f"{role} {path} is neither NIfTI (.nii, .nii.gz) nor a folder with a DICOM series.")
    try:
        image = nib.load(path)
        stored = np.asarray(image.dataobj.get_unscaled())
    except Exception as error:
        raise InputError(f"cannot read {role} {path}: {first_line(error)}") from error
    if stored.dtype.kind not in "iuf":
        raise InputError(f"{role} {path} must hold whole or real numbers, it holds {stored.dtype}.")
    while stored.ndim > 3 and stored.shape[-1] == 1:
        stored = stored[..., 0]
    if stored.ndim != 3:
        raise InputError(f"{role} {path} must have three dimensions, it has shape {stored.shape}.")
    if not abs(np.linalg.det(image.affine[:3, :3])) > 1e-9:
        raise InputError(f"{role} {path} has a singular affine.")
    slope, intercept = float(image.dataobj.slope), float(image.dataobj.inter)
    return Scan(path, stored, slope, intercept, _working_affine(image, path, role), image.header)


def _working_affine(image: nib.Nifti1Image, path: Path, role: str) -> np.ndarray:
    """The affine, or, where that is a mere placeholder with voxels of 1 mm, its directions with the header's size.

    Some files, those of a cardiac challenge among them, hold such a placeholder beside the true voxel size.
    """
    affine = np.asarray(image.affine, dtype=np.float64)
    size, told = nib.affines.voxel_sizes(affine), np.asarray(image.header.get_zooms()[:3], dtype=np.float64)
    if not np.allclose(size, 1) or np.allclose(told, 1, rtol=0.01) or not (told > 0).all():
        return affine
    warnings.warn(
        f"{role} {path}: its affine tells of voxels of 1 mm, its header of {' x '.join(f'{v:.4g}' for v in told)} mm; "
        "sizes are taken from the header, and both are written back as they are.",
        stacklevel=2,
    )
    affine[:3, :3] *= told
    return affine


def dicom_files(path: str | Path) -> list[Path]:
    """The files of the one DICOM series in a folder, in the order of the slices; other files are passed over.

    Raises:
        InputError: where the folder holds no series, or several.
    """
    import itk

    names = itk.GDCMSeriesFileNames.New()
    # The same rules by which MONAI tells series apart: it reads the first one it finds.
    names.SetUseSeriesDetails(True)
    names.AddSeriesRestriction("0008|0021")
    names.SetDirectory(str(path))
    series = list(names.GetSeriesUIDs())
    if len(series) != 1:
        raise InputError(f"folder {path} must hold exactly one DICOM series, it holds {len(series)}.")
    return [Path(name) for name in names.GetFileNames(series[0])]


def _read_dicom(path: Path) -> Scan:
    dicom_files(path)
    try:
        volume = LoadImage(reader="ITKReader", image_only=True, dtype=None)(str(path))
    except Exception as error:
        raise InputError(f"cannot read the DICOM series in {path}: {first_line(error)}") from error
    values = volume.numpy()
    if np.issubdtype(values.dtype, np.integer) or np.array_equal(values, np.rint(values)):
        values = values.astype(np.int16 if np.abs(values).max() < 2**15 else np.int32)
    return Scan(path, values, 1.0, 0.0, volume.affine.numpy().astype(np.float64))


def check_scan(scan: Scan, air_below: float | None = -500.0) -> None:
    """The checks a scan has to pass before anything is painted into it.

    Args:
        scan: the scan.
        air_below: a CT in HU that holds lung or air reaches below this value; None for other modalities.

    Raises:
        InputError: for NaN or infinite voxels, or values that cannot be HU.
    """
    values = scan.stored
    if np.issubdtype(values.dtype, np.floating) and not np.isfinite(values).all():
        raise InputError(f"image {scan.path} holds {int((~np.isfinite(values)).sum())} NaN or infinite voxels.")
    low, high = (
        scan.slope * float(values.min()) + scan.intercept,
        scan.slope * float(values.max()) + scan.intercept,
    )
    if air_below is not None and (low > air_below or high > 2**15):
        raise InputError(
            f"image {scan.path} does not look like a lung CT in Hounsfield units: its values lie within "
            f"[{low:g}, {high:g}], expected some air below {air_below:g} HU."
        )


def read_label(path: str | Path, scan: Scan, labels: LesionLabels, role: str = "mask") -> np.ndarray:
    """The label map of a scan, (X, Y, Z) uint8 on the scan's grid.

    Raises:
        InputError: where it is missing, unreadable, on another grid than the scan, without lesion, or holds values
            that ``labels`` does not know.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(f"{role} {path} does not exist or is not a file.")
    label = _read_nifti(path, role)
    check_same_grid(label, scan, role)
    values = label.values()
    labels.check(values, f"{role} {path}")
    return values.astype(np.uint8)


def check_same_grid(label: Scan, scan: Scan, role: str) -> None:
    """Raises InputError where a label map, called by its ``role``, does not lie on the grid of its scan."""
    if label.stored.shape != scan.stored.shape:
        raise InputError(
            f"{role} {label.path} has shape {label.stored.shape}, its image {scan.path} has {scan.stored.shape}."
        )
    corners = np.array(np.meshgrid(*[(0, n - 1) for n in label.stored.shape], [1])).reshape(4, -1)
    shift_mm = np.abs((label.affine - scan.affine) @ corners).max()
    if not shift_mm < 0.1 * scan.spacing_mm.min():
        raise InputError(
            f"{role} {label.path} lies on another grid than its image {scan.path}: "
            f"their corners differ by up to {shift_mm:.3g} mm."
        )


def read_mask(path: str | Path, scan: Scan) -> np.ndarray:
    """A lesion mask of 0 and 1, (X, Y, Z) bool on the scan's grid; see :func:`read_label`."""
    return read_label(path, scan, LesionLabels()) > 0


def write_scan(scan: Scan, stored: np.ndarray, path: str | Path, description: str = "", scaled: bool = True) -> None:
    """Writes voxels in a scan's stored form as NIfTI with its affine, type, scaling and header.

    Args:
        scan: whose grid and header are used.
        stored: (X, Y, Z) in the scan's stored data type, or other numbers on its grid.
        path: .nii.gz file, which appears whole or not at all.
        scaled: whether the scan's slope and intercept apply to the numbers (not for a mask).
        description: the header's ``descrip``, at most 79 characters.
    """
    # Without an affine of its own, the image keeps that of the header.
    image = nib.Nifti1Image(stored, scan.affine if scan.header is None else None, scan.header)
    image.set_data_dtype(stored.dtype)
    if scan.header is None:
        image.set_qform(scan.affine, code=1)
        image.set_sform(scan.affine, code=1)
        image.header.set_xyzt_units("mm")
    if description:
        image.header["descrip"] = description.encode()[:79]
    image.header.set_slope_inter(*((scan.slope, scan.intercept) if scaled else (1, 0)))
    write_atomically(path, lambda temporary: nib.save(image, temporary))

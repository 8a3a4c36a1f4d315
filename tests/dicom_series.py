"""Small DICOM series in any orientation, storage and transfer syntax, and synthetic sets painted into them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, MRImageStorage, generate_uid
from synthetic_sets import add_case, balls, finish_set

from custom_components.files import file_hash
from custom_components.volumes import read_scan

# Direction of a row, of a column (LPS+), and of the slices in the order of their instance numbers.
ORIENTATIONS = {
    "axial": ([1, 0, 0], [0, 1, 0], [0, 0, 1]),
    "axial from head to feet": ([1, 0, 0], [0, 1, 0], [0, 0, -1]),
    "sagittal": ([0, 1, 0], [0, 0, -1], [1, 0, 0]),
    "sagittal from left to right": ([0, 1, 0], [0, 0, -1], [-1, 0, 0]),
    "coronal": ([1, 0, 0], [0, 0, -1], [0, 1, 0]),
    "oblique": ([0.8, 0.6, 0], [0, 0, -1], [-0.6, 0.8, 0]),
}
SHAPE = (20, 16, 9)  # columns, rows, slices
SPACING = (0.8, 0.9, 2.5)
UNUSED = 0xA000  # bits beyond the 12 that a scanner stores, which it may use for something else


def write_series(
    folder: Path,
    orientation: str = "axial",
    signed: bool = False,
    bits: int = 16,
    slope: float = 1.0,
    intercept: float = -1024.0,
    modality: str = "CT",
    syntax: str = ExplicitVRLittleEndian,
    ending: str = ".dcm",
    positions: Sequence[float] = range(SHAPE[2]),
    shear: Sequence[float] = (0, 0, 0),
    **tags: Any,
) -> Path:
    """A series of noise within the range of what a scanner stores.

    Args:
        positions: of the slices, in steps of ``SPACING[2]``.
        shear: what each slice is displaced by from the one before it, LPS mm.
        tags: further attributes of every slice; None leaves one out.
    """
    folder.mkdir(parents=True)
    kind = MRImageStorage if modality == "MR" else CTImageStorage
    row, column, normal = (np.array(v, dtype=float) for v in ORIENTATIONS[orientation])
    rng = np.random.default_rng(11)
    study, series, frame = (generate_uid(entropy_srcs=[str(folder), name]) for name in ("study", "series", "frame"))
    for n, place in enumerate(positions):
        item = pydicom.Dataset()
        item.file_meta = pydicom.dataset.FileMetaDataset()
        item.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        item.SOPClassUID, item.SOPInstanceUID = kind, generate_uid(entropy_srcs=[series, str(n)])
        item.file_meta.MediaStorageSOPClassUID, item.file_meta.MediaStorageSOPInstanceUID = kind, item.SOPInstanceUID
        item.StudyInstanceUID, item.SeriesInstanceUID, item.FrameOfReferenceUID = study, series, frame
        item.Modality, item.PatientID, item.PatientName, item.PatientSex = modality, "P1", "Nobody", "F"
        item.StudyDate, item.StudyTime, item.InstanceNumber, item.SeriesNumber = "20200101", "120000", n + 1, 4
        item.SeriesDescription, item.ImageType = "Thorax 2.5", ["ORIGINAL", "PRIMARY", "AXIAL"]
        origin = np.array([12.5, -40.25, 7.0]) + normal * SPACING[2] * place + np.array(shear) * n
        item.ImagePositionPatient = [float(v) for v in np.round(origin, 6)]
        item.ImageOrientationPatient = [float(v) for v in (*row, *column)]
        item.PixelSpacing, item.SliceThickness = [SPACING[1], SPACING[0]], SPACING[2]
        item.Columns, item.Rows = SHAPE[:2]
        item.SamplesPerPixel, item.PhotometricInterpretation = 1, "MONOCHROME2"
        item.BitsAllocated, item.BitsStored, item.HighBit = 16, bits, bits - 1
        item.PixelRepresentation = int(signed)
        if modality == "CT" or (slope, intercept) != (1, 0):
            item.RescaleIntercept, item.RescaleSlope = intercept, slope
        low, high = (-1000, 1500) if signed else (0, 2500)
        pixels = rng.integers(low, high, (SHAPE[1], SHAPE[0])).astype(np.int16)
        words = pixels.view(np.uint16)
        item.PixelData = (words | UNUSED if bits < 16 and not signed else words).astype("<u2").tobytes()
        for keyword, value in tags.items():
            if value is None:
                del item[keyword]
            else:
                setattr(item, keyword, value)
        if syntax != ExplicitVRLittleEndian:
            _encode(item, syntax)
        # File names run against the slices' order.
        item.save_as(folder / f"{900 - n}{ending}", enforce_file_format=True)
    return folder


def write_dicom_series(
    folder: Path, values_hu: np.ndarray, spacing: Sequence[float], origin_lps: Sequence[float]
) -> None:
    """An axial CT series. ``values_hu``: (columns, rows, slices), from the patient's right, front and feet."""
    folder.mkdir(parents=True)
    study, series, frame = (generate_uid(entropy_srcs=[str(folder), name]) for name in ("study", "series", "frame"))
    for k in range(values_hu.shape[2]):
        meta = pydicom.dataset.FileMetaDataset()
        meta.MediaStorageSOPClassUID = CTImageStorage
        meta.MediaStorageSOPInstanceUID = generate_uid(entropy_srcs=[series, str(k)])
        meta.TransferSyntaxUID = ExplicitVRLittleEndian
        item = pydicom.Dataset()
        item.file_meta = meta
        item.SOPClassUID, item.SOPInstanceUID = CTImageStorage, meta.MediaStorageSOPInstanceUID
        item.StudyInstanceUID, item.SeriesInstanceUID, item.FrameOfReferenceUID = study, series, frame
        item.Modality, item.PatientID, item.PatientName = "CT", "P1", "Nobody"
        item.StudyDate, item.StudyTime, item.InstanceNumber = "20200101", "120000", k + 1
        item.ImagePositionPatient = [origin_lps[0], origin_lps[1], origin_lps[2] + k * spacing[2]]
        item.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
        item.PixelSpacing, item.SliceThickness = [spacing[1], spacing[0]], spacing[2]
        item.Columns, item.Rows = values_hu.shape[:2]
        item.SamplesPerPixel, item.PhotometricInterpretation = 1, "MONOCHROME2"
        item.BitsAllocated, item.BitsStored, item.HighBit, item.PixelRepresentation = 16, 16, 15, 0
        item.RescaleIntercept, item.RescaleSlope = -1024, 1
        item.PixelData = (values_hu[:, :, k].T.astype(int) + 1024).astype(np.uint16).tobytes()
        # File names run against the slices' order.
        item.save_as(folder / f"{900 - k}.dcm", enforce_file_format=True)


def _encode(item: pydicom.Dataset, syntax: str) -> None:
    """Turns a slice into another transfer syntax."""
    if pydicom.uid.UID(syntax).is_compressed:
        item.compress(syntax, generate_instance_uid=False)
    else:
        if not pydicom.uid.UID(syntax).is_little_endian:
            item.PixelData = np.frombuffer(item.PixelData, "<u2").astype(">u2").tobytes()
        item.file_meta.TransferSyntaxUID = syntax


def paint_set(root: Path, sources: Sequence[Path], values: tuple[int, int] = (40, -300), **options: Any) -> Path:
    """A set with two lesions in each series; its input is the folder that holds them."""
    records = []
    for source in sources:
        scan = read_scan(source)
        centres = [(0.3, 0.35, 0.3), (0.7, 0.6, 0.75)]
        sites = [([c * (n - 1) for c, n in zip(centre, scan.stored.shape, strict=True)], 2.4) for centre in centres]
        instances = balls(scan.stored.shape, sites)
        image = scan.stored.copy()
        for number, value in enumerate(values, start=1):
            inside = instances == number
            image[inside] = value + np.arange(inside.sum())
        records.append(
            add_case(
                root,
                f"{source.name}_s1",
                image,
                instances,
                affine=scan.affine,
                textures=("solid", "part_solid"),
                source=source.name,
                source_sha256=file_hash(source),
                **options,
            )
        )
    finish_set(root, records, sources[0].parent)
    return root

"""The lesions of a case as a DICOM segmentation: one segment for each lesion and class."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from copy import deepcopy
from typing import Any

import highdicom
import numpy as np
import pydicom
from pydicom.datadict import dictionary_VR, tag_for_keyword
from pydicom.sr.codedict import codes
from pydicom.sr.coding import Code

from ..errors import InputError
from .provenance import MANUFACTURER, Origin

__all__ = ["build_segmentation", "number_segments", "property_type"]

# What a word of a lesion class's name means. A class with none of them is a lesion, which is always true.
PROPERTY_TYPES = {
    "nodule": codes.SCT.Nodule,
    "mass": codes.SCT.Mass,
    "tumor": codes.SCT.Neoplasm,
    "tumour": codes.SCT.Neoplasm,
    "cyst": codes.SCT.Cyst,
    "edema": codes.SCT.Edema,
    "oedema": codes.SCT.Edema,
    "hemorrhage": codes.SCT.Hemorrhage,
    "necrosis": codes.SCT.Necrosis,
    "infarct": codes.SCT.MyocardialInfarction,
    "mi": codes.SCT.MyocardialInfarction,
    "obstruction": Code("26036001", "SCT", "Obstruction"),
    "pmo": Code("26036001", "SCT", "Obstruction"),
}
# Attributes of the patient and the study, which the segmentation shares with its images as they are there.
SHARED = ("PatientID", "PatientName", "PatientBirthDate", "PatientSex", "AccessionNumber", "StudyID")
SHARED += ("StudyDate", "StudyTime", "ReferringPhysicianName", "StudyDescription")


def property_type(lesion_class: str) -> Code:
    """The coded type (SNOMED CT) of a lesion class by its name."""
    words = lesion_class.lower().replace("-", "_").replace(" ", "_").split("_")
    return next((PROPERTY_TYPES[word] for word in words if word in PROPERTY_TYPES), codes.SCT.Lesion)


def number_segments(entries: Sequence[Mapping[str, Any]], instances: np.ndarray, label: np.ndarray) -> np.ndarray:
    """(X, Y, Z) uint16: segment 1, 2, ... for the entries of a sidecar in their order, 0 elsewhere.

    Which value of the label map is which class is told by the voxel counts and boxes of the sidecar: layouts may
    number the classes in their own way.

    Args:
        entries: ``lesions`` of a sidecar.
        instances, label: (X, Y, Z), the lesions' numbers and the classes' values.

    Raises:
        InputError: where the label maps do not hold the lesions of the sidecar.
    """
    segments = np.zeros(instances.shape, dtype=np.uint16)
    for number, entry in enumerate(entries, start=1):
        spec = entry["spec"]
        box = tuple(slice(start, stop) for start, stop in spec["box"])
        own, values = instances[box] == spec["lesion"], label[box]
        fitting = [
            part
            for part in (own & (values == value) for value in np.unique(values[own]) if value > 0)
            if part.sum() == spec["voxels"] and _fills(part)
        ]
        if len(fitting) != 1:
            raise InputError(
                f"the label maps of case {spec['case']} do not hold lesion {spec['lesion']} ({spec['lesion_class']}) "
                "as its sidecar tells."
            )
        segments[box][fitting[0]] = number
    if np.count_nonzero(segments) != np.count_nonzero(instances):
        raise InputError(f"the instances of case {entries[0]['spec']['case']} hold more than its sidecar tells.")
    return segments


def _fills(part: np.ndarray) -> bool:
    """Whether a mask reaches every face of its array."""
    return all(part.any(axis=tuple(set(range(3)) - {axis}))[[0, -1]].all() for axis in range(3))


def build_segmentation(headers: Sequence[pydicom.Dataset], segments: np.ndarray, origin: Origin) -> pydicom.Dataset:
    """The segmentation of an exported series.

    Segment labels are the class and the lesion's number, as ``lesion 2``; the tracking UID is that of the lesion, so
    that the classes of one lesion share it.

    Args:
        headers: the series' slices, pixels not needed, in the order of the last axis.
        segments: (X, Y, Z) uint16 as :func:`number_segments`.
        origin: of the case.
    """
    algorithm = highdicom.AlgorithmIdentificationSequence(
        name=MANUFACTURER, family=codes.DCM.ArtificialIntelligence, version=origin.version, source=origin.model[:64]
    )
    descriptions = []
    for number, entry in enumerate(origin.sidecar["lesions"], start=1):
        spec = entry["spec"]
        name = f"{spec['lesion_class'][:50]} {spec['lesion']}"
        descriptions.append(
            highdicom.seg.SegmentDescription(
                segment_number=number,
                segment_label=name,
                segmented_property_category=codes.SCT.MorphologicallyAbnormalStructure,
                segmented_property_type=property_type(spec["lesion_class"]),
                algorithm_type=highdicom.seg.SegmentAlgorithmTypeValues.AUTOMATIC,
                algorithm_identification=algorithm,
                tracking_id=f"lesion {spec['lesion']}",
                tracking_uid=origin.uid("lesion", str(spec["lesion"])),
            )
        )
    result = highdicom.seg.Segmentation(
        source_images=_complete(headers),
        pixel_array=segments.transpose(2, 1, 0).astype(np.uint8 if segments.max() < 256 else np.uint16),
        segmentation_type=highdicom.seg.SegmentationTypeValues.BINARY,
        segment_descriptions=descriptions,
        series_instance_uid=origin.uid("segmentation series"),
        series_number=int(headers[0].SeriesNumber) + 1,
        sop_instance_uid=origin.uid("segmentation"),
        instance_number=1,
        manufacturer=MANUFACTURER,
        manufacturer_model_name=origin.model[:64],
        software_versions=origin.version,
        device_serial_number="0",
        content_label="SYNTHETIC",
        content_description="Masks of synthetic lesions",
        series_description="SYNTHETIC lesions: masks",
    )
    result.SyntheticData = "YES"
    for keyword in SHARED:
        if keyword in headers[0]:
            result[keyword] = deepcopy(headers[0][keyword])
    origin.stamp(result, "InstanceCreation", "Content")
    for item in result.get("ContributingEquipmentSequence", []):  # highdicom's own entry tells the time of day
        item.pop("ContributionDateTime", None)
    organisation = origin.uid("dimensions")
    for item in (*result.DimensionOrganizationSequence, *result.DimensionIndexSequence):
        item.DimensionOrganizationUID = organisation
    return result


def _complete(headers: Sequence[pydicom.Dataset]) -> list[pydicom.Dataset]:
    """The slices as highdicom reads them: whatever it would check, and a source may lack or write freely, is empty."""
    complete = []
    for header in headers:
        filled = pydicom.Dataset()
        filled.update(header)
        filled.file_meta = header.file_meta
        for keyword in SHARED:
            # A new element: assigning to the attribute would empty the header's own.
            filled.add_new(tag_for_keyword(keyword), dictionary_VR(keyword), None)
        if not filled.get("SliceThickness"):
            filled.SliceThickness = filled.get("SpacingBetweenSlices") or 1.0
        complete.append(filled)
    return complete

"""What an exported slice says about itself: that it is synthetic, from which slice, and by what."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import pydicom
from pydicom.datadict import tag_for_keyword
from pydicom.sr.codedict import codes
from pydicom.uid import generate_uid

from .. import __version__

__all__ = ["MANUFACTURER", "Origin", "mark_derived"]

MANUFACTURER = "LeFusion-MONAI"
SERIES_OFFSET = 9000  # added to the source's series number
# No longer true of a changed image: signatures of the old pixels, and a thumbnail of them.
STALE = ("DigitalSignaturesSequence", "MACParametersSequence", "IconImageSequence", "SeriesDate", "SeriesTime")


@dataclass(frozen=True)
class Origin:
    """Where an exported case comes from; the same sidecar gives the same UIDs.

    Attributes:
        sidecar_sha256: of the case's sidecar.
        sidecar: its content.
        created: when the set was made, as ISO 8601, if it is known.
    """

    sidecar_sha256: str
    sidecar: Mapping[str, Any]
    created: str | None = None

    def uid(self, *parts: str) -> str:
        """A UID of its own for each sequence of words."""
        return generate_uid(entropy_srcs=[self.sidecar_sha256, *parts])

    @property
    def version(self) -> str:
        """Of the software that made the case."""
        return str((self.sidecar.get("generator") or {}).get("version", __version__))

    @property
    def model(self) -> str:
        """The bundle that painted, with its version."""
        bundle = self.sidecar.get("bundle") or {}
        return " ".join(str(bundle[key]) for key in ("name", "version") if bundle.get(key)) or MANUFACTURER

    def stamp(self, dataset: pydicom.Dataset, *names: str) -> None:
        """Sets dates and times, such as ``Content`` for ContentDate and ContentTime, to when the set was made."""
        when = datetime.fromisoformat(self.created) if self.created else None
        for name in names:
            if when is None:
                for part in ("Date", "Time"):
                    dataset.pop(tag_for_keyword(name + part), None)
            else:
                setattr(dataset, f"{name}Date", when.strftime("%Y%m%d"))
                setattr(dataset, f"{name}Time", when.strftime("%H%M%S"))

    def series_number(self, source: pydicom.Dataset) -> int:
        """Number of the new series."""
        return int(source.get("SeriesNumber") or 0) + SERIES_OFFSET


def mark_derived(dataset: pydicom.Dataset, origin: Origin) -> None:
    """Turns a copy of a source slice into an instance of the new series; the pixels are left alone.

    It stays in the source's study and frame of reference, so that both series lie over each other.
    """
    source_class, source_instance = dataset.SOPClassUID, dataset.SOPInstanceUID
    for keyword in STALE:
        dataset.pop(tag_for_keyword(keyword), None)
    dataset.SOPInstanceUID = origin.uid("image", source_instance)
    dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
    dataset.file_meta.MediaStorageSOPClassUID = source_class
    dataset.SeriesInstanceUID = origin.uid("image series")
    dataset.SeriesNumber = origin.series_number(dataset)
    dataset.SeriesDescription = f"SYNTHETIC lesions: {dataset.get('SeriesDescription') or dataset.get('Modality', '')}"[
        :64
    ]
    origin.stamp(dataset, "InstanceCreation")

    dataset.SyntheticData = "YES"
    dataset.ContentQualification = "RESEARCH"
    kind = list(dataset.get("ImageType") or [])[2:]
    dataset.ImageType = ["DERIVED", "SECONDARY", *(kind or ["AXIAL" if dataset.get("Modality") == "CT" else "OTHER"])]
    count = len({entry["spec"]["lesion"] for entry in origin.sidecar["lesions"]})
    dataset.DerivationDescription = (
        f"{count} synthetic lesion(s) painted by {MANUFACTURER} {origin.version}, {origin.model}; all voxels outside "
        f"them are those of the source. Research only. Sidecar SHA-256 {origin.sidecar_sha256}."
    )
    source = pydicom.Dataset()
    source.ReferencedSOPClassUID, source.ReferencedSOPInstanceUID = source_class, source_instance
    source.PurposeOfReferenceCodeSequence = [_code(codes.DCM.SourceImageForImageProcessingOperation)]
    dataset.SourceImageSequence = [source]
    equipment = pydicom.Dataset()
    equipment.PurposeOfReferenceCodeSequence = [_code(codes.DCM.ModifyingEquipment)]
    equipment.Manufacturer, equipment.ManufacturerModelName = MANUFACTURER, origin.model[:64]
    equipment.SoftwareVersions = origin.version
    equipment.ContributionDescription = "Synthetic lesions painted into the source image"
    if origin.created:
        equipment.ContributionDateTime = datetime.fromisoformat(origin.created).strftime("%Y%m%d%H%M%S")
    dataset.ContributingEquipmentSequence = [*dataset.get("ContributingEquipmentSequence", []), equipment]
    before = dataset.get("SoftwareVersions") or []
    before = [before] if isinstance(before, str) else list(before)
    dataset.SoftwareVersions = [*before, f"{MANUFACTURER} {origin.version}"]


def _code(code: Any) -> pydicom.Dataset:
    item = pydicom.Dataset()
    item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = code.value, code.scheme_designator, code.meaning
    return item

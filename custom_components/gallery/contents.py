"""What a gallery tells of a set: its lesions, read from the sidecars."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np

from ..errors import InputError
from ..synthesis.records import read_sidecar

__all__ = ["Case", "Lesion", "TextureSummary", "read_case", "summarise"]


@dataclass(frozen=True)
class Lesion:
    """One lesion class of one lesion.

    Attributes:
        case: name of the case.
        number: of the lesion within the case.
        lesion_class, texture: names.
        radius_mm, volume_mm3: size.
        distance: between the requested and the achieved histogram, None without a request.
        requested, achieved: texture histograms (num_bins,).
        window: the scan's values at both ends of the histograms.
        site: centre within the scan's box, from 0 to 1 towards the patient's right, front and head; None where the
            scan's size is not known.
    """

    case: str
    number: int
    lesion_class: str
    texture: str
    radius_mm: float
    volume_mm3: float
    distance: float | None
    requested: np.ndarray
    achieved: np.ndarray
    window: tuple[float, float]
    site: tuple[float, float, float] | None


@dataclass(frozen=True)
class Case:
    """A case: its record in the manifest, its lesions, where its mask came from, and the change outside the mask."""

    record: Mapping[str, Any]
    lesions: tuple[Lesion, ...]
    mask_source: str
    difference_outside: float


def read_case(root: Path, record: Mapping[str, Any]) -> Case:
    """A case of a set from its record in the manifest, its sidecar and the header of its image.

    Raises:
        InputError: where the record or the sidecar is not there or lacks something.
    """
    try:
        path = root / record["files"]["sidecar"]
        sidecar = read_sidecar(path)
        affine = np.asarray(sidecar["affine"], dtype=np.float64)
        shape = _image_shape(root / record["files"]["image"])
        lesions = tuple(
            Lesion(
                case=record["case"],
                number=int(entry["spec"]["lesion"]),
                lesion_class=str(entry["spec"]["lesion_class"]),
                texture=str(entry["spec"]["texture"]),
                radius_mm=float(entry["spec"]["radius_mm"]),
                volume_mm3=float(entry["spec"]["volume_mm3"]),
                distance=entry["histogram_distance"],
                requested=np.asarray(entry["spec"]["histogram"], dtype=np.float64),
                achieved=np.asarray(entry["achieved_histogram"], dtype=np.float64),
                window=tuple(float(value) for value in entry["spec"]["window"]),
                site=shape and _site(entry["spec"]["centre_mm"], affine, shape),
            )
            for entry in sidecar["lesions"]
        )
        origin = str(sidecar["synthesis"]["mask_source"])
        return Case(record, lesions, origin, float(sidecar["max_abs_difference_outside_mask"]))
    except (KeyError, TypeError, ValueError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"case {record['case']} of {root} has an incomplete record or sidecar: {error!r}.") from error


def _image_shape(path: Path) -> tuple[int, ...] | None:
    """(X, Y, Z) as the header tells, None where the image is not there: a gallery is made of what is left, too."""
    return nib.load(path).shape[:3] if path.is_file() else None


def _site(centre_mm: Sequence[float], affine: np.ndarray, shape: Sequence[int]) -> tuple[float, float, float]:
    """A point (RAS+ mm) within its scan's box, each axis from 0 to 1 towards the patient's right, front and head."""
    index = np.linalg.solve(affine, [*centre_mm, 1.0])[:3]
    share = np.clip((index + 0.5) / np.asarray(shape), 0, 1)
    orientation = nib.orientations.io_orientation(affine)
    place = np.empty(3)
    for axis, (target, sign) in enumerate(orientation):
        place[int(target)] = share[axis] if sign > 0 else 1 - share[axis]
    return tuple(float(value) for value in place)


@dataclass(frozen=True)
class TextureSummary:
    """All lesions of a class and a texture together; the histograms are means, ``window`` None where theirs differ."""

    lesion_class: str
    texture: str
    lesions: int
    radii_mm: np.ndarray
    volumes_mm3: np.ndarray
    distances: np.ndarray
    requested: np.ndarray
    achieved: np.ndarray
    window: tuple[float, float] | None


def summarise(lesions: Sequence[Lesion]) -> list[TextureSummary]:
    """One summary for each class and texture, in the order of their names."""
    groups: dict[tuple[str, str], list[Lesion]] = {}
    for lesion in lesions:
        groups.setdefault((lesion.lesion_class, lesion.texture), []).append(lesion)
    return [
        TextureSummary(
            *key,
            lesions=len(group),
            radii_mm=np.array([lesion.radius_mm for lesion in group]),
            volumes_mm3=np.array([lesion.volume_mm3 for lesion in group]),
            distances=np.array([lesion.distance for lesion in group if lesion.distance is not None]),
            requested=np.mean([lesion.requested for lesion in group], axis=0),
            achieved=np.mean([lesion.achieved for lesion in group], axis=0),
            window=group[0].window if len({lesion.window for lesion in group}) == 1 else None,
        )
        for key, group in sorted(groups.items())
    ]

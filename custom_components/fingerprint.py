"""What a data set of scans with lesions looks like: grids, lesions and intensities, measured case by case.

The idea of a fingerprint from which settings follow is that of nnU-Net (Isensee et al., Nature Methods 18, 2021).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import nibabel as nib
import numpy as np
from scipy import ndimage

from .grids import THICK_SLICES, box_extent, crop_axes, through_plane_last
from .labels import LesionLabels
from .seeds import derive_seed
from .specs import find_lesions
from .volumes import Scan

__all__ = ["CaseMeasures", "LesionMeasures", "measure_case", "pooled", "summarise"]

SPECK = 5  # a connected component of fewer voxels is noise of the annotation, not a lesion
AROUND_MM = 10.0  # how far the surroundings of a lesion reach
NEIGHBOURHOOD_MM = 16.0  # how far beyond a lesion a crop reaches, about; its percentiles set the window of MR
SAMPLES = 2000  # voxels drawn of a lesion and of its surroundings
PERCENTILES = (0, 0.5, 1, 5, 25, 50, 75, 95, 99, 99.5, 100)


@dataclass(frozen=True)
class LesionMeasures:
    """One lesion, a connected component of voxels of any class.

    Attributes:
        number: within its case, from the feet to the head.
        volume_mm3: of each class that it has.
        voxels: of all classes.
        extent_mm: of its bounding box along RAS+.
        extent_voxels: the same along the scan's own axes, the slices of a thick stack last.
        inside: class -> sampled values.
        around: sampled values within 10 mm, outside all lesions.
        relative: sampled values in units of its neighbourhood, a box as large as a crop is about, whose 1st percentile
            outside all lesions is 0 and whose 99th is 1.
    """

    number: int
    volume_mm3: dict[str, float]
    voxels: int
    extent_mm: tuple[float, ...]
    extent_voxels: tuple[float, ...]
    inside: dict[str, np.ndarray] = field(repr=False, default_factory=dict)
    around: np.ndarray = field(repr=False, default_factory=lambda: np.zeros(0))
    relative: np.ndarray = field(repr=False, default_factory=lambda: np.zeros(0))


@dataclass(frozen=True)
class CaseMeasures:
    """One case.

    Attributes:
        case, patient: names.
        size, spacing_mm: along the axes closest to RAS+, the slices of a thick stack last.
        orientation: of the array axes, such as LPS; ``oblique_degrees`` is how far they are off the patient's axes.
        thick: whether its slices are at least twice as thick as its pixels are wide.
        integer: whether its voxels are whole numbers.
        lowest, highest: of its values.
        values: sampled values of the whole scan.
        lesions: its lesions, without specks.
        specks: number of components too small to be a lesion.
    """

    case: str
    patient: str
    size: tuple[int, ...]
    spacing_mm: tuple[float, ...]
    orientation: str
    oblique_degrees: float
    thick: bool
    integer: bool
    lowest: float
    highest: float
    values: np.ndarray = field(repr=False)
    lesions: list[LesionMeasures]
    specks: int

    @property
    def looks_like_ct(self) -> bool:
        """Whole numbers with air below -500, as in Hounsfield units."""
        return self.integer and self.lowest < -500 and self.highest < 2**15

    def has(self, lesion_class: str) -> bool:
        """Whether one of its lesions has a class."""
        return any(lesion_class in lesion.volume_mm3 for lesion in self.lesions)


def measure_case(case: str, patient: str, scan: Scan, label: np.ndarray, labels: LesionLabels) -> CaseMeasures:
    """Measures a scan and its label map (X, Y, Z) on the same grid. What is sampled depends on the case's name only."""
    rng = np.random.default_rng(derive_seed(0, case, "fingerprint"))
    orientation = through_plane_last(scan.affine)
    order = np.argsort(orientation[:, 0])
    spacing = scan.spacing_mm[order]
    values = scan.values()
    lesion = labels.lesion(label)
    instances, boxes = find_lesions(lesion, scan.affine)
    found = [
        _measure_lesion(number, box, scan, values, label, instances, labels, rng)
        for number, box in enumerate(boxes, start=1)
        if np.count_nonzero(instances[box] == number) >= SPECK
    ]
    sample = _sample(values.ravel(), rng)
    cosines = np.abs(scan.affine[:3, :3] / scan.spacing_mm).max(axis=0)
    return CaseMeasures(
        case=case,
        patient=patient,
        size=tuple(int(scan.stored.shape[axis]) for axis in order),
        spacing_mm=tuple(float(v) for v in spacing),
        orientation="".join(nib.aff2axcodes(scan.affine)),
        oblique_degrees=float(np.rad2deg(np.arccos(cosines.clip(max=1).min()))),
        thick=bool(spacing[2] >= THICK_SLICES * spacing[:2].max()),
        integer=bool((sample == np.rint(sample)).all()),
        lowest=float(values.min()),
        highest=float(values.max()),
        values=sample,
        lesions=found,
        specks=len(boxes) - len(found),
    )


def _measure_lesion(
    number: int,
    box: Sequence[slice],
    scan: Scan,
    values: np.ndarray,
    label: np.ndarray,
    instances: np.ndarray,
    labels: LesionLabels,
    rng: np.random.Generator,
) -> LesionMeasures:
    margin = np.ceil(NEIGHBOURHOOD_MM / scan.spacing_mm).astype(int)
    wider = tuple(slice(max(0, p.start - m), p.stop + m) for p, m in zip(box, margin, strict=True))
    own, image, classes = instances[wider] == number, values[wider], label[wider]
    distance = ndimage.distance_transform_edt(~own, sampling=scan.spacing_mm)
    outside = instances[wider] == 0
    around = image[(distance <= AROUND_MM) & outside]
    inside, volume = {}, {}
    voxel_mm3 = float(np.prod(scan.spacing_mm))
    for name, value in labels.classes.items():
        part = image[own & (classes == value)]
        if part.size:
            inside[name], volume[name] = _sample(part, rng), part.size * voxel_mm3
    relative = np.zeros(0)
    if outside.any():
        low, high = np.percentile(image[outside], (1, 99))
        relative = (np.concatenate(list(inside.values())) - low) / max(high - low, 1e-6)
    return LesionMeasures(
        number=number,
        volume_mm3=volume,
        voxels=int(own.sum()),
        extent_mm=tuple(float(v) for v in box_extent(box, scan.affine, np.eye(3))),
        extent_voxels=tuple(float(v) for v in box_extent(box, scan.affine, crop_axes(scan.affine, None))),
        inside=inside,
        around=_sample(around, rng),
        relative=relative,
    )


def _sample(values: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Up to :data:`SAMPLES` of some values, drawn without regard to their order."""
    return values if values.size <= SAMPLES else values[rng.integers(values.size, size=SAMPLES)]


def pooled(cases: Sequence[CaseMeasures], classes: Sequence[str]) -> dict[str, np.ndarray]:
    """Sampled values of all cases: ``whole``, ``around`` the lesions, and inside each class."""
    lesions = [lesion for case in cases for lesion in case.lesions]
    parts = {"whole": [case.values for case in cases], "around": [lesion.around for lesion in lesions]}
    parts |= {name: [lesion.inside[name] for lesion in lesions if name in lesion.inside] for name in classes}
    return {name: np.concatenate(values) if values else np.zeros(0) for name, values in parts.items()}


def summarise(cases: Sequence[CaseMeasures], labels: LesionLabels) -> dict[str, Any]:
    """The fingerprint as it goes into a JSON file: distributions over the cases, and each case."""
    lesions = [lesion for case in cases for lesion in case.lesions]
    orientations = [case.orientation for case in cases]
    return {
        "cases": len(cases),
        "normal_cases": sum(not case.lesions for case in cases),
        "patients": len({case.patient for case in cases}),
        "lesions": len(lesions),
        "specks": sum(case.specks for case in cases),
        "spacing_mm": _by_axis([case.spacing_mm for case in cases]),
        "size": _by_axis([case.size for case in cases]),
        "orientations": {name: orientations.count(name) for name in sorted(set(orientations))},
        "oblique_cases": sum(case.oblique_degrees > 1 for case in cases),
        "thick_cases": sum(case.thick for case in cases),
        "ct_like_cases": sum(case.looks_like_ct for case in cases),
        "lesions_per_case": _percentiles([len(case.lesions) for case in cases]),
        "extent_mm": _by_axis([lesion.extent_mm for lesion in lesions]),
        "classes": {
            name: {
                "label": value,
                "cases": sum(case.has(name) for case in cases),
                "lesions": sum(name in lesion.volume_mm3 for lesion in lesions),
                "volume_mm3": _percentiles([x.volume_mm3[name] for x in lesions if name in x.volume_mm3]),
            }
            for name, value in labels.classes.items()
        },
        "intensity": {name: _percentiles(values) for name, values in pooled(cases, labels.names).items()},
        "by_case": [
            {
                "case": case.case,
                "patient": case.patient,
                "size": list(case.size),
                "spacing_mm": [round(v, 4) for v in case.spacing_mm],
                "orientation": case.orientation,
                "oblique_degrees": round(case.oblique_degrees, 2),
                "range": [case.lowest, case.highest],
                "lesions": [
                    {
                        "lesion": lesion.number,
                        "volume_mm3": {name: round(v, 2) for name, v in lesion.volume_mm3.items()},
                        "extent_mm": [round(v, 2) for v in lesion.extent_mm],
                    }
                    for lesion in case.lesions
                ],
            }
            for case in cases
        ],
    }


def _percentiles(values: Sequence[float] | np.ndarray) -> dict[str, float] | None:
    """Percentile -> value, None where there are no values."""
    if not len(values):
        return None
    return {f"{p:g}": round(float(v), 4) for p, v in zip(PERCENTILES, np.percentile(values, PERCENTILES), strict=True)}


def _by_axis(values: Sequence[Sequence[float]]) -> Mapping[str, Any] | None:
    """Percentiles along each axis."""
    if not values:
        return None
    return {axis: _percentiles(column) for axis, column in zip("xyz", np.array(values).T, strict=True)}

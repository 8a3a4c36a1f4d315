"""What to paint: every random choice is drawn once into a LesionSpec; applying one is deterministic."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from scipy import ndimage

from .labels import LesionLabels
from .volumes import Scan, newest_change, read_label, read_scan

__all__ = ["CaseLesions", "LesionSpec", "box_centre_mm", "find_lesions", "lesions_of", "read_lesions"]


@dataclass(frozen=True)
class LesionSpec:
    """One lesion of one class to paint. Classes that are painted jointly share ``lesion``, seed and crop.

    Attributes:
        case: name of the case.
        lesion: 1, 2, ... within the case, from the feet to the head.
        lesion_class: its class.
        centre_mm: centre of the bounding box, RAS+ mm.
        voxels, volume_mm3, radius_mm: size of the mask; the radius is that of the ball of equal volume.
        box: first and one past the last voxel along each axis of the scan.
        texture: a preset's name, ``custom`` or ``none``.
        histogram: the requested texture histogram (16 values; zeros for ``none``).
        seed: of the lesion's noise.
        crop_centre_mm: middle of the crop in which it is painted, RAS+ mm.
        window: the scan's values that are -1 and 1 in the network.
    """

    case: str
    lesion: int
    lesion_class: str
    centre_mm: tuple[float, float, float]
    voxels: int
    volume_mm3: float
    radius_mm: float
    box: tuple[tuple[int, int], ...]
    texture: str
    histogram: tuple[float, ...]
    seed: int
    crop_centre_mm: tuple[float, float, float]
    window: tuple[float, float]

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)

    @property
    def slices(self) -> tuple[slice, ...]:
        """The bounding box as array slices."""
        return tuple(slice(start, stop) for start, stop in self.box)


def find_lesions(mask: np.ndarray, affine: np.ndarray) -> tuple[np.ndarray, list[tuple[slice, ...]]]:
    """Connected components (26 neighbours) of a mask, numbered from the feet to the head.

    Args:
        mask: (X, Y, Z) bool.
        affine: voxel indices to RAS+ mm.

    Returns:
        Instance numbers (X, Y, Z) int32, 0 for background, and the bounding box of each.
    """
    labels, count = ndimage.label(mask, structure=np.ones((3, 3, 3)))
    boxes = ndimage.find_objects(labels)
    centres = [box_centre_mm(box, affine) for box in boxes]
    order = sorted(range(count), key=lambda i: tuple(np.round(centres[i][::-1], 3)))
    renumber = np.zeros(count + 1, dtype=np.int32)
    renumber[[old + 1 for old in order]] = np.arange(1, count + 1)
    return renumber[labels], [boxes[old] for old in order]


class CaseLesions(NamedTuple):
    """A scan with its lesions.

    Attributes:
        scan: the scan.
        instances: (X, Y, Z), whole numbers: the lesions' own, 0 for background.
        boxes: the bounding box of each.
        label: (X, Y, Z) uint8, the label map.
    """

    scan: Scan
    instances: np.ndarray
    boxes: list[tuple[slice, ...]]
    label: np.ndarray


def read_lesions(image: str | Path, label: str | Path, labels: LesionLabels | None = None) -> CaseLesions:
    """A scan with its lesions (see :func:`find_lesions`); the last one read is kept in memory.

    Args:
        image, label: files.
        labels: the meaning of the label map; a mask of 0 and 1 by default.

    Raises:
        InputError: as :func:`~custom_components.volumes.read_scan` and :func:`~custom_components.volumes.read_label`.
    """
    labels = LesionLabels() if labels is None else labels
    scan, label = read_scan(image), Path(label)
    changed = newest_change(label) if label.exists() else 0.0
    return CaseLesions(scan, *_find_cached(scan.path, newest_change(scan.path), label, changed, labels))


def lesions_of(item: Mapping[str, Any], labels: LesionLabels) -> CaseLesions:
    """The scan and lesions of a case or of one of its lesions: those in memory, else its files'.

    Args:
        item: ``lesions``, a :class:`CaseLesions`, or the paths ``image`` and ``label``.
        labels: the meaning of the label map.

    Raises:
        InputError: as :func:`read_lesions`.
    """
    return item["lesions"] if "lesions" in item else read_lesions(item["image"], item["label"], labels)


@lru_cache(maxsize=1)
def _find_cached(image: Path, changed: float, label: Path, label_changed: float, labels: LesionLabels) -> tuple:
    scan = read_scan(image)
    values = read_label(label, scan, labels)
    lesion = labels.lesion(values)
    if labels.joint:
        return lesion.astype(np.int32), ndimage.find_objects(lesion.astype(np.uint8)), values
    return *find_lesions(lesion, scan.affine), values


def box_centre_mm(box: Sequence[slice], affine: np.ndarray) -> tuple[float, ...]:
    """Centre of a bounding box in RAS+ mm."""
    middle = [(part.start + part.stop - 1) / 2 for part in box]
    return tuple(float(v) for v in (affine @ [*middle, 1.0])[:3])

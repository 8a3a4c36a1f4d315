"""The masks of a case, put together on its scan's grid: numbered lesions that stay apart."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy import ndimage

from ..errors import InputError
from ..labels import LesionLabels
from ..specs import CaseLesions, box_centre_mm, read_lesions
from ..volumes import Scan
from .scans import SourceScan

__all__ = ["BoxedMask", "compose_lesions", "given_lesions"]

BoxedMask = tuple[tuple[slice, ...], np.ndarray]  # a box of the scan, and a mask for each class (n, *box) bool in it


def compose_lesions(
    scan: Scan, masks: Sequence[BoxedMask], labels: LesionLabels, anatomy: np.ndarray | None = None
) -> tuple[CaseLesions, list[int]]:
    """Lesions numbered from the feet to the head, as :func:`~custom_components.specs.find_lesions` numbers them.

    Where two masks touch, the later one gives way, so that every lesion stays a component of its own. Work is done in
    the masks' boxes only.

    Args:
        scan: the grid.
        masks: one for each lesion; a single one where ``labels`` are joint.
        labels: the meaning of the label map.
        anatomy: (X, Y, Z) uint8, the label map that the lesions are laid over.

    Returns:
        The lesions, and for each of the masks its lesion's number.

    Raises:
        InputError: where a mask is empty, or nothing is left of it beside the others.
    """
    shape = scan.stored.shape
    label = np.zeros(shape, np.uint8) if anatomy is None else anatomy.copy()
    instances = np.zeros(shape, np.min_scalar_type(max(len(masks), 1)))
    kept, boxes = [], []
    for number, (box, classes) in enumerate(masks, start=1):
        mask = classes.any(axis=0) & ~_near_others(instances, box)
        if not mask.any():
            raise InputError(f"the mask of lesion {number} of {len(masks)} is empty.")
        for value, part in zip(labels.classes.values(), classes, strict=True):
            label[box][part & mask] = value
        instances[box][mask] = number
        kept.append(mask)
        boxes.append(_tight(box, mask))
    centres = [tuple(np.round(box_centre_mm(box, scan.affine)[::-1], 3)) for box in boxes]
    order = sorted(range(len(boxes)), key=lambda i: centres[i])
    numbers = [order.index(i) + 1 for i in range(len(boxes))]
    for (box, _), mask, number in zip(masks, kept, numbers, strict=True):
        instances[box][mask] = number
    return CaseLesions(scan, instances, [boxes[i] for i in order], label), numbers


def given_lesions(scan: SourceScan, labels: LesionLabels) -> CaseLesions:
    """The lesions of a scan's own label map.

    Raises:
        InputError: as :func:`~custom_components.specs.read_lesions`.
    """
    found = read_lesions(scan.image, scan.label, labels)
    return found._replace(instances=found.instances.astype(np.min_scalar_type(len(found.boxes))))


def _near_others(instances: np.ndarray, box: tuple[slice, ...]) -> np.ndarray:
    """Voxels of a box that are part of a lesion or touch one, even at a corner."""
    wide = tuple(slice(max(0, part.start - 1), part.stop + 1) for part in box)
    near = ndimage.binary_dilation(instances[wide] > 0, np.ones((3, 3, 3)))
    first = [part.start - grown.start for part, grown in zip(box, wide, strict=True)]
    return near[tuple(slice(f, f + part.stop - part.start) for f, part in zip(first, box, strict=True))]


def _tight(box: tuple[slice, ...], mask: np.ndarray) -> tuple[slice, ...]:
    """The bounding box of a mask that lies in a box."""
    found = ndimage.find_objects(mask.astype(np.uint8))[0]
    return tuple(slice(a.start + b.start, a.start + b.stop) for a, b in zip(box, found, strict=True))

"""What a picture of a segmentation shows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from scipy import ndimage

__all__ = ["SegmentationView", "largest_lesions"]


@dataclass(frozen=True)
class SegmentationView:
    """A row of the picture.

    Attributes:
        title: what stands beside it.
        image: (X, Y, Z) in the scan's units.
        affine: voxel indices to RAS+ mm.
        predicted: (X, Y, Z) label map.
        classes: lesion class -> value in the label maps.
        reference: label map of the truth, if there is one.
        focus: (X, Y, Z) bool, what the row shows; everything labelled by default.
    """

    title: str
    image: np.ndarray
    affine: np.ndarray
    predicted: np.ndarray
    classes: Mapping[str, int]
    reference: np.ndarray | None = None
    focus: np.ndarray | None = None


def largest_lesions(label: np.ndarray, count: int) -> list[np.ndarray]:
    """The largest connected parts (26 neighbours) of a label map, masks (X, Y, Z) bool from the largest."""
    parts, found = ndimage.label(label > 0, structure=np.ones((3, 3, 3)))
    sizes = np.bincount(parts.ravel())[1:]
    return [parts == number + 1 for number in np.argsort(-sizes, kind="stable")[: min(count, found)]]

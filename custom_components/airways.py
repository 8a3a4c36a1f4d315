"""The trachea and the large bronchi in chest CT: gas that is no lung."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy import ndimage

__all__ = ["find_airways"]

GAS_HU = -880.0  # sections of airways lie below; aerated lung, a mixture of gas and tissue, mostly above
TISSUE_HU = -500.0
LARGEST_MM2 = 1000.0  # no section of an airway is larger: what spreads further has leaked into the lung
SMALLEST_MM2 = 30.0
ROUND_MM2 = 700.0  # the trachea's largest section
ROUND_ASPECT, ROUND_FILL = 2.2, 0.55  # of a round section's box: longer to shorter side, share that the section fills
WALL = 0.5  # share of an airway's surroundings that is tissue
ROUND_WALL = 0.7  # the same for the trachea, which runs between other organs
TRACHEA_MM = 25.0  # shortest run of round sections


def find_airways(hu: np.ndarray, spacing_mm: Sequence[float]) -> np.ndarray:
    """Gas in the trachea and in the bronchi down to where they enter the lungs, found by their axial sections.

    An airway's section is small, dark and walled by tissue. Sections that touch each other in neighbouring slices
    belong together, and count where part of them is a long enough run of round ones, as the trachea is.

    Args:
        hu: (X, Y, Z) float in HU, axes closest to RAS+, about 2 mm in-plane.
        spacing_mm: voxel size.

    Returns:
        (X, Y, Z) bool, the gas alone without the walls.
    """
    narrow, round_ = np.zeros(hu.shape, bool), np.zeros(hu.shape, bool)
    for z in range(hu.shape[2]):
        _add_sections(hu[..., z], spacing_mm, narrow[..., z], round_[..., z])
    parts, count = ndimage.label(narrow, np.ones((3, 3, 3)))
    airways = np.zeros(count + 1, bool)
    for number, box in enumerate(ndimage.find_objects(parts), start=1):
        slices = (round_[box] & (parts[box] == number)).any(axis=(0, 1))
        airways[number] = _longest_run(slices) * spacing_mm[2] >= TRACHEA_MM
    return airways[parts]


def _add_sections(plane: np.ndarray, spacing_mm: Sequence[float], narrow: np.ndarray, round_: np.ndarray) -> None:
    """Marks the sections of possible airways of an axial plane (X, Y), and among them the round ones."""
    parts, _ = ndimage.label(plane < GAS_HU)
    sizes = np.bincount(parts.ravel()) * spacing_mm[0] * spacing_mm[1]
    for number, box in enumerate(ndimage.find_objects(parts), start=1):
        at_border = any(part.start == 0 or part.stop == size for part, size in zip(box, plane.shape, strict=True))
        if at_border or not SMALLEST_MM2 <= sizes[number] <= LARGEST_MM2:
            continue
        around = tuple(slice(max(0, part.start - 3), part.stop + 3) for part in box)
        section = parts[around] == number
        # The voxels right at the gas hold some of it: the wall is looked for one voxel further out.
        ring = ndimage.binary_dilation(section, iterations=3) & ~ndimage.binary_dilation(section)
        wall = (plane[around][ring] > TISSUE_HU).mean()
        if wall < WALL:
            continue
        narrow[around] |= section
        sides = [(part.stop - part.start) * mm for part, mm in zip(box, spacing_mm, strict=False)]
        is_round = (
            max(sides) <= ROUND_ASPECT * min(sides)
            and sizes[number] >= ROUND_FILL * sides[0] * sides[1]
            and sizes[number] <= ROUND_MM2
        )
        if is_round and wall >= ROUND_WALL:
            round_[around] |= section


def _longest_run(flags: np.ndarray) -> int:
    """The length of the longest run of True."""
    edges = np.flatnonzero(np.diff(np.concatenate([[0], flags.astype(np.int8), [0]])))
    return int((edges[1::2] - edges[::2]).max(initial=0))

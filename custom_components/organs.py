"""Organs found in a scan, where the user gives no mask of them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import nibabel as nib
import numpy as np
from scipy import ndimage

from .airways import find_airways
from .errors import InputError
from .grids import turn
from .volumes import Scan

__all__ = ["find_lungs"]

WORKING_MM = 2.0  # lungs are looked for on a copy with voxels of about this size, their border then in the scan itself
AIR_HU = -400.0  # halfway between aerated lung and soft tissue
GAS_HU = -940.0  # air outside the body or in the bowel holds no tissue: its median lies below, a lung's above
LEAK_MM = 3.0  # slices farther apart than this are not eroded across: too much would go
KEPT_SHARE = 0.05  # of the largest part; smaller ones are cells of the mastoid, stool, ...
OPEN_VOXELS, OPEN_SHARE = 4, 0.05  # no lung has outside air for so much of what lies within this reach of it
CLOSING_MM = 5.0  # vessels and dents up to twice as wide become lung
CHUNK_VOXELS = 1 << 23  # of the scan in hand at a time

# What is plausible: litres of both lungs, mean of their aerated voxels, and their pieces.
SMALLEST_ML, SMALLEST_SHARE, LARGEST_ML = 150.0, 0.05, 12000.0
LOWEST_HU, HIGHEST_HU = -945.0, -500.0
MOST_PARTS = 6


def find_lungs(scan: Scan) -> np.ndarray:
    """The lungs in a chest CT or a part of one, by thresholds and morphology.

    Any orientation and spacing will do, and the scan may cut the lungs anywhere. Vessels and dents narrower than
    10 mm (small nodules at the pleura among them) and whatever the lung surrounds are filled; the trachea, the large
    bronchi, bowel gas and the air around the body are left out. Consolidated lung, an effusion or a large mass at the
    pleura is not found.

    Args:
        scan: CT in HU.

    Returns:
        (X, Y, Z) bool on the scan's grid.

    Raises:
        InputError: where what was found cannot be lungs.
    """
    coarse, steps = _block_means(scan)
    orientation = nib.orientations.io_orientation(scan.affine)
    hu, _ = turn(coarse, np.eye(4), orientation)
    spacing_mm = (scan.spacing_mm * steps)[np.argsort(orientation[:, 0])]
    airways = find_airways(hu, spacing_mm)
    walls = ndimage.binary_dilation(airways, iterations=2)
    aerated, parts = _lung_parts(hu, (hu < AIR_HU) & ~walls, spacing_mm)
    voxel_ml = float(np.prod(spacing_mm)) / 1000
    _check(scan, aerated.sum() * voxel_ml, hu.size * voxel_ml, float(hu[aerated].mean()) if aerated.any() else 0, parts)
    filled = _fill(aerated, spacing_mm) & ~walls
    # Voxels well inside, and all that was filled, are lung; at the border the scan itself decides.
    surely = ndimage.binary_erosion(filled, border_value=1) | (filled & ~(hu < AIR_HU))
    perhaps = ndimage.binary_dilation(filled) & ~walls
    back = nib.orientations.ornt_transform(nib.orientations.axcodes2ornt("RAS"), orientation)
    surely, perhaps = (nib.orientations.apply_orientation(mask, back) for mask in (surely, perhaps))
    return _refine(scan, surely, perhaps, steps)


def _block_means(scan: Scan) -> tuple[np.ndarray, np.ndarray]:
    """The scan in HU, averaged over blocks of voxels of about ``WORKING_MM``, float32, and the blocks' size (3,)."""
    steps = np.maximum(1, np.floor(WORKING_MM / scan.spacing_mm + 0.5).astype(int))
    chunks = _chunks(scan.stored.shape, steps)
    stored = np.concatenate([_mean_blocks(scan.stored[box].astype(np.float32), steps) for box in chunks], axis=2)
    return np.float32(scan.slope) * stored + np.float32(scan.intercept), steps


def _chunks(shape: Sequence[int], steps: np.ndarray) -> Iterator[tuple[slice, ...]]:
    """Boxes of a scan, some blocks of its last axis at a time."""
    deep = int(max(1, CHUNK_VOXELS // (shape[0] * shape[1] * steps[2])) * steps[2])
    for start in range(0, shape[2], deep):
        yield slice(None), slice(None), slice(start, min(start + deep, shape[2]))


def _mean_blocks(values: np.ndarray, steps: np.ndarray) -> np.ndarray:
    """Means over blocks; those at the far end may hold fewer voxels."""
    for axis, step in enumerate(steps):
        if step > 1:
            starts = np.arange(0, values.shape[axis], step)
            counts = np.diff(np.append(starts, values.shape[axis]))
            sums = np.add.reduceat(values, starts, axis=axis)
            values = sums / counts.astype(np.float32).reshape([-1 if k == axis else 1 for k in range(3)])
    return values


def _lung_parts(hu: np.ndarray, air: np.ndarray, spacing_mm: np.ndarray) -> tuple[np.ndarray, int]:
    """The air that is lung, and in how many pieces it comes."""
    # Bowel gas and lung may touch across the thin diaphragm: pieces are told apart without their outermost voxels.
    cross = ndimage.generate_binary_structure(3, 1)
    for axis in np.flatnonzero(spacing_mm > LEAK_MM):
        cross &= np.arange(3).reshape([-1 if k == axis else 1 for k in range(3)]) == 1
    core = ndimage.binary_erosion(air, cross, border_value=1)
    labels, _ = ndimage.label(core)
    sizes = np.bincount(labels.ravel())
    sizes[0] = 0
    boxes = ndimage.find_objects(labels)
    lungs, outside = [], np.zeros_like(air)
    for number in np.argsort(-sizes):
        if sizes[number] == 0 or (lungs and sizes[number] < KEPT_SHARE * sizes[lungs[0]]):
            break
        box = boxes[number - 1]
        part = labels[box] == number
        if np.median(hu[box][part]) < GAS_HU:
            outside[box] |= part & _reaches_border(box, hu.shape)
        else:
            lungs.append(number)
    lungs = [number for number in lungs if _surrounded(labels, number, boxes[number - 1], outside) < OPEN_SHARE]
    chosen = np.isin(labels, lungs) if lungs else np.zeros_like(air)
    # Back to the border, and into edges too thin for the core.
    return ndimage.binary_dilation(chosen, cross, iterations=3, mask=air & ~(core & ~chosen)), len(lungs)


def _reaches_border(box: tuple[slice, ...], shape: Sequence[int]) -> bool:
    """Whether a box touches the scan's border in-plane, as the air around a body does."""
    return any(part.start == 0 or part.stop == size for part, size in zip(box[:2], shape[:2], strict=True))


def _surrounded(labels: np.ndarray, number: int, box: tuple[slice, ...], outside: np.ndarray) -> float:
    """The share of a part's surroundings that is air outside the body: much around a table's filling, none at lungs."""
    around = tuple(slice(max(0, part.start - OPEN_VOXELS), part.stop + OPEN_VOXELS) for part in box)
    part = labels[around] == number
    ring = ndimage.binary_dilation(part, iterations=OPEN_VOXELS) & ~part
    return float(outside[around][ring].mean()) if ring.any() else 0.0


def _check(scan: Scan, volume_ml: float, scan_ml: float, mean_hu: float, parts: int) -> None:
    """Raises InputError where the air found cannot be that of lungs."""
    if volume_ml == 0:
        found = "no air inside a body was found"
    else:
        found = (
            f"{volume_ml:.0f} ml of air in {parts} parts of {mean_hu:.0f} HU in a scan of {scan_ml:.0f} ml were found"
        )
    enough = volume_ml >= min(SMALLEST_ML, SMALLEST_SHARE * scan_ml)
    if enough and volume_ml <= LARGEST_ML and LOWEST_HU <= mean_hu <= HIGHEST_HU and parts <= MOST_PARTS:
        return
    raise InputError(
        f"image {scan.path} shows no lungs that could be told apart: {found}; give a mask of the organ (--organ_mask)."
    )


def _fill(lungs: np.ndarray, spacing_mm: np.ndarray) -> np.ndarray:
    """The lungs closed over vessels and dents, and their holes filled."""
    where = np.argwhere(lungs)
    margin = np.ceil(2 * CLOSING_MM / spacing_mm).astype(int)
    box = tuple(
        slice(max(0, low), high + 1)
        for low, high in zip(where.min(axis=0) - margin, where.max(axis=0) + margin, strict=True)
    )
    filled = lungs.copy()
    # By distances, so that thick slices do not matter; beyond the scan's border there is nothing to be near to.
    grown = ndimage.distance_transform_edt(~lungs[box], sampling=spacing_mm) <= CLOSING_MM
    closed = ndimage.distance_transform_edt(grown, sampling=spacing_mm) > CLOSING_MM if not grown.all() else grown
    filled[box] = ndimage.binary_fill_holes(closed | lungs[box])
    return filled


def _refine(scan: Scan, surely: np.ndarray, perhaps: np.ndarray, steps: np.ndarray) -> np.ndarray:
    """Blocks back to the scan's voxels: those of ``surely``, and the aerated ones of ``perhaps``."""
    lungs, limit = np.zeros_like(scan.stored, dtype=bool), (AIR_HU - scan.intercept) / scan.slope
    across = [np.arange(size) // step for size, step in zip(scan.stored.shape, steps, strict=True)]
    where = np.argwhere(perhaps)
    low, high = where.min(axis=0) * steps, (where.max(axis=0) + 1) * steps
    for *_, chunk in _chunks(scan.stored.shape, steps):
        box = (slice(low[0], high[0]), slice(low[1], high[1]), chunk)
        blocks = np.ix_(*[index[part] for index, part in zip(across, box, strict=True)][::-1])
        # Turned, since the first axis of a NIfTI file runs fastest in memory.
        sure, maybe = surely.T[blocks].T, perhaps.T[blocks].T
        air = scan.stored[box] < limit if scan.slope > 0 else scan.stored[box] > limit
        lungs[box] = sure | (maybe & air)
    return lungs

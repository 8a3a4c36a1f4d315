"""Regions of 64 x 64 x 32 mm of LIDC-IDRI's scans: around every nodule, and of nodule-free scans."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from scipy import ndimage

from custom_components.dicom_series import SliceStack
from custom_components.files import file_hash
from custom_components.organs import find_lungs
from custom_components.seeds import derive_seed
from custom_components.sites import draw_sites
from custom_components.volumes import Scan as Volume
from custom_components.volumes import write_scan

from .lidc_contours import WINDOW, Reading, Scan, consensus, window_index
from .prepare_lidc_masks import describe

__all__ = ["Placement", "cut", "nodule_rois", "normal_rois", "window_affine"]


@dataclass(frozen=True)
class Placement:
    """How regions of healthy lung are placed: equally spaced quantiles of real nodules' radii and gaps, and a seed."""

    radii_mm: np.ndarray
    gaps_mm: np.ndarray
    seed: int


def cut(values: np.ndarray, places: np.ndarray) -> np.ndarray:
    """Values at the places of a window, interpolated linearly, float32; beyond the scan its edge is repeated.

    Args:
        values: (slices, rows, columns).
        places: (3, X, Y, Z), see :func:`~.lidc_contours.window_index`.
    """
    limits = np.array(values.shape) - 1
    low = np.clip(np.floor(places.min(axis=(1, 2, 3))).astype(int), 0, limits)
    high = np.clip(np.ceil(places.max(axis=(1, 2, 3))).astype(int), 0, limits)
    box = tuple(slice(a, b + 1) for a, b in zip(low, high, strict=True))
    part = values[box].astype(np.float32)
    return ndimage.map_coordinates(part, places - low[:, None, None, None], order=1, mode="nearest")


def window_affine(stack: SliceStack, middle: Sequence[float]) -> np.ndarray:
    """The affine (4x4, RAS+ mm) of a window around a slice, row and column of a stack."""
    return nib.affines.from_matvec(np.eye(3), stack.position_mm(middle) - (np.array(WINDOW) - 1) / 2)


def nodule_rois(
    stack: SliceStack, scan: Scan, nodules: Sequence[Sequence[Reading]], output: Path
) -> tuple[list[dict[str, Any]], list[str]]:
    """Writes image (int16 HU) and label (0/1) of every nodule that lies in its window whole.

    Args:
        stack: the scan's slices, at the positions of ``scan``.
        scan: the scan.
        nodules: the readings of each.
        output: folder of the data set.

    Returns:
        The datalist's entries, with each score's mean over the readers, and the nodules left out.
    """
    entries, left_out = [], []
    for number, readings in enumerate(nodules, start=1):
        name = f"{scan.patient}_scan_{scan.id:04d}_nodule_{number:02d}"
        mask, whole, middle = consensus(readings, scan, stack.directions, as_voxels=True)
        if not whole:
            left_out.append(name)
            continue
        hu = cut(stack.values, window_index(middle, scan, stack.directions))
        about = describe(readings, mask, whole)
        means = {key: round(float(np.mean(values)), 2) for key, values in about["scores"].items()}
        files = {"image": ("images", np.rint(hu).astype(np.int16)), "label": ("labels", mask.astype(np.uint8))}
        affine = window_affine(stack, middle)
        entries.append({**_write(files, affine, output, "Pathological", name), **about, **means})
    return entries, left_out


def normal_rois(
    stack: SliceStack, scan: Scan, count: int, placement: Placement, folder: Path, output: Path
) -> list[dict[str, Any]]:
    """Writes image (int16 HU), empty label and lung mask (0/1) of regions of a nodule-free scan.

    A region lies around a site where a nodule might: its sphere has a real nodule's radius and distance to the border
    of the lung. Near the end of the scan the region is moved into it.

    Args:
        stack: the scan's slices, at the positions of ``scan``.
        scan: the scan.
        count: regions to write.
        placement: where.
        folder: of the series, for messages.
        output: folder of the data set.

    Returns:
        The datalist's entries; ``site_mm`` and ``radius_mm`` are the sphere.

    Raises:
        InputError: where no lung is found, or no room in it.
    """
    volume = stack.as_scan(folder)
    lungs = find_lungs(volume)
    rng = np.random.default_rng(derive_seed(placement.seed, scan.series))
    ranks = np.linspace(0, 1, len(placement.radii_mm))
    radii = [float(np.interp(rng.uniform(), ranks, placement.radii_mm)) for _ in range(count)]
    spheres = draw_sites(count, radii, lungs, volume.affine, placement.gaps_mm, rng, scan.patient, scan=volume)
    entries = []
    for number, (centre_mm, radius_mm) in enumerate(spheres, start=1):
        name = f"{scan.patient}_scan_{scan.id:04d}_normal_{number:02d}"
        middle = _into_scan(stack.index(centre_mm), stack)
        places = window_index(middle, scan, stack.directions)
        hu, lung = cut(stack.values, places), cut(lungs.transpose(2, 1, 0), places) >= 0.5
        files = {
            "image": ("images", np.rint(hu).astype(np.int16)),
            "label": ("labels", np.zeros(WINDOW, np.uint8)),
            "lung": ("lungs", lung.astype(np.uint8)),
        }
        entry = _write(files, window_affine(stack, middle), output, "Normal", name)
        entries.append(
            {**entry, "site_mm": [round(float(v), 2) for v in centre_mm], "radius_mm": round(float(radius_mm), 2)}
        )
    return entries


def _into_scan(middle: np.ndarray, stack: SliceStack) -> np.ndarray:
    """The middle of a window, moved so that the window lies in the scan, as far as that is large enough."""
    half_x, half_y, half_z = (np.array(WINDOW) - 1) / 2
    slices, rows, columns = stack.values.shape
    ends = np.interp([stack.z_mm[0] + half_z, stack.z_mm[-1] - half_z], stack.z_mm, np.arange(slices))
    half_row, half_column = half_y / stack.pixel_mm[0], half_x / stack.pixel_mm[1]
    low = np.array([ends[0], half_row, half_column])
    high = np.array([ends[1], rows - 1 - half_row, columns - 1 - half_column])
    return np.where(low <= high, np.clip(middle, low, np.maximum(low, high)), (low + high) / 2)


def _write(
    files: dict[str, tuple[str, np.ndarray]], affine: np.ndarray, output: Path, group: str, name: str
) -> dict[str, Any]:
    """Writes the volumes of a region and returns their paths in the group's folder, and hashes."""
    entry: dict[str, Any] = {}
    hashes = {}
    for role, (folder, values) in files.items():
        path = output / group / folder / f"{name}.nii.gz"
        write_scan(Volume(path, values, 1.0, 0.0, affine), values, path)
        entry[role], hashes[role] = f"{folder}/{name}.nii.gz", file_hash(path)
    return {**entry, "case": name, "group": group, "sha256": hashes}

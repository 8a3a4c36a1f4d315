"""Regions without lesions cut out of whole scans, where lesions might lie."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np

from custom_components.errors import InputError
from custom_components.grids import to_crop
from custom_components.seeds import derive_seed
from custom_components.sites import draw_sites
from custom_components.spheres import Sphere
from custom_components.volumes import Scan, write_scan

from .lidc_rois import Placement

__all__ = ["Region", "place_regions", "write_region"]

ROUNDS = 8  # of draws, where many sites lie too near to what is excluded


@dataclass(frozen=True)
class Region:
    """A region: its affine (1 mm, RAS+), size in voxels, and the sphere where a lesion might lie."""

    affine: np.ndarray
    size: tuple[int, int, int]
    site: Sphere


def place_regions(
    scan: Scan,
    organ: np.ndarray,
    count: int,
    size: Sequence[int],
    placement: Placement,
    name: str,
    excluded: np.ndarray | None = None,
) -> list[Region]:
    """Draws regions of a scan around sites as deep in the organ as real lesions lie.

    A region that would reach over the end of the scan is moved into it.

    Args:
        scan: CT in HU.
        organ: (X, Y, Z) bool on its grid.
        count: regions.
        size: voxels of 1 mm along R, A and S.
        placement: radii and gaps to the organ's border of real lesions, and the seed.
        name: of the scan, for messages and the seed.
        excluded: (X, Y, Z) bool, of which no region may hold a voxel.

    Raises:
        InputError: where there is no room for as many.
    """
    rng = np.random.default_rng(derive_seed(placement.seed, name))
    ranks = np.linspace(0, 1, len(placement.radii_mm))
    forbidden = np.empty((0, 3)) if excluded is None else nib.affines.apply_affine(scan.affine, np.argwhere(excluded))
    # A marked voxel reaches, interpolated, as far as the middle of its neighbours.
    margin_mm = np.maximum(1, np.abs(scan.affine[:3, :3]).sum(axis=1))
    regions: list[Region] = []
    for _ in range(ROUNDS):
        missing = count - len(regions)
        if missing == 0:
            break
        radii = [float(np.interp(rng.uniform(), ranks, placement.radii_mm)) for _ in range(missing)]
        taken = [region.site for region in regions]
        sites = draw_sites(missing, radii, organ, scan.affine, placement.gaps_mm, rng, name, taken, scan)
        drawn = [Region(_affine(site[0], size, scan), tuple(size), site) for site in sites]
        regions += [region for region in drawn if not _holds(region, forbidden, margin_mm)]
    if len(regions) < count:
        raise InputError(
            f"{name} has room for {len(regions)} of {count} regions of {' x '.join(map(str, size))} mm that hold "
            "nothing of what --exclude marks."
        )
    return regions


def _affine(centre_mm: Sequence[float], size: Sequence[int], scan: Scan) -> np.ndarray:
    """Of a region around a place, moved into the scan as far as that is large enough."""
    corners = np.array(np.meshgrid(*[(0, n - 1) for n in scan.stored.shape])).reshape(3, -1).T
    ends = nib.affines.apply_affine(scan.affine, corners)
    half = (np.array(size) - 1) / 2
    low, high = ends.min(axis=0) + half, ends.max(axis=0) - half
    middle = np.where(low <= high, np.clip(centre_mm, low, np.maximum(low, high)), (low + high) / 2)
    return nib.affines.from_matvec(np.eye(3), middle - half)


def _holds(region: Region, points_mm: np.ndarray, margin_mm: np.ndarray) -> bool:
    """Whether any of the points lies in a region, or within a margin of its outermost voxels."""
    index = points_mm - region.affine[:3, 3]
    return bool(((index >= -margin_mm) & (index <= np.array(region.size) - 1 + margin_mm)).all(axis=1).any())


def write_region(region: Region, scan: Scan, organ: np.ndarray, output: Path, name: str, folder: str) -> dict[str, Any]:
    """Writes image (int16), empty label and organ mask (0/1) of a region; returns its entry of the datalist.

    Args:
        folder: of the organ masks.
    """
    hu = to_crop(scan.values(), scan.affine, region.affine, region.size)
    inside = to_crop(organ.astype(np.float32), scan.affine, region.affine, region.size, "zeros") >= 0.5
    files = {
        "image": ("images", np.rint(hu).astype(np.int16)),
        "label": ("labels", np.zeros(region.size, np.uint8)),
        folder.removesuffix("s"): (folder, inside.astype(np.uint8)),
    }
    entry: dict[str, Any] = {}
    for role, (place, values) in files.items():
        entry[role] = f"{place}/{name}.nii.gz"
        write_scan(Scan(output / entry[role], values, 1.0, 0.0, region.affine), values, output / entry[role])
    centre, radius = region.site
    site = {"site_mm": [round(float(v), 2) for v in centre], "radius_mm": round(float(radius), 2)}
    return {**entry, "case": name, **site}

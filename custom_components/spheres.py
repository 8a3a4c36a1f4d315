"""Control spheres as a user gives them, or drawn at random inside an organ."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from .errors import InputError
from .organ_depth import OrganDepth
from .volumes import Scan

__all__ = ["check_spheres", "random_spheres", "read_radii", "read_spheres"]

Sphere = tuple[tuple[float, float, float], float]  # centre in RAS+ mm, radius in mm

GAP_MM = 2.0  # between two lesions, so that they stay two
TRIES = 200


def read_spheres(spheres: Any, coordinates: str, scan: Scan) -> list[Sphere]:
    """Control spheres in scanner coordinates.

    Args:
        spheres: ``[[x, y, z, radius_mm], ...]``, or one such list of four numbers.
        coordinates: what x, y, z are: ``mm`` (RAS+ scanner coordinates) or ``voxel`` (indices of the scan's array).
        scan: whose grid the indices belong to.

    Raises:
        InputError: for other coordinates, or a sphere that is not four finite numbers.
    """
    if coordinates not in ("mm", "voxel"):
        raise InputError(f"coordinates must be mm or voxel, got {coordinates!r}.")
    rows = spheres if isinstance(spheres, Sequence) and not isinstance(spheres, str) else [spheres]
    rows = [rows] if rows and not any(isinstance(row, Sequence) for row in rows) else rows
    if not rows:
        raise InputError(
            "spheres is empty: give [x, y, z, radius_mm] for each lesion, or none to place them at random."
        )
    found = []
    for number, row in enumerate(rows, start=1):
        try:
            x, y, z, radius = (float(value) for value in row)
        except (TypeError, ValueError) as error:
            raise InputError(f"sphere {number} must be four numbers [x, y, z, radius_mm], got {row!r}.") from error
        if not np.isfinite([x, y, z, radius]).all():
            raise InputError(f"sphere {number} holds a number that is not finite: {list(row)}.")
        centre = (x, y, z) if coordinates == "mm" else (scan.affine @ [x, y, z, 1.0])[:3]
        found.append((tuple(float(v) for v in centre), radius))
    return found


def check_spheres(
    spheres: Sequence[Sphere], scan: Scan, organ: np.ndarray | None, max_radius_mm: float, case: str
) -> None:
    """Raises InputError for the first sphere that cannot be drawn in.

    Args:
        spheres: control spheres.
        scan: the grid they lie in.
        organ: (X, Y, Z) bool, the boundary mask; None for everywhere.
        max_radius_mm: the largest the model's crop holds.
        case: for the message.
    """
    for number, (centre, radius) in enumerate(spheres, start=1):
        name = f"sphere {number} of case {case}"
        if radius <= 0:
            raise InputError(f"{name} must have a radius above 0 mm, got {radius:g}.")
        if radius > max_radius_mm:
            raise InputError(f"{name} has a radius of {radius:g} mm, more than the crop holds ({max_radius_mm:g} mm).")
        index = np.linalg.solve(scan.affine, [*centre, 1.0])[:3]
        if (index < -0.5).any() or (index > np.array(scan.stored.shape) - 0.5).any():
            place = ", ".join(f"{v:.1f}" for v in centre)
            raise InputError(f"{name} has its centre ({place}) mm outside the scan.")
        if organ is not None and not _touches(centre, radius, scan.affine, organ):
            raise InputError(f"{name} holds no voxel of the organ: nothing can be drawn in it.")
        for other, (middle, reach) in enumerate(spheres[: number - 1], start=1):
            if np.linalg.norm(np.subtract(centre, middle)) < radius + reach:
                raise InputError(f"spheres {other} and {number} of case {case} overlap: their lesions would be one.")


def _touches(centre: Sequence[float], radius: float, affine: np.ndarray, organ: np.ndarray) -> bool:
    """Whether any of the organ's voxels has its centre in the sphere."""
    middle = np.linalg.solve(affine, [*centre, 1.0])[:3]
    reach = radius * np.linalg.norm(np.linalg.inv(affine[:3, :3]), axis=1)
    box = tuple(
        slice(max(0, int(np.ceil(m - r))), max(0, int(np.floor(m + r)) + 1)) for m, r in zip(middle, reach, strict=True)
    )
    voxels = np.argwhere(organ[box]) + [part.start for part in box]
    distances = np.linalg.norm(voxels @ affine[:3, :3].T + affine[:3, 3] - centre, axis=1)
    return bool((distances <= radius).any())


def read_radii(path: str | Path) -> np.ndarray:
    """Quantiles of the radii of real lesions (mm), ascending, from a JSON with ``radius_mm_quantiles``.

    Raises:
        InputError: where the file cannot be read or does not hold ascending positive numbers.
    """
    try:
        quantiles = np.asarray(json.loads(Path(str(path)).read_text())["radius_mm_quantiles"], dtype=float)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"cannot read sphere radii from {path}: {error!r}.") from error
    if quantiles.ndim != 1 or len(quantiles) < 2 or quantiles[0] <= 0 or (np.diff(quantiles) < 0).any():
        raise InputError(f"radius_mm_quantiles of {path} must be ascending numbers above 0.")
    return quantiles


def random_spheres(
    count: int,
    scan: Scan,
    organ: np.ndarray | None,
    quantiles_mm: np.ndarray,
    placement: str,
    rng: np.random.Generator,
    case: str,
) -> list[Sphere]:
    """Draws control spheres inside an organ, of radii distributed as the quantiles say, apart from each other.

    Args:
        count: number of spheres.
        scan: the grid.
        organ: (X, Y, Z) bool; None for the whole grid.
        quantiles_mm: equally spaced quantiles of the radius; two numbers make it uniform between them.
        placement: ``ball`` keeps the whole sphere in the organ, ``centre`` its centre only (an organ thinner than
            its lesions' spheres, such as the myocardium).
        rng: source of the draws.
        case: for the message.

    Raises:
        InputError: for another placement, a count below 1, or where no room is found.
    """
    if placement not in ("ball", "centre"):
        raise InputError(f"placement must be ball or centre, got {placement!r}.")
    if not isinstance(count, int) or count < 1:
        raise InputError(f"num_random must be a whole number of at least 1, got {count!r}.")
    depth = OrganDepth(np.ones(scan.stored.shape, bool) if organ is None else organ, scan.affine)
    found: list[Sphere] = []
    for number in range(1, count + 1):
        for _ in range(TRIES):
            radius = float(np.interp(rng.uniform(), np.linspace(0, 1, len(quantiles_mm)), quantiles_mm))
            away = [(centre, radius + reach + GAP_MM) for centre, reach in found]
            low, margin = (radius, radius) if placement == "ball" else (-np.inf, 0.0)
            places = depth.places(low, np.inf, margin, away)
            if len(places):
                centre = places[rng.integers(len(places))]
                found.append((tuple(float(v) for v in centre), radius))
                break
        else:
            raise InputError(f"no room was found for random sphere {number} of {count} in case {case}.")
    return found

"""Where in an organ lesions are placed, so that they lie as real lesions do."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from .errors import InputError
from .organ_depth import OrganDepth
from .spheres import GAP_MM, TRIES, Sphere
from .volumes import Scan

__all__ = ["draw_sites", "read_site_gaps"]

BAND_MM = 0.5  # how near to the drawn gap a site lies at least, on grids that are as fine
AERATED_HU = -500.0
AERATED_SHARE = 0.65  # the lung around each of 100 real nodules is aerated to more than this; at the hilum much is not


def draw_sites(
    count: int,
    radii_mm: Sequence[float],
    organ: np.ndarray,
    affine: np.ndarray,
    gaps_mm: np.ndarray,
    rng: np.random.Generator,
    case: str,
    taken: Sequence[Sphere] = (),
    scan: Scan | None = None,
) -> list[Sphere]:
    """Control spheres whose centres are as far from the organ's border as those of real lesions.

    The gap is that between a lesion's centre and the border. It does not depend on the lesion's size (real nodules:
    Spearman's rank correlation 0.13), whereas what is left of it beside the sphere, gap minus radius, does (-0.52):
    a sphere whose radius exceeds its gap reaches over the border, as those of lesions at the pleura do. All places of
    a gap are equally likely. A gap that the organ has no place for is drawn anew.

    Args:
        count: number of spheres.
        radii_mm: the radius of each.
        organ: (X, Y, Z) bool.
        affine: 4x4, voxel indices to RAS+ mm.
        gaps_mm: equally spaced quantiles of the gap; the last one stands for itself and everything beyond.
        rng: source of the draws.
        case: for the message.
        taken: spheres that are there already.
        scan: the CT (HU) the organ lies in; most of the organ within a sphere then has to be aerated lung.

    Returns:
        The spheres, in the order of their radii: apart from each other and from ``taken`` by ``GAP_MM``, wholly in
        the scan, their centres in the organ.

    Raises:
        InputError: for a count that is not that of the radii, or where there is no room.
    """
    if not isinstance(count, int) or count < 1 or count != len(radii_mm):
        raise InputError(f"{count!r} lesions of {len(radii_mm)} radii cannot be placed in case {case}.")
    depth = OrganDepth(organ, affine)
    band_mm, ranks = max(BAND_MM, depth.voxel_mm / 2), np.linspace(0, 1, len(gaps_mm))
    found: dict[int, Sphere] = {}
    for number in sorted(range(count), key=lambda k: -radii_mm[k]):  # large ones first, while there is room
        radius = float(radii_mm[number])
        away = [(centre, radius + reach + GAP_MM) for centre, reach in (*taken, *found.values())]
        for _ in range(TRIES):
            gap = float(np.interp(rng.uniform(), ranks, gaps_mm))
            beyond = gap >= gaps_mm[-1] - 1e-9
            places = depth.places(max(0.0, gap - band_mm), np.inf if beyond else gap + band_mm, radius, away)
            if len(places) == 0:
                continue
            centre = places[rng.integers(len(places))]
            if scan is None or _aerated(centre, radius, organ, scan) >= AERATED_SHARE:
                found[number] = (tuple(float(v) for v in centre), radius)
                break
        else:
            raise InputError(
                f"no room was found for lesion {number + 1} of {count} (radius {radius:.3g} mm) in the organ of "
                f"case {case}."
            )
    return [found[number] for number in range(count)]


def _aerated(centre: np.ndarray, radius: float, organ: np.ndarray, scan: Scan) -> float:
    """The share of the organ within a sphere that is aerated lung."""
    inverse = np.linalg.inv(scan.affine)
    middle, reach = inverse[:3, :3] @ centre + inverse[:3, 3], radius * np.linalg.norm(inverse[:3, :3], axis=1)
    low = np.maximum(0, np.floor(middle - reach)).astype(int)
    high = np.minimum(organ.shape, np.ceil(middle + reach).astype(int) + 1)
    box = tuple(slice(start, stop) for start, stop in zip(low, high, strict=True))
    offset = np.indices(tuple(high - low)).reshape(3, -1) + (low - middle)[:, None]
    near = np.linalg.norm(scan.affine[:3, :3] @ offset, axis=0) <= radius
    inside = near & organ[box].ravel()
    return float((scan.values(box).ravel()[inside] < AERATED_HU).mean()) if inside.any() else 0.0


def read_site_gaps(path: str | Path) -> np.ndarray:
    """Quantiles of the gaps of real lesions (mm), ascending, from a JSON with ``site_gap_mm_quantiles``.

    Raises:
        InputError: where the file cannot be read or does not hold ascending numbers of at least 0.
    """
    try:
        quantiles = np.asarray(json.loads(Path(str(path)).read_text())["site_gap_mm_quantiles"], dtype=float)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"cannot read site gaps from {path}: {error!r}.") from error
    rising = quantiles.ndim == 1 and len(quantiles) >= 2 and quantiles[0] >= 0 and (np.diff(quantiles) >= 0).all()
    if not rising or not np.isfinite(quantiles).all():
        raise InputError(f"site_gap_mm_quantiles of {path} must be ascending numbers of at least 0.")
    return quantiles

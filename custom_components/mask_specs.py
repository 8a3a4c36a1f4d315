"""Which masks to draw: every random choice is made once into a MaskSpec; drawing one is deterministic."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from .errors import InputError
from .mask_targets import MaskTarget, read_target
from .seeds import derive_seed
from .spheres import check_spheres, random_spheres, read_radii, read_spheres

__all__ = ["MaskSpec", "plan_masks"]


@dataclass(frozen=True)
class MaskSpec:
    """One mask to draw.

    Attributes:
        case: name of the case.
        sample: 1, 2, ...: the mask file it goes into.
        sphere: 1, 2, ... within the case.
        centre_mm, radius_mm: the control sphere, RAS+ mm.
        seed: of the mask's noise.
    """

    case: str
    sample: int
    sphere: int
    centre_mm: tuple[float, float, float]
    radius_mm: float
    seed: int

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def plan_masks(
    targets: Sequence[MaskTarget],
    spheres: Any = None,
    coordinates: str = "mm",
    num_random: int = 1,
    radius_mm: float | Sequence[float] | None = None,
    radii: str | Path | None = None,
    placement: str = "ball",
    samples: int = 1,
    seed: int = 0,
    max_radius_mm: float = 32.0,
    replay: str | Path | None = None,
) -> list[dict[str, Any]]:
    """Checks every case and its control spheres, before any sampling.

    Args:
        targets: the cases.
        spheres: ``[[x, y, z, radius_mm], ...]`` for every case; None to place ``num_random`` at random.
        coordinates: of the spheres, ``mm`` or ``voxel``, see :func:`~custom_components.spheres.read_spheres`.
        num_random: spheres placed at random in each case.
        radius_mm: their radius, or its two limits; None to draw it as in ``radii``.
        radii: JSON with the distribution of the radii of real lesions.
        placement: ``ball`` or ``centre``, see :func:`~custom_components.spheres.random_spheres`.
        samples: masks drawn for each sphere, each with its own seed and in a file of its own.
        seed: run seed; a draw depends on it, the case's name, the sphere and the sample.
        max_radius_mm: the largest radius the model's crop holds.
        replay: a sidecar written earlier, whose spheres and seeds are used again.

    Returns:
        One dictionary per mask: ``target``, ``spec``, ``index``.

    Raises:
        InputError: for the first thing that is wrong.
    """
    if not isinstance(samples, int) or samples < 1:
        raise InputError(f"samples must be a whole number of at least 1, got {samples!r}.")
    earlier = _read_replay(replay) if replay else None
    quantiles = None if spheres is not None or earlier else _radii(radius_mm, radii, max_radius_mm)
    items: list[dict[str, Any]] = []
    for target in tqdm(targets, desc="checking", disable=len(targets) < 5):
        scan, organ = read_target(target)
        if earlier is not None:
            specs = [MaskSpec(**{**spec, "case": target.case}) for spec in earlier]
            placed = [(spec.centre_mm, spec.radius_mm) for spec in specs if spec.sample == specs[0].sample]
        else:
            if spheres is not None:
                placed = read_spheres(spheres, coordinates, scan)
            else:
                rng = np.random.default_rng(derive_seed(seed, target.case, "spheres"))
                placed = random_spheres(num_random, scan, organ, quantiles, placement, rng, target.case)
            specs = [
                MaskSpec(target.case, sample, number, *sphere, derive_seed(seed, target.case, number, sample, "mask"))
                for sample in range(1, samples + 1)
                for number, sphere in enumerate(placed, start=1)
            ]
        check_spheres(placed, scan, organ, max_radius_mm, target.case)
        items += [{"target": target, "spec": spec, "index": len(items) + k} for k, spec in enumerate(specs)]
    return items


def _radii(radius_mm: Any, radii: str | Path | None, max_radius_mm: float) -> np.ndarray:
    """Quantiles of the radii to draw from, mm."""
    if radius_mm is None:
        return np.minimum(read_radii(radii), max_radius_mm)
    limits = np.atleast_1d(np.asarray(radius_mm, dtype=float)) if not isinstance(radius_mm, str) else np.array([])
    if len(limits) not in (1, 2) or not np.isfinite(limits).all() or not 0 < limits[0] <= limits[-1] <= max_radius_mm:
        raise InputError(
            f"radius_mm must be one number or two rising ones above 0 and at most {max_radius_mm:g} "
            f"(what the crop holds), got {radius_mm!r}."
        )
    return limits[[0, -1]]


def _read_replay(path: str | Path) -> list[dict[str, Any]]:
    try:
        specs = [dict(mask["spec"]) for mask in json.loads(Path(path).read_text())["masks"]]
        return [{**spec, "centre_mm": tuple(spec["centre_mm"])} for spec in specs]
    except (OSError, UnicodeDecodeError, json.JSONDecodeError, KeyError, TypeError, ValueError) as error:
        raise InputError(f"cannot read masks to replay from {path}: {error!r}.") from error

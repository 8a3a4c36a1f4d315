"""Which masks to draw: where, how big, how many; drawn once into MaskSpecs, so that drawing them is deterministic."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from scipy import ndimage

from .errors import InputError
from .seeds import derive_seed
from .spheres import RandomSpheres, check_spheres, read_spheres
from .volumes import Scan, read_mask, read_scan

__all__ = ["MaskSpec", "bare_scan", "find_targets", "plan_masks", "read_target"]


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

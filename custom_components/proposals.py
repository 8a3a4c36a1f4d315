"""Settings that follow from a data set's fingerprint, each with the reason for it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from .datasets import split_by_patient
from .errors import InputError
from .fingerprint import CaseMeasures, LesionMeasures, pooled
from .grids import THICK_SLICES

__all__ = [
    "TEXTURES",
    "Proposal",
    "crop_extents",
    "lesions_that_fit",
    "propose_crop",
    "propose_modality",
    "propose_percentiles",
    "propose_split",
    "propose_window",
    "smaller_crop",
    "texture_names",
]

LARGEST_SIDE = 96  # of a crop that is resampled; more is a matter of memory
LARGEST_STACK = (192, 192, 48)  # of a crop on a thick stack's own grid
SMALLEST_SIDE = 32
CONTEXT = 0.25  # of the lesion's extent, on either side
LEAST_CONTEXT = 4  # voxels on either side
VAL_SHARE = 0.2
TEXTURES = (("dark", "medium", "bright"), ("dark", "bright"), ("typical",))  # names of presets, by rising mean


class Proposal(NamedTuple):
    """A setting and, in words that end a sentence, why."""

    value: Any
    reason: str


def propose_modality(cases: Sequence[CaseMeasures]) -> Proposal:
    """``CT`` where most scans look like it, else ``MR``, which stands for any units that differ from scan to scan."""
    alike = sum(case.looks_like_ct for case in cases)
    lowest = min(case.lowest for case in cases)
    if 2 * alike > len(cases):
        return Proposal(
            "CT", f"{alike} of {len(cases)} scans hold whole numbers that reach below -500, as air in HU does"
        )
    reason = f"{len(cases) - alike} of {len(cases)} scans do not hold whole numbers with air below -500"
    return Proposal("MR", reason + (", though some are negative: is it CT? Then --modality CT" if lowest < -50 else ""))


def crop_extents(lesions: Sequence[LesionMeasures], spacing_mm: Sequence[float] | None) -> np.ndarray:
    """Extents of lesions in voxels of a crop, (count, 3)."""
    if spacing_mm is None:
        return np.array([lesion.extent_voxels for lesion in lesions]).reshape(-1, 3)
    return np.array([lesion.extent_mm for lesion in lesions]).reshape(-1, 3) / np.array(spacing_mm)


def lesions_that_fit(case: CaseMeasures, size: Sequence[int], spacing_mm: Sequence[float] | None) -> list[int]:
    """Numbers of a case's lesions whose bounding box is no larger than the crop."""
    fits = (crop_extents(case.lesions, spacing_mm) <= np.array(size) + 1e-3).all(axis=1)
    return [lesion.number for lesion, fit in zip(case.lesions, fits, strict=True) if fit]


def propose_spacing(cases: Sequence[CaseMeasures]) -> Proposal:
    """Voxel size of the crops: the same in all directions, or None, the scan's own grid, for thick slices."""
    median = np.median([case.spacing_mm for case in cases], axis=0)
    thick, ratio = sum(case.thick for case in cases), float(median.max() / median.min())
    told = " x ".join(f"{v:.3g}" for v in median)
    if ratio >= THICK_SLICES:
        rest = "" if thick == len(cases) else f"; {len(cases) - thick} scans have no thick slices and keep theirs too"
        return Proposal(
            None, f"the median voxel of {told} mm is {ratio:.1f} times as thick as wide: slices stay as they are{rest}"
        )
    side = float(np.round(np.cbrt(median.prod()), 2))
    rest = f"; {thick} scans have thick slices, which are interpolated" if thick else ""
    return Proposal(
        [side] * 3, f"cubes of the volume of the median voxel, {told} mm, less than 2 times as long as wide{rest}"
    )


def propose_crop(cases: Sequence[CaseMeasures], divisor: Sequence[int]) -> tuple[Proposal, Proposal]:
    """Voxel size and number of voxels (X, Y, Z) of a crop that holds nearly every lesion and its context.

    X and Y are alike, since training turns crops by 90 degrees about Z. Where even the largest crop would be too small
    at the median voxel size, voxels become larger, up to three times.

    Args:
        cases: with at least one lesion among them.
        divisor: what the network needs each side to be a multiple of.
    """
    spacing, why = propose_spacing(cases)
    lesions = [lesion for case in cases for lesion in case.lesions]
    largest = LARGEST_STACK if spacing is None else (LARGEST_SIDE,) * 3
    needed = _needed(crop_extents(lesions, spacing), divisor, spacing is None)
    factor = min(3.0, max(n / most for n, most in zip(needed, largest, strict=True)))
    if spacing is not None and factor > 1:
        side = math.ceil(spacing[0] * factor * 20) / 20
        why += f"; enlarged from {spacing[0]:g} mm, so that large lesions fit a crop of {LARGEST_SIDE} voxels"
        spacing = [side] * 3
        needed = _needed(crop_extents(lesions, spacing), divisor, False)
    size = [min(n, most // d * d) for n, most, d in zip(needed, largest, divisor, strict=True)]
    p99 = np.percentile(crop_extents(lesions, spacing), 99, axis=0)
    told = " x ".join(f"{v:.0f}" for v in p99)
    reason = f"99 % of the lesions measure at most {told} voxels; a quarter of that, at least {LEAST_CONTEXT} voxels,"
    reason += " is added on either side"
    if len(set(divisor)) > 1:
        reason += f" (one slice in a stack), made a multiple of {divisor[0]} in the slice for the network"
    else:
        reason += f", made a multiple of {divisor[0]} for the network"
    return Proposal(spacing, why), Proposal(size, reason)


def smaller_crop(
    cases: Sequence[CaseMeasures], spacing_mm: Sequence[float] | None, divisor: Sequence[int]
) -> list[int]:
    """The crop that holds three quarters of the lesions with the least context: for a training on a CPU."""
    lesions = [lesion for case in cases for lesion in case.lesions]
    return _needed(crop_extents(lesions, spacing_mm), divisor, spacing_mm is None, percentile=75, share=0)


def _needed(
    extents: np.ndarray, divisor: Sequence[int], stack: bool, percentile: float = 99, share: float = CONTEXT
) -> list[int]:
    extent = np.percentile(extents, percentile, axis=0)
    whole = extent + 2 * np.maximum(share * extent, LEAST_CONTEXT)
    least = [SMALLEST_SIDE, SMALLEST_SIDE, SMALLEST_SIDE // 2]
    if stack:
        whole[2], least[2] = extent[2] + 2, 4
    whole[:2] = whole[:2].max()
    return [d * math.ceil(max(n, m) / d - 1e-6) for n, m, d in zip(whole, least, divisor, strict=True)]


def propose_window(cases: Sequence[CaseMeasures], classes: Sequence[str]) -> Proposal:
    """The two HU that become -1 and 1, the same in every scan."""
    values = pooled(cases, classes)
    inside = np.concatenate([values[name] for name in classes])
    low, high = np.percentile(inside, (0.5, 99.5))
    dark, bright = np.percentile(values["around"], (5, 95)) if values["around"].size else (low, high)
    spare = 0.1 * (max(high, bright) - min(low, dark))
    window = [
        int(10 * math.floor((min(low, dark) - spare) / 10)),
        int(10 * math.ceil((max(high, bright) + spare) / 10)),
    ]
    reason = f"99 % of the lesion voxels lie within {low:.0f} and {high:.0f} HU, 90 % of those within 10 mm of them "
    return Proposal(window, reason + f"within {dark:.0f} and {bright:.0f} HU; a tenth is added on either side")


def propose_percentiles(cases: Sequence[CaseMeasures]) -> tuple[Proposal, Proposal]:
    """The percentiles of a crop that become -1 and 1, and the headroom for lesions beyond them."""
    relative = np.concatenate([lesion.relative for case in cases for lesion in case.lesions])
    low, high = np.percentile(relative, (0.5, 99.5)) if relative.size else (0.0, 1.0)
    headroom = min(3.0, math.ceil(20 * max(0.0, -low, high - 1)) / 20)
    if headroom:
        side = "darker" if -low > high - 1 else "brighter"
        why = f"lesions are {side} than 98 % of their neighbourhood by up to {max(-low, high - 1):.2f} of its range"
    else:
        why = "lesions are neither darker nor brighter than nearly all of their neighbourhood"
    return Proposal([1, 99], "units differ from scan to scan: each crop's own percentiles set its window"), Proposal(
        headroom, why
    )


def propose_split(cases: Sequence[CaseMeasures], classes: Sequence[str]) -> tuple[Proposal, list[str]]:
    """The share of patients held out, and the patients where a share alone would leave a class without training.

    Args:
        cases: those with a lesion.
        classes: every class has a lesion in one of them.

    Raises:
        InputError: for fewer than two patients.
    """
    entries = [{"patient": case.patient} for case in cases]
    patients = {case.patient for case in cases}
    if len(patients) < 2:
        raise InputError(
            f"a training needs lesions of at least two patients, one of them held out; got {len(patients)}."
        )
    count = max(1, round(VAL_SHARE * len(patients)))
    fraction = math.ceil(1000 * count / len(patients)) / 1000
    default = {entry["patient"] for entry in split_by_patient(entries, fraction, "validation")}
    order = [*sorted(default), *sorted(patients - default)]
    held_out: list[str] = []
    for patient in order:
        rest = [case for case in cases if case.patient not in (*held_out, patient)]
        if len(held_out) < count and all(any(case.has(name) for case in rest) for name in classes):
            held_out.append(patient)
    if not held_out:
        raise InputError("no patient can be held out without leaving a lesion class without any lesion to learn from.")
    told = f"{len(held_out)} of {len(patients)} patients with lesions"
    told += " is held out" if len(held_out) == 1 else " are held out"
    if set(held_out) == default:
        return Proposal(fraction, f"{told}, about a fifth"), []
    return Proposal(fraction, f"{told}, chosen so that every class stays in the training"), held_out


def texture_names(lesions: int) -> Sequence[str]:
    """Names for a class's texture presets, by rising mean: as many as so many training lesions allow."""
    return TEXTURES[0 if lesions >= 12 else 1 if lesions >= 6 else 2]

"""A picture beside the tables of image quality: the same held-out lesions, real and as each method repaints them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..lesion_crops import LesionCrop, NoLesionError, list_set, read_crops
from ..volumes import read_nifti
from .distances import common_window
from .folds import Fold
from .paper import Row
from .plan import Plan
from .qualities import quality_cell

__all__ = ["repainted_lesions"]

Line = tuple[str, list[LesionCrop], list[str]]  # as a row of a picture of crops

SHOWN = 6
CROP = 48  # voxels along the sides of what is shown


def repainted_lesions(plan: Plan, rows: Sequence[Row]) -> tuple[list[Line], list[str]] | None:
    """A line for each of some lesions, the real one and then each method's, and the titles of the columns.

    The lesions are of the first fold in which a method is measured, spread evenly from the smallest to the largest.

    Args:
        plan: of the grid.
        rows: of a table of image quality; those whose cell is complete are shown.

    Returns:
        What :func:`~custom_components.control_pictures.save_crop_grid` draws; None where no cell is complete, or the
        methods have no lesion in common.
    """
    done = ((fold, _complete(plan, fold, rows)) for fold in plan.folds)
    fold, shown = next(((fold, found) for fold, found in done if found), (None, []))
    if fold is None:
        return None
    cases = _spread_by_size(plan.cases(fold, "test"), list(plan.experiment.classes.values()))
    window = common_window(cases, plan.experiment.window)

    def crops(given: Sequence[dict[str, Any]], title: str) -> dict[str, LesionCrop]:
        """By site: what lies in the same mask of the same scan."""
        labels, spacing = list(plan.experiment.classes.values()), plan.experiment.spacing_mm
        try:
            found = read_crops(given, title, labels, spacing, CROP, window, joint=True, progress=False)
        except NoLesionError:  # a method may have failed at all of them
            return {}
        return {crop.site: crop for crop in found}

    real, names = crops(cases, "real"), {case["case"] for case in cases}  # a repainted case has its scan's name
    painted = {}
    for row in shown:
        folder = quality_cell(plan, fold, row.method).folder(plan.work) / "set"
        painted[row.label] = crops([case for case in list_set(folder) if case["case"] in names], row.label)
    sites = [site for site in real if all(site in found for found in painted.values())]
    if not sites:
        return None
    lines = [
        (
            _size(real[site], plan.experiment.joint),
            [real[site], *(found[site] for found in painted.values())],
            [""] * (1 + len(painted)),
        )
        for site in sites
    ]
    return lines, ["real", *(label.split(" (")[0] for label in painted)]


def _complete(plan: Plan, fold: Fold, rows: Sequence[Row]) -> list[Row]:
    """The rows whose method has repainted the fold's lesions, each method once."""
    methods = {row.method: row for row in rows if row.method is not None}
    return [row for name, row in methods.items() if quality_cell(plan, fold, name).result(plan.work) is not None]


def _spread_by_size(cases: Sequence[dict[str, Any]], labels: Sequence[int]) -> list[dict[str, Any]]:
    volumes = [int(np.isin(read_nifti(Path(case["label"]), "label").stored, labels).sum()) for case in cases]
    order = np.argsort(volumes, kind="stable")
    places = np.linspace(0, len(cases) - 1, min(SHOWN, len(cases))).round().astype(int)
    return [cases[order[place]] for place in places]


def _size(crop: LesionCrop, as_volume: bool) -> str:
    """The volume, or the diameter of the ball that has it."""
    volume = crop.tight_mask.sum() * np.prod(crop.spacing_mm)
    return f"{volume / 1000:.1f} ml" if as_volume else f"{(6 * volume / np.pi) ** (1 / 3):.0f} mm"

"""A chest CT of nobody whose lungs are known: body, lungs with vessels, airways, stomach gas, table, outside air."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import nibabel as nib
import numpy as np

from custom_components.volumes import Scan

FIELD_MM = (360.0, 290.0, 300.0)  # right, anterior, superior


def chest_affine(
    spacing_mm: Sequence[float], codes: str = "RAS", tilt_deg: float = 0.0
) -> tuple[np.ndarray, tuple[int, ...]]:
    """Affine and shape of a grid over the whole chest, its axes in the order and directions of ``codes``.

    Args:
        spacing_mm: along right, anterior, superior.
        codes: such as LPS.
        tilt_deg: of the grid, around the patient's left-right axis.
    """
    shape = [round(size / mm) for size, mm in zip(FIELD_MM, spacing_mm, strict=True)]
    cos, sin = np.cos(np.deg2rad(tilt_deg)), np.sin(np.deg2rad(tilt_deg))
    turn = np.array([[1, 0, 0], [0, cos, -sin], [0, sin, cos]])
    axes = turn @ np.diag(spacing_mm)
    affine = nib.affines.from_matvec(axes, -axes @ ((np.array(shape) - 1) / 2))
    orientation = nib.orientations.ornt_transform(
        nib.orientations.axcodes2ornt("RAS"), nib.orientations.axcodes2ornt(tuple(codes))
    )
    turned = nib.orientations.apply_orientation(np.empty(shape, np.uint8), orientation).shape
    return affine @ nib.orientations.inv_ornt_aff(orientation, shape), turned


def made_up_chest(affine: np.ndarray, shape: Sequence[int], seed: int = 0) -> tuple[Scan, np.ndarray]:
    """The chest on a grid: the scan (int16 HU) and its lungs, (X, Y, Z) bool, without the bronchi in them."""
    index = np.indices(tuple(shape)).reshape(3, -1)
    x, y, z = (affine[:3, :3] @ index + affine[:3, 3:]).reshape(3, *shape).astype(np.float32)
    rng = np.random.default_rng(seed)
    hu = np.full(tuple(shape), -1000.0, np.float32)
    hu[((np.abs(y + 125) < 12) & (np.abs(x) < 150))] = -100  # the table's shell,
    hu[((np.abs(y + 125) < 10) & (np.abs(x) < 148))] = -900  # and what fills it
    hu[(x / 165) ** 2 + (y / 108) ** 2 < 1] = 40
    lungs = ((np.abs(x) - 70) / 50) ** 2 + (y / 78) ** 2 + (z / 122) ** 2 < 1
    hu[lungs] = -850
    for side in (-1, 1):  # vessels
        for height in (-60, -20, 20, 60):
            hu[lungs & (np.hypot(y - 20, z - height) < 2) & (side * x > 0)] = 30
    hu[((x + 60) / 30) ** 2 + ((y - 10) / 30) ** 2 + ((z + 140) / 14) ** 2 < 1] = -1000  # gas in the stomach
    airways = (np.hypot(x, y + 20) < 9) & (z > 30)
    for side in (-1, 1):
        start, step = np.array([0, -20, 34.0]), np.array([side * 40.0, 8, -34])
        along = np.clip(((x - start[0]) * step[0] + (y + 20) * step[1] + (z - 34) * step[2]) / (step @ step), 0, 1)
        away = np.sqrt(
            (x - start[0] - along * step[0]) ** 2 + (y + 20 - along * step[1]) ** 2 + (z - 34 - along * step[2]) ** 2
        )
        airways |= away < 6
    hu[airways] = -1000
    hu += rng.normal(0, 20, shape)
    return Scan(Path("chest.nii.gz"), hu.astype(np.int16), 1.0, 0.0, affine), lungs & ~airways

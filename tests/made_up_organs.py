"""Small made-up data sets of other organs: abdominal CT with two lesion classes, brain MR with one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import nibabel as nib
import numpy as np
from bundle_runs import save_nifti
from thick_stacks import affine_of

LIVER, TUMOUR, CYST = 3, 1, 2
CT_SPACING, MR_SPACING = (1.5, 1.5, 2.5), (1.2, 1.2, 6.0)


def ball(shape: Sequence[int], centre: Sequence[float], radius_mm: float, spacing: Sequence[float]) -> np.ndarray:
    """Voxels within a radius of a centre given in voxels; bool."""
    offset = np.moveaxis(np.indices(shape).astype(float), 0, -1) - centre
    return ((offset * spacing) ** 2).sum(axis=-1) <= radius_mm**2


def abdomen(seed: int, lesions: Sequence[tuple[int, tuple[float, ...], float]]) -> tuple[np.ndarray, np.ndarray]:
    """Air, a body, a liver (label 3) and lesions (label, centre, radius): HU float, label map uint8."""
    shape, rng = (44, 40, 24), np.random.default_rng(seed)
    body = ball(shape, (22, 20, 12), 36, (1.2, 1.5, 1.0))
    label = np.where(ball(shape, (20, 20, 12), 22, CT_SPACING), LIVER, 0).astype(np.uint8)
    for value, centre, radius in lesions:
        label[ball(shape, centre, radius, CT_SPACING)] = value
    hu = np.select([label == LIVER, label == TUMOUR, label == CYST, body], [110, 60 + 5 * seed, 5, 40], -1000)
    return np.rint(hu + rng.normal(0, 12, shape)), label


def save_livers(root: Path, relabel: Mapping[int, int] | None = None) -> None:
    """Eight cases of seven patients named as nnU-Net names them, the seventh of them without lesion.

    The second case is oblique, the third holds floats in image and label map. ``relabel`` changes labels.
    """
    straight = nib.affines.from_matvec(np.diag(np.multiply(CT_SPACING, (-1, -1, 1))), (30, 25, -80))
    names = [f"liver_{number:02d}" for number in (1, 2, 3, 4, 5, 6, 7)] + ["liver_01b"]
    for seed, name in enumerate(names):
        lesions = (
            []
            if seed == 6
            else [(TUMOUR, (15 + seed % 3, 17, 9), 5.5 + 0.4 * seed), (CYST, (26, 24, 15), 4 + 0.3 * seed)]
        )
        hu, label = abdomen(seed, lesions)
        for old, new in (relabel or {}).items():
            label[label == old] = new
        affine = affine_of((8, -6, 4), CT_SPACING) if seed == 1 else straight
        kinds = (np.float32, np.float64) if seed == 2 else (np.int16, np.uint8)
        save_nifti(root / "images" / f"{name}_0000.nii.gz", hu.astype(kinds[0]), affine)
        save_nifti(root / "labels" / f"{name}.nii.gz", label.astype(kinds[1]), affine)


def brain(seed: int, lesion: bool = True) -> tuple[np.ndarray, np.ndarray]:
    """A thick stack in MR units of its own, with a lesion brighter than anything else: uint16, label map uint8."""
    shape, rng = (40, 36, 8), np.random.default_rng(seed)
    head = ball(shape, (20, 18, 4), 20, (1, 1.1, 3))
    label = ball(shape, (14 + seed, 18, 4), 6 + 0.5 * seed, MR_SPACING)
    signal = np.select([label & lesion, head], [900, 400], 20) + rng.normal(0, 25, shape)
    return np.rint(signal * (1 + 0.4 * seed)).clip(0).astype(np.uint16), label.astype(np.uint8)


MR_AFFINE = affine_of((0, 15, 0), MR_SPACING)


def save_brains(root: Path) -> None:
    """Six brains of six patients, each with one lesion of label 1."""
    for seed, name in enumerate("abcdef"):
        for folder, volume in zip(("images", "labels"), brain(seed), strict=True):
            save_nifti(root / folder / f"{name}.nii.gz", volume, MR_AFFINE)

"""Every lesion of a data set, real or synthetic, cut out at one common voxel size so that sets can be compared."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from scipy import ndimage
from tqdm import tqdm

from .datasets import SCAN_SUFFIXES, list_cases
from .errors import InputError
from .grids import covering_box, crop_affine, resample, shifted
from .seeds import derive_seed
from .specs import find_lesions
from .synthesis.records import MANIFEST, read_manifest
from .volumes import check_same_grid, check_scan, read_nifti, read_scan
from .windows import FixedWindow

__all__ = ["LesionCrop", "NoLesionError", "list_set", "read_crops"]

MARGIN = 3  # voxels of the common grid around a lesion that its tight crop keeps


class NoLesionError(InputError):
    """None of the cases has a lesion of what was asked for."""


@dataclass(frozen=True)
class LesionCrop:
    """A lesion on grids of the common spacing along RAS+.

    Attributes:
        name: of its case, with its number where a case has several.
        patient: whose scan it lies in; of a synthetic case, the scan it was painted into.
        values, mask: (x, y, z) float32 in the scan's units and bool: a cube of as many mm for every lesion, with the
            centre of mass exactly in its middle.
        tight_values, tight_mask: the same of the whole lesion with a margin, however large it is, on the scan's own
            voxels where these have the common spacing.
        spacing_mm: of both, along x, y, z.
        window: the scan's values that count as -1 and 1.
        site: hash of the mask and its place; lesions painted into the same mask of a scan share it with each other and
            with the real lesion of that mask.
    """

    name: str
    patient: str
    values: np.ndarray
    mask: np.ndarray
    tight_values: np.ndarray
    tight_mask: np.ndarray
    spacing_mm: tuple[float, float, float]
    window: tuple[float, float]
    site: str

    def scaled(self, values: np.ndarray) -> np.ndarray:
        """Values in the scan's units as the network sees them: the window clipped to [-1, 1]."""
        low, high = self.window
        return np.clip((values - low) / (high - low) * 2 - 1, -1, 1)


def list_set(root: str | Path) -> list[dict[str, Any]]:
    """The cases of a set: those of its manifest if it is a synthetic one, otherwise those of a data set.

    Returns:
        Dictionaries with ``image``, ``label``, ``case`` and ``patient``; a synthetic case's patient is its scan.

    Raises:
        InputError: as :func:`~custom_components.datasets.list_cases` and
            :func:`~custom_components.synthesis.records.read_manifest`, or where a file of the manifest is missing.
    """
    root = Path(str(root))
    if not (root / MANIFEST).is_file():
        return list_cases(root)
    cases = []
    for record in read_manifest(root):
        files = record.get("files")
        if not isinstance(files, dict) or not {"image", "label"} <= set(files):
            raise InputError(f"case {record['case']} of {root / MANIFEST} lacks the files 'image' and 'label'.")
        paths = {role: str(root / files[role]) for role in ("image", "label")}
        for role, path in paths.items():
            if not Path(path).exists():
                raise InputError(f"{role} {path} of case {record['case']} does not exist.")
        cases.append({**paths, "case": record["case"], "patient": record.get("scan", record["case"])})
    if not cases:
        raise InputError(f"{root / MANIFEST} lists no cases.")
    return cases


def read_crops(
    cases: Sequence[dict[str, Any]],
    title: str,
    labels: Sequence[int] = (1,),
    spacing_mm: Sequence[float] = (1.0, 1.0, 1.0),
    size: int = 32,
    window: FixedWindow | None = None,
    joint: bool = False,
    count: int | None = None,
    seed: int = 0,
    progress: bool = True,
) -> list[LesionCrop]:
    """The lesions of a set: the connected components (26 neighbours) of its label maps, or all of a scan together.

    Args:
        cases: dictionaries with ``image``, ``label``, ``case`` and ``patient``.
        title: of the set, in messages.
        labels: values of the label maps that are lesion.
        spacing_mm: voxel size of the crops along x, y, z.
        size: voxels along the sides of the cubes, fewer where voxels are longer than along another axis.
        window: the values that count as -1 and 1; (-1000, 400) HU by default.
        joint: all lesion voxels of a scan are one lesion.
        count: lesions to read at most, of cases drawn from ``seed``; all by default.
        progress: show a bar.

    Returns:
        The lesions in the order of their cases.

    Raises:
        InputError: where files cannot be read, do not lie on one grid, or hold voxels that are no numbers.
        NoLesionError: where they hold no lesion.
    """
    window = FixedWindow(-1000, 400) if window is None else window
    order = np.arange(len(cases))
    if count is not None:
        order = np.random.default_rng(derive_seed(seed, "cases")).permutation(order)
    found: dict[int, list[LesionCrop]] = {}
    read = 0
    for number in tqdm(order, desc="reading lesions", delay=1, disable=not progress):
        spacing = np.asarray(spacing_mm, dtype=float)
        crops = _crops_of(cases[number], labels, spacing, size, (window.low, window.high), joint)
        found[number] = crops[: None if count is None else count - read]
        read += len(found[number])
        if read == count:
            break
    if not read:
        wanted = ", ".join(str(value) for value in labels)
        raise NoLesionError(f"{title}: none of its {len(cases)} label maps holds a lesion (label {wanted}).")
    return [crop for number in sorted(found) for crop in found[number]]


def _crops_of(
    case: dict[str, Any],
    labels: Sequence[int],
    spacing: np.ndarray,
    size: int,
    window: tuple[float, float],
    joint: bool,
) -> list[LesionCrop]:
    image, path = read_scan(case["image"]), Path(case["label"])
    if not path.name.endswith(SCAN_SUFFIXES):
        raise InputError(f"label {path} of case {case['case']} is not a NIfTI file (.nii, .nii.gz).")
    check_scan(image, air_below=None)
    label = read_nifti(path, "label")
    check_same_grid(label, image, "label")
    lesion = np.isin(label.values(), list(labels))
    if joint:
        instances = lesion.astype(np.uint8)
        boxes = ndimage.find_objects(instances)
    else:
        instances, boxes = find_lesions(lesion, image.affine)
    crops = []
    for number, box in enumerate(boxes, start=1):
        mask, affine = instances[box] == number, shifted(image.affine, box)
        crops.append(_crop(case, number, len(boxes), image, mask, affine, spacing, size, window))
    return crops


def _crop(
    case: dict[str, Any],
    number: int,
    count: int,
    image: Any,
    mask: np.ndarray,
    affine: np.ndarray,
    spacing: np.ndarray,
    size: int,
    window: tuple[float, float],
) -> LesionCrop:
    voxels = np.argwhere(mask)
    centre = affine[:3, :3] @ voxels.mean(axis=0) + affine[:3, 3]
    corners = np.array([[i, j, k] for i in (-0.5, 0.5) for j in (-0.5, 0.5) for k in (-0.5, 0.5)])
    hull = (voxels[:, None] + corners).reshape(-1, 3) @ affine[:3, :3].T + affine[:3, 3] - centre
    # The tight crop is shifted by up to half a voxel of the scan: one of that spacing is copied then, not smoothed.
    shift = np.abs(affine[:3, :3]).sum(axis=1) / 2
    tight = tuple(2 * (np.ceil((np.abs(hull).max(axis=0) + shift) / spacing).astype(int) + MARGIN) + 1)
    cube = np.maximum(1, np.rint(size * spacing.min() / spacing)).astype(int)
    exact = nib.affines.from_matvec(np.diag(spacing), centre - spacing * (cube - 1) / 2)
    parts = []
    for shape, grid in ((tuple(cube), exact), (tight, crop_affine(centre, image.affine, tight, spacing))):
        part = covering_box(grid, shape, image.affine, image.stored.shape)
        values = resample(image.values(part), shifted(image.affine, part), grid, shape, "border")
        share = resample(np.pad(mask, 1), shifted(affine, [slice(-1, 0)] * 3), grid, shape, "zeros")
        parts.append((values, share >= min(0.5, float(share.max()))))
    digest = hashlib.sha256(mask.tobytes() + affine.round(4).tobytes() + str(mask.shape).encode()).hexdigest()
    return LesionCrop(
        name=case["case"] if count == 1 else f"{case['case']}_{number}",
        patient=str(case["patient"]),
        values=parts[0][0],
        mask=parts[0][1],
        tight_values=parts[1][0],
        tight_mask=parts[1][1],
        spacing_mm=tuple(float(v) for v in spacing),
        window=window,
        site=digest,
    )

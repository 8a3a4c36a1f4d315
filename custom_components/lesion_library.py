"""Real lesions of a data set to copy: their masks, and their intensities where images belong to them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import nibabel as nib
import numpy as np
from scipy import ndimage
from tqdm import tqdm

from .datasets import list_cases
from .errors import InputError
from .grids import covering_box, resample, shifted
from .labels import LesionLabels
from .mask_cases import find_masks
from .masks import bounding_sphere
from .specs import find_lesions
from .volumes import Scan, read_label, read_scan

__all__ = ["LesionLibrary", "LibraryLesion", "PlacedLesion", "place"]

MARGIN = 2  # voxels around a lesion that are kept with it
LOWEST_SHARE = 0.3  # of a voxel that a lesion fills and takes; interpolation rounds corners off
NEAREST = 8  # a lesion of a wanted radius is drawn among the so many nearest ones


@dataclass(frozen=True)
class LibraryLesion:
    """A real lesion, cut out with a margin.

    Attributes:
        name: of its case, with its number where a case has several.
        mask: (x, y, z) uint8, the classes' labels, 0 elsewhere.
        values: (x, y, z) float32 in the units of its scan (HU), None without an image.
        affine: 4x4, voxel indices to RAS+ mm.
        centre_mm, radius_mm: its smallest enclosing sphere.
    """

    name: str
    mask: np.ndarray
    values: np.ndarray | None
    affine: np.ndarray
    centre_mm: tuple[float, float, float]
    radius_mm: float


class PlacedLesion(NamedTuple):
    """A copied lesion on the grid of another scan.

    Attributes:
        box: the part of the scan it lies in.
        label: uint8 of the box's shape, the classes' labels, 0 elsewhere.
        values: float32 of the box's shape in the units of the lesion's own scan, None without an image; they are the
            lesion's where ``label`` is above 0.
    """

    box: tuple[slice, ...]
    label: np.ndarray
    values: np.ndarray | None


class LesionLibrary:
    """The lesions of a data set, read one at a time; only a number for each stays in memory.

    Args:
        dataset_dir: images with labels (see :func:`~custom_components.datasets.list_cases`) or labels alone (see
            :func:`~custom_components.mask_cases.find_masks`); label maps without a lesion are passed over.
        labels: the meaning of the label maps; where they are joint, a label map holds one lesion, otherwise every
            connected component is one.

    Raises:
        InputError: where the folder does not exist, or as the two functions.
    """

    def __init__(self, dataset_dir: str | Path, labels: LesionLabels) -> None:
        self.root, self.labels = Path(str(dataset_dir)), labels
        self.cases = _cases(self.root)

    @cached_property
    def index(self) -> list[tuple[int, int, float]]:
        """Every lesion: place of its case in ``cases``, its number in the case, its radius in mm.

        Raises:
            InputError: where a label map cannot be read, holds unknown labels, or none holds a lesion.
        """
        found = []
        for place, case in enumerate(tqdm(self.cases, desc="lesions of the library", delay=2, leave=False)):
            label, affine = self._read_label(case)
            instances, boxes = self._lesions(label, affine)
            for number, box in enumerate(boxes, start=1):
                _, radius = bounding_sphere(instances[box] == number, affine)
                found.append((place, number, radius))
        if not found:
            wanted = ", ".join(f"{name} = {value}" for name, value in self.labels.classes.items())
            raise InputError(
                f"library {self.root}: none of its {len(self.cases)} label maps holds a lesion ({wanted})."
            )
        return found

    def draw(self, rng: np.random.Generator, radius_mm: float | None = None) -> LibraryLesion:
        """A random lesion, each being as likely as the others; of a wanted radius, one of the nearest.

        Args:
            rng: source of the draw.
            radius_mm: wanted radius of the smallest enclosing sphere.

        Raises:
            InputError: where its files cannot be read or do not fit together, and as ``index``.
        """
        lesions = self.index
        if radius_mm is not None:
            lesions = sorted(lesions, key=lambda entry: (abs(entry[2] - radius_mm), entry[:2]))[:NEAREST]
        place, number, radius = lesions[rng.integers(len(lesions))]
        return self._read(self.cases[place], number, radius)

    def _read(self, case: dict[str, Any], number: int, radius: float) -> LibraryLesion:
        image = None if case.get("image") is None else read_scan(case["image"])
        if image is None:
            label, affine = self._read_label(case)
        else:
            label, affine = read_label(case["label"], image, self.labels, "label"), image.affine
        instances, boxes = self._lesions(label, affine)
        box = tuple(slice(max(0, part.start - MARGIN), part.stop + MARGIN) for part in boxes[number - 1])
        mask = np.where(instances[box] == number, label[box], 0).astype(np.uint8)
        local = shifted(affine, box)
        centre, _ = bounding_sphere(mask > 0, local)
        return LibraryLesion(
            name=case["case"] if len(boxes) == 1 else f"{case['case']}_{number}",
            mask=mask,
            values=None if image is None else image.values(box),
            affine=local,
            centre_mm=tuple(float(v) for v in centre),
            radius_mm=radius,
        )

    def _read_label(self, case: dict[str, Any]) -> tuple[np.ndarray, np.ndarray]:
        """A label map (X, Y, Z) uint8, which may hold no lesion, and its affine."""
        scan = read_scan(case["label"])
        values = scan.values()
        if self.labels.lesion(values).any():
            self.labels.check(values, f"label {case['label']}")
        return values.astype(np.uint8), scan.affine

    def _lesions(self, label: np.ndarray, affine: np.ndarray) -> tuple[np.ndarray, list[tuple[slice, ...]]]:
        """Numbers of the lesions (X, Y, Z), and the box of each."""
        lesion = self.labels.lesion(label)
        if self.labels.joint:
            return lesion.astype(np.uint8), ndimage.find_objects(lesion.astype(np.uint8))
        return find_lesions(lesion, affine)


def _cases(root: Path) -> list[dict[str, Any]]:
    """The cases of a data set with images or without."""
    if not root.is_dir():
        raise InputError(f"library {root} is not a folder.")
    datalist = root / "datalist.json"
    if datalist.is_file():
        try:
            entries = json.loads(datalist.read_text())
        except (OSError, ValueError) as error:
            raise InputError(f"cannot read the datalist {datalist}: {error}.") from error
        first = entries[0] if isinstance(entries, list) and entries else {}
        with_images = isinstance(entries, dict) or (isinstance(first, dict) and "image" in first)
    else:
        with_images = (root / "images").is_dir() or any(path.is_dir() for path in root.glob("*/images"))
    return list_cases(root) if with_images else find_masks(root)


def place(
    lesion: LibraryLesion,
    centre_mm: Sequence[float],
    scan: Scan,
    organ: np.ndarray | None,
    rng: np.random.Generator,
) -> PlacedLesion:
    """A lesion moved to another scan, with a random mirror image about each of the patient's axes.

    The move is rounded so that voxels fall on voxels: between grids of the same spacing and directions they are
    copied, not interpolated. Otherwise a voxel belongs to the class that fills it most, where lesion fills half of it
    or the somewhat smaller part with which the lesion keeps its volume; a lesion thinner than the voxels keeps its
    fullest ones.

    Args:
        lesion: what :meth:`LesionLibrary.draw` returned.
        centre_mm: where the middle of its enclosing sphere comes to lie, to half a voxel.
        scan: the grid.
        organ: (X, Y, Z) bool, outside which nothing of the lesion is kept; None for everywhere.
        rng: source of the mirror images.

    Raises:
        InputError: where nothing of the lesion lies in the organ.
    """
    mirror = np.diag(rng.choice([-1.0, 1.0], size=3))
    middle = np.asarray(lesion.centre_mm)
    # The voxel next to the middle goes to the scan's voxel next to where it should go.
    nearest_mm = lesion.affine[:3, :3] @ np.rint(np.linalg.solve(lesion.affine, [*middle, 1.0])[:3])
    nearest_mm = nearest_mm + lesion.affine[:3, 3]
    wanted_mm = np.asarray(centre_mm, dtype=float) + mirror @ (nearest_mm - middle)
    snapped_mm = (scan.affine @ [*np.rint(np.linalg.solve(scan.affine, [*wanted_mm, 1.0])[:3]), 1.0])[:3]
    moved = nib.affines.from_matvec(mirror, snapped_mm - mirror @ nearest_mm) @ lesion.affine
    box = covering_box(moved, lesion.mask.shape, scan.affine, scan.stored.shape)
    local, shape = shifted(scan.affine, box), [part.stop - part.start for part in box]
    classes = np.unique(lesion.mask[lesion.mask > 0])
    shares = np.stack([resample(lesion.mask == value, moved, local, shape, "zeros") for value in classes])
    inside = _fullest(shares.sum(axis=0), np.count_nonzero(lesion.mask) * _voxel(moved) / _voxel(local))
    if organ is not None:
        inside &= organ[box]
    if not inside.any():
        raise InputError(f"nothing of lesion {lesion.name} lies in the organ of image {scan.path} at its site.")
    label = np.where(inside, classes[shares.argmax(axis=0)], 0).astype(np.uint8)
    values = None if lesion.values is None else resample(lesion.values, moved, local, shape, "border")
    return PlacedLesion(box, label, values)


def _fullest(filled: np.ndarray, wanted: float) -> np.ndarray:
    """The voxels that a lesion takes, of those it fills to a share, so that they are as many as wanted."""
    ordered = np.sort(filled, axis=None)[::-1]
    level = ordered[int(np.clip(round(wanted), 1, filled.size)) - 1]
    return (filled > 0) & (filled >= min(np.clip(level, LOWEST_SHARE, 0.5), ordered[0]))


def _voxel(affine: np.ndarray) -> float:
    """The volume of a voxel in mm^3."""
    return float(abs(np.linalg.det(affine[:3, :3])))

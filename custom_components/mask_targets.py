"""What masks are drawn into: a scan, an organ's mask, both, or a bare grid."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np

from .datasets import case_name, list_cases
from .errors import InputError
from .volumes import Scan, check_same_grid, check_scan, newest_change, read_scan

__all__ = ["LoadedTarget", "MaskTarget", "find_targets", "read_target"]


@dataclass(frozen=True)
class MaskTarget:
    """One case to draw masks for.

    Attributes:
        case: its name, which its files take.
        image: the scan whose grid the masks take, NIfTI or a DICOM series folder; None: the organ's grid.
        organ: NIfTI mask on that grid, inside which the lesions lie; None: anywhere.
        organ_labels: the organ's labels in its file; None: everything above 0.
        grid: voxels of 1 mm of a bare grid around the origin, where there is neither scan nor organ.
    """

    case: str
    image: str | None = None
    organ: str | None = None
    organ_labels: tuple[int, ...] | None = None
    grid: tuple[int, int, int] | None = None


@dataclass(frozen=True, eq=False)
class LoadedTarget:
    """One case whose scan and organ are in memory already.

    Attributes:
        case: its name.
        scan: the grid the masks take.
        organ: (X, Y, Z) bool, inside which the lesions lie; None: anywhere.
    """

    case: str
    scan: Scan
    organ: np.ndarray | None = None


def find_targets(
    dataset_dir: str | Path,
    image: str | Path | None = None,
    organ: str | Path | None = None,
    grid: Sequence[int] | None = None,
    organ_labels: Sequence[int] | None = None,
) -> list[MaskTarget]:
    """The cases to draw masks for: a bare grid, or the scan and organ given, or a data set.

    Args:
        dataset_dir: scans with their organs' masks as ``labels`` (see
            :func:`~custom_components.datasets.list_cases`), used where nothing else is given; a folder that does not
            exist gives no cases.
        image, organ, organ_labels, grid: see :class:`MaskTarget`.

    Raises:
        InputError: where a grid is given beside a scan or organ or is not three whole numbers above 0, two cases share
            a name, and as ``list_cases``.
    """
    labels = None if organ_labels is None else tuple(int(label) for label in organ_labels)
    if grid is not None:
        if image is not None or organ is not None:
            raise InputError("grid stands for the lack of a scan: give either grid, or image and organ.")
        if not isinstance(grid, Sequence) or len(grid) != 3 or any(not isinstance(n, int) or n < 1 for n in grid):
            raise InputError(f"grid must be three whole numbers of voxels above 0, got {grid!r}.")
        return [MaskTarget("grid", grid=tuple(grid))]
    if image is not None or organ is not None:
        name = case_name(organ if image is None else image)
        return [MaskTarget(name, *(None if p is None else str(p) for p in (image, organ)), labels)]
    cases = list_cases(dataset_dir) if Path(str(dataset_dir)).exists() else []
    names = [case["case"] for case in cases]
    if len(set(names)) < len(names):
        twice = sorted(name for name in names if names.count(name) > 1)[0]
        raise InputError(f"two cases are named {twice!r}; their outputs would share a name.")
    return [MaskTarget(case["case"], case["image"], case["label"], labels) for case in cases]


def read_organ(
    path: str | Path, organ_labels: Sequence[int] | None, scan: Scan | None = None, role: str = "organ"
) -> tuple[Scan, np.ndarray, np.ndarray]:
    """An organ's file, its values (X, Y, Z) and where the organ is (X, Y, Z) bool.

    Args:
        path: of the mask or label map.
        organ_labels: the organ's labels in it; None: everything above 0.
        scan: whose grid it has to lie on.
        role: how an error calls the file.

    Raises:
        InputError: where it is missing, unreadable, holds NaN, lies on another grid than the scan or is empty.
    """
    if not Path(path).is_file():
        raise InputError(f"{role} {path} does not exist or is not a file.")
    organ = read_scan(path)
    check_scan(organ, air_below=None)
    if scan is not None:
        check_same_grid(organ, scan, role)
    values = organ.values()
    inside = values > 0 if organ_labels is None else np.isin(values, organ_labels)
    if not inside.any():
        wanted = "" if organ_labels is None else f": it holds none of the labels {list(organ_labels)}"
        raise InputError(f"{role} {organ.path} is empty{wanted}.")
    return organ, values, inside


def read_target(target: MaskTarget | LoadedTarget) -> tuple[Scan, np.ndarray | None]:
    """The grid of a case and its boundary mask (X, Y, Z) bool, None for everywhere. The last one is kept in memory.

    Raises:
        InputError: where a file is missing or unreadable, holds NaN, or the organ is empty or on another grid.
    """
    if isinstance(target, LoadedTarget):
        return target.scan, target.organ
    changed = [newest_change(Path(p)) for p in (target.image, target.organ) if p is not None and Path(p).exists()]
    return _read_cached(target, tuple(changed))


@lru_cache(maxsize=1)
def _read_cached(target: MaskTarget, changed: tuple[float, ...]) -> tuple[Scan, np.ndarray | None]:
    if target.grid is not None:
        affine = np.eye(4)
        affine[:3, 3] = -(np.array(target.grid) - 1) / 2
        return Scan(Path(target.case), np.zeros(target.grid, np.uint8), 1.0, 0.0, affine), None
    scan = None
    if target.image is not None:
        scan = read_scan(target.image)
        check_scan(scan, air_below=None)
    if target.organ is None:
        return scan, None
    organ, _, inside = read_organ(target.organ, target.organ_labels, scan)
    return scan or organ, inside

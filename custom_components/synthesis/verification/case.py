"""All checks of one case."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from ...backgrounds import covered_by_crops, largest_difference
from ...errors import InputError
from ...files import file_hash
from ...volumes import Scan, newest_change, read_scan
from ..records import source_path
from .case_files import check_files, check_sidecar
from .findings import Finding
from .grids import grid_faults, header_faults
from .lesions import label_faults, lesion_faults

__all__ = ["check_case"]

VOLUMES = ("image", "label", "instances")


def check_case(
    root: Path,
    record: Mapping[str, Any],
    origin: Path | None = None,
    label_values: Mapping[str, int] | None = None,
    version: str | None = None,
) -> list[Finding]:
    """What is wrong with the files of a case.

    Args:
        root: folder of the set.
        record: the case's line in the manifest.
        origin: the input that the set was made from; without it nothing is compared with the source.
        label_values: lesion class -> its value in the label files; without it their lesions are not compared.
        version: of the program that made the set.
    """
    case, names = record["case"], record["files"]
    found = check_files(root, record)
    findings, sidecar = check_sidecar(root, record, version)
    found += findings
    scans: dict[str, Scan] = {}
    for role in VOLUMES:
        if (root / names[role]).is_file():
            try:
                scans[role] = read_scan(root / names[role])
            except InputError as error:
                found.append(Finding(names[role], f"cannot be read: {error}", case))
    maps, faults = _whole_numbers(scans)
    found += [Finding(names[role], fault, case) for role, fault in faults]
    if origin is not None and "image" in scans:
        found += _check_source(source_path(origin, record), record, scans["image"], maps.get("instances"), sidecar)
    if label_values is None or sidecar is None or len(maps) < 2:
        return found
    found += [Finding(names["label"], fault, case) for fault in label_faults(**maps, label_values=label_values)]
    try:
        for role, fault in lesion_faults(sidecar, scans["image"], **maps, label_values=label_values):
            found.append(Finding(names[role], fault, case))
    except (AttributeError, IndexError, KeyError, TypeError, ValueError) as error:
        found.append(Finding(names["sidecar"], f"tells too little of its lesions ({error!r}).", case))
    return found


def _whole_numbers(scans: Mapping[str, Scan]) -> tuple[dict[str, np.ndarray], list[tuple[str, str]]]:
    """The label map and the instances, as far as they fit the image, and what is wrong with the others."""
    maps, faults = {}, []
    for role in VOLUMES[1:]:
        if role in scans and "image" in scans:
            stored = scans[role].stored
            wrong = grid_faults(scans[role], scans["image"], "its image")
            if stored.min() < 0 or not (stored.dtype.kind in "iu" or np.array_equal(stored, np.rint(stored))):
                wrong.append("must hold whole numbers from 0 on.")
            faults += [(role, fault) for fault in wrong]
            if not wrong:
                maps[role] = stored if stored.dtype.kind in "iu" else stored.astype(np.int32)
    return maps, faults


def _check_source(
    path: Path,
    record: Mapping[str, Any],
    image: Scan,
    instances: np.ndarray | None,
    sidecar: Mapping[str, Any] | None,
) -> list[Finding]:
    """What of the image is not its source's: grid, type, header, and voxels outside the lesions.

    Where the sidecar says that the background is generated, voxels under the lesions' crops may differ too, by as much
    as it tells.
    """
    case, name = record["case"], record["files"]["image"]
    if not path.exists():
        return [Finding(str(path), "is gone, a source.", case)]
    if _hash(path, newest_change(path)) != record["source_sha256"]:
        return [Finding(str(path), "has changed since lesions were painted into it.", case)]
    try:
        source = read_scan(path)
    except InputError as error:
        return [Finding(str(path), f"cannot be read: {error}", case)]
    faults = grid_faults(image, source, "its source")
    comparable = not faults and image.stored.dtype.itemsize == source.stored.dtype.itemsize
    faults += header_faults(image, source)
    if comparable and instances is not None:
        changed, where = (_bits(image.stored) != _bits(source.stored)) & (instances == 0), "the lesions"
        if sidecar is not None and sidecar.get("background") == "generated":
            try:
                changed &= ~covered_by_crops(sidecar["lesions"], image)
                where = "the lesions and their generated crops"
                faults += _difference_faults(sidecar, largest_difference(image.stored, source, instances))
            except (KeyError, TypeError, ValueError, np.linalg.LinAlgError) as error:
                faults.append(f"cannot be compared with its source: the sidecar tells too little ({error!r}).")
        count = int(changed.sum())
        if count:
            faults.append(f"differs from its source in {count} voxel{'s'[: count != 1]} outside {where}.")
    return [Finding(name, fault, case) for fault in faults]


def _difference_faults(sidecar: Mapping[str, Any], found: float) -> list[str]:
    """Where a generated background differs from the scan's by another amount than the sidecar tells."""
    told = float(sidecar["max_abs_difference_outside_mask"])
    if np.isclose(told, found, rtol=1e-5, atol=1e-6):
        return []
    return [f"differs from its source by up to {found:g} outside the lesions, the sidecar tells of {told:g}."]


@lru_cache(maxsize=16)
def _hash(path: Path, changed: float) -> str:
    """A source's hash: it is that of several cases."""
    return file_hash(path)


def _bits(stored: np.ndarray) -> np.ndarray:
    """Numbers as unsigned ones of the same bits, so that not even the sign of a zero may differ."""
    native = stored.astype(stored.dtype.newbyteorder("="), copy=False)
    return native.view(f"u{native.dtype.itemsize}")

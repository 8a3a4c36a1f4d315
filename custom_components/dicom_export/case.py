"""Exports one case: the source's slices with the synthetic voxels, and the segmentation."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pydicom

from ..errors import InputError
from ..files import file_hash
from ..synthesis.records import read_sidecar, source_path
from ..volumes import Scan, check_same_grid, read_scan
from .pixels import StoredPixels
from .provenance import Origin, mark_derived
from .segmentation import build_segmentation, number_segments
from .series import read_headers, read_slice

__all__ = ["ExportedCase", "export_case", "find_source"]


@dataclass(frozen=True)
class ExportedCase:
    """What was written.

    Attributes:
        folder: with ``image/0001.dcm``, ... and ``segmentation.dcm``.
        slices: of the series.
        segments: of the segmentation.
        rounded: painted voxels whose value the source's format cannot hold exactly.
    """

    folder: Path
    slices: int
    segments: int
    rounded: int


def find_source(record: Mapping[str, Any], base: str | Path) -> Path:
    """A case's source, see :func:`~custom_components.synthesis.records.source_path`.

    Raises:
        InputError: where it is not there.
    """
    path = source_path(Path(str(base)), record)
    if not path.exists():
        raise InputError(
            f"case {record['case']}: its source {record['source']} is not in {base}; --source names the input folder."
        )
    return path


def export_case(
    root: Path, record: Mapping[str, Any], source: Path, folder: Path, created: str | None = None
) -> ExportedCase:
    """Writes a case as DICOM into a folder, which appears whole or not at all and replaces an earlier one.

    Every source slice is copied, with its stored pixels replaced where the case's image differs from the scan; all
    others keep their bits. UIDs derive from the sidecar's hash: the same case gives the same files.

    Args:
        root: folder of the set.
        record: the case's, of the manifest.
        source: folder of the DICOM series that was painted into.
        folder: to write.
        created: when the set was made (ISO 8601).

    Raises:
        InputError: where the background is generated, or the source has changed, is no series of single grey-scale
            slices on a regular grid, or does not fit the case's files.
    """
    if record.get("background", "scan") != "scan":
        raise InputError("its background is generated: only lesions painted into the scan's own are exported.")
    if file_hash(source) != record["source_sha256"]:
        raise InputError(f"its source {source} has changed since the case was made.")
    paths = {role: root / record["files"][role] for role in ("image", "instances", "label", "sidecar")}
    scan = read_scan(source)
    headers = read_headers(scan)
    painted, instances, label = (_read_beside(paths[role], scan, role) for role in ("image", "instances", "label"))
    origin = Origin(file_hash(paths["sidecar"]), read_sidecar(paths["sidecar"]), created)
    segments = number_segments(origin.sidecar["lesions"], instances.stored, label.stored)
    temporary = folder.with_name(f".partial-{os.getpid()}-{folder.name}")
    try:
        (temporary / "image").mkdir(parents=True)
        rounded = 0
        for k, header in enumerate(headers):
            dataset = read_slice(Path(header.filename))
            rounded += _paint(dataset, scan, painted, instances, k)
            mark_derived(dataset, origin)
            dataset.save_as(temporary / "image" / f"{k + 1:04d}.dcm", enforce_file_format=True)
            del dataset.PixelData  # the segmentation refers to the new slices, not to their pixels
            headers[k] = dataset
        segmentation = build_segmentation(headers, segments, origin)
        segmentation.save_as(temporary / "segmentation.dcm", enforce_file_format=True)
        if folder.exists():
            shutil.rmtree(folder)
        os.replace(temporary, folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return ExportedCase(folder, len(headers), len(origin.sidecar["lesions"]), rounded)


def _read_beside(path: Path, scan: Scan, role: str) -> Scan:
    """A file of the case, on the grid of its source."""
    if not path.is_file():
        raise InputError(f"{role} {path} does not exist.")
    volume = read_scan(path)
    check_same_grid(volume, scan, role)
    return volume


def _paint(dataset: pydicom.Dataset, scan: Scan, painted: Scan, instances: Scan, k: int) -> int:
    """Brings the changed voxels of slice k into its dataset; returns how many could not be stored exactly."""
    name = str(dataset.filename)
    pixels = StoredPixels(dataset, name)
    box = (slice(None), slice(None), slice(k, k + 1))
    before, wanted = (volume.values(box)[..., 0].T for volume in (scan, painted))
    if not np.allclose(pixels.values, before, rtol=1e-5, atol=1e-3):
        raise InputError(f"slice {name} holds other values than the series was read with.")
    where = wanted != before
    if (where & (instances.stored[..., k].T == 0)).any():
        raise InputError(f"image {painted.path} differs from its source outside the lesions, in the slice of {name}.")
    if not where.any():
        return 0
    pixels.replace(where, wanted)
    return int((np.abs(pixels.values[where] - wanted[where]) > 1e-3).sum())

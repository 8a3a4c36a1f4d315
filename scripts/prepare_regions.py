"""Regions of healthy lung out of whole CT scans, for scans that are not LIDC-IDRI's DICOM files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from custom_components import __version__
from custom_components.bundle_configs import BUNDLES
from custom_components.errors import InputError, as_flag
from custom_components.organs import find_lungs
from custom_components.preparation import Failures, claim_folder, write_json
from custom_components.sites import read_site_gaps
from custom_components.spheres import read_radii
from custom_components.synthesis.scans import SourceScan, find_organs, find_scans
from custom_components.volumes import Scan, check_same_grid, check_scan, read_nifti, read_scan

from .lidc_rois import Placement
from .regions import place_regions, write_region

PARTS = ("images", "labels", "lungs", "scans")


def prepare_regions(
    source: str,
    output_dir: str,
    count: int,
    size: Any = (64, 64, 32),
    exclude: str | None = None,
    organ_mask: str | None = None,
    patient: str | None = None,
    seed: int = 0,
    overwrite: bool = False,
) -> int:
    """Cut COUNT regions of healthy lung out of SOURCE, a chest CT or a folder of them, at 1 mm.

    Each region lies around a site where a nodule might: as deep below the pleura as real ones lie. OUTPUT_DIR gets
    images/ (int16 HU), labels/ (empty), lungs/ and datalist.json, as ``lefusion prepare lidc`` writes them for its
    normal cases. The same command again completes what was interrupted.

    Args:
        source: a scan (NIfTI, or a folder with a DICOM series), a folder of them at any depth, or a data set.
        output_dir: folder to write to.
        count: regions in all, dealt evenly to the scans.
        size: voxels of 1 mm along the patient's right-left, back-front and foot-head axes.
        exclude: masks of what no region may hold any of, such as known nodules: a file, or a folder with a file for
            each scan that has any.
        organ_mask: masks of the lungs, likewise; without it they are found.
        patient: whose scan it is, where there is one only; the scan's name by default.
        seed: decides where regions lie.
        overwrite: start anew in a folder that this command has written.

    Returns:
        How many regions there are.

    Raises:
        InputError: for options out of range, a missing source or mask, or a folder that holds something else.
        SystemExit: with code 3, where a scan could not be used; the others are complete.
    """
    shape = _size(size)
    for key, value, least in (("count", count, 1), ("seed", seed, 0)):
        if isinstance(value, bool) or not isinstance(value, int) or value < least:
            raise InputError(f"{key} must be a whole number, {least} or more, got {value!r}.")
    scans, output, failures = find_scans(source), Path(str(output_dir)), Failures()
    if patient is not None and len(scans) > 1:
        raise InputError(f"patient names one patient, but the source holds {len(scans)} scans.")
    organs = {} if organ_mask is None else find_organs(scans, organ_mask)
    excluded = {} if exclude is None else find_organs(scans, exclude, "exclude")
    settings = {"command": "prepare regions", "size": list(shape), "seed": seed, "count": count, "scans": len(scans)}
    settings["patient"] = None if patient is None else str(patient)
    for key, path in (("source", source), ("exclude", exclude), ("organ_mask", organ_mask)):
        settings[key] = None if path is None else str(Path(str(path)).absolute())
    claim_folder(output, {**settings, "version": __version__}, as_flag(overwrite, "overwrite"), PARTS)
    placement = Placement(
        read_radii(BUNDLES / "diffmask" / "configs" / "sphere_radii.json"),
        read_site_gaps(BUNDLES / "diffmask" / "configs" / "site_gaps.json"),
        seed,
    )
    shares = [count // len(scans) + (number < count % len(scans)) for number in range(len(scans))]
    for one, share in zip(tqdm(scans, desc="scans", unit="scan"), shares, strict=True):
        record = output / "scans" / f"{one.name}.json"
        if share == 0 or record.is_file():
            continue
        try:
            entries = _cut(one, share, shape, placement, organs.get(one.name), excluded.get(one.name), output)
        except InputError as error:
            failures.add(one.name, error)
        else:
            write_json(record, [{**entry, "patient": settings["patient"] or one.name} for entry in entries])
    entries = [entry for path in sorted((output / "scans").glob("*.json")) for entry in json.loads(path.read_text())]
    if entries:
        write_json(output / "datalist.json", entries)
    print(f"{len(entries)} regions in {output}")
    failures.finish(output)
    return len(entries)


def _cut(
    one: SourceScan,
    count: int,
    size: tuple[int, int, int],
    placement: Placement,
    organ_path: str | None,
    excluded_path: str | None,
    output: Path,
) -> list[dict[str, Any]]:
    """Writes a scan's regions and returns their entries."""
    scan = read_scan(one.image)
    check_scan(scan)
    organ = find_lungs(scan) if organ_path is None else _mask(organ_path, scan, "organ_mask")
    excluded = None if excluded_path is None else _mask(excluded_path, scan, "exclude")
    regions = place_regions(scan, organ, count, size, placement, one.name, excluded)
    return [
        write_region(region, scan, organ, output, f"{one.name}_normal_{number:03d}", "lungs")
        for number, region in enumerate(regions, start=1)
    ]


def _mask(path: str, scan: Scan, role: str) -> np.ndarray:
    mask = read_nifti(Path(path), role)
    check_same_grid(mask, scan, role)
    return mask.values() > 0


def _size(value: Any) -> tuple[int, int, int]:
    """Three whole numbers of voxels.

    Raises:
        InputError: for anything else.
    """
    parts = value.strip("[]() ").split(",") if isinstance(value, str) else value
    try:
        size = tuple(int(part) for part in parts)
    except (TypeError, ValueError):
        size = ()
    if len(size) != 3 or min(size) < 8:
        raise InputError(f"size must be three whole numbers of 8 or more, got {value!r}.")
    return size

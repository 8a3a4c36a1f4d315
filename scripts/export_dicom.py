"""Cases of a synthetic data set as DICOM series with segmentations."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tqdm import tqdm

from custom_components.errors import InputError, as_flag
from custom_components.files import check_writable
from custom_components.synthesis.records import read_manifest, read_run


def export_dicom(
    directory: str,
    destination: str,
    case: str | None = None,
    source: str | None = None,
    overwrite: bool = False,
) -> None:
    """Write cases whose scan came as a DICOM series as DICOM: a new series each, and its lesions as a segmentation.

    DESTINATION/<case>/image/ gets a copy of every slice, with the painted voxels in place and all others bit for bit
    as they were, marked as synthetic; DESTINATION/<case>/segmentation.dcm one segment for each lesion and class.
    Patient, study and frame of reference stay those of the source. Cases that fail are told, and the exit code is 3.

    Args:
        directory: folder of the set, as ``lefusion synthesize`` writes it.
        destination: folder to write to, made where absent.
        case: only this case; all cases with a DICOM source by default.
        source: the input folder of the synthesis, where it has moved.
        overwrite: replace cases that are there already.
    """
    try:
        from custom_components.dicom_export import export_case, find_source
    except ImportError as error:
        raise InputError(
            f"export dicom needs the package {error.name}: pip install 'lefusion-monai[dicom]' brings it."
        ) from error
    root, out = Path(str(directory)), Path(str(destination))
    records, run = read_manifest(root), read_run(root)
    if case is not None:
        records = [record for record in records if record["case"] == str(case)]
        if not records:
            raise InputError(f"{root} holds no case {case}.")
    check_writable(out)
    base = run.get("input", "") if source is None else source
    sources = {record["case"]: find_source(record, base) for record in records}
    series = [record for record in records if sources[record["case"]].is_dir()]
    if not series:
        raise InputError(f"no case of {root} comes from a DICOM series: {_first(records, sources)}")
    for record in series:
        folder = out / record["case"]
        if folder.exists() and not as_flag(overwrite, "overwrite"):
            raise InputError(f"{folder} exists; --overwrite true replaces it.")
    failed, rounded = 0, 0
    for record in tqdm(series, desc="cases", delay=10):
        name = record["case"]
        try:
            exported = export_case(root, record, sources[name], out / name, run.get("created"))
            rounded += exported.rounded
        except InputError as error:
            failed += 1
            print(f"error: case {name}: {error}", file=sys.stderr)
    print(f"{len(series) - failed} of {len(records)} cases as DICOM in {out}")
    if len(series) < len(records):
        print(f"{len(records) - len(series)} cases do not come from a DICOM series and were left out")
    if rounded:
        print(f"{rounded} painted voxels were rounded to what their series can store")
    if failed:
        sys.exit(3)


def _first(records: list[Mapping[str, Any]], sources: Mapping[str, Path]) -> str:
    """The first case and its source, as an example."""
    return next((f"that of {r['case']} is {sources[r['case']].name}." for r in records), "it holds none.")

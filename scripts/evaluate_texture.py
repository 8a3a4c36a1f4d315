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

import nibabel as nib
import numpy as np
from monai.bundle import ConfigParser, run
from scipy import ndimage
from skimage import measure

from custom_components.datasets import case_name, list_cases, split_by_patient
from custom_components.errors import InputError
from custom_components.files import check_writable, write_atomically
from custom_components.grids import to_crop
from custom_components.metrics import histogram_distance
from custom_components.panels import plt
from custom_components.seeds import derive_seed
from custom_components.volumes import Scan, check_scan, read_mask, read_scan, write_scan

REPO = Path(__file__).resolve().parents[1]
DATA = Path(os.environ.get("LEFUSION_DATA") or REPO.parent / "shared" / "data")
PRESETS = ("ground_glass", "part_solid", "solid")  # by rising mean HU
TEXTURES = (*PRESETS, "none")
VAL_FRACTION = 0.28  # of the training: the shapes are of patients that the network has not seen
AIR_HU, PARENCHYMA_HU, AIRWAY_HU, CLEAR_FRACTION = -500, -600, -950, 0.9
WALL_MM, NODULE_MM, APART_MM, DIAMETER_MM = 4.0, 10.0, 6.0, (5.5, 25.0)
TRIES = 20000  # random places for each shape


def find_lung(scan: Scan) -> np.ndarray:
    """Voxels (X, Y, Z) bool of the lungs, vessels filled, at least ``WALL_MM`` from pleura and mediastinum.

    Air at the scan's lateral faces is outside the body. The distance to the walls also cuts lungs from airways.
    """
    axial = int(np.abs(scan.affine[2, :3]).argmax())
    labels = np.moveaxis(measure.label(scan.values() < AIR_HU, connectivity=1), axial, 0)
    inside = np.arange(labels.max() + 1) > 0
    for face in (labels[:, 0], labels[:, -1], labels[..., 0], labels[..., -1]):
        inside[face] = False
    lung = np.stack([ndimage.binary_fill_holes(inside[part]) for part in labels], axis=axial)
    deep = ndimage.distance_transform_edt(lung, sampling=scan.spacing_mm) >= WALL_MM
    labels = measure.label(deep, connectivity=1)
    sizes = np.bincount(labels.ravel()) * (np.arange(labels.max() + 1) > 0)
    return np.isin(labels, [part for part in sizes.argsort()[-2:] if sizes[part] > 0.2 * sizes.max()])


def read_shapes(cases: Sequence[Mapping[str, Any]], scan: Scan) -> list[np.ndarray]:
    """The cases' lesion masks of suitable size on a scan's grid, bool, each cut to its bounding box."""
    shapes = []
    for label in (read_scan(case["label"]) for case in cases):
        mask = label.values() > 0
        if DIAMETER_MM[0] <= (6 * mask.sum() * label.spacing_mm.prod() / np.pi) ** (1 / 3) <= DIAMETER_MM[1]:
            voxels = np.argwhere(mask)
            low, high = voxels.min(axis=0), voxels.max(axis=0)
            diagonal_mm = np.linalg.norm((high + 1 - low) * label.spacing_mm)
            reach = np.ceil(diagonal_mm / 2 / scan.spacing_mm).astype(int) + 2
            # A voxel of the scan falls on one of the mask, so that equal spacing means no interpolation.
            centre_mm = nib.affines.apply_affine(label.affine, (low + high) // 2)
            axes = scan.affine[:3, :3]
            grid = nib.affines.from_matvec(axes, centre_mm - axes @ reach)
            shape = to_crop(mask, label.affine, grid, 2 * reach + 1, "zeros") > 0.5
            shapes.append(shape[ndimage.find_objects(shape.astype(np.uint8))[0]])
    return shapes


def place_sites(scan: Scan, nodules: np.ndarray, shapes: Sequence[np.ndarray], sites: int, seed: int = 0) -> np.ndarray:
    """Lesion masks (X, Y, Z) uint8 at lung sites free of nodules, airways and larger vessels; InputError if too few.

    The shapes come in random order, again where they are fewer than the sites, the large ones are placed first.
    A site lies in :func:`find_lung`, ``NODULE_MM`` from any nodule, its bounding box ``APART_MM`` from the others.
    """
    rng = np.random.default_rng(derive_seed(seed, "sites"))
    hu, allowed = scan.values(), find_lung(scan)
    if nodules.any():
        allowed &= ndimage.distance_transform_edt(~nodules, sampling=scan.spacing_mm) >= NODULE_MM
    centres = np.argwhere(allowed)
    order = [i for _ in range(sites) for i in rng.permutation(len(shapes))][:sites]
    placed, boxes = np.zeros(hu.shape, dtype=np.uint8), []
    for shape in sorted((shapes[i] for i in order), key=np.sum, reverse=True):
        for low in centres[rng.integers(len(centres), size=TRIES if len(centres) else 0)] - np.array(shape.shape) // 2:
            high = low + shape.shape
            box = tuple(slice(*ends) for ends in zip(low, high, strict=True))
            if (low < 0).any() or (high > hu.shape).any() or not allowed[box][shape].all():
                continue
            covered = hu[box][shape]
            clear = (covered < PARENCHYMA_HU).mean() >= CLEAR_FRACTION and covered.mean() > AIRWAY_HU
            gaps_mm = [(np.maximum(low - stop, start - high) * scan.spacing_mm).max() for start, stop in boxes]
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
    ordered = 100 * (np.diff(mean_hu[:3], axis=0) > 0).all(axis=0).mean()
    worst = max(distance[k, k].mean() for k in range(3))
    swap_hu = (mean_hu[2] - mean_hu[0]).mean()
    swapped = 100 * ((margin[0, 2] > 0) & (margin[2, 0] > 0)).mean()
    all_pairs = 100 * ((margin > 0).sum(axis=(0, 1)) == 6).mean()
    criteria = {
        "sites ordered ground_glass < part_solid < solid, % (>= 90)": (ordered, ordered >= 90),
        "distance to the request, worst texture (<= 0.10)": (worst, worst <= 0.1),
        "swap test, solid - ground_glass, HU (>= 200)": (swap_hu, swap_hu >= 200),
        "sites with positive margins, solid <-> ground_glass, % (>= 95)": (swapped, swapped >= 95),
        "sites with positive margins, all pairs, % (>= 95)": (all_pairs, all_pairs >= 95),
        "largest difference outside the masks, HU (0)": (difference_outside, difference_outside == 0),
    }
    diameters = sorted(round(2 * e["spec"]["radius_mm"], 1) for e in lesions[0])
    report = {"sites": len(diameters), "diameters_mm": diameters, "textures": {}, "margins": {}}
    report["mean_hu_before"] = float(np.mean([e["mean_before"] for e in lesions[0]]))
    for k, texture in enumerate(TEXTURES):
        report["textures"][texture] = {
            "mean_hu": float(mean_hu[k].mean()),
            "sd_hu": float(mean_hu[k].std()),
            "sd_within_hu": float(np.mean([e["std_painted"] for e in lesions[k]])),
            "distance_to_request_of": dict(zip(PRESETS, distance[k].mean(axis=1).tolist(), strict=True)),
        }
    for a, b in ((2, 0), (0, 2), (2, 1), (1, 2), (1, 0), (0, 1)):
        row = {"mean": float(margin[a, b].mean()), "positive_percent": float(100 * (margin[a, b] > 0).mean())}
        report["margins"][f"{PRESETS[a]} against {PRESETS[b]}"] = row
    report["criteria"] = {name: {"value": float(v), "met": bool(met)} for name, (v, met) in criteria.items()}
    return report


def print_report(report: Mapping[str, Any]) -> None:
    print(
        f"\n{report['sites']} sites of {report['diameters_mm'][0]} to {report['diameters_mm'][-1]} mm, ",
        end="",
    )
    print(f"{report['mean_hu_before']:.0f} HU before\n\n{'':<14}mean HU  (sd)  sd within   distance to the request of")
    print(f"{'achieved':<36}" + "".join(f"{preset:>14}" for preset in PRESETS))
    for name, row in report["textures"].items():
        distances = "".join(f"{value:14.3f}" for value in row["distance_to_request_of"].values())
        print(f"{name:<14}{row['mean_hu']:7.0f}  ({row['sd_hu']:.0f})  {row['sd_within_hu']:6.0f}   {distances}")
    print("'none' requests nothing: its distances are to what the presets requested at the same sites.\n")
    for name, row in report["margins"].items():
        print(f"margin, {name:<36}{row['mean']:7.3f}, positive on {row['positive_percent']:.0f}% of the sites")
    print()
    for name, row in report["criteria"].items():
        print(f"{name:<64}{row['value']:8.3f}  {'met' if row['met'] else 'NOT MET'}")


def save_picture(volumes: Mapping[str, np.ndarray], mask: np.ndarray, sidecar: Mapping[str, Any], path: Path) -> None:
    """Six sites of different size before and after, axial, 48 mm wide, the mask outlined in the original only."""
    by_size = sorted((entry["spec"] for entry in sidecar["lesions"]), key=lambda spec: spec["voxels"])
    specs = [by_size[k] for k in np.unique(np.linspace(0, len(by_size) - 1, 6).round().astype(int))]
    affine = np.array(sidecar["affine"])
    images = [nib.as_closest_canonical(nib.Nifti1Image(v, affine)) for v in (*volumes.values(), mask)]
    spacing = nib.affines.voxel_sizes(images[0].affine)
    reach = np.append(np.round(24 / spacing[:2]), 0).astype(int)
    low, high = sidecar["settings"]["hu_window"]
    figure, axes = plt.subplots(len(specs), len(volumes), figsize=(11, 2.3 * len(specs)), squeeze=False)
    for line, spec in zip(axes, specs, strict=True):
        middle = np.rint(np.linalg.solve(images[0].affine, [*spec["centre_mm"], 1])[:3]).astype(int)
        box = tuple(slice(max(0, m - r), m + r + 1) for m, r in zip(middle, reach, strict=True))
        # Radiological: rows run downwards, the patient's right is on the left.
        *pictures, outline = [np.asarray(image.dataobj[box])[..., 0].T[::-1, ::-1] for image in images]
        for axis, picture, name in zip(line, pictures, volumes, strict=True):
            style = {"vmin": low, "vmax": high, "aspect": spacing[1] / spacing[0], "interpolation": "nearest"}
            axis.imshow(picture, cmap="gray", **style)
            axis.set(xticks=[], yticks=[], title=name.replace("_", " "))
        line[0].contour(outline, levels=[0.5], colors="tab:orange", linewidths=1)
        line[0].set_ylabel(f"{2 * spec['radius_mm']:.0f} mm")
    figure.tight_layout()
    write_atomically(path, lambda temporary: figure.savefig(temporary, dpi=100))
    plt.close(figure)


def evaluate_texture(
    image: str | None = None,
    nodules: str | None = None,
    shapes: str | None = None,
    output_dir: str = "texture_evaluation",
    sites: int = 24,
    bundle: str = str(REPO / "bundles" / "lefusion_lidc"),
    seed: int = 0,
    config_files: str | Sequence[str] = (),
    overwrite: bool = False,
    **overrides: Any,
) -> dict[str, Any]:
    """Paint nodule-free lung sites with every texture through the bundle's inference, and report the control.

    Args:
        image, nodules: a chest CT, and the mask of its nodules.
        shapes: data set; the lesion masks of its validation patients are used.
        output_dir: for the sites, the painted scans, report.json and texture_sites.png.
        sites, seed: how many sites; seed of the sites and of the inference.
        bundle, config_files: the bundle's folder, and overlays of its inference.json (paths, or names in configs/).
        overwrite: replace existing outputs.
        overrides: keys of inference.json, such as weights.
    """
    image = str(image or DATA / "lidc0314" / "lidc0314_ct.nii.gz")
    out, configs = Path(output_dir).absolute(), Path(bundle).resolve() / "configs"
    overlays = [config_files] if isinstance(config_files, str) else config_files
    files = [str(p if Path(p).is_file() else configs / p) for p in ("inference.json", *overlays)]
    missing = [path for path in files if not Path(path).is_file()]
    if missing:
        raise InputError(f"config file {missing[0]} does not exist.")
    fixed = {
        "bundle_root": str(configs.parent),
        "image": image,
        "mask": str(out / "sites.nii.gz"),
        "seed": seed,
    }
    fixed |= {"texture": None, "overwrite": overwrite, "resume": False, "replay": None}
    known = ConfigParser.load_config_files(files)
    for key in overrides:
        if key.split("#")[0] not in known or key in fixed:
            raise InputError(f"unknown key {key!r}; allowed: {', '.join(k for k in known if k not in fixed)}.")
    if not isinstance(sites, int) or sites < 1:
        raise InputError(f"sites must be a whole number of at least 1, got {sites!r}.")
    check_writable(out)
    for name in ("sites.nii.gz", *TEXTURES, "texture_sites.png", "report.json"):
        if (out / name).exists() and not overwrite:
            raise InputError(f"{out / name} exists already: pass --overwrite true or another --output_dir.")

    cases = split_by_patient(list_cases(shapes or DATA / "lidc_nodules"), VAL_FRACTION, "validation")
    scan = read_scan(image)
    check_scan(scan)
    nodule_mask = read_mask(nodules or DATA / "lidc0314" / "lidc0314_nodules.nii.gz", scan)
    print(f"placing {sites} nodule masks in {image}", flush=True)
    mask = place_sites(scan, nodule_mask, read_shapes(cases, scan), sites, seed)
    (out / "report.json").unlink(missing_ok=True)
    write_scan(scan, mask, out / "sites.nii.gz", "lesion masks at nodule-free lung sites")
    print(f"placed {sites}: {out / 'sites.nii.gz'}", flush=True)
    sidecars, volumes = {}, {"original": scan.values()}
    for texture in TEXTURES:
        print(f"painting {texture}", flush=True)
        own = {"texture": texture, "output_dir": str(out / texture)}
        run(run_id="run", config_file=files, **{**overrides, **fixed, **own})
        stem = f"{out / texture / case_name(image)}_lefusion"
        sidecars[texture] = json.loads(Path(f"{stem}.json").read_text())
        volumes[texture] = read_scan(f"{stem}.nii.gz").values()
    outside = mask == 0
    difference = max(float(np.abs(volumes[t] - volumes["original"])[outside].max()) for t in TEXTURES)
    told = {key: sidecars["solid"][key] for key in ("source", "mask", "weights", "settings")}
    report = {**build_report(sidecars, difference), "seed": seed, **told}
    save_picture(volumes, mask, sidecars["solid"], out / "texture_sites.png")
    write_atomically(out / "report.json", lambda path: path.write_text(json.dumps(report, indent=2) + "\n"))
    print_report(report)
    print(f"\nwrote {out / 'report.json'} and {out / 'texture_sites.png'}")
    return report


if __name__ == "__main__":
    import fire

    from custom_components.errors import install_excepthook

    install_excepthook()
    fire.Fire(evaluate_texture, serialize=lambda report: None)

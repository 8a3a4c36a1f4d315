"""How well drawn masks obey their control spheres and boundaries, and how real their shapes are."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from monai.bundle import ConfigParser
from monai.inferers import Inferer
from tqdm import tqdm

from custom_components.baselines import HandCraftedMasks
from custom_components.bundle_configs import bundle_root, check_overrides, config_files
from custom_components.datasets import require_cases, split_by_patient
from custom_components.errors import InputError, as_flag
from custom_components.files import check_writable, write_atomically
from custom_components.mask_cases import find_masks
from custom_components.mask_grids import masks_on_grid
from custom_components.mask_panels import save_shape_gallery
from custom_components.mask_specs import MaskSpec
from custom_components.mask_targets import MaskTarget, read_target
from custom_components.masks import bounding_sphere
from custom_components.metrics import SHAPE_MEASURES, shape_distances, shape_measures
from custom_components.seeds import derive_seed

METHODS = ("drawn", "hand_crafted")


class Drawing:
    """The parts of a bundle's inference configuration that draw a mask, without files.

    Args:
        bundle: a bundle's name or folder.
        config: overlay(s), see ``lefusion run``.
        overrides: keys of the inference configuration.
    """

    def __init__(self, bundle: str, config: str | Sequence[str], overrides: Mapping[str, Any]) -> None:
        files = config_files(bundle_root(bundle), "inference", config)
        check_overrides(files, dict(overrides))
        parser = ConfigParser()
        parser.read_config(files)
        for key, value in {"bundle_root": str(bundle_root(bundle)), **overrides}.items():
            parser[key] = value
        keys = ("network", "inferer", "preprocessing", "device", "batch_size", "seed", "class_labels", "organ_labels")
        self.network, self.inferer, self.crop, self.device, self.batch_size, self.seed, *labels = (
            parser.get_parsed_content(key) for key in keys
        )
        self.class_labels, self.organ_labels = tuple(labels[0]), None if labels[1] is None else tuple(labels[1])
        tidy = ("smoothing", "fill_holes", "largest_component", "fit_sphere")
        self.tidy = {key: parser.get_parsed_content(key) for key in tidy}
        self.fit_sphere = as_flag(self.tidy.pop("fit_sphere"), "fit_sphere")
        self.settings = {
            key: parser.get_parsed_content(key) for key in ("num_inference_steps", "eta", "shape_guidance", *tidy)
        }

    def __call__(
        self, inferer: Inferer, items: Sequence[tuple[MaskTarget, MaskSpec]], cut: Sequence[np.ndarray | None]
    ) -> list[np.ndarray]:
        """Masks (n, X, Y, Z) bool on the targets' grids.

        Args:
            inferer: the bundle's, or a baseline.
            items: what to draw.
            cut: for each item a half-space of its crop that is closed, as a plane (a, b, c, d): places p in mm with
                a x + b y + c z > d; None leaves it open.
        """
        masks = []
        for start in tqdm(range(0, len(items), self.batch_size), desc=type(inferer).__name__):
            part = items[start : start + self.batch_size]
            crops = [self.crop({"target": target, "spec": spec}) for target, spec in part]
            for crop, plane in zip(crops, cut[start:], strict=False):
                if plane is not None:
                    crop["boundary"] *= torch.from_numpy(
                        _open(plane, crop["sphere"].affine, crop["boundary"].shape[1:])
                    )
            inputs = torch.stack([torch.cat([crop["sphere"], crop["boundary"]]) for crop in crops])
            seeds, radii = [spec.seed for _, spec in part], [spec.radius_mm for _, spec in part]
            values = inferer(inputs.to(self.device), self.network, seeds=seeds, radii_mm=radii)
            for (target, spec), plane, crop, value in zip(part, cut[start:], crops, values.cpu().numpy(), strict=False):
                scan, organ = read_target(target)
                shape = scan.stored.shape
                allowed = np.ones(shape, bool) if organ is None else organ
                if plane is not None:
                    allowed = allowed & _open(plane, scan.affine, shape)
                sphere = (spec.centre_mm, spec.radius_mm) if self.fit_sphere else None
                affine = np.asarray(crop["sphere"].affine)
                box, classes = masks_on_grid(value, affine, scan.affine, shape, allowed, **self.tidy, sphere=sphere)
                mask = np.zeros((len(classes), *shape), bool)
                mask[(slice(None), *box)] = classes
                masks.append(mask)
        return masks


def _open(plane: np.ndarray, affine: Any, shape: Sequence[int]) -> np.ndarray:
    """Voxels on the open side of a plane, (X, Y, Z) bool."""
    affine = np.asarray(affine)
    places = np.tensordot(affine[:3, :3], np.indices(tuple(shape)), 1) + affine[:3, 3].reshape(3, 1, 1, 1)
    return np.tensordot(plane[:3], places, 1) <= plane[3]


def evaluate_masks(
    dataset_dir: str,
    output_dir: str = "mask_evaluation",
    bundle: str = "diffmask",
    config: str | Sequence[str] = (),
    val_fraction: float = 0.2,
    count: int | None = None,
    gallery: int = 10,
    overwrite: bool = False,
    **overrides: Any,
) -> dict[str, Any]:
    """Draw a mask for the control sphere of each held-out real lesion, and compare them.

    The held-out lesions, in the order of their radii, go to two halves in turn, so that the halves differ in shape and
    hardly in size. Masks are drawn for the spheres of the second half's lesions, by the bundle and by the Hand-Crafted
    method, and compared with the first half's real masks; the second half's own real masks give the distance that two
    sets of real lesions have. Each mask is drawn again with half of the space closed by a plane near the sphere's
    middle, to count the voxels behind it.

    Args:
        dataset_dir: real masks, as for training.
        output_dir: gets evaluation.json and shapes.png.
        bundle: a bundle's name or folder.
        config: overlay(s) of the inference configuration.
        val_fraction: share of patients held out in training.
        count: lesions to draw at most; all of the second half by default.
        gallery: masks in the picture.
        overwrite: replace an earlier result.
        **overrides: any key of the bundle's inference configuration.

    Returns:
        ``control`` (medians and 95th percentiles of the errors of centre and radius in mm), ``voxels_outside``,
        ``non_empty``, ``wasserstein`` (of the shape measures to the first half: real, drawn, hand_crafted),
        ``means``, ``seconds_per_mask``, ``lesions``.

    Raises:
        InputError: for an existing result without ``overwrite``, data or settings that do not fit.
    """
    output = Path(str(output_dir))
    files = {name: output / name for name in ("evaluation.json", "shapes.png")}
    for path in files.values():
        if path.exists() and not as_flag(overwrite, "overwrite"):
            raise InputError(f"{path} exists already: pass --overwrite true or another --output_dir.")
    check_writable(output)
    drawing = Drawing(bundle, config, overrides)
    cases = find_masks(dataset_dir)
    require_cases(cases, dataset_dir)
    held_out = _spread(split_by_patient(cases, val_fraction, "validation"), count)
    halves = _halves([_read(case, drawing) for case in tqdm(held_out, desc="real masks")])
    rng = np.random.default_rng(derive_seed(drawing.seed, "planes"))
    items, planes = [], []
    for number, lesion in enumerate(halves[1], start=1):
        seed = derive_seed(drawing.seed, lesion["case"], "evaluation")
        spec = MaskSpec(lesion["case"], 1, number, tuple(lesion["centre"]), lesion["radius"], seed)
        normal = rng.normal(size=3)
        normal /= np.linalg.norm(normal)
        offset = rng.uniform(-0.3, 0.3) * lesion["radius"]
        items.append((lesion["target"], spec))
        planes.append(np.array([*normal, normal @ lesion["centre"] + offset]))

    start = time.perf_counter()
    masks = {"drawn": drawing(drawing.inferer, items, [None] * len(items))}
    seconds = (time.perf_counter() - start) / len(items)
    cut = drawing(drawing.inferer, items, planes)
    baseline = HandCraftedMasks(len(drawing.class_labels))
    masks["hand_crafted"] = drawing(baseline, items, [None] * len(items))

    affines = [read_target(target)[0].affine for target, _ in items]
    shapes = {"first": [lesion["shape"] for lesion in halves[0]], "real": [lesion["shape"] for lesion in halves[1]]}
    for method in METHODS:
        pairs = zip(masks[method], affines, strict=True)
        shapes[method] = [shape_measures(m.any(axis=0), a) for m, a in tqdm(pairs, desc=method) if m.any()]
    report = {
        "lesions": [len(half) for half in halves],
        "control": _control(masks["drawn"], affines, [spec for _, spec in items]),
        "voxels_outside": sum(_behind(m, t, p) for m, (t, _), p in zip(cut, items, planes, strict=True)),
        "non_empty": float(np.mean([m.any() for m in masks["drawn"]])),
        "non_empty_within_boundary": float(np.mean([m.any() for m in cut])),
        "wasserstein": {m: shape_distances(shapes[m], shapes["first"]) for m in ("real", *METHODS)},
        "means": {m: {k: float(np.mean([s[k] for s in v])) for k in SHAPE_MEASURES} for m, v in shapes.items()},
        "seconds_per_mask": seconds,
        "settings": drawing.settings,
        "torch_threads": torch.get_num_threads(),
    }
    chosen = np.linspace(0, len(items) - 1, min(gallery, len(items))).astype(int)
    order = sorted(range(len(items)), key=lambda i: items[i][1].radius_mm)
    rows = {"real": [halves[1][order[i]]["masks"] for i in chosen]}
    rows |= {method: [masks[method][order[i]] for i in chosen] for method in ("hand_crafted", "drawn")}
    spheres = [(items[order[i]][1], affines[order[i]]) for i in chosen]
    write_atomically(files["shapes.png"], lambda path: save_shape_gallery(rows, spheres, path))
    write_atomically(files["evaluation.json"], lambda path: path.write_text(json.dumps(report, indent=2) + "\n"))
    _print(report)
    print(f"wrote {files['evaluation.json']} and {files['shapes.png']}")
    return report


def _spread(cases: Sequence[dict[str, Any]], count: int | None) -> list[dict[str, Any]]:
    """The cases, or twice ``count`` of them, evenly chosen."""
    if count is None:
        return list(cases)
    chosen = np.linspace(0, len(cases) - 1, min(2 * count, len(cases))).astype(int)
    return [cases[i] for i in np.unique(chosen)]


def _halves(lesions: Sequence[dict[str, Any]]) -> list[list[dict[str, Any]]]:
    """Lesions in the order of their radii, to two halves in turn."""
    ordered = sorted(lesions, key=lambda lesion: (lesion["radius"], lesion["case"]))
    return [ordered[1::2], ordered[0::2]]


def _read(case: Mapping[str, Any], drawing: Drawing) -> dict[str, Any]:
    """A real lesion: masks of its classes, control sphere, shape, and the target to draw its like in."""
    scan, lesion = read_target(MaskTarget(case["case"], organ=case["label"], organ_labels=drawing.class_labels))
    values = scan.values()
    centre, radius = bounding_sphere(lesion, scan.affine)
    organ = {} if drawing.organ_labels is None else {"organ": case["label"], "organ_labels": drawing.organ_labels}
    return {
        "case": case["case"],
        "masks": np.stack([values == label for label in drawing.class_labels]),
        "centre": centre,
        "radius": radius,
        "shape": shape_measures(lesion, scan.affine),
        "target": MaskTarget(case["case"], image=case["label"], **organ),
    }


def _control(masks: Sequence[np.ndarray], affines: Sequence[np.ndarray], specs: Sequence[MaskSpec]) -> dict[str, Any]:
    """Errors of the drawn masks' smallest enclosing spheres against those requested, mm."""
    centre_errors, radius_errors = [], []
    for mask, affine, spec in zip(masks, affines, specs, strict=True):
        if mask.any():
            centre, radius = bounding_sphere(mask.any(axis=0), affine)
            centre_errors.append(float(np.linalg.norm(centre - spec.centre_mm)))
            radius_errors.append(radius - spec.radius_mm)
    absolute = np.abs(radius_errors)
    return {
        "centre_error_mm_median": float(np.median(centre_errors)),
        "centre_error_mm_p95": float(np.quantile(centre_errors, 0.95)),
        "radius_error_mm_median": float(np.median(absolute)),
        "radius_error_mm_p95": float(np.quantile(absolute, 0.95)),
        "radius_error_mm_mean_signed": float(np.mean(radius_errors)),
    }


def _behind(mask: np.ndarray, target: MaskTarget, plane: np.ndarray) -> int:
    """Voxels of a mask that lie outside the organ or behind the plane."""
    scan, organ = read_target(target)
    inside = _open(plane, scan.affine, scan.stored.shape)
    return int((mask.any(axis=0) & ~(inside if organ is None else inside & organ)).sum())


def _print(report: Mapping[str, Any]) -> None:
    print(f"\nlesions: {report['lesions'][1]} drawn, {report['lesions'][0]} to compare with")
    for name, value in report["control"].items():
        print(f"{name:<30}{value:8.2f}")
    for name in ("voxels_outside", "non_empty", "non_empty_within_boundary", "seconds_per_mask"):
        print(f"{name:<30}{report[name]:8.3g}")
    print(f"\n{'Wasserstein distance to real':<30}" + "".join(f"{m:>14}" for m in report["wasserstein"]))
    for measure in SHAPE_MEASURES:
        print(f"{measure:<30}" + "".join(f"{d[measure]:14.4f}" for d in report["wasserstein"].values()))

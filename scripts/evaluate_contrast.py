# SPDX-License-Identifier: Apache-2.0
"""Paint copied lesions into healthy hearts and count how often their contrasts are those of real ones.

python scripts/evaluate_contrast.py EMIDEC --output_dir contrast_evaluation
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from monai.bundle import ConfigParser
from scipy import ndimage
from tqdm import tqdm

from custom_components.datasets import find_cases, list_cases, require_cases, with_lesions
from custom_components.errors import InputError, as_flag
from custom_components.files import check_writable, write_atomically
from custom_components.grids import through_plane_last, turn
from custom_components.labels import LesionLabels
from custom_components.lesion_transfer import copy_lesions
from custom_components.metrics import histogram_distance
from custom_components.panels import save_texture_grid
from custom_components.seeds import derive_seed
from custom_components.specs import LesionSpec, read_lesions
from custom_components.volumes import Scan, read_scan, write_scan
from lefusion_scripts import run as workflow

SHOWN = 6


def write_labels(
    cases: list[dict[str, Any]], labels: LesionLabels, spatial_size: Sequence[int], seed: int, out: Path
) -> list[dict[str, Any]]:
    """A label map for every case without lesions: its own, with the lesions of another case, drawn at random, over it.

    Sources are drawn again while their lesions, in the target's heart, are larger than a crop of ``spatial_size``.

    Returns:
        Entries of a datalist, with ``source``.

    Raises:
        InputError: where no case has lesions, all have some, or none of the sources fits a target.
    """
    sources = with_lesions(cases, labels)
    names = {case["case"] for case in sources}
    targets = [case for case in cases if case["case"] not in names]
    if not targets:
        raise InputError("dataset_dir holds no case without lesions to paint into.")
    rng = np.random.default_rng(derive_seed(seed, "sources"))
    entries = []
    for target in tqdm(targets, desc="copying lesions", delay=5):
        here = read_scan(target["label"])
        for number in rng.permutation(len(sources)):
            result = copied(here, read_scan(sources[number]["label"]), labels)
            turned, _ = turn(labels.lesion(result), here.affine, through_plane_last(here.affine))
            box = ndimage.find_objects(turned.astype(np.uint8))[0]
            if all(part.stop - part.start <= size for part, size in zip(box, spatial_size, strict=True)):
                break
        else:
            raise InputError(f"no case has lesions that fit into a crop of {list(spatial_size)} in {target['case']}.")
        path = out / "labels" / f"{target['case']}.nii.gz"
        write_scan(here, result, path, scaled=False)
        image = str(Path(target["image"]).resolve())
        entry = {"image": image, "label": str(path.resolve()), "case": target["case"]}
        entries.append({**entry, "source": sources[number]["case"]})
    return entries


def copied(here: Scan, there: Scan, labels: LesionLabels) -> np.ndarray:
    """The target's label map with the source's lesions laid over."""
    return copy_lesions(
        np.rint(there.values()).astype(int),
        there.affine,
        np.rint(here.values()).astype(int),
        here.affine,
        cavity=labels.anatomy["cavity"],
        myocardium=labels.anatomy["myocardium"],
        classes=tuple(labels.classes.values()),
        names=(f"labels {there.path}", f"labels {here.path}"),
    )


def measure(case: Mapping[str, Any], labels: LesionLabels, out: Path, contrasts: list) -> dict[str, Any]:
    """Means, order of contrast, distance to the request and largest change outside, in the files of a case."""
    found = read_lesions(case["image"], case["label"], labels)
    painted = read_scan(out / f"{case['case']}_lefusion.nii.gz")
    sidecar = json.loads((out / f"{case['case']}_lefusion.json").read_text())
    values, before = painted.values(), found.scan.values()
    known = {**labels.anatomy, **labels.classes}
    means = {name: float(values[found.label == v].mean()) for name, v in known.items() if (found.label == v).any()}
    low, high = sidecar["lesions"][0]["spec"]["window"]
    lesion = labels.lesion(found.label)
    return {
        "case": case["case"],
        "means": means,
        "contrasts": {
            f"{dark} < {bright}": 2 * (means[bright] - means[dark]) / (high - low)
            for dark, bright, *_ in contrasts
            if dark in means and bright in means
        },
        "distances": {
            e["spec"]["lesion_class"]: histogram_distance(e["spec"]["histogram"], e["achieved_histogram"])
            for e in sidecar["lesions"]
        },
        "outside": float(np.abs(values - before)[~lesion].max()),
    }


def evaluate_contrast(
    dataset_dir: str,
    output_dir: str = "contrast_evaluation",
    bundle: str = "lefusion_emidec",
    seed: int = 0,
    overwrite: bool = False,
    **overrides: Any,
) -> dict[str, Any]:
    """Paint lesions copied from the pathological cases into every normal case, textures at random, and measure.

    Args:
        dataset_dir: normal and pathological cases with cavity and myocardium labelled.
        output_dir: for labels/, painted/, pictures/ (of the first cases) and report.json.
        bundle: a bundle's name or folder.
        seed: of the pairs and of the inference.
        overwrite: replace existing outputs.
        overrides: keys of the inference config, such as weights.

    Returns:
        ``cases`` (one entry each), ``contrasts`` (pair -> share of the cases in order, median difference in units of
        [-1, 1]), ``distance_to_request`` (class -> mean) and ``largest_difference_outside``.

    Raises:
        InputError: for a key that is unknown or set here, an existing report without ``overwrite``, and as
            :func:`write_labels`.
    """
    root, out = workflow.bundle_root(bundle), Path(output_dir)
    files = workflow.config_files(root, "inference")
    workflow.check_overrides(files, overrides)
    for key in ("image", "mask", "replay", "panel", "logging_file"):
        if key in overrides:
            raise InputError(f"{key} is set by the evaluation itself and cannot be overridden.")
    overwrite = as_flag(overwrite, "overwrite")
    check_writable(out)
    if (out / "report.json").exists() and not overwrite:
        raise InputError(f"{out / 'report.json'} exists already: pass --overwrite true or another --output_dir.")
    parser = ConfigParser()
    parser.read_config(files)
    labels, contrasts = parser.get_parsed_content("labels"), parser["contrasts"]
    require_cases(find_cases(dataset_dir), dataset_dir)
    size = overrides.get("spatial_size", parser["spatial_size"])
    entries = write_labels(list_cases(dataset_dir), labels, size, seed, out)
    datalist = out / "datalist.json"
    write_atomically(datalist, lambda path: path.write_text(json.dumps(entries, indent=2) + "\n"))
    own = {"dataset_dir": str(datalist), "output_dir": str(out / "painted"), "seed": seed, "overwrite": overwrite}
    workflow.run("inference", str(root), panel=False, logging_file=False, **own, **overrides)
    cases = [measure(entry, labels, out / "painted", contrasts) for entry in tqdm(entries, desc="measuring", delay=5)]
    pairs = {pair: [c["contrasts"][pair] for c in cases if pair in c["contrasts"]] for pair in _pairs(contrasts)}
    report: dict[str, Any] = {
        "cases": cases,
        "contrasts": {
            pair: {"cases": len(v), "in_order": float((np.array(v) > 0).mean()), "median": float(np.median(v))}
            for pair, v in pairs.items()
            if v
        },
        "distance_to_request": {
            name: float(np.mean([c["distances"][name] for c in cases if name in c["distances"]]))
            for name in labels.names
            if any(name in c["distances"] for c in cases)
        },
        "largest_difference_outside": max(c["outside"] for c in cases),
    }
    _save_pictures(entries, labels, out, parser.get("saver#panel_width_mm", 64.0))
    write_atomically(out / "report.json", lambda path: path.write_text(json.dumps(report, indent=2) + "\n"))
    for pair, row in report["contrasts"].items():
        print(f"{pair:20s}{row['in_order']:8.1%} of {row['cases']} cases in order, median {row['median']:.2f}")
    for name, value in report["distance_to_request"].items():
        print(f"{name:20s}{value:8.3f} mean distance to the requested histogram")
    print(f"largest difference outside the masks: {report['largest_difference_outside']:g}")
    print(f"wrote {out / 'report.json'} and {out / 'pictures'}")
    return report


def _pairs(contrasts: list) -> list[str]:
    return [f"{dark} < {bright}" for dark, bright, *_ in contrasts]


def _save_pictures(entries: list[dict[str, Any]], labels: LesionLabels, out: Path, width_mm: float) -> None:
    """The first cases before and after, one PNG each."""
    for entry in entries[:SHOWN]:
        found = read_lesions(entry["image"], entry["label"], labels)
        sidecar = json.loads((out / "painted" / f"{entry['case']}_lefusion.json").read_text())
        spec = LesionSpec(**sidecar["lesions"][0]["spec"])
        after = {"painted": read_scan(out / "painted" / f"{entry['case']}_lefusion.nii.gz").values()}
        masks = {name: found.label == value for name, value in labels.classes.items()}
        picture = (found.scan.values(), after, masks, found.scan.affine, [spec])
        target = out / "pictures" / f"{entry['case']}.png"
        write_atomically(target, lambda path, picture=picture: save_texture_grid(*picture, path, width_mm))


if __name__ == "__main__":
    import fire

    from custom_components.errors import install_excepthook

    install_excepthook()
    fire.Fire(evaluate_contrast, serialize=lambda report: None)

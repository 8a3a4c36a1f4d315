"""The cardiac data set of the EMIDEC challenge, as it is downloaded, for training and synthesis."""

from __future__ import annotations

import re
import warnings
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from tqdm import tqdm

from custom_components import __version__
from custom_components.datasets import SCAN_SUFFIXES, case_name
from custom_components.errors import InputError, as_flag
from custom_components.files import file_hash, write_atomically
from custom_components.preparation import Failures, claim_folder, write_json, write_lines
from custom_components.volumes import check_same_grid, check_scan, read_scan, write_scan

GROUPS = ("Pathological", "Normal")
STRUCTURES = {"cavity": 1, "myocardium": 2, "mi": 3, "pmo": 4}
NOTICE = """The images and labels derive from the EMIDEC data set, https://emidec.com/dataset, licensed CC BY-NC-SA 4.0:
https://creativecommons.org/licenses/by-nc-sa/4.0/ (changed: sorted into folders; voxels as distributed, voxel sizes in
the affine). No commercial use; what is made from them, trained weights included, carries the same licence. Please cite
Lalande et al., Data 5(4):89, 2020, doi:10.3390/data5040089, and
Lalande et al., Medical Image Analysis 79:102428, 2022, doi:10.1016/j.media.2022.102428.
"""


@dataclass(frozen=True)
class Pair:
    """An image and its label map; the group is None where the names do not tell it."""

    case: str
    group: str | None
    image: Path
    label: Path


def prepare_emidec(source: str, output_dir: str, overwrite: bool = False) -> dict[str, int]:
    """Check and copy the EMIDEC data set SOURCE into OUTPUT_DIR/Pathological and OUTPUT_DIR/Normal.

    Both get images and labels with equal names, voxel for voxel as they were; where a file's affine is a placeholder
    the voxel size of its header goes into it. datalist.json gives patient, group, voxel size, and the volume of each
    structure. The same command again completes a data set that was interrupted.

    Args:
        source: folder with the challenge's cases at any depth (Case_P001/Images/*.nii.gz, Case_P001/Contours/*.nii.gz;
            those of the test part, which have no contours, are counted and left out), or with Pathological and Normal,
            which hold images and labels each.
        output_dir: folder to write to.
        overwrite: start anew in a folder that this command has written.

    Returns:
        ``pathological`` and ``normal`` cases.

    Raises:
        InputError: where the source holds no cases, or the folder holds something else.
        SystemExit: with code 3, where a case could not be used; the others are complete.
    """
    root, output, failures = Path(str(source)), Path(str(output_dir)), Failures()
    pairs, unlabelled = find_pairs(root, failures)
    settings = {"command": "prepare emidec", "source": str(root.resolve()), "version": __version__}
    claim_folder(output, settings, as_flag(overwrite, "overwrite"), GROUPS)
    write_atomically(output / "NOTICE", lambda path: path.write_text(NOTICE))
    entries, manifest = [], []
    for pair in tqdm(pairs, desc="cases", delay=2):
        try:
            entry, hashes = prepare_case(pair, output)
        except InputError as error:
            failures.add(pair.case, error)
            continue
        entries.append(entry)
        manifest.append({**{key: entry[key] for key in ("case", "group", "patient", "image", "label")}, **hashes})
    write_json(output / "datalist.json", entries)
    write_lines(output / "manifest.jsonl", manifest)
    counts = {group.lower(): sum(entry["group"] == group for entry in entries) for group in GROUPS}
    print(
        f"{counts['pathological']} pathological and {counts['normal']} normal cases in {output}"
        + (f", {unlabelled} without contours left out" if unlabelled else "")
        + f"; next: lefusion run training --bundle lefusion_emidec --dataset_dir {output} --output_dir runs/mine"
    )
    failures.finish(output)
    return counts


def find_pairs(root: Path, failures: Failures) -> tuple[list[Pair], int]:
    """The cases of a download or of sorted folders, and how many are of the unlabelled test part.

    Raises:
        InputError: where there is none, or two have the same name.
    """
    if not root.is_dir():
        raise InputError(f"folder {root} does not exist.")
    found = _sorted_pairs(root) or _downloaded_pairs(root, failures)
    pairs = [pair for pair in found if pair.group or pair.label.exists()]
    if not pairs:
        raise InputError(
            f"folder {root} holds neither cases with Images and Contours nor Pathological and Normal with images "
            "and labels."
        )
    names = [pair.case for pair in pairs]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise InputError(f"folder {root} holds case {twice[0]} twice.")
    return sorted(pairs, key=lambda pair: pair.case), len(found) - len(pairs)


def _sorted_pairs(root: Path) -> list[Pair]:
    """Of GROUP/images and GROUP/labels, with equal file names."""
    return [
        Pair(case_name(image), group, image, root / group / "labels" / image.name)
        for group in GROUPS
        for image in _volumes(root / group / "images")
    ]


def _downloaded_pairs(root: Path, failures: Failures) -> list[Pair]:
    """Of CASE/Images and CASE/Contours; the letter before the case's number tells the group of a training case."""
    pairs = []
    for folder in sorted(path for path in root.rglob("Images") if path.is_dir()):
        case = folder.parent.name
        letter = re.search(r"([NP])\d+$", case)
        group = {"P": "Pathological", "N": "Normal"}[letter[1]] if letter else None
        images, labels = _volumes(folder), _volumes(folder.with_name("Contours"))
        if len(images) != 1 or len(labels) > 1:
            counts = f"it holds {len(images)} and {len(labels)}"
            failures.add(case, InputError(f"{folder.parent} must hold a volume in Images and in Contours, {counts}."))
            continue
        label = labels[0] if labels else folder.with_name("Contours") / images[0].name
        pairs.append(Pair(case, group, images[0], label))
    return pairs


def _volumes(folder: Path) -> list[Path]:
    files = sorted(folder.iterdir()) if folder.is_dir() else []
    return [path for path in files if path.name.endswith(SCAN_SUFFIXES) and not path.name.startswith(".")]


def prepare_case(pair: Pair, output: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """Checks and copies a case.

    Returns:
        Its entry in the datalist, and the SHA-256 of its sources and of its files.

    Raises:
        InputError: where a volume is missing or unreadable, the two lie on different grids, the image holds NaN, or the
            label map other values than 0 to 4, or a lesion in a normal case.
    """
    if not pair.label.exists():
        raise InputError(f"image {pair.image} has no label {pair.label}.")
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*its affine tells")  # the datalist tells it
        image, label = read_scan(pair.image), read_scan(pair.label)
    check_scan(image, air_below=None)
    check_same_grid(label, image, "label")
    values = label.values()
    if strange := sorted(set(np.unique(values).tolist()) - {0, *STRUCTURES.values()}, key=str):
        raise InputError(f"label {pair.label} must hold whole numbers from 0 to 4, it holds {strange[0]:g}.")
    labels = values.astype(np.uint8)
    lesion = bool((labels >= STRUCTURES["mi"]).any())
    group = pair.group or GROUPS[0 if lesion else 1]
    if group == "Normal" and lesion:
        raise InputError(f"label {pair.label} of a normal case holds a lesion.")
    files = {role: f"{group}/{role}s/{pair.case}.nii.gz" for role in ("image", "label")}
    for role, scan, stored in (("image", image, image.stored), ("label", label, labels)):
        if not (output / files[role]).exists():
            # Without the header, which may call a voxel's size otherwise than its affine does.
            write_scan(replace(scan, header=None), stored, output / files[role], scaled=role == "image")
    voxel_mm3 = float(np.prod(image.spacing_mm))
    told = nib.affines.voxel_sizes(image.header.get_best_affine())
    entry = {
        **files,
        "case": pair.case,
        "patient": pair.case,
        "group": group,
        "shape": list(image.stored.shape),
        "spacing_mm": [round(float(v), 4) for v in image.spacing_mm],
        "spacing_from": "affine" if np.allclose(told, image.spacing_mm) else "header",
        "volumes_mm3": {name: round(int((labels == value).sum()) * voxel_mm3, 1) for name, value in STRUCTURES.items()},
    }
    sources = {"image": file_hash(pair.image), "label": file_hash(pair.label)}
    return entry, {"source_sha256": sources, "sha256": {role: file_hash(output / path) for role, path in files.items()}}

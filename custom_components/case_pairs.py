"""Pairs of images and label maps in two folders, and everything that can be wrong with a pair."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from tqdm import tqdm

from .datasets import SCAN_SUFFIXES, case_name
from .errors import InputError
from .labels import LesionLabels
from .volumes import Scan, check_same_grid, check_scan, read_nifti, read_scan

__all__ = ["CasePair", "Finding", "check_pair", "label_values", "pair_cases", "read_whole_numbers"]

CHANNEL = re.compile(r"_\d{4}$")  # nnU-Net's images carry their channel's number, its label maps do not


@dataclass(frozen=True)
class CasePair:
    """An image and its label map.

    Attributes:
        case: the label map's name without suffix.
        image, label: files, or for the image a folder with one DICOM series.
        patient: cases of one patient share it.
    """

    case: str
    image: Path
    label: Path
    patient: str


@dataclass(frozen=True)
class Finding:
    """Why a file or pair is left out, in one sentence."""

    case: str
    sentence: str


def pair_cases(
    images: str | Path, labels: str | Path, patient_regex: str | None = None
) -> tuple[list[CasePair], list[Finding]]:
    """The pairs of two folders, by file name, and a finding for everything that has no partner.

    ``case.nii.gz`` goes with ``case.nii.gz`` or, as nnU-Net names them, an image ``case_0000.nii.gz`` with a label map
    ``case.nii.gz``; further channels of a case are findings.

    Args:
        images: folder of NIfTI files, or of folders with one DICOM series each.
        labels: folder of NIfTI files.
        patient_regex: finds the patient in a case's name: its first group, or all that it matches. Without it every
            case is a patient of its own.

    Raises:
        InputError: for a folder that is missing or empty, an invalid expression, or one that matches no case.
    """
    folders = {"images": Path(str(images)), "labels": Path(str(labels))}
    found: dict[str, dict[str, list[Path]]] = {}
    for role, folder in folders.items():
        if not folder.is_dir():
            raise InputError(f"{role} {folder} is not a folder.")
        found[role] = defaultdict(list)
        for path in sorted(folder.iterdir()):
            series = role == "images" and path.is_dir()
            if not path.name.startswith(".") and (path.name.endswith(SCAN_SUFFIXES) or series):
                found[role][case_name(path)].append(path)
        if not found[role]:
            raise InputError(f"{role} {folder} holds no NIfTI files.")
    try:
        pattern = re.compile(patient_regex) if patient_regex else None
    except re.error as error:
        raise InputError(f"patient_regex {patient_regex!r} is no regular expression: {error}.") from error

    pairs, findings, taken = [], [], {}
    for name, paths in found["images"].items():
        case = name if name in found["labels"] else CHANNEL.sub("", name)
        if case not in found["labels"]:
            findings.append(Finding(name, f"image {paths[0]} has no label map of its name in {folders['labels']}."))
        elif len(paths) > 1 or len(found["labels"][case]) > 1:
            findings.append(Finding(name, f"case {name} is there twice, with different suffixes."))
        elif case in taken:
            findings.append(Finding(name, f"image {paths[0]} is a further channel of {taken[case].name}; one is used."))
        else:
            taken[case] = paths[0]
            match = pattern.search(case) if pattern else None
            patient = case if match is None else next((group for group in match.groups() if group), match[0])
            if pattern and match is None:
                findings.append(Finding(case, f"case {case}: patient_regex {patient_regex!r} finds no patient in it."))
            else:
                pairs.append(CasePair(case, paths[0], found["labels"][case][0], patient))
    partners = {CHANNEL.sub("", name) for name in found["images"]}.union(found["images"])
    for name, paths in found["labels"].items():
        if name not in partners:
            findings.append(Finding(name, f"label map {paths[0]} has no image of its name in {folders['images']}."))
    if pattern and not pairs and taken:
        raise InputError(
            f"patient_regex {patient_regex!r} finds no patient in any case, e.g. not in {next(iter(taken))}."
        )
    return pairs, findings


def read_whole_numbers(path: Path, scan: Scan | None = None) -> np.ndarray:
    """A label map (X, Y, Z) uint8, on its scan's grid if one is given.

    Raises:
        InputError: where it cannot be read, lies on another grid, or holds anything but whole numbers from 0 to 255.
    """
    label = read_nifti(path, "label map")
    if scan is not None:
        check_same_grid(label, scan, "label map")
    values = label.values()
    strange = values[~(np.isfinite(values) & (values == np.rint(values)) & (values >= 0) & (values <= 255))]
    if strange.size:
        raise InputError(
            f"label map {path} must hold whole numbers from 0 to 255, {strange.size} of its voxels do not, "
            f"e.g. {strange[0]:g}."
        )
    return values.astype(np.uint8)


def check_pair(pair: CasePair, labels: LesionLabels) -> tuple[Scan, np.ndarray]:
    """A pair as a scan and its label map (X, Y, Z) uint8. A label map without lesion is that of a normal case.

    Raises:
        InputError: for a file that cannot be read, NaN, different grids, or labels that are no whole numbers or not
            known.
    """
    scan = read_scan(pair.image)
    check_scan(scan, air_below=None)
    values = read_whole_numbers(pair.label, scan)
    labels.check(values, f"label map {pair.label}", lesion=False)
    return scan, values


def label_values(pairs: Sequence[CasePair]) -> list[int]:
    """All values above 0 in the label maps that can be read."""
    found: set[int] = set()
    for pair in tqdm(pairs, desc="reading labels", delay=2, leave=False):
        try:
            counts = np.bincount(read_whole_numbers(pair.label).ravel())
            found.update(int(value) for value in np.flatnonzero(counts))
        except InputError:
            continue  # check_pair tells
    return sorted(found - {0})

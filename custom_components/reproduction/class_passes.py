"""Sets of methods that have a network for each lesion class and paint one class after the other (LeFusion-S).

``python -m custom_components.reproduction.class_passes FOLDER NUMBER ...`` writes ``FOLDER/pass_NUMBER.json``, the
cases that hold the class of that pass, each with the image that the passes before have left; after the last pass, the
set itself: ``FOLDER/set/datalist.json`` and its label maps.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..datasets import list_cases
from ..errors import install_excepthook
from ..preparation import write_json
from ..synthesis.records import read_manifest
from ..volumes import read_nifti, write_scan

__all__ = ["list_pass"]

Cases = list[dict[str, Any]]


def list_pass(folder: Path, number: int, source: Path, labels: Sequence[int], masks: Path | None = None) -> Path:
    """Writes what a pass starts from, or the set where all passes are done; returns the datalist.

    Args:
        folder: of the cell.
        number: of the pass, from 0; as many as there are ``labels``: all are done.
        source: data set of the scans, whose label maps show the anatomy.
        labels: of the classes, in the order of their passes. A case that a pass could not paint is left out from then
            on: its label map would show a lesion that is not there.
        masks: a set painted into the same scans, whose lesions are to be painted; those of ``source`` without it.
    """
    cases = list_cases(source)
    if masks is not None:
        cases = _lesions_of(masks, cases, folder / "labels", labels)
    for earlier in range(number):
        cases = [case for case in cases if _take_painted(case, folder / f"pass_{earlier}", labels[earlier])]
    if number < len(labels):
        path = folder / f"pass_{number}.json"
        wanted = [case for case in cases if (_values(case["label"]) == labels[number]).any()]
        if wanted:
            write_json(path, wanted)
        return path
    for case in cases:
        label = read_nifti(Path(case["label"]), "label")
        lesions = np.where(np.isin(label.values(), labels), label.values(), 0).astype(np.uint8)
        case["label"] = f"labels/{case['case']}.nii.gz"
        write_scan(label, lesions, folder / "set" / case["label"], scaled=False)
    path = folder / "set" / "datalist.json"
    write_json(path, cases)
    return path


def _take_painted(case: dict[str, Any], done: Path, label: int) -> bool:
    """Lets a case show the image of a pass; False where it has the class, but the pass could not paint it."""
    painted = done / "images" / f"{case['case']}.nii.gz"
    if painted.is_file():
        case["image"] = str(painted)
        return True
    return not (_values(case["label"]) == label).any()


def _lesions_of(masks: Path, scans: Cases, folder: Path, labels: Sequence[int]) -> Cases:
    """The cases of a set with their unpainted scans, whose label maps the lesions are laid over."""
    by_name = {scan["case"]: scan for scan in scans}
    cases = []
    for record in read_manifest(masks):
        scan = by_name[record["scan"]]
        lesions = _values(masks / record["files"]["label"])
        anatomy = read_nifti(Path(scan["label"]), "label")
        path = folder / f"{record['case']}.nii.gz"
        laid = np.where(np.isin(lesions, labels), lesions, anatomy.values()).astype(np.uint8)
        write_scan(anatomy, laid, path, scaled=False)
        cases.append({**scan, "label": str(path), "case": record["case"]})
    return cases


def _values(path: str | Path) -> np.ndarray:
    return read_nifti(Path(path), "label").values()


def main(words: Sequence[str] | None = None) -> None:
    """The command."""
    parser = argparse.ArgumentParser(prog="class_passes", description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("number", type=int)
    parser.add_argument("--cases", type=Path, required=True)
    parser.add_argument("--labels", required=True)
    parser.add_argument("--masks", type=Path)
    given = parser.parse_args(words)
    labels = [int(value) for value in given.labels.split(",")]
    list_pass(given.folder, given.number, given.cases, labels, given.masks)


if __name__ == "__main__":
    install_excepthook()
    main()

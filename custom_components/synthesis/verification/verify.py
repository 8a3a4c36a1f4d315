"""All checks of a set, case by case."""

from __future__ import annotations

import warnings
from pathlib import Path

from tqdm import tqdm

from ...errors import InputError
from ..layouts import layout_of
from ..records import MANIFEST, RUN_FILE, read_manifest, read_run
from .case import check_case
from .findings import Finding
from .set_files import check_set, record_fault

__all__ = ["verify_set"]


def verify_set(root: str | Path, source: str | Path | None = None, progress: bool = True) -> list[Finding]:
    """Everything in a synthetic data set that is not as its manifest, its sidecars and its sources say.

    Checked are: every file and its hash, no file that is nobody's, no case twice; grid, data type and header of each
    image and every voxel outside the lesions, bit for bit, against the source (where the sidecar says that the
    background is generated: every voxel outside the lesions' crops); label map, instances and image against each other
    and against every number of the sidecar.

    Args:
        root: folder of the set, in any layout.
        source: the input that the set was made from, where it lies elsewhere now.
        progress: show a bar over the cases.

    Raises:
        InputError: where the folder is no synthetic data set at all.
    """
    root = Path(str(root))
    records, found = [], []
    for number, record in enumerate(read_manifest(root), start=1):
        if fault := record_fault(record):
            found.append(Finding(MANIFEST, f"has {fault} in line {number}.", record["case"]))
        else:
            records.append(record)
    run, label_values = read_run(root), None
    try:
        layout = layout_of(root, run)
    except InputError as error:
        found.append(Finding(RUN_FILE, str(error)))
    else:
        label_values = layout.label_values
        found += check_set(layout, records, run.get("version"))
    origin = Path(str(source if source is not None else run.get("input")))
    if not origin.exists():
        found.append(Finding(str(origin), "is gone, the input of the set; --source names where it lies now."))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what a header's affine lacks was told when the set was made
        for record in tqdm(records, desc="cases", disable=not progress):
            found += check_case(root, record, origin if origin.exists() else None, label_values, run.get("version"))
    once: dict[tuple[str, str], Finding] = {}  # a source is that of several cases
    for finding in found:
        once.setdefault((finding.file, finding.sentence), finding)
    return list(once.values())

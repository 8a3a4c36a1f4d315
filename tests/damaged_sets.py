"""Ways to damage a synthetic data set, and what is found then."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np

from custom_components.files import file_hash
from custom_components.labels import LesionLabels
from custom_components.synthesis.records import read_manifest, write_manifest
from custom_components.synthesis.verification import verify_set

TWO_CLASSES = LesionLabels({"mi": 3, "pmo": 4}, {"cavity": 1}, joint=True)


def edit(path: Path, change: Callable[[dict], object]) -> None:
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


def rehash(root: Path) -> None:
    """Makes manifest and sidecars tell the hashes of the files as they are: the damage was there from the start."""
    records = read_manifest(root)
    for record in records:
        record["sha256"] = {role: file_hash(root / record["files"][role]) for role in record["sha256"]}
        edit(
            root / record["files"]["sidecar"],
            lambda sidecar, hashes=record["sha256"]: [
                sidecar["files"][role].update(sha256=value) for role, value in hashes.items()
            ],
        )
    write_manifest(root, records)


def rewrite(path: Path, change: Callable[[np.ndarray], object], **fields: object) -> None:
    """Changes a volume's stored voxels in place, and header fields."""
    image = nib.load(path)
    slope, intercept = image.dataobj.slope, image.dataobj.inter
    stored = np.asarray(image.dataobj.get_unscaled()).copy()
    stored = out if (out := change(stored)) is not None else stored
    made = nib.Nifti1Image(stored, fields.pop("affine", None), image.header)
    made.set_data_dtype(stored.dtype)
    for name, value in fields.items():
        made.header[name] = value
    made.header.set_slope_inter(slope, intercept)
    nib.save(made, path)


def put(index: tuple[int, ...], value: int) -> Callable[[np.ndarray], None]:
    return lambda stored: stored.__setitem__(index, value)


def findings(root: Path, **options) -> list[tuple[str, str]]:
    return [(finding.file, finding.sentence) for finding in verify_set(root, progress=False, **options)]


def only(root: Path, **options) -> tuple[str, str]:
    """The one finding there is."""
    found = findings(root, **options)
    assert len(found) == 1, found
    return found[0]

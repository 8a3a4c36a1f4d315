"""A whole small data set of phantom hearts, laid out as cardiac challenges lay out theirs."""

from __future__ import annotations

import json
from collections.abc import Sequence
from itertools import chain
from pathlib import Path

import nibabel as nib
import numpy as np
from tqdm import tqdm

from custom_components import __version__
from custom_components.errors import InputError, as_flag
from custom_components.files import check_writable, write_atomically
from custom_components.phantoms import short_axis_phantom
from custom_components.seeds import derive_seed

DESCRIPTION = f"PHANTOM short-axis LGE MR (LeFusion-MONAI {__version__}), no patient"


def write_phantoms(
    output_dir: str,
    pathological: int = 4,
    normal: int = 2,
    seed: int = 0,
    shape: Sequence[int] = (160, 160, 8),
    spacing_mm: Sequence[float] = (1.4, 1.4, 10.0),
    overwrite: bool = False,
) -> None:
    """Write made-up short-axis late-gadolinium cardiac MR with labels (about a second a case).

    OUTPUT_DIR/Pathological and OUTPUT_DIR/Normal each get images/ and labels/ with the same file names; labels are
    0 background, 1 cavity, 2 myocardium, 3 infarct, 4 its core without perfusion. phantoms.json lists the seeds.

    Args:
        output_dir: folder to write to, made where absent.
        pathological: how many hearts with an infarct.
        normal: how many without.
        seed: run seed; each heart has its own seed, which does not depend on how many there are.
        shape: voxels; the slices, along the last axis, span the left ventricle.
        spacing_mm: voxel size.
        overwrite: replace earlier phantoms; without it, OUTPUT_DIR must be empty. Other files in it stay.
    """
    for key, value in (("pathological", pathological), ("normal", normal)):
        if not isinstance(value, int) or isinstance(value, bool) or value < 0:
            raise InputError(f"{key} must be a whole number, 0 or more, got {value!r}.")
    if not pathological + normal:
        raise InputError("pathological and normal are both 0: there is nothing to write.")
    out, parts = Path(output_dir), ("Pathological", "Normal")
    check_writable(out)
    if out.is_dir() and any(out.iterdir()) and not as_flag(overwrite, "overwrite"):
        raise InputError(f"output_dir {out} is not empty; --overwrite true replaces the phantoms in it.")
    cases = [
        {"name": f"phantom_{part[0]}{number + 1:03d}", "part": part, "seed": derive_seed(seed, part, number)}
        for part, count in zip(parts, (pathological, normal), strict=True)
        for number in range(count)
    ]
    hearts = ((case, short_axis_phantom(case["seed"], shape, spacing_mm, case["part"] == parts[0])) for case in cases)
    first = next(hearts)  # settings that do not fit are told before anything is replaced
    for part in parts:
        for earlier in (out / part).glob("*/phantom_*.nii.gz"):
            earlier.unlink()
    for case, heart in tqdm(chain([first], hearts), total=len(cases), desc="phantoms", delay=10):
        for kind, values in (("images", heart.image), ("labels", heart.labels)):
            save_volume(values, heart.affine, out / case["part"] / kind / f"{case['name']}.nii.gz")
    record = {"phantom": True, "description": DESCRIPTION, "seed": seed, "cases": cases}
    write_atomically(out / "phantoms.json", lambda path: path.write_text(json.dumps(record, indent=2) + "\n"))
    print(f"{pathological} pathological and {normal} normal phantoms in {out}")


def save_volume(values: np.ndarray, affine: np.ndarray, path: Path) -> None:
    """Writes a phantom's image or labels, whose header says that it is one."""
    image = nib.Nifti1Image(values, affine)
    image.set_qform(affine, code=1)
    image.set_sform(affine, code=1)
    image.header.set_xyzt_units("mm")
    image.header["descrip"] = DESCRIPTION.encode()
    write_atomically(path, lambda temporary: nib.save(image, temporary))

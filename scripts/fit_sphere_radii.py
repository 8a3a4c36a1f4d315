"""The distribution of the control spheres' radii of real lesions, for masks of realistic size."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from custom_components.datasets import require_cases, split_by_patient
from custom_components.files import check_free, write_atomically
from custom_components.mask_cases import find_masks
from custom_components.mask_targets import MaskTarget, read_target
from custom_components.masks import bounding_sphere

QUANTILES = 41


def fit_sphere_radii(
    dataset_dir: str,
    output: str,
    class_labels: Sequence[int] = (1,),
    val_fraction: float = 0.2,
    overwrite: bool = False,
) -> dict[str, Any]:
    """Write equally spaced quantiles of the radius of the smallest enclosing sphere over the training lesions.

    Args:
        dataset_dir: masks, as ``lefusion prepare`` writes them, or a folder with ``labels/``.
        output: JSON to write.
        class_labels: the lesion classes' labels; all of a file's lesions have one sphere.
        val_fraction: share of patients held out; give what the training uses.
        overwrite: replace an existing output.

    Raises:
        InputError: for an existing output without ``overwrite``, or data that cannot be read.
    """
    target = Path(str(output))
    check_free(target, overwrite)
    cases = find_masks(dataset_dir)
    require_cases(cases, dataset_dir)
    radii = []
    for case in tqdm(split_by_patient(cases, val_fraction, "training"), desc="lesions"):
        scan, lesion = read_target(MaskTarget(case["case"], organ=case["label"], organ_labels=tuple(class_labels)))
        radii.append(bounding_sphere(lesion, scan.affine)[1])
    content = {
        "radius_mm_quantiles": np.quantile(radii, np.linspace(0, 1, QUANTILES)).round(3).tolist(),
        "fitted_on": {"count": len(radii), "data": f"training part, val_fraction {val_fraction}"},
    }
    write_atomically(target, lambda path: path.write_text(json.dumps(content, indent=2) + "\n"))
    print(f"{len(radii)} lesions, median radius {np.median(radii):.2f} mm; wrote {target}")
    return content

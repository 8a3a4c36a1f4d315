"""How far from the border of their organ the centres of real lesions lie, for lesions placed where real ones are."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from scipy import stats
from tqdm import tqdm

from custom_components.datasets import list_cases
from custom_components.errors import InputError
from custom_components.files import check_free, write_atomically
from custom_components.labels import LesionLabels
from custom_components.masks import bounding_sphere
from custom_components.organ_depth import OrganDepth
from custom_components.organs import find_lungs
from custom_components.volumes import Scan, read_label, read_scan

QUANTILES = 41
LUNG_HU = -850  # put in place of a lesion, so that the lung is found as if it were not there


def fit_site_gaps(
    dataset_dir: str, output: str, class_labels: Sequence[int] = (1,), overwrite: bool = False
) -> dict[str, Any]:
    """Write equally spaced quantiles of the gap between a lesion's centre and the border of the lung.

    The centre is that of the lesion's smallest enclosing sphere. The lung is found in each image with the lesion
    filled in, and the lesion's voxels belong to it. In a crop, a border farther away than the crop's nearest face
    is not seen: the gap is then known to be at least the distance to that face (it is censored), and the distribution
    is estimated by Kaplan and Meier. Beyond the largest gap seen nothing is known; the quantiles end in it, and the
    last one stands for itself and everything beyond.

    Args:
        dataset_dir: CT images with lesion labels, see :func:`~custom_components.datasets.list_cases`.
        output: JSON to write.
        class_labels: the lesions' labels; all lesion voxels of an image are one lesion.
        overwrite: replace an existing output.

    Raises:
        InputError: for an existing output without ``overwrite``, data that cannot be read, or no gap that is seen.
    """
    target = Path(str(output))
    check_free(target, overwrite)
    values = class_labels if isinstance(class_labels, Sequence) else (class_labels,)
    labels = LesionLabels({f"lesion {value}": value for value in values})
    gaps, seen = [], []
    for case in tqdm(list_cases(dataset_dir), desc="lesions"):
        scan = read_scan(case["image"])
        lesion = labels.lesion(read_label(case["label"], scan, labels, "label"))
        gap, reach = measure_gap(scan, lesion)
        gaps.append(min(gap, reach))
        seen.append(gap <= reach)
    content = {
        "site_gap_mm_quantiles": gap_quantiles(np.array(gaps), np.array(seen)).round(3).tolist(),
        "fitted_on": {
            "count": len(gaps),
            "censored": int(np.sum(~np.array(seen))),
            "estimator": "Kaplan-Meier; the last quantile stands for itself and everything beyond",
        },
    }
    write_atomically(target, lambda path: path.write_text(json.dumps(content, indent=2) + "\n"))
    middle = content["site_gap_mm_quantiles"][QUANTILES // 2]
    print(f"{len(gaps)} lesions, {len(gaps) - sum(seen)} censored, median gap {middle:.1f} mm; wrote {target}")
    return content


def measure_gap(scan: Scan, lesion: np.ndarray) -> tuple[float, float]:
    """The distance (mm) of a lesion's centre to the border of the lung seen, and to the nearest face of the image.

    Args:
        scan: CT in HU.
        lesion: (X, Y, Z) bool.
    """
    filled = np.where(lesion, scan.to_stored(LUNG_HU), scan.stored)
    lung = find_lungs(replace(scan, stored=filled)) | lesion
    centre, _ = bounding_sphere(lesion, scan.affine)
    depth = OrganDepth(lung, scan.affine)
    return depth.depth_at(centre), depth.face_distance(centre)


def gap_quantiles(gaps: np.ndarray, seen: np.ndarray) -> np.ndarray:
    """Quantiles of gaps (N,) of which some are only known to be at least as large as given.

    Raises:
        InputError: where none is seen.
    """
    if not seen.any():
        raise InputError("no lesion has its organ's border within its image: no gap can be measured.")
    curve = stats.ecdf(stats.CensoredData(uncensored=gaps[seen], right=gaps[~seen])).cdf
    ranks = np.linspace(0, 1, QUANTILES)
    # The curve steps at each gap; the quantile is the first gap at which it has come as far as the rank.
    place = np.searchsorted(curve.probabilities, ranks - 1e-12)
    return curve.quantiles[np.minimum(place, np.flatnonzero(np.isin(curve.quantiles, gaps[seen])).max())]

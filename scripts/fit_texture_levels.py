# SPDX-License-Identifier: Apache-2.0
"""Fit the grey levels of Hand-Crafted texture (section 4.1): the ranges that the cores of training lesions lie in."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from monai.transforms import Compose
from tqdm import tqdm

from custom_components.baselines import core_moments, level_ranges
from custom_components.bundle_configs import bundle_root
from custom_components.errors import InputError
from custom_components.files import check_free, write_atomically

from .training_cases import read_item, split_cases, training_config

OVERLAY = "hand_crafted_texture"
LEAST_LESIONS = 2


def fit_texture_levels(
    dataset_dir: str,
    output: str | None = None,
    val_fraction: float | None = None,
    bundle: str = "lefusion_lidc",
    overwrite: bool = False,
    config: str | Sequence[str] = (),
) -> dict[str, Any]:
    """Measure the training lesions' grey levels and write the ranges that Hand-Crafted texture draws from.

    Of each lesion class of each case, mean and standard deviation in the core: where the mask, smoothed as the method
    softens it, is at least three quarters of its largest value. The ranges are the 10th to 90th percentiles over the
    cases. Use the file with ``--config hand_crafted_texture --texture_levels FILE``.

    Args:
        dataset_dir: images with lesion masks, as ``custom_components.datasets.list_cases`` takes them.
        output: JSON file to write; ``configs/texture_levels.json`` of the bundle by default.
        val_fraction: share of patients held out, who take no part; the bundle's own patients or share by default.
        bundle: name or folder of the bundle whose training transforms read the data.
        overwrite: replace an existing output.
        config: overlays over the bundle's training config, see ``lefusion run``.

    Returns:
        What was written: ``levels`` (class -> ranges of mean and std, in [-1, 1] over the window) and ``fitted_on``.

    Raises:
        InputError: for an existing output without ``overwrite``, data that cannot be read, or a class of fewer than
            two lesions.
    """
    root = bundle_root(bundle)
    target = root / "configs" / "texture_levels.json" if output is None else Path(output)
    check_free(target, overwrite)
    parser = training_config(bundle, config)
    overlay = root / "configs" / f"{OVERLAY}.json"
    if not overlay.is_file():
        raise InputError(f"bundle {bundle} has no {OVERLAY}.json, the method whose levels these would be.")
    method = json.loads(overlay.read_text())["inferer"]
    classes = list(parser.get("lesion_classes", {"lesion": 1}))
    split, data = split_cases(parser, dataset_dir, val_fraction)
    transform = Compose(parser.get_parsed_content("load_and_normalise"))
    moments: dict[str, list[np.ndarray]] = {name: [] for name in classes}
    for case in tqdm(split["training"], desc="reading lesions", delay=1, leave=False):
        item = read_item(case, transform)
        image, masks = torch.as_tensor(item["image"])[0].numpy(), torch.as_tensor(item["label"]).numpy() > 0
        for name, mask in zip(classes, masks, strict=True):
            if mask.any():
                moments[name].append(core_moments(image, mask, method["softness"], method["in_plane"]))
                if not np.isfinite(moments[name][-1]).all():
                    raise InputError(f"case {case['case']} has voxels that are not numbers.")
    for name, found in moments.items():
        if len(found) < LEAST_LESIONS:
            raise InputError(
                f"{len(found)} training cases of {dataset_dir} have lesions of class {name}: 2 are needed."
            )
    content = {
        "levels": {name: level_ranges(found) for name, found in moments.items()},
        "fitted_on": {"count": {name: len(found) for name, found in moments.items()}, "data": data},
    }
    write_atomically(target, lambda path: path.write_text(json.dumps(content, indent=2) + "\n"))
    for name, ranges in content["levels"].items():
        words = ", ".join(f"{key} {low:.2f} to {high:.2f}" for key, (low, high) in ranges.items())
        print(f"{name}: {len(moments[name])} lesions, {words}")
    print(f"wrote {target}")
    return content

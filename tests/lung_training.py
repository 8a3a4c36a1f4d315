"""Training the lung bundle on eight small scans with a tiny network."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from bundle_runs import BUNDLES, execute, training_workflow
from monai.bundle import ConfigWorkflow

BUNDLE = BUNDLES / "lefusion_lidc"
CONFIGS = BUNDLE / "configs"
TINY_NETWORK = {
    "network_def#channels": [8, 8, 8],
    "network_def#norm_num_groups": 4,
    "network_def#fine_channels": 4,
    "network_def#num_head_channels": 4,
    "network_def#context_dim": 8,
    "spatial_size": [16, 16, 16],
}
TINY = {
    **TINY_NETWORK,
    "batch_size": 2,
    "repeats": 1,
    "val_repeats": 1,
    "max_epochs": 2,
    "val_interval": 1,
    "picture_interval": 0,
    "ema_start": 0,
    "ema_interval": 1,
}
NUM_CASES, NUM_VALIDATION = 8, 2
STEPS_PER_EPOCH = (NUM_CASES - NUM_VALIDATION) // TINY["batch_size"]


@pytest.fixture(scope="module", name="dataset_dir")
def dataset_dir_fixture(tmp_path_factory) -> Path:
    """Scans of 20^3 voxels of 1 mm, int16 HU, each with one ball: a dark shell around a bright core.

    Every patient's ball has its own size and brightness; the shell and the core can be told from the mask alone, so
    that there is something to learn beyond the histogram.
    """
    root = tmp_path_factory.mktemp("scans")
    rng = np.random.default_rng(0)
    entries = []
    for k in range(NUM_CASES):
        grid = np.indices((20, 20, 20)) - rng.uniform(9, 11, 3)[:, None, None, None]
        distance = np.sqrt((grid**2).sum(axis=0))
        radius = 3 + 0.3 * k
        scan = rng.normal(-850, 20, distance.shape)
        scan[distance <= radius] = -600 + 10 * k
        scan[distance <= 0.7 * radius] = 100 + 10 * k
        for kind, array in (("image", scan.astype(np.int16)), ("label", (distance <= radius).astype(np.uint8))):
            nib.save(nib.Nifti1Image(array, np.eye(4)), root / f"{kind}_{k}.nii.gz")
        entries.append({"image": f"image_{k}.nii.gz", "label": f"label_{k}.nii.gz", "patient": f"patient_{k}"})
    (root / "datalist.json").write_text(json.dumps(entries))
    return root


def workflow(configs: list, dataset_dir: Path, output_dir: Path, **overrides) -> ConfigWorkflow:
    """The bundle's configs (names in its folder, or paths), merged, with the tiny settings and further overrides."""
    return training_workflow(BUNDLE, configs, dataset_dir, output_dir, **{**TINY, **overrides})


def train(dataset_dir: Path, output_dir: Path, *overlays, prepare=None, **overrides) -> Path:
    execute(workflow(["train.json", *overlays], dataset_dir, output_dir, **overrides), prepare)
    return output_dir


def validation_patients() -> list[str]:
    """Those whose names' SHA-256 come first, found without the code under test."""
    names = [f"patient_{k}" for k in range(NUM_CASES)]
    return sorted(names, key=lambda name: hashlib.sha256(name.encode()).hexdigest())[:NUM_VALIDATION]

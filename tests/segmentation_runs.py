"""Tiny cases with lesions to segment, and tiny networks for the segmentation bundle."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from bundle_runs import BUNDLES, execute, save_nifti, training_workflow
from monai.bundle import ConfigWorkflow

from lefusion_scripts.run import run

BUNDLE = BUNDLES / "lesion_segmentation"
RAS = np.diag([1.0, 1.0, 1.0, 1.0])
TINY = {
    "device": "cpu",
    "width": 8,
    "kernel_size": [[3, 3, 3]] * 4,
    "strides": [[1, 1, 1], [2, 2, 2], [2, 2, 2], [1, 1, 1]],
    "spatial_size": [16, 16, 16],
    "batch_size": 2,
    "max_epochs": 2,
    "steps_per_epoch": 2,
    "val_interval": 2,
}
TINY_HEART = {
    **TINY,
    "kernel_size": [[3, 3, 1]] * 4,
    "strides": [[1, 1, 1], [2, 2, 1], [2, 2, 1], [1, 1, 1]],
    "spatial_size": [32, 32, 4],
}
TINY_SWIN = {"network_def#depths": [1, 1, 1, 1], "network_def#num_heads": [1, 1, 1, 1]}


def ball(shape: Sequence[int], centre: Sequence[float], radius: float) -> np.ndarray:
    """Voxels (X, Y, Z) bool within a radius, in voxels."""
    grid = np.stack(np.meshgrid(*[np.arange(n) for n in shape], indexing="ij"), axis=-1)
    return np.linalg.norm(grid - np.asarray(centre), axis=-1) <= radius


def save_case(
    root: Path,
    name: str,
    label: np.ndarray,
    affine: np.ndarray = RAS,
    background: float = -800.0,
    lesion: float = 50.0,
) -> Path:
    """A scan in which every labelled voxel is bright, and its label map; returns the scan's path."""
    noise = np.random.default_rng(sum(map(ord, name))).normal(0, 30, label.shape)
    image = np.where(label > 0, lesion, background) + noise
    save_nifti(root / "labels" / f"{name}.nii.gz", label.astype(np.uint8), affine)
    return save_nifti(root / "images" / f"{name}.nii.gz", image.astype(np.int16), affine)


def save_nodules(root: Path, names: Sequence[str] = "abcd", size: int = 20) -> Path:
    """A case a name, a ball of another place in each."""
    for number, name in enumerate(names):
        save_case(root, name, ball((size,) * 3, (8 + number % 3, 9, 10), 4))
    return root


def save_hearts(root: Path, names: Sequence[str] = "abc") -> Path:
    """Thick stacks of five slices with two classes (3, 4) in a ring (2) around a cavity (1)."""
    shape = (32, 32, 5)
    for name in names:
        label = np.zeros(shape)
        for value, radius in ((2, 9), (1, 5)):
            label[ball((32, 32, 1), (16, 16, 0), radius)[..., 0]] = value
        label[20:24, 14:20, 1:4] = 3
        label[21:23, 16:18, 2] = 4
        save_case(root, name, label, np.diag([1.4, 1.4, 10.0, 1.0]), 100, 300)
    return root


def save_manifest(root: Path, scans: dict[str, str]) -> None:
    """Makes a folder one of synthetic cases: case -> the scan that it was made from."""
    records = [
        {"case": case, "scan": scan, "files": {"image": f"images/{case}.nii.gz", "label": f"labels/{case}.nii.gz"}}
        for case, scan in scans.items()
    ]
    (root / "manifest.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))


def summary_of(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "summary.json").read_text())


def train(data: Path, output: Path, *overlays: str, **overrides: Any) -> None:
    execute(training_workflow(BUNDLE, ["train.json", *overlays], data, output, **overrides))


def evaluate(output: Path, weights_file: Path, *overlays: str, **overrides: Any) -> None:
    files = [str(BUNDLE / "configs" / name) for name in ("train.json", "evaluate.json", *overlays)]
    settings = {"bundle_root": str(BUNDLE), "weights": str(weights_file), "output_dir": str(output), **overrides}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sys.excepthook", None)
        flow = ConfigWorkflow(config_file=files, workflow_type="train", logging_file=False, **settings)
        flow.initialize()
        flow.run()
        flow.finalize()


def segment(**overrides: Any) -> None:
    """The inference workflow in this process."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sys.excepthook", None)
        run("inference", str(BUNDLE), **{"progress": False, **overrides})


class Threshold(torch.nn.Module):
    """Stands in for a trained network: bright voxels are lesion."""

    def __init__(self, *_: Any, **__: Any) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        bright = (torch.as_tensor(x) > 0).float()
        return torch.cat([1 - bright, bright], dim=1) * 20

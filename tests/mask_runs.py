"""The mask bundle run with a tiny network, or one that draws the control spheres themselves."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from bundle_runs import save_nifti
from monai.bundle import ConfigParser
from small_chest import affine_of, balls

BUNDLE = Path(__file__).resolve().parents[1] / "bundles" / "diffmask"
NETWORK = {"channels": [8, 8], "attention_levels": [False, False], "norm_num_groups": 4, "num_head_channels": 4}
TINY = {
    **{f"network_def#{key}": value for key, value in NETWORK.items()},
    "num_inference_steps": 2,
    "bundle_root": str(BUNDLE),
    "device": "cpu",
    "panel": False,
    "progress": False,
}
INFERENCE = BUNDLE / "configs" / "inference.json"
SHAPE = (36, 32, 12)
AFFINE = affine_of((1.2, 1.2, 3.0), (-1, 1, 1), tilt_degrees=8)


class SphereNetwork(torch.nn.Module):
    """Stands in for a trained network: x_0 is the control sphere's ball in every class."""

    def __init__(self, in_channels: int, out_channels: int, **settings: Any) -> None:
        super().__init__()
        self.classes, self.weight = out_channels, torch.nn.Parameter(torch.zeros(1))

    def check_size(self, spatial_size) -> None:
        pass

    def forward(self, x, timesteps, context=None):
        sphere = x[:, self.classes : self.classes + 1]
        return (2 * (sphere >= 0).float() - 1).expand(-1, self.classes, *x.shape[2:])


@pytest.fixture(name="trained")
def trained_fixture(monkeypatch, tmp_path) -> dict[str, Any]:
    """Overrides under which the bundle draws the control spheres themselves."""
    monkeypatch.setattr("custom_components.networks.PatchUNet", SphereNetwork)
    torch.save(SphereNetwork(2, 1).state_dict(), tmp_path / "sphere.pt")
    return {**TINY, "weights": str(tmp_path / "sphere.pt")}


def mm(index) -> list[float]:
    """Where a voxel of the grid lies, RAS+ mm."""
    return [float(v) for v in (AFFINE @ [*index, 1.0])[:3]]


def organ_file(folder: Path, name: str = "lung.nii.gz") -> Path:
    """An organ that is a box, on the grid."""
    organ = np.zeros(SHAPE, np.uint8)
    organ[4:30, 4:28, 1:11] = 1
    return save_nifti(folder / name, organ, AFFINE)


def record(folder: Path, case: str) -> dict[str, Any]:
    """The sidecar of a case's masks."""
    return json.loads((folder / f"{case}_masks.json").read_text())


def weights_of(path: Path, *overlays: str) -> Path:
    """Tiny weights of the real network, none of them zero."""
    parser = ConfigParser()
    parser.read_config([str(INFERENCE), *(str(BUNDLE / "configs" / f"{name}.json") for name in overlays)])
    parser.update({f"network_def#{key}": value for key, value in NETWORK.items()})
    torch.manual_seed(0)
    network = parser.get_parsed_content("network_def")
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.05 * torch.randn(parameter.shape))
    torch.save(network.state_dict(), path)
    return path


@pytest.fixture(name="labels")
def labels_fixture(tmp_path) -> Path:
    """Eight patients with one lesion each."""
    for number in range(8):
        mask = balls((24, 24, 20), [((12, 11, 10), 4 + 0.5 * number)]).astype(np.uint8)
        mask[12:14, 11:20, 10] = 1
        save_nifti(tmp_path / "data" / "labels" / f"p{number}.nii.gz", mask)
    return tmp_path / "data"

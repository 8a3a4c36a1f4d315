"""Networks small enough to be exported in a second, and the commands that do so."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import torch
from bundle_runs import BUNDLES, options, read_configs

TINY_PAINTER = {
    "channels": [8, 8],
    "attention_levels": [False, True],
    "norm_num_groups": 4,
    "num_head_channels": 4,
    "context_dim": 8,
    "fine_channels": 4,
}
TINY_DRAWER = {
    "channels": [8, 8],
    "attention_levels": [False, False],
    "norm_num_groups": 4,
    "num_head_channels": 4,
    "fine_channels": 4,
    "pool_sizes": [3],
}


def overrides(network: dict[str, Any], weights: Path) -> dict[str, Any]:
    return {"weights": str(weights), **{f"network_def#{key}": value for key, value in network.items()}}


def save_weights(bundle: str, network: dict[str, Any], path: Path, *overlays: str) -> Path:
    """Weights for a bundle's network made tiny, none of them zero, so that all of it takes part."""
    parser = read_configs(BUNDLES / bundle, "inference", *overlays)
    parser.update({f"network_def#{key}": value for key, value in network.items()})
    torch.manual_seed(0)
    made = parser.get_parsed_content("network_def")
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.add_(0.05 * torch.randn(parameter.shape))
    torch.save(made.state_dict(), path)
    return path


def command(*words: str, folder: Path, **settings: Any) -> subprocess.CompletedProcess[str]:
    """Runs ``lefusion`` in a process of its own."""
    return subprocess.run(
        [sys.executable, "-m", "lefusion_scripts.cli", *words, *options(**settings)],
        cwd=folder,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )

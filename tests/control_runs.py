"""Running the control evaluations on the sample of a bundle, with a painter made tiny."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

from bundle_runs import BUNDLES, TINY_NETWORK, save_weights_of

BUNDLE = BUNDLES / "lefusion_lidc"
PRESETS = ("ground_glass", "part_solid", "solid")


def quick(folder: Path) -> dict[str, Any]:
    """Overrides for a tiny painter of few steps, whose weights are saved."""
    return {
        **{f"network_def#{key}": value for key, value in TINY_NETWORK.items()},
        "weights": str(save_weights_of(BUNDLE, folder / "painter.pt")),
        "spatial_size": [32, 32, 24],
        "num_inference_steps": 2,
        "device": "cpu",
        "progress": False,
    }


def read_table(path: Path) -> list[dict[str, str]]:
    with open(path, newline="") as stream:
        return list(csv.DictReader(stream))

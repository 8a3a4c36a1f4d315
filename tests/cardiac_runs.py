"""The cardiac bundle run with a tiny network on a small oblique stack."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from bundle_runs import BUNDLES, TINY_NETWORK, Output, infer, save_nifti, save_weights_of
from thick_stacks import STORED_WAYS, affine_of, ring, signal, stored_as

BUNDLE = BUNDLES / "lefusion_emidec"
CONFIGS = BUNDLE / "configs"
TINY = {f"network_def#{key}": value for key, value in TINY_NETWORK.items()}
MI, PMO = 3, 4


@pytest.fixture(scope="module", name="paint")
def paint_fixture(tmp_path_factory) -> Callable[..., Output]:
    """Runs the bundle with tiny weights, over overlays: ``paint(output_dir, image=..., mask=..., **overrides)``."""
    made: dict[tuple[str, ...], Path] = {}

    def run(output_dir: Path, *overlays: str, case: str = "case", **overrides: Any) -> Output:
        if overlays not in made:
            made[overlays] = save_weights_of(BUNDLE, tmp_path_factory.mktemp("weights") / "tiny.pt", *overlays)
        settings = {
            **TINY,
            "num_inference_steps": 2,
            "spatial_size": [24, 24, 6],
            "bundle_root": str(BUNDLE),
            "device": "cpu",
            "panel": False,
            "progress": False,
            "weights": str(made[overlays]),
            "output_dir": str(output_dir),
        }
        files = [str(CONFIGS / f"{name}.json") for name in ("inference", *overlays)]
        infer(files, **{**settings, **overrides})
        return Output(output_dir, case)

    return run


def save_case(folder: Path, label: np.ndarray | None = None, image: np.ndarray | None = None) -> dict[str, str]:
    """A small oblique stack with both classes, stored with permuted and flipped axes."""
    label = ring() if label is None else label
    image = signal(label.clip(0, PMO)).astype(np.uint8) if image is None else image
    stored = {
        "case": stored_as(image, affine_of(), STORED_WAYS[29]),
        "label": stored_as(label, affine_of(), STORED_WAYS[29]),
    }
    paths = {name: str(save_nifti(folder / f"{name}.nii.gz", *volume)) for name, volume in stored.items()}
    return {"image": paths["case"], "mask": paths["label"]}

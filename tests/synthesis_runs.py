"""Running `lefusion synthesize` on made-up chests, in this process and in others."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from bundle_runs import BUNDLES, TINY_NETWORK, save_weights_of, stored_of

from custom_components.synthesis.options import read_options
from custom_components.synthesis.runner import synthesise

# A painter made tiny, and few steps: the files matter here, not the pictures.
QUICK = {
    **{f"network_def#{key}": value for key, value in TINY_NETWORK.items()},
    "spatial_size": [32, 32, 32],
    "num_inference_steps": 1,
    "mask_num_inference_steps": 2,
    "device": "cpu",
    "mask_device": "cpu",
}


def save_painter(folder: Path) -> dict[str, Any]:
    """Overrides for a tiny painter, whose weights are saved."""
    return {**QUICK, "weights": str(save_weights_of(BUNDLES / "lefusion_lidc", folder / "painter.pt"))}


def make(
    input: Path, output: Path, overrides: dict[str, Any], overwrite: bool = False, gallery: bool = False, **given: Any
) -> list[dict]:
    """A set made in this process; its failures."""
    options = read_options(**{"bundle": "lefusion_lidc", **given}, input=input, output=output, overrides=overrides)
    return synthesise(options, overwrite, "cases_per_scan" in given, progress=False, gallery=gallery)


def words(input: Path, output: Path, overrides: dict[str, Any], **given: Any) -> list[str]:
    """The same command as a person types it."""
    pairs = {"input": input, "output": output, **given, **overrides}
    text = {key: json.dumps(value) if isinstance(value, list) else str(value) for key, value in pairs.items()}
    return ["synthesize", *(part for key, value in text.items() for part in (f"--{key}", value))]


def start(arguments: list[str], processes: int = 1) -> subprocess.Popen:
    """Starts ``lefusion``, under torchrun where several processes are asked for."""
    launcher = ["-m", "lefusion_scripts.cli"]
    if processes > 1:
        launcher = ["-m", "torch.distributed.run", "--standalone", f"--nproc_per_node={processes}", *launcher]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    return subprocess.Popen(
        [sys.executable, *launcher, *arguments],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def contents(root: Path) -> dict[str, bytes]:
    """Every file of a set but the record of the run, which tells its folder and time, and the page that shows it."""
    left_out = ("synthesis.json", "gallery.html")
    files = [path for path in sorted(root.rglob("*")) if path.is_file() and path.name not in left_out]
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in files}


@dataclass(frozen=True)
class Made:
    """A case of a set in the plain layout."""

    root: Path
    case: str

    @property
    def sidecar(self) -> dict[str, Any]:
        return json.loads((self.root / "sidecars" / f"{self.case}.json").read_text())

    def stored(self, role: str) -> np.ndarray:
        return stored_of(self.root / role / f"{self.case}.nii.gz")

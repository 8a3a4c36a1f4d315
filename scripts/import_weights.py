# SPDX-License-Identifier: Apache-2.0
"""Turn a published LeFusion checkpoint into weights and a configuration overlay for a bundle.

lefusion import-weights lidc.pt imported
"""

from __future__ import annotations

import json
from pathlib import Path

import torch

from custom_components.errors import InputError, as_flag
from custom_components.files import check_writable, write_atomically
from custom_components.published import read_published


def import_weights(published: str, output_dir: str, weights: str = "ema", overwrite: bool = False) -> None:
    """Write OUTPUT_DIR/model.pt (weights) and OUTPUT_DIR/network.json (overlay) from the checkpoint PUBLISHED.

    The file is read without running any code in it. Its tensors say which network it is; that network is built,
    loaded strictly and tried before anything is written.

    Args:
        published: a checkpoint of the published program (lidc.pt, emidec.pt, diffmask.pt).
        output_dir: folder for both files.
        weights: ema (averaged, what the published program samples with) or model.
        overwrite: replace existing files.

    Raises:
        InputError: for a file that is no such checkpoint, or existing outputs without ``overwrite``.
    """
    out = Path(str(output_dir))
    model, overlay = out / "model.pt", out / "network.json"
    for path in (model, overlay):
        if path.exists() and not as_flag(overwrite, "overwrite"):
            raise InputError(f"{path} exists: pass --overwrite to replace it, or another folder.")
    check_writable(out)
    checkpoint = read_published(str(published), weights)

    config = {"network_def": {"_target_": "custom_components.networks.FactorisedUNet", **checkpoint.settings}}
    T = checkpoint.num_train_timesteps
    if T is not None:
        config |= {"num_train_timesteps": T, "num_inference_steps": T}
    write_atomically(model, lambda path: torch.save(checkpoint.network.state_dict(), path))
    write_atomically(overlay, lambda path: path.write_text(json.dumps(config, indent=4) + "\n"))

    found = {
        "weights": weights if checkpoint.step is None else f"{weights}, after {checkpoint.step} training steps",
        "parameters": f"{sum(p.numel() for p in checkpoint.network.parameters()):,}",
        **checkpoint.settings,
        "noise schedule": "none in the file" if T is None else f"cosine, T = {T}",
    }
    for name, value in found.items():
        print(f"{name:<20}{value}")
    print(f"\nwritten: {model}, {overlay}")

"""What every synthetic file says about itself."""

from __future__ import annotations

import json
import platform
from collections.abc import Mapping, Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import monai
import numpy as np
import torch

from . import __version__
from .files import file_hash

__all__ = ["DESCRIPTION", "build_sidecar", "origin_record"]

DESCRIPTION = f"SYNTHETIC lesion (LeFusion-MONAI {__version__}), research use only"


def build_sidecar(
    image: str | Path,
    label: str | Path,
    weights: str | Path | None,
    settings: Mapping[str, Any],
    lesions: Sequence[Mapping[str, Any]],
    affine: np.ndarray,
    max_difference_outside: float,
    bundle_root: str | Path | None = None,
    background: str = "scan",
) -> dict[str, Any]:
    """The JSON that lies beside a painted scan: enough to recognise, trace and replay it.

    Args:
        image, label: the inputs.
        weights: the network's weights file.
        settings: run settings (sampler, steps, seed, ...), numbers and strings.
        lesions: one entry per lesion: ``spec`` and what was achieved.
        affine: of the scan, voxel indices to RAS+ mm.
        max_difference_outside: largest absolute difference to the input outside the masks, in the scan's units; 0
            where the background is the scan's.
        bundle_root: bundle whose name and version are recorded.
        background: ``scan``: every voxel outside the masks is the input's. ``generated``: crops around the lesions
            were pasted whole, as of methods that are compared with.
    """
    kind = "compositeWithTrainedAlgorithmicMedia" if weights else "compositeSynthetic"
    return {
        **origin_record(kind, weights, settings, bundle_root),
        "source": {"image": Path(image).name, "sha256": file_hash(image)},
        "mask": {"file": Path(label).name, "sha256": file_hash(label)},
        "affine": np.asarray(affine).tolist(),
        "background": background,
        "max_abs_difference_outside_mask": max_difference_outside,
        "lesions": list(lesions),
    }


def origin_record(
    source_type: str,
    weights: str | Path | None,
    settings: Mapping[str, Any],
    bundle_root: str | Path | None = None,
) -> dict[str, Any]:
    """What every sidecar says: that the file is synthetic, what made it, and how.

    Args:
        source_type: IPTC's digital source type.
        weights: the network's weights file.
        settings: run settings (sampler, steps, seed, ...), numbers and strings.
        bundle_root: bundle whose name and version are recorded.
    """
    bundle = None
    if bundle_root is not None:
        metadata = json.loads((Path(bundle_root) / "configs" / "metadata.json").read_text())
        bundle = {"name": metadata.get("name"), "version": metadata.get("version")}
    return {
        "synthetic": True,
        "digitalSourceType": source_type,
        "intended_use": "research only, not for clinical use",
        "generator": {"name": "LeFusion-MONAI", "version": __version__},
        "bundle": bundle,
        "created": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "weights": {"file": Path(weights).name, "sha256": file_hash(weights)} if weights else None,
        "settings": dict(settings),
        "environment": {
            "python": platform.python_version(),
            "torch": torch.__version__,
            "monai": monai.__version__,
        },
    }

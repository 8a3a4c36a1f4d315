"""What is each painting bundle's own, which the tests of all bundles need, and how configs are read."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from bundle_runs import BUNDLES, read_configs, save_nifti
from small_chest import balls, chest
from thick_stacks import affine_of, ring, signal

WORKFLOWS = (["train"], ["inference"], ["train", "evaluate"])
METHODS = {
    **dict.fromkeys(
        ("no_histogram", "repaint", "cond_diffusion", "hand_crafted_texture", "latent_diffusion"), WORKFLOWS
    ),
    "latent_diffusion_cpu": tuple([*base, "latent_diffusion"] for base in WORKFLOWS),
    "autoencoder": (["train"],),
    "autoencoder_cpu": (["train", "autoencoder"],),
}
# Keys that MONAI itself looks for.
MONAI_KEYS = {"imports", "initialize", "run", "finalize", "bundle_root", "device", "dataset_dir", "network_def"}


def save_chests(root: Path) -> None:
    """Four patients with one lesion each."""
    shape = (20, 20, 20)
    for name in "abcd":
        save_nifti(root / "images" / f"{name}.nii.gz", chest(shape))
        save_nifti(root / "labels" / f"{name}.nii.gz", balls(shape, [((10, 10, 10), 4)]).astype(np.uint8))


def save_hearts(root: Path) -> None:
    """Six patients with lesions of two classes, in stacks of thick slices."""
    for seed, name in enumerate("abcdef"):
        save_nifti(root / "images" / f"{name}.nii.gz", signal(ring(), seed).astype(np.uint8), affine_of())
        save_nifti(root / "labels" / f"{name}.nii.gz", ring(), affine_of())


@dataclass(frozen=True)
class Facts:
    """What is a bundle's own.

    Attributes:
        source: a word that its metadata's data source holds.
        save_data: writes a small data set to train on.
        overlays: the small configs, each with what it may be merged over.
        lone: settings of a quick run on its sample.
    """

    source: str
    save_data: Callable[[Path], None]
    overlays: dict[str, tuple[list[str], ...]]
    lone: dict[str, Any] = field(default_factory=dict)


PAINTING = {  # small configs of every bundle that paints
    "train_cpu": (["train"],),
    "multi_gpu_train": (["train"],),
    "federated": (["train"],),
    "diffused": WORKFLOWS,
    "paper_sampler": (["inference"], ["train", "evaluate"]),
    "published": (["inference"], ["train", "evaluate"]),
    **METHODS,
    "exported": (["inference"],),
    "inference_trt": (["inference"],),
}
FACTS = {
    "lefusion_lidc": Facts(
        source="LIDC",
        save_data=save_chests,
        overlays=PAINTING,
        lone={"spatial_size": [32, 32, 32], "texture": "solid"},
    ),
    "lefusion_emidec": Facts(
        source="EMIDEC",
        save_data=save_hearts,
        overlays={
            **PAINTING,
            "mi_only": WORKFLOWS,
            "pmo_only": WORKFLOWS,
        },
        lone={"texture": "none"},
    ),
}
NAMES = sorted(FACTS)


def every(entries: Callable[[str], list]) -> list:
    """Test parameters (bundle, entry), for each of a bundle's entries."""
    return [pytest.param(name, entry, id=f"{name}-{label(entry)}") for name in NAMES for entry in entries(name)]


def label(entry: Any) -> str:
    return entry.name if isinstance(entry, Path) else entry if isinstance(entry, str) else "+".join(entry)


def overlaid(name: str) -> list[list[str]]:
    """Every overlay over everything it may be merged over."""
    return [[*base, overlay] for overlay, bases in FACTS[name].overlays.items() for base in bases]


def configs_of(name: str) -> Path:
    return BUNDLES / name / "configs"


def read(bundle: str, *names: str) -> dict[str, Any]:
    """Configs by name, merged as MONAI merges them."""
    return {key: value for key, value in read_configs(BUNDLES / bundle, *names).get().items() if key != "_meta_"}


def metadata_of(name: str) -> dict[str, Any]:
    return json.loads((configs_of(name) / "metadata.json").read_text())


@pytest.fixture(params=NAMES, scope="module", name="bundle")
def bundle_fixture(request) -> str:
    """The name of each bundle in turn."""
    return request.param


def targets(content: Any) -> set[str]:
    """Every ``_target_`` of a config."""
    if isinstance(content, dict):
        own = {content["_target_"]} if isinstance(content.get("_target_"), str) else set()
        return own.union(*(targets(value) for value in content.values()))
    if isinstance(content, list):
        return set().union(*(targets(value) for value in content))
    return set()

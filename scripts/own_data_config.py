"""The overlay config that lets a bundle learn from somebody's own data set."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from monai.bundle import ConfigParser

from custom_components.bundle_configs import bundle_root, config_files
from custom_components.labels import LesionLabels

ONE_CLASS, ANY = "lefusion_lidc", "lefusion_emidec"
SHIFT = 8  # voxels of the cached crop beyond the training crop, which lies in it at random


def choose_base(modality: str, classes: Mapping[str, int], anatomy: Mapping[str, int]) -> tuple[str, str]:
    """The bundle whose configs are nearest to a data set, and why."""
    if modality == "CT" and len(classes) == 1 and not anatomy:
        return ONE_CLASS, "one lesion class in CT"
    reasons = [
        *([f"{len(classes)} lesion classes"] if len(classes) > 1 else []),
        *(["anatomy in the label maps"] if anatomy else []),
        *(["a window for each crop"] if modality != "CT" else []),
    ]
    return ANY, "its configs know " + " and ".join(reasons)


def network_keys(base: str, classes: int, in_plane: bool) -> dict[str, Any]:
    """What a bundle's network needs for a number of classes, on a stack of thick slices or not."""
    keys: dict[str, Any] = {"network_def#in_plane": in_plane}
    if base == ANY:
        keys |= {"network_def#in_channels": 1 + classes, "network_def#out_channels": classes}
    return keys


def divisor(base: str, keys: Mapping[str, Any]) -> tuple[int, ...]:
    """What the network needs each side of a crop to be a multiple of."""
    parser = ConfigParser()
    parser.read_config(config_files(bundle_root(base), "training"))
    for key, value in keys.items():
        parser[key] = value
    return parser.get_parsed_content("network_def").divisor


def cached_size(size: Sequence[int], spacing_mm: Sequence[float] | None) -> list[int]:
    """What is kept of a scan around a lesion: the training crop and a margin, no further slices of a thick stack."""
    return [size[0] + SHIFT, size[1] + SHIFT, size[2] + (0 if spacing_mm is None else SHIFT)]


def overlay(
    base: str,
    labels: LesionLabels,
    size: Sequence[int],
    spacing_mm: Sequence[float] | None,
    hu_window: Sequence[float] | None,
    percentiles: Sequence[float] | None,
    headroom: float,
    val_fraction: float,
    val_patients: Sequence[str],
    network: Mapping[str, Any],
) -> dict[str, Any]:
    """The overlay for training, evaluation and inference, as yet without texture presets."""
    classes, anatomy = labels.classes, labels.anatomy
    wider = cached_size(size, spacing_mm)
    config: dict[str, Any] = {"lesion_classes": dict(classes)}
    if base == ANY:
        config |= {"anatomy": dict(anatomy), "joint": False, "centre_on": [], "contrasts": []}
        config |= {"spatial_size": wider, "crop_size": list(size)}
    else:
        config |= {"spatial_size": list(size), "cached_size": wider}
    config["spacing_mm"] = None if spacing_mm is None else list(spacing_mm)
    config["hu_window"] = None if hu_window is None else list(hu_window)
    if base == ANY:
        config |= {"intensity_percentiles": None if percentiles is None else list(percentiles)}
        config |= {"intensity_headroom": headroom, "contrast_augmentation": 0.0 if hu_window else 0.5}
        config |= {"val_patients": list(val_patients)}
    else:
        config |= {"air_below_hu": None}
    config |= {"val_fraction": val_fraction, **network}
    if base == ONE_CLASS:
        config["labels"] = {"_target_": "custom_components.labels.LesionLabels", "classes": "@lesion_classes"}
        config["window"] = {
            "_target_": "custom_components.windows.FixedWindow",
            "low": "$@hu_window[0]",
            "high": "$@hu_window[1]",
        }
    config["lesion_cases"] = {"_target_": "custom_components.datasets.list_lesions", "cases": "@cases"}
    config["load_and_normalise"] = [
        {
            "_target_": "custom_components.transforms.RealLesionCropd",
            "keys": "image",
            "spatial_size": "@spatial_size" if base == ANY else "@cached_size",
            "spacing_mm": "@spacing_mm",
            "window": "@window",
            "labels": "@labels",
        },
        {"_target_": "custom_components.transforms.ScaleToWindowd", "keys": "image"},
        *(
            [{"_target_": "custom_components.transforms.LesionHistogramd", "keys": "image"}]
            if base == ONE_CLASS
            else []
        ),
        {
            "_target_": "SelectItemsd",
            "keys": ["image", "label", *(["histogram"] if base == ONE_CLASS else ["anatomy"] if anatomy else [])],
        },
    ]
    return config


def with_textures(config: Mapping[str, Any], presets: Mapping[str, Any], base: str) -> dict[str, Any]:
    """The overlay with the presets that ``fit_presets`` wrote, weighted by how often they occur."""
    (first, *_), by_class = config["lesion_classes"], presets.get("classes")
    by_class = {first: presets} if by_class is None else by_class
    weights = {name: part["fitted_on"]["cluster_sizes"] for name, part in by_class.items()}
    if base == ONE_CLASS:
        return {**config, "texture_weights": weights[first], "texture_presets": by_class[first]["presets"]}
    content = {"classes": {name: {"presets": part["presets"]} for name, part in by_class.items()}}
    return {**config, "texture_weights": weights, "texture_presets": content}

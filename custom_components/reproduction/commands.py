"""The command lines of the grid: what ``lefusion`` is called with for each kind of cell."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

__all__ = ["evaluate_segmenter", "evaluate_texture", "fit", "synthesize", "train", "train_segmenter"]


def options(values: Mapping[str, Any]) -> list[str]:
    """Options as they are typed; what is None is left out."""
    words = []
    for key, value in values.items():
        if value is None:
            continue
        listed = isinstance(value, (list, tuple, dict, bool))
        words += [f"--{key}", json.dumps(value) if listed else str(value)]
    return words


def config(*overlays: Iterable[str]) -> str | None:
    """Overlays in their order, each once."""
    names = list(dict.fromkeys(name for part in overlays for name in part))
    return "[" + ",".join(names) + "]" if names else None


def train(
    bundle: str, overlays: Sequence[str], dataset: Path, output: Path, keys: Mapping[str, Any]
) -> tuple[str, ...]:
    """Trains a painting bundle's network, or its autoencoder."""
    given = {"bundle": bundle, "config": config(overlays), "dataset_dir": dataset, "output_dir": output}
    return ("run", "training", *options({**given, **keys}))


def fit(what: str, bundle: str, overlays: Sequence[str], dataset: Path, output: Path) -> tuple[str, ...]:
    """Fits texture presets or levels, by the command of that name, on all cases of a datalist."""
    given = {"bundle": bundle, "config": config(overlays), "output": output, "val_fraction": 0, "overwrite": True}
    return (what, str(dataset), *options(given))


def synthesize(
    bundle: str, overlays: Sequence[str], source: Path, output: Path, keys: Mapping[str, Any]
) -> tuple[str, ...]:
    """Makes a synthetic set in the plain layout."""
    given = {"input": source, "output": output, "bundle": bundle, "config": config(overlays), "layout": "plain"}
    quiet = {"panel": False, "gallery": False}
    return ("synthesize", *options({**given, **quiet, **keys}))


def evaluate_texture(
    bundle: str, overlays: Sequence[str], dataset: Path, output: Path, keys: Mapping[str, Any]
) -> tuple[str, ...]:
    """Repaints the lesions of all cases of a datalist by their own histogram and compares them with the real ones."""
    given = {"bundle": bundle, "config": config(overlays), "dataset_dir": dataset, "output_dir": output}
    every = {"section": "training", "val_fraction": 0, "overwrite": True}
    return ("run", "evaluate", *options({**given, **every, **keys}))


def train_segmenter(
    bundle: str, overlays: Sequence[str], lists: Sequence[Path], val: Path, output: Path, keys: Mapping[str, Any]
) -> tuple[str, ...]:
    """Trains a segmenter on a mixture of real and synthetic cases."""
    given = {
        "bundle": bundle,
        "config": config(overlays),
        "train_lists": [str(path) for path in lists],
        "val_lists": [str(val)],
        "output_dir": output,
    }
    return ("run", "training", *options({**given, **keys}))


def evaluate_segmenter(
    bundle: str, overlays: Sequence[str], test: Path, weights: Path, output: Path, keys: Mapping[str, Any]
) -> tuple[str, ...]:
    """Measures a segmenter on the cases that were held out."""
    given = {
        "bundle": bundle,
        "config": config(overlays),
        "weights": weights,
        "test_lists": [str(test)],
        "output_dir": output,
        "overwrite": True,
    }
    return ("run", "evaluate", *options({**given, **keys}))

"""How far painted lesions lie from the real ones of the same cases (tables A3 and A4, of other features here).

``python -m custom_components.reproduction.distances REAL SYNTHETIC TRAINING OUTPUT ...`` writes for each lesion class
the Frechet, kernel and sliced Wasserstein distances between the two sets.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import install_excepthook
from ..lesion_crops import NoLesionError, list_set, read_crops
from ..metrics.features import FeatureSpace, choose_features
from ..metrics.resampling import set_distances
from ..preparation import write_json
from ..volumes import read_scan
from ..windows import FixedWindow

__all__ = ["common_window", "measure_distances"]

CROP = 32  # voxels along the sides of the crops that a network's features see
PERCENTILES = (1, 99)


def measure_distances(
    real: Path,
    synthetic: Path,
    training: Path,
    classes: Mapping[str, int],
    features: str = "lesion",
    spacing_mm: Sequence[float] = (1.0, 1.0, 1.0),
    window: Sequence[float] | None = None,
    joint: bool = False,
) -> dict[str, Any]:
    """The distances of each class.

    Features are standardised by the training lesions, the same for all methods; of few lesions, principal components
    are compared, as many as their covariance can tell.

    Args:
        real, training: datalists of the held-out cases and of those the generators learnt from.
        synthetic: set painted into the held-out cases.
        classes: lesion class -> label.
        features, spacing_mm: see :func:`~custom_components.metrics.features.choose_features` and
            :func:`~custom_components.lesion_crops.read_crops`.
        window: values that count as -1 and 1; by default the percentiles 1 and 99 of all training scans.
        joint: all voxels of a class in a scan are one lesion.

    Returns:
        Class -> distances, ``lesions``, ``components`` and ``features``; None where a set has fewer than 2 lesions.
    """
    extractor = choose_features(features)
    places = {"real": list_set(real), "synthetic": list_set(synthetic), "training": list_set(training)}
    values = common_window(places["training"], window)
    found: dict[str, Any] = {}
    for name, label in classes.items():
        crops = {}
        for title, cases in places.items():
            try:
                crops[title] = read_crops(cases, title, [label], spacing_mm, CROP, values, joint, progress=False)
            except NoLesionError:
                crops[title] = []
        least = min(map(len, crops.values()))
        if least < 2:
            found[name] = None
            continue
        sets = {title: extractor(part) for title, part in crops.items()}
        differing = int((sets["training"].std(axis=0) > 0).sum())
        most = min(len(crops["training"]), len(crops["real"])) - 1
        components = None if most >= differing + 1 else min(most, differing)
        space = FeatureSpace(sets["training"], components)
        found[name] = {
            **set_distances(space(sets["real"]), space(sets["synthetic"])),
            "lesions": {title: len(part) for title, part in crops.items()},
            "components": components,
            "features": extractor.title,
        }
    return found


def common_window(cases: Sequence[Mapping[str, Any]], window: Sequence[float] | None = None) -> FixedWindow:
    """The window given, or the percentiles 1 and 99 of all scans together, each scan counting the same."""
    if window is not None:
        return FixedWindow(*window)
    ranks = np.linspace(0, 100, 1001)
    values = np.sort(np.concatenate([np.percentile(read_scan(case["image"]).values(), ranks) for case in cases]))
    low, high = np.percentile(values, PERCENTILES)
    return FixedWindow(float(low), float(high))


def main(words: Sequence[str] | None = None) -> None:
    """The command."""
    parser = argparse.ArgumentParser(prog="distances", description=__doc__)
    for name in ("real", "synthetic", "training", "output"):
        parser.add_argument(name, type=Path)
    parser.add_argument("--classes", type=json.loads, required=True)
    parser.add_argument("--features", default="lesion")
    parser.add_argument("--spacing", default="1,1,1")
    parser.add_argument("--window")
    parser.add_argument("--joint", action="store_true")
    given = parser.parse_args(words)
    numbers = [
        None if text is None else [float(value) for value in text.split(",")] for text in (given.spacing, given.window)
    ]
    found = measure_distances(
        given.real, given.synthetic, given.training, given.classes, given.features, numbers[0], numbers[1], given.joint
    )
    write_json(given.output, found)


if __name__ == "__main__":
    install_excepthook()
    main()

"""Synthetic lesions against real ones: how far apart the sets are, how diverse, and whether lesions were copied."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from custom_components import __version__
from custom_components.errors import InputError, as_flag
from custom_components.files import check_writable, write_atomically
from custom_components.lesion_crops import list_set, read_crops
from custom_components.metrics.features import choose_features
from custom_components.set_comparison import PERCENTILES, ComparedSet, compare
from custom_components.set_comparison_pictures import (
    save_closest_pairs,
    save_feature_distributions,
    save_nearest_distances,
)
from custom_components.windows import FixedWindow

FILES = ("comparison.json", "features.png", "nearest_distances.png", "closest_pairs.png")
TITLES = {"frechet": "Frechet distance", "kernel": "kernel distance", "sliced_wasserstein": "sliced Wasserstein"}
FARTHEST = 5  # features that are listed


def compare_sets(
    real: str,
    synthetic: str,
    output: str = "comparison",
    training: str | None = None,
    features: str = "lesion",
    components: int | None = None,
    labels: Any = 1,
    spacing: Any = 1.0,
    window: Any = (-1000, 400),
    size: int = 32,
    joint: bool = False,
    count: int = 1000,
    repeats: int = 200,
    pairs: int = 6,
    seed: int = 0,
    progress: bool = True,
    overwrite: bool = False,
) -> None:
    """Compare a set of synthetic lesions with a set of real ones; intervals hold 95 % of sets drawn again.

    Args:
        real: data set of real lesions: images/ and labels/, or a datalist.json.
        synthetic: a set of ``lefusion synthesize``, or any data set.
        output: gets comparison.json, features.png, nearest_distances.png and closest_pairs.png.
        training: data set of the lesions that the generator learnt from; REAL by default.
        features: what the sets are compared by: lesion (first-order, shape and texture features), the path of a
            TorchScript network, or package.module:callable; these get crops (n, 1, x, y, z) in [-1, 1].
        components: compare so many principal components of the features; all features by default.
        labels: values of the label maps that are lesion, such as 3,4.
        spacing: voxel size in mm at which lesions are compared: a number, or three along x, y and z.
        window: the scan's values that count as -1 and 1.
        size: voxels along the sides of the cubes whose images are compared, fewer where voxels are longer.
        joint: all lesion voxels of a scan are one lesion, as in ``lefusion_emidec``.
        count: lesions of each set at most, drawn at random; all those that the generator learnt from are looked at.
        repeats: how often sets are drawn again for an interval.
        pairs: closest pairs in the picture.
        seed: of all draws.
        progress: show bars.
        overwrite: replace an earlier result.

    Raises:
        InputError: for an existing result without ``overwrite``, options out of range, sets that cannot be read, hold
            no lesion or too few.
    """
    target, progress = Path(str(output)), as_flag(progress, "progress")
    files = {name: target / name for name in FILES}
    for path in files.values():
        if path.exists() and not as_flag(overwrite, "overwrite"):
            raise InputError(f"{path} exists: pass --overwrite true or another --output.")
    for name, value, least in (
        ("size", size, 8),
        ("count", count, 2),
        ("repeats", repeats, 1),
        ("pairs", pairs, 1),
        ("seed", seed, 0),
    ):
        if isinstance(value, bool) or not isinstance(value, int) or value < least:
            raise InputError(f"{name} must be a whole number, {least} or more, got {value!r}.")
    labels, spacing, joint = _labels(labels), _spacing(spacing), as_flag(joint, "joint")
    values = _window(window)
    extractor = choose_features(features)
    check_writable(target)
    places = {"real": real, "synthetic": synthetic} | ({} if training is None else {"training": training})
    cases = {key: list_set(place) for key, place in places.items()}  # all are found before any is read
    sets = {}
    for key, listed in cases.items():
        # A lesion that the generator learnt from and that is left out could not be found copied.
        learnt = key == "training" or (key == "real" and training is None)
        most = None if learnt else count
        crops = read_crops(
            listed, f"{key} set {places[key]}", labels, spacing, size, values, joint, most, seed, progress
        )
        sets[key] = ComparedSet(crops, extractor(crops))
    if training is None and len(sets["real"].crops) > count:
        places["training"], sets["training"] = real, sets["real"]
        sets["real"] = sets["real"].draw(count, seed)
    names = extractor.names(sets["real"].features.shape[1])
    found = compare(sets["real"], sets["synthetic"], sets.get("training"), names, components, repeats, seed, progress)
    report = {
        "version": __version__,
        "sets": {
            key: {
                "path": str(Path(str(places[key])).resolve()),
                "lesions": len(part.crops),
                "patients": len(set(part.patients)),
            }
            for key, part in sets.items()
        },
        "settings": {
            "features": extractor.title,
            "components": components,
            "labels": labels,
            "spacing_mm": spacing,
            "window": [values.low, values.high],
            "size": size,
            "joint": joint,
            "count": count,
            "repeats": repeats,
            "seed": seed,
        },
        **found.report,
    }
    known = sets.get("training", sets["real"]).crops
    usable = found.reference.distance[np.isfinite(found.reference.distance)]
    write_atomically(
        files["features.png"],
        lambda path: save_feature_distributions(names, sets["real"].features, sets["synthetic"].features, path),
    )
    write_atomically(
        files["nearest_distances.png"],
        lambda path: save_nearest_distances(found.neighbours.distance, usable, PERCENTILES, path),
    )
    write_atomically(
        files["closest_pairs.png"],
        lambda path: save_closest_pairs(sets["synthetic"].crops, known, found.neighbours, path, pairs),
    )
    text = json.dumps(report, indent=2, allow_nan=False) + "\n"
    write_atomically(files["comparison.json"], lambda path: path.write_text(text))
    _print(report)
    print(f"wrote {', '.join(FILES)} to {target}")


def _labels(given: Any) -> list[int]:
    values = list(given) if isinstance(given, Sequence) and not isinstance(given, str) else [given]
    if not values or not all(isinstance(v, int) and not isinstance(v, bool) and 1 <= v <= 255 for v in values):
        raise InputError(f"labels must be whole numbers from 1 to 255, got {given!r}.")
    return values


def _spacing(given: Any) -> list[float]:
    values = list(given) if isinstance(given, Sequence) and not isinstance(given, str) else [given] * 3
    numbers = all(isinstance(v, int | float) and not isinstance(v, bool) and math.isfinite(v) and v > 0 for v in values)
    if len(values) != 3 or not numbers:
        raise InputError(f"spacing must be one or three numbers of mm above 0, got {given!r}.")
    return [float(v) for v in values]


def _window(given: Any) -> FixedWindow:
    numbers = isinstance(given, Sequence) and not isinstance(given, str) and len(given) == 2
    if not numbers or not all(isinstance(v, int | float) for v in given) or not given[0] < given[1]:
        raise InputError(f"window must be two rising numbers, got {given!r}.")
    return FixedWindow(*given)


def _print(report: Mapping[str, Any]) -> None:
    """The report as one table."""
    sizes = ", ".join(f"{key} {part['lesions']}" for key, part in report["sets"].items())
    print(f"lesions: {sizes}; {report['compared_features']} dimensions of {report['settings']['features']}")
    print(f"{'':34}{'real':>26}{'synthetic':>26}{'difference':>26}")
    for name, part in report["distances"].items():
        row = "".join(f"{_told(part[key]):>26}" for key in ("halves", "synthetic", "difference"))
        print(f"{f'{TITLES[name]} to half of real':34}{row}")
    diversity = report["diversity"]
    _row("feature spread within the set", diversity, lambda part: _told(part["feature_spread"]))
    for pairs, title in (("random_pairs", "of random pairs"), ("same_mask_pairs", "of pairs in one mask")):
        if any(diversity[key][pairs] for key in diversity):
            for measure, name in (("ssim", "SSIM"), ("psnr", "PSNR (dB)")):
                _row(f"{name} {title}", diversity, lambda part, p=pairs, m=measure: _told((part[p] or {}).get(m)))
    copied = report["memorisation"]
    for key, title in (("voxels", "1 - correlation"), ("features", "feature distance")):
        for which, part in copied[key].items():
            real, own = (f"{part[f'{name}_median']:.3f}" for name in ("real", "synthetic"))
            others = "" if which == "all" else " of other masks"
            print(f"{f'nearest training lesion{others}, {title}':58}{real:>8}{own:>20}")
            for percentile in PERCENTILES:
                share = _told(part[f"nearer_than_percentile_{percentile}"], 100, "%")
                print(f"{f'  nearer than {percentile} % of the real':58}{f'{percentile}%':>8}{share:>20}")
            if which == "all":
                print(f"{'  nearest has the same mask':58}{'':8}{100 * part['nearest_has_the_same_mask']:>19.0f}%")
    apart = sorted(
        ((name, part) for name, part in report["features"].items() if part["wasserstein"] is not None),
        key=lambda entry: -entry[1]["wasserstein"],
    )
    listed = ", ".join(f"{name} {part['wasserstein']:.2f}" for name, part in apart[:FARTHEST])
    print(f"features farthest apart (Wasserstein, in deviations of the real): {listed}")


def _row(title: str, sets: Mapping[str, Any], told: Any) -> None:
    print(f"{title:34}{told(sets['real']):>26}{told(sets['synthetic']):>26}")


def _told(part: Mapping[str, float] | None, factor: float = 1, unit: str = "") -> str:
    """A value, or the median of those drawn, with its interval."""
    if part is None:
        return "-"
    value, low, high = (factor * v for v in (part.get("value", part["median"]), part["low"], part["high"]))
    digits = ".0f" if unit == "%" else ".3f"
    return f"{value:{digits}}{unit} [{low:{digits}}, {high:{digits}}]"

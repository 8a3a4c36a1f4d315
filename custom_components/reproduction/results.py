"""What a complete cell found, read from the files that its processes left."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..errors import InputError

__all__ = ["read_result"]

PAIRED = ("psnr_crop", "ssim_crop", "psnr_lesion", "ssim_lesion")
DISTANCES = ("frechet", "kernel", "sliced_wasserstein")


def read_result(kind: str, folder: Path) -> dict[str, Any]:
    """The result of a cell.

    Args:
        kind: ``nothing``, ``set``, ``segmenter`` or ``quality``.
        folder: of the cell.

    Returns:
        ``measures``, ``class/measure`` -> number, of segmenters and image quality; ``made`` and ``failed`` cases of a
        set.

    Raises:
        InputError: where a file is missing or does not tell what it should.
    """
    try:
        return {"nothing": lambda _: {}, "set": _set, "segmenter": _segmenter, "quality": _quality}[kind](folder)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"the files in {folder} do not tell a result: {error!r}.") from error


def _set(folder: Path) -> dict[str, Any]:
    made = sorted(path.name for path in (folder / "set" / "labels").glob("*.nii.gz"))
    if not made:
        raise InputError(f"{folder / 'set'} holds no case.")
    failures = list(folder.glob("*/failed.jsonl"))
    return {"made": len(made), "failed": sum(len(path.read_text().splitlines()) for path in failures)}


def _segmenter(folder: Path) -> dict[str, Any]:
    summary = json.loads((folder / "evaluation" / "summary.json").read_text())
    measures = {
        f"{name}/{measure}": found[measure]["mean"]
        for name, found in summary["classes"].items()
        for measure in ("dice", "nsd")
    }
    counted = {name: found["dice"]["n"] for name, found in summary["classes"].items()}
    return {"measures": measures, "cases": summary["cases"], "counted": counted}


def _quality(folder: Path) -> dict[str, Any]:
    measures: dict[str, float] = {}
    outside = []
    for path in sorted(folder.glob("evaluation*/summary.json")):
        for name, about in json.loads(path.read_text())["classes"].items():
            painted = about["fillings"]["painted"]
            measures |= {f"{name}/{key}": painted[key] for key in PAIRED}
            outside.append(painted["max_outside"])
    distances = json.loads((folder / "distances.json").read_text())
    for name, found in distances.items():
        measures |= {f"{name}/{key}": found[key] for key in DISTANCES if found is not None}
    measures |= _means(measures, list(distances))
    known = {key: value for key, value in measures.items() if value is not None}
    return {"measures": known, "largest_difference_outside_masks": max(outside, default=None), "distances": distances}


def _means(measures: Mapping[str, float | None], classes: list[str]) -> dict[str, float]:
    """The mean over several classes of each measure that all of them have."""
    means = {}
    for key in (*PAIRED, *DISTANCES) if len(classes) > 1 else ():
        values = [measures.get(f"{name}/{key}") for name in classes]
        if None not in values:
            means[f"mean/{key}"] = sum(values) / len(values)
    return means

"""Measures segmentations of real cases on the scans' own grids."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from ignite.engine import Engine

from ..errors import InputError
from ..files import write_atomically
from ..labels import LesionLabels
from ..metrics import dice, mean_and_spread, surface_dice
from ..segmentation_views import SegmentationView
from ..volumes import check_same_grid, read_nifti, read_scan
from .evaluation_results import EvaluationResults

__all__ = ["SegmentationEvaluation"]


class SegmentationEvaluation(EvaluationResults):
    """Attached to an evaluator of whole scans: Dice and surface Dice of every case and class.

    Both are measured between the label map on the file's own grid and the prediction brought there, with the voxel size
    of the file. A case that has a class neither in the reference nor in the prediction is left out for that class, and
    counted; a class found where there is none, or missed altogether, scores 0.

    Files in ``output_dir``: ``metrics.csv`` (a row per case and class), ``cases.png`` (worst, median and best case) and
    ``summary.json``: ``{"cases": n, "nsd_tolerance_mm": t, "classes": {name: {"dice": {"mean", "sd", "n"}, "nsd":
    {...}, "excluded": k}}}``, measures from 0 to 1.

    Args:
        output_dir: folder.
        postprocessing: makes the label map from ``image`` and ``pred``
            (:class:`~custom_components.transforms.SegmentationOnScand`).
        labels: the meaning of the label maps.
        nsd_tolerance_mm: of the surface Dice; None: the voxel size within the slices, of each case.
        overwrite: replace an earlier evaluation.

    The batch holds ``image``, and as text ``case``, ``patient`` and ``reference``, the label map's path.

    Raises:
        InputError: for a tolerance below 0.
    """

    activity = "segmenting"

    def __init__(
        self,
        output_dir: str | Path,
        postprocessing: Callable[[dict[str, Any]], Mapping[str, Any]],
        labels: LesionLabels,
        nsd_tolerance_mm: float | None = 1.0,
        overwrite: bool = False,
    ) -> None:
        if nsd_tolerance_mm is not None and not nsd_tolerance_mm >= 0:
            raise InputError(f"nsd_tolerance_mm must not be negative, got {nsd_tolerance_mm}.")
        super().__init__(output_dir, overwrite)
        self.postprocessing, self.labels, self.tolerance = postprocessing, labels, nsd_tolerance_mm
        self.clear()

    def clear(self) -> None:
        super().clear()
        self.predictions: dict[int, tuple[str, str, np.ndarray]] = {}

    def __call__(self, engine: Engine) -> None:
        batch, predictions = engine.state.batch, engine.state.output["pred"]
        for i, case in enumerate(batch["case"]):
            found = self.postprocessing({"image": batch["image"][i], "pred": predictions[i]})["pred"]
            predicted = np.asarray(found)[0]
            path = str(batch["reference"][i])
            reference = read_nifti(Path(path), "label")
            image = str(batch["image"][i].meta["filename_or_obj"])
            check_same_grid(reference, read_scan(image), "label")
            number = len(self.predictions)
            self._measure(number, str(case), str(batch["patient"][i]), predicted, reference)
            # The label map is packed: it is nothing but zeros almost everywhere.
            self.predictions[number] = (image, path, np.packbits(predicted[None] == self._values(), axis=None))
            self.bar.update()

    def _values(self) -> np.ndarray:
        return np.array(list(self.labels.classes.values()))[:, None, None, None]

    def _measure(self, number: int, case: str, patient: str, predicted: np.ndarray, reference: Any) -> None:
        spacing, values = reference.spacing_mm, reference.values()
        tolerance = float(np.sort(spacing)[1]) if self.tolerance is None else float(self.tolerance)
        voxel_ml = float(np.abs(np.linalg.det(reference.affine[:3, :3]))) / 1000
        for name, value in self.labels.classes.items():
            own, true = predicted == value, values == value
            self.rows.append(
                {
                    "number": number,
                    "case": case,
                    "patient": patient,
                    "class": name,
                    "dice": dice(own, true),
                    "nsd": surface_dice(own, true, spacing, tolerance),
                    "nsd_tolerance_mm": round(tolerance, 4),
                    "reference_ml": float(true.sum()) * voxel_ml,
                    "predicted_ml": float(own.sum()) * voxel_ml,
                }
            )

    def summary(self) -> dict[str, Any]:
        """What ``summary.json`` holds."""
        classes = {}
        for name in self.labels.names:
            rows = [row for row in self.rows if row["class"] == name]
            measures = {key: mean_and_spread([row[key] for row in rows]) for key in ("dice", "nsd")}
            classes[name] = {**measures, "excluded": len(rows) - measures["dice"]["n"]}
        return {"cases": len(self.predictions), "nsd_tolerance_mm": self.tolerance, "classes": classes}

    def write(self, engine: Engine) -> None:
        """Writes the files and prints the means."""
        summary = self.summary()

        def write_rows(path: Path) -> None:
            with open(path, "w", newline="") as stream:
                writer = csv.DictWriter(stream, fieldnames=[key for key in self.rows[0] if key != "number"])
                writer.writeheader()
                for row in self.rows:
                    empty = {key: "" for key, value in row.items() if isinstance(value, float) and np.isnan(value)}
                    writer.writerow({key: value for key, value in {**row, **empty}.items() if key != "number"})

        views = self._views()
        write_atomically(self.output_dir / "metrics.csv", write_rows)
        if views:
            from ..segmentation_panels import save_segmentation_panel  # matplotlib is needed for pictures alone

            write_atomically(self.output_dir / "cases.png", lambda path: save_segmentation_panel(views, path))
        text = json.dumps(summary, indent=2) + "\n"
        write_atomically(self.output_dir / "summary.json", lambda path: path.write_text(text))
        for name, measures in summary["classes"].items():
            for key in ("dice", "nsd"):
                found = measures[key]
                if found["n"]:
                    engine.state.metrics[f"{name}_{key}"] = found["mean"]
                    print(f"{name} {key}: {found['mean']:.4f} (sd {found['sd']:.4f}, {found['n']} cases)")
            if measures["excluded"]:
                print(f"{name}: {measures['excluded']} cases have none and none was found; they do not count")
        print(f"{summary['cases']} cases; files in {self.output_dir}")

    def _views(self) -> list[SegmentationView]:
        """The worst, the median and the best case by their mean Dice over classes."""
        scores = {
            number: np.nanmean(values)
            for number in self.predictions
            if not np.isnan(values := [row["dice"] for row in self.rows if row["number"] == number]).all()
        }
        order = sorted(scores, key=lambda number: scores[number])
        places = (
            {0: "worst", len(order) // 2: "median", len(order) - 1: "best"}
            if len(order) > 2
            else dict.fromkeys(range(len(order)), "case")
        )
        views = []
        for place, word in sorted(places.items()):
            image, label, packed = self.predictions[order[place]]
            scan, reference = read_scan(image), read_nifti(Path(label), "label")
            shape = (len(self.labels.classes), *scan.stored.shape)
            masks = np.unpackbits(packed, count=int(np.prod(shape))).reshape(shape)
            name = next(row["case"] for row in self.rows if row["number"] == order[place])
            true = _own_classes(reference.values(), self.labels)
            views.append(
                SegmentationView(
                    f"{word}: Dice {scores[order[place]]:.2f}\n{name}",
                    scan.values(),
                    scan.affine,
                    (masks * self._values()).sum(axis=0).astype(np.uint8),
                    self.labels.classes,
                    true,
                    focus=true > 0 if true.any() else None,
                )
            )
        return views


def _own_classes(label: np.ndarray, labels: LesionLabels) -> np.ndarray:
    return np.where(labels.lesion(label), label, 0).astype(np.uint8)

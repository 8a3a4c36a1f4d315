"""Writes the label map of every segmented scan."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..files import file_hash, write_atomically
from ..labels import LesionLabels
from ..segmentation_views import SegmentationView, largest_lesions
from ..volumes import read_scan, write_scan
from .case_saver import CaseSaver

__all__ = ["SegmentationSaver"]

DESCRIPTION = "lesions found by LeFusion-MONAI, research use only"
SHOWN = 4  # lesions in a picture


class SegmentationSaver(CaseSaver):
    """Brings the evaluator's predictions to their scans' own grids and writes each case.

    Per case: ``<case>_segmentation.nii.gz`` (uint8: the values of the classes, on the scan's own grid),
    ``<case>_panel.png`` (the largest lesions) and, last, ``<case>_segmentation.json`` (weights, settings, volumes). The
    JSON therefore means that its case is complete.

    Args:
        scans: what :func:`~custom_components.scan_lists.list_scans` returned.
        output_dir: folder of the outputs.
        postprocessing: makes the label map from ``image`` and ``pred``.
        labels: the values of the classes.
        others: see :class:`~custom_components.handlers.case_saver.CaseSaver`.
    """

    noun, sidecar = "scans", "record"

    def __init__(
        self,
        scans: Sequence[Mapping[str, Any]],
        output_dir: str | Path,
        postprocessing: Callable[[dict[str, Any]], Mapping[str, Any]],
        labels: LesionLabels,
        **others: Any,
    ) -> None:
        super().__init__(scans, [item["case"] for item in scans], output_dir, **others)
        self.postprocessing, self.labels = postprocessing, labels

    def paths(self, case: str) -> dict[str, Path]:
        """The files of a case."""
        endings = {"label": "segmentation.nii.gz", "panel": "panel.png", "record": "segmentation.json"}
        return {role: self.output_dir / f"{case}_{ending}" for role, ending in endings.items()}

    def collect(self, batch: Mapping[str, Any], i: int, prediction: Any) -> tuple[np.ndarray]:
        """The label map on the scan's own grid."""
        found = self.postprocessing({"image": batch["image"][i], "pred": prediction})
        return (np.asarray(found["pred"])[0].astype(np.uint8),)

    def finish(self, numbers: Sequence[int]) -> None:
        """Writes a case's files."""
        (number,) = numbers
        item, (label,) = self.items[number], self.crops.pop(number)
        scan, paths = read_scan(item["image"]), self.paths(item["case"])
        voxel_ml = float(np.abs(np.linalg.det(scan.affine[:3, :3]))) / 1000
        metadata = {} if self.bundle_root is None else _metadata(Path(self.bundle_root))
        record = {
            "intended_use": "research only, not for clinical use",
            "bundle": {key: metadata.get(key) for key in ("name", "version")},
            "weights": {"file": Path(self.weights).name, "sha256": file_hash(self.weights)} if self.weights else None,
            "settings": dict(self.settings),
            "source": {"image": Path(item["image"]).name, "sha256": file_hash(item["image"])},
            "classes": dict(self.labels.classes),
            "volume_ml": {n: round(float((label == v).sum()) * voxel_ml, 4) for n, v in self.labels.classes.items()},
        }
        paths["record"].unlink(missing_ok=True)
        write_scan(scan, label, paths["label"], DESCRIPTION, scaled=False)
        if self.panel:
            from ..segmentation_panels import save_segmentation_panel  # matplotlib is needed for pictures alone

            parts = largest_lesions(label, SHOWN)
            titles = [f"lesion {n} of {len(parts)} shown" for n in range(1, len(parts) + 1)] or ["no lesion found"]
            views = [
                SegmentationView(title, scan.values(), scan.affine, label, self.labels.classes, focus=part)
                for title, part in zip(titles, parts or [None], strict=True)
            ]
            write_atomically(paths["panel"], lambda path: save_segmentation_panel(views, path))
        text = json.dumps(record, indent=2) + "\n"
        write_atomically(paths["record"], lambda path: path.write_text(text))


def _metadata(root: Path) -> dict[str, Any]:
    return json.loads((root / "configs" / "metadata.json").read_text())

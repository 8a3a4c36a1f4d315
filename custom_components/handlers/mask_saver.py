"""Puts drawn masks onto their scans' grids and writes every file of a case."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ..errors import InputError, as_flag
from ..files import file_hash, write_atomically
from ..grids import shifted
from ..mask_grids import masks_on_grid
from ..mask_targets import MaskTarget, read_target
from ..masks import bounding_sphere
from ..provenance import DESCRIPTION, origin_record
from ..volumes import Scan, write_scan
from .case_saver import CaseSaver

__all__ = ["MaskSaver"]


class MaskSaver(CaseSaver):
    """Collects the evaluator's drawn crops; when a case's last mask is there, writes the case.

    Per case: ``<case>_mask_1.nii.gz``, ``_2``, ... (one file a sample, on the scan's own grid and header),
    ``<case>_masks.png`` (three planes and the surface of each mask) and, last, ``<case>_masks.json`` (the sidecar). A
    sidecar therefore means that its case is complete.

    No voxel outside the organ is ever set; this is checked for every case before its files appear.

    Args:
        masks: what :func:`~custom_components.mask_specs.plan_masks` returned.
        output_dir: folder of the outputs.
        class_labels: the value of each lesion class in the files.
        smoothing: see :func:`~custom_components.masks.smooth_masks`, in voxels of the model's crop.
        fill_holes, largest_component: see :func:`~custom_components.masks.tidy_masks`.
        fit_sphere: move and scale each mask onto its control sphere where the organ leaves it room.
        others: see :class:`~custom_components.handlers.case_saver.CaseSaver`.

    Raises:
        InputError: for a negative smoothing, or labels that are not different numbers from 1 to 255.
    """

    noun, sidecar = "masks", "json"

    def __init__(
        self,
        masks: Sequence[Mapping[str, Any]],
        output_dir: str | Path,
        class_labels: Sequence[int] = (1,),
        smoothing: Sequence[float] = (0.5, 0.5, 0.5),
        fill_holes: bool = True,
        largest_component: bool = False,
        fit_sphere: bool = False,
        **others: Any,
    ) -> None:
        super().__init__(masks, [item["spec"].case for item in masks], output_dir, **others)
        if any(not isinstance(n, int) or not 1 <= n <= 255 for n in class_labels) or len(set(class_labels)) < len(
            class_labels
        ):
            raise InputError(f"class_labels must be different whole numbers from 1 to 255, got {list(class_labels)}.")
        if len(smoothing) != 3 or any(not sigma >= 0 for sigma in smoothing):
            raise InputError(f"smoothing must be three numbers of at least 0, got {list(smoothing)}.")
        self.class_labels = tuple(class_labels)
        self.tidy = {
            "smoothing": tuple(smoothing),
            "fill_holes": as_flag(fill_holes, "fill_holes"),
            "largest_component": as_flag(largest_component, "largest_component"),
        }
        self.fit_sphere = as_flag(fit_sphere, "fit_sphere")

    def paths(self, case: str) -> dict[str, Path]:
        """The files of a case."""
        samples = sorted({self.items[number]["spec"].sample for number in self.cases[case]})
        files = {f"mask_{sample}": self.output_dir / f"{case}_mask_{sample}.nii.gz" for sample in samples}
        return files | {role: self.output_dir / f"{case}_masks.{role}" for role in ("png", "json")}

    def collect(self, batch: Mapping[str, Any], i: int, prediction: Any) -> tuple[np.ndarray, np.ndarray]:
        """Drawn crop and affine."""
        affine = batch["sphere"][i].affine
        return torch.as_tensor(prediction).float().cpu().numpy(), np.asarray(affine.cpu())

    def finish(self, numbers: Sequence[int]) -> None:
        """Puts a case's masks together and writes its files."""
        target: MaskTarget = self.items[numbers[0]]["target"]
        scan, organ = read_target(target)
        paths = self.paths(target.case)
        labels = {s: np.zeros(scan.stored.shape, np.uint8) for s in {self.items[n]["spec"].sample for n in numbers}}
        entries = []
        for number in numbers:
            spec = self.items[number]["spec"]
            box, classes = self.onto_scan(number, scan, organ)
            for label, mask in zip(self.class_labels, classes, strict=True):
                labels[spec.sample][box][mask] = label
            entries.append({"spec": spec.as_dict(), **_describe(classes, shifted(scan.affine, box))})
        outside = 0 if organ is None else max(int((label[~organ] > 0).sum()) for label in labels.values())
        if outside:
            raise RuntimeError(f"case {target.case}: {outside} voxels outside the organ; nothing was written.")
        for entry in entries:
            if entry["voxels"] == 0:
                print(f"case {target.case}: the mask of sphere {entry['spec']['sphere']} is empty")
        sidecar = {
            **origin_record("trainedAlgorithmicMedia", self.weights, self.settings, self.bundle_root),
            "source": _file_record(target.image),
            "organ": _file_record(target.organ),
            "files": [paths[f"mask_{sample}"].name for sample in sorted(labels)],
            "class_labels": list(self.class_labels),
            "affine": scan.affine.tolist(),
            "voxels_outside_organ": outside,
            "masks": entries,
        }
        paths["json"].unlink(missing_ok=True)
        for sample, label in labels.items():
            write_scan(scan, label, paths[f"mask_{sample}"], DESCRIPTION, scaled=False)
        if self.panel:
            from ..mask_panels import save_mask_panel  # here, since matplotlib is needed for pictures alone

            specs = [self.items[number]["spec"] for number in numbers]
            background = None if target.image is None else scan.values()
            write_atomically(
                paths["png"],
                lambda path: save_mask_panel(labels, self.class_labels, organ, background, scan.affine, specs, path),
            )
        write_atomically(paths["json"], lambda path: path.write_text(json.dumps(sidecar, indent=2) + "\n"))

    def onto_scan(self, number: int, scan: Scan, organ: np.ndarray | None) -> tuple[tuple[slice, ...], np.ndarray]:
        """A drawn crop, taken out of ``crops``: a box of the scan, and the masks (n, *box) bool in it."""
        spec = self.items[number]["spec"]
        sphere = (spec.centre_mm, spec.radius_mm) if self.fit_sphere else None
        crop = self.crops.pop(number)
        return masks_on_grid(*crop, scan.affine, scan.stored.shape, organ, **self.tidy, sphere=sphere)


def _describe(classes: np.ndarray, affine: np.ndarray) -> dict[str, Any]:
    """What was drawn, masks (n, X, Y, Z): voxels of each class, volume, and the smallest enclosing sphere."""
    mask = classes.any(axis=0)
    volume = float(mask.sum()) * float(np.abs(np.linalg.det(affine[:3, :3])))
    record = {"voxels": int(mask.sum()), "voxels_by_class": [int(one.sum()) for one in classes]}
    record["volume_mm3"] = round(volume, 3)
    if mask.any():
        centre, radius = bounding_sphere(mask, affine)
        record |= {"drawn_centre_mm": [round(float(v), 3) for v in centre], "drawn_radius_mm": round(radius, 3)}
    return record


def _file_record(path: str | None) -> dict[str, str] | None:
    return None if path is None else {"file": Path(path).name, "sha256": file_hash(path)}

"""Puts drawn masks onto their scans' grids and writes every file of a case."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from ignite.engine import Engine, Events
from tqdm import tqdm

from ..errors import InputError, as_flag
from ..files import check_writable, file_hash, write_atomically
from ..grids import shifted
from ..mask_grids import masks_on_grid
from ..mask_panels import save_mask_panel
from ..mask_targets import MaskTarget, read_target
from ..masks import bounding_sphere
from ..provenance import DESCRIPTION, origin_record
from ..volumes import write_scan

__all__ = ["MaskSaver"]


class MaskSaver:
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
        weights: weights file, for the sidecar.
        settings: run settings for the sidecar.
        bundle_root: bundle whose name and version go into the sidecar.
        overwrite: replace existing outputs.
        resume: skip cases whose sidecar is there.
        panel: draw the PNG.
        progress: show a bar over the masks.

    Raises:
        InputError: for a negative smoothing, or labels that are not different numbers from 1 to 255.
    """

    def __init__(
        self,
        masks: Sequence[Mapping[str, Any]],
        output_dir: str | Path,
        class_labels: Sequence[int] = (1,),
        smoothing: Sequence[float] = (0.5, 0.5, 0.5),
        fill_holes: bool = True,
        largest_component: bool = False,
        fit_sphere: bool = False,
        weights: str | Path | None = None,
        settings: Mapping[str, Any] | None = None,
        bundle_root: str | Path | None = None,
        overwrite: bool = False,
        resume: bool = False,
        panel: bool = True,
        progress: bool = True,
    ) -> None:
        if any(not isinstance(n, int) or not 1 <= n <= 255 for n in class_labels) or len(set(class_labels)) < len(
            class_labels
        ):
            raise InputError(f"class_labels must be different whole numbers from 1 to 255, got {list(class_labels)}.")
        if len(smoothing) != 3 or any(not sigma >= 0 for sigma in smoothing):
            raise InputError(f"smoothing must be three numbers of at least 0, got {list(smoothing)}.")
        self.masks, self.output_dir, self.class_labels = masks, Path(str(output_dir)), tuple(class_labels)
        self.tidy = {
            "smoothing": tuple(smoothing),
            "fill_holes": as_flag(fill_holes, "fill_holes"),
            "largest_component": as_flag(largest_component, "largest_component"),
        }
        self.fit_sphere = as_flag(fit_sphere, "fit_sphere")
        self.weights, self.settings, self.bundle_root = weights, settings or {}, bundle_root
        self.overwrite, self.resume = as_flag(overwrite, "overwrite"), as_flag(resume, "resume")
        self.panel, self.progress = as_flag(panel, "panel"), as_flag(progress, "progress")
        self.crops: dict[int, tuple[np.ndarray, np.ndarray]] = {}
        self.cases: dict[str, list[int]] = defaultdict(list)
        for number, item in enumerate(masks):
            self.cases[item["spec"].case].append(number)

    def paths(self, case: str) -> dict[str, Path]:
        """The files of a case."""
        samples = sorted({self.masks[number]["spec"].sample for number in self.cases[case]})
        files = {f"mask_{sample}": self.output_dir / f"{case}_mask_{sample}.nii.gz" for sample in samples}
        return files | {role: self.output_dir / f"{case}_masks.{role}" for role in ("png", "json")}

    def check(self) -> None:
        """Raises InputError where an output exists already or the folder cannot be written to."""
        check_writable(self.output_dir)
        for case in self.cases:
            existing = [path for path in self.paths(case).values() if path.exists()]
            if existing and not (self.overwrite or self.resume):
                raise InputError(f"{existing[0]} exists already: pass --overwrite true or another --output_dir.")

    def pending(self) -> list[Mapping[str, Any]]:
        """The masks still to draw: all of them, or with ``resume`` those of cases without a sidecar."""
        if not self.resume:
            return list(self.masks)
        return [item for item in self.masks if not self.paths(item["spec"].case)["json"].exists()]

    def attach(self, engine: Engine) -> None:
        engine.add_event_handler(Events.STARTED, self._start)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self)
        engine.add_event_handler(Events.COMPLETED, lambda _: self.bar.close())

    def _start(self, engine: Engine) -> None:
        self.bar = tqdm(total=len(self.pending()), desc="masks", disable=not self.progress)

    def __call__(self, engine: Engine) -> None:
        batch, predictions = engine.state.batch, engine.state.output
        drawn = predictions["pred"] if isinstance(predictions, Mapping) else [p["pred"] for p in predictions]
        for i, index in enumerate(int(number) for number in batch["index"]):
            affine = batch["sphere"][i].affine
            self.crops[index] = (torch.as_tensor(drawn[i]).float().cpu().numpy(), np.asarray(affine.cpu()))
            self.bar.update()
            numbers = self.cases[self.masks[index]["spec"].case]
            if all(number in self.crops for number in numbers):
                self.finish(numbers)

    def finish(self, numbers: Sequence[int]) -> None:
        """Puts a case's masks together and writes its files."""
        target: MaskTarget = self.masks[numbers[0]]["target"]
        scan, organ = read_target(target)
        paths = self.paths(target.case)
        labels = {s: np.zeros(scan.stored.shape, np.uint8) for s in {self.masks[n]["spec"].sample for n in numbers}}
        entries = []
        for number in numbers:
            spec = self.masks[number]["spec"]
            sphere = (spec.centre_mm, spec.radius_mm) if self.fit_sphere else None
            box, classes = masks_on_grid(
                *self.crops.pop(number), scan.affine, scan.stored.shape, organ, **self.tidy, sphere=sphere
            )
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
            specs = [self.masks[number]["spec"] for number in numbers]
            background = None if target.image is None else scan.values()
            write_atomically(
                paths["png"],
                lambda path: save_mask_panel(labels, self.class_labels, organ, background, scan.affine, specs, path),
            )
        write_atomically(paths["json"], lambda path: path.write_text(json.dumps(sidecar, indent=2) + "\n"))


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

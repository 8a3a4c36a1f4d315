"""Pastes painted lesions into their untouched scans and writes every file of a case."""

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

from ..conditioners import lesion_histogram
from ..errors import InputError, as_flag
from ..files import check_writable, write_atomically
from ..grids import from_crop
from ..labels import LesionLabels
from ..metrics import histogram_distance
from ..panels import save_case_panel
from ..provenance import DESCRIPTION, build_sidecar
from ..specs import CaseLesions, LesionSpec, read_lesions
from ..volumes import write_scan

__all__ = ["LesionSaver"]


class LesionSaver:
    """Collects the evaluator's painted crops; when a case's last lesion is there, writes the case.

    Per case: ``<case>_lefusion.nii.gz`` (the scan with its lesions, on its own grid, type and header),
    ``<case>_mask.nii.gz`` (instance numbers; the classes' labels where there are several classes),
    ``<case>_panel.png`` and, last, ``<case>_lefusion.json`` (the sidecar). A sidecar therefore means that its case is
    complete.

    Only voxels of the mask are ever written to; this is checked for every case before its files appear.

    Args:
        lesions: what :func:`~custom_components.planning.plan_lesions` returned.
        output_dir: folder of the outputs.
        labels: the meaning of the label maps; masks of 0 and 1 by default.
        weights: weights file, for the sidecar.
        settings: run settings for the sidecar.
        bundle_root: bundle whose name and version go into the sidecar.
        overwrite: replace existing outputs.
        resume: skip cases whose sidecar is there.
        panel: draw the PNG.
        progress: show a bar over the lesions.
        panel_width_mm: what the picture shows around a lesion.
    """

    def __init__(
        self,
        lesions: Sequence[Mapping[str, Any]],
        output_dir: str | Path,
        labels: LesionLabels | None = None,
        weights: str | Path | None = None,
        settings: Mapping[str, Any] | None = None,
        bundle_root: str | Path | None = None,
        overwrite: bool = False,
        resume: bool = False,
        panel: bool = True,
        progress: bool = True,
        panel_width_mm: float = 64.0,
    ) -> None:
        self.lesions, self.output_dir = lesions, Path(str(output_dir))
        self.labels = LesionLabels() if labels is None else labels
        self.weights, self.settings, self.panel_width_mm = weights, settings or {}, panel_width_mm
        self.bundle_root = bundle_root
        self.overwrite, self.resume = as_flag(overwrite, "overwrite"), as_flag(resume, "resume")
        self.panel, self.progress = as_flag(panel, "panel"), as_flag(progress, "progress")
        self.crops: dict[int, tuple[np.ndarray, np.ndarray, np.ndarray]] = {}
        self.waiting: dict[str, list[int]] = defaultdict(list)
        for number, item in enumerate(lesions):
            self.waiting[item["specs"][0].case].append(number)

    def paths(self, case: str) -> dict[str, Path]:
        """The files of a case."""
        endings = {
            "image": "lefusion.nii.gz",
            "mask": "mask.nii.gz",
            "panel": "panel.png",
            "sidecar": "lefusion.json",
        }
        return {role: self.output_dir / f"{case}_{ending}" for role, ending in endings.items()}

    def check(self) -> None:
        """Raises InputError where an output exists already or the folder cannot be written to."""
        check_writable(self.output_dir)
        for case in self.waiting:
            paths = self.paths(case)
            if self.overwrite or (self.resume and paths["sidecar"].exists()):
                continue
            existing = [path for path in paths.values() if path.exists()]
            if existing and not self.resume:
                raise InputError(f"{existing[0]} exists already: pass --overwrite true or another --output_dir.")

    def pending(self) -> list[Mapping[str, Any]]:
        """The lesions still to paint: all of them, or with ``resume`` those of cases without a sidecar."""
        if not self.resume:
            return list(self.lesions)
        return [item for item in self.lesions if not self.paths(item["specs"][0].case)["sidecar"].exists()]

    def attach(self, engine: Engine) -> None:
        engine.add_event_handler(Events.STARTED, self._start)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self)
        engine.add_event_handler(Events.COMPLETED, lambda _: self.bar.close())

    def _start(self, engine: Engine) -> None:
        self.bar = tqdm(total=len(self.pending()), desc="lesions", disable=not self.progress)

    def __call__(self, engine: Engine) -> None:
        batch, predictions = engine.state.batch, engine.state.output
        painted = predictions["pred"] if isinstance(predictions, Mapping) else [p["pred"] for p in predictions]
        for i, index in enumerate(int(number) for number in batch["index"]):
            self.crops[index] = (
                np.asarray(torch.as_tensor(painted[i][0]).float().cpu()),
                np.asarray(torch.as_tensor(batch["label"][i]).cpu()),
                np.asarray(batch["image"][i].affine.cpu() if hasattr(batch["image"], "affine") else 0),
            )
            case = self.lesions[index]["specs"][0].case
            self.waiting[case].remove(index)
            self.bar.update()
            if not self.waiting[case]:
                self.finish([n for n in sorted(self.crops) if self.lesions[n]["specs"][0].case == case])

    def finish(self, numbers: Sequence[int]) -> None:
        """Pastes a case's lesions and writes its files."""
        first = self.lesions[numbers[0]]
        case = first["specs"][0].case
        found = read_lesions(first["image"], first["label"], self.labels)
        scan, mask = found.scan, found.instances > 0
        stored = scan.stored.copy()
        entries = []
        for number in numbers:
            crop, crop_masks, affine = self.crops.pop(number)
            for spec in self.lesions[number]["specs"]:
                own = crop_masks[self.labels.names.index(spec.lesion_class)]
                entries.append(self._paste(spec, crop, own, affine, found, stored))
        if not np.array_equal(stored[~mask], scan.stored[~mask]):
            raise RuntimeError(f"case {case}: voxels outside the mask changed; nothing was written.")
        paths = self.paths(case)
        sidecar = build_sidecar(
            first["image"], first["label"], self.weights, self.settings, entries, scan.affine, 0, self.bundle_root
        )
        paths["sidecar"].unlink(missing_ok=True)
        write_scan(scan, stored, paths["image"], DESCRIPTION)
        values = found.instances if len(self.labels.classes) == 1 else np.where(mask, found.label, 0)
        kind = np.uint8 if values.max() < 256 else np.int16
        write_scan(scan, values.astype(kind), paths["mask"], DESCRIPTION, scaled=False)
        if self.panel:
            specs = [spec for number in numbers for spec in self.lesions[number]["specs"]]
            before, after = scan.values(), (scan.slope * stored + scan.intercept).astype(np.float32)
            masks = {name: mask & (found.label == value) for name, value in self.labels.classes.items()}
            write_atomically(
                paths["panel"],
                lambda path: save_case_panel(before, after, masks, scan.affine, specs, path, self.panel_width_mm),
            )
        text = json.dumps(sidecar, indent=2) + "\n"
        write_atomically(paths["sidecar"], lambda path: path.write_text(text))

    def _paste(
        self,
        spec: LesionSpec,
        crop: np.ndarray,
        crop_mask: np.ndarray,
        affine: np.ndarray,
        found: CaseLesions,
        stored: np.ndarray,
    ) -> dict[str, Any]:
        """Puts one class of a lesion into ``stored``, in place; returns its entry in the sidecar."""
        scan, box = found.scan, spec.slices
        inside = (found.instances[box] == spec.lesion) & (found.label[box] == self.labels.classes[spec.lesion_class])
        low, high = spec.window
        values = low + (from_crop(crop, affine, scan.affine, box) + 1) * (high - low) / 2
        stored[box][inside] = scan.to_stored(values)[inside]
        achieved = lesion_histogram(torch.from_numpy(crop), torch.from_numpy(crop_mask)).numpy()
        requested = np.array(spec.histogram, dtype=np.float32)
        painted = scan.slope * stored[box][inside].astype(np.float64) + scan.intercept
        return {
            "spec": spec.as_dict(),
            "achieved_histogram": [round(float(v), 6) for v in achieved],
            "histogram_distance": (round(histogram_distance(requested, achieved), 6) if requested.sum() > 0 else None),
            "mean_before": round(float(scan.values(box)[inside].mean()), 3),
            "mean_painted": round(float(painted.mean()), 3),
            "std_painted": round(float(painted.std()), 3),
            "crop_affine": affine.tolist(),
            "crop_size": list(crop.shape),
        }

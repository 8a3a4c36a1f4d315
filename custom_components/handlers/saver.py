"""Pastes painted lesions into their untouched scans and writes every file of a case."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ..backgrounds import check_paste, covered_by_crop, largest_difference
from ..conditioners import lesion_histogram
from ..files import write_atomically
from ..grids import from_crop
from ..labels import LesionLabels
from ..metrics import histogram_distance
from ..provenance import DESCRIPTION, build_sidecar
from ..specs import CaseLesions, LesionSpec, lesions_of
from ..volumes import write_scan
from .case_saver import CaseSaver

__all__ = ["LesionSaver"]


class LesionSaver(CaseSaver):
    """Collects the evaluator's painted crops; when a case's last lesion is there, writes the case.

    Per case: ``<case>_lefusion.nii.gz`` (the scan with its lesions, on its own grid, type and header),
    ``<case>_mask.nii.gz`` (instance numbers; the classes' labels where there are several classes),
    ``<case>_panel.png`` and, last, ``<case>_lefusion.json`` (the sidecar). A sidecar therefore means that its case is
    complete.

    Only voxels of the mask are ever written to; this is checked for every case before its files appear. Methods that
    generate the background too, to be compared with, may have their crops pasted whole instead: the sidecar then says
    that the background is generated, and how much it changed.

    Args:
        lesions: what :func:`~custom_components.planning.plan_lesions` returned.
        output_dir: folder of the outputs.
        labels: the meaning of the label maps; masks of 0 and 1 by default.
        panel_width_mm: what the picture shows around a lesion.
        paste: ``lesion``: the lesion's voxels only. ``crop``: every voxel of the scan under a lesion's crop, other
            lesions' excepted; where crops overlap, the later lesion's counts.
        background: where the method's background comes from: ``scan``, or ``generated``, which ``crop`` needs.
        others: see :class:`~custom_components.handlers.case_saver.CaseSaver`.

    Raises:
        InputError: for an unknown ``paste`` or ``background``, or ``crop`` where the background is the scan's.
    """

    noun = "lesions"

    def __init__(
        self,
        lesions: Sequence[Mapping[str, Any]],
        output_dir: str | Path,
        labels: LesionLabels | None = None,
        panel_width_mm: float = 64.0,
        paste: str = "lesion",
        background: str = "scan",
        **others: Any,
    ) -> None:
        check_paste(paste, background)
        super().__init__(lesions, [item["specs"][0].case for item in lesions], output_dir, **others)
        self.labels = LesionLabels() if labels is None else labels
        self.panel_width_mm, self.whole_crops = panel_width_mm, paste == "crop"

    @property
    def background(self) -> str:
        """Where the background of what is written comes from, for the sidecar."""
        return "generated" if self.whole_crops else "scan"

    def paths(self, case: str) -> dict[str, Path]:
        """The files of a case."""
        endings = {
            "image": "lefusion.nii.gz",
            "mask": "mask.nii.gz",
            "panel": "panel.png",
            "sidecar": "lefusion.json",
        }
        return {role: self.output_dir / f"{case}_{ending}" for role, ending in endings.items()}

    def collect(self, batch: Mapping[str, Any], i: int, prediction: Any) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Painted crop, masks and affine."""
        return (
            np.asarray(torch.as_tensor(prediction[0]).float().cpu()),
            np.asarray(torch.as_tensor(batch["label"][i]).cpu()),
            np.asarray(batch["image"][i].affine.cpu()),
        )

    def finish(self, numbers: Sequence[int]) -> None:
        """Pastes a case's lesions and writes its files."""
        first = self.items[numbers[0]]
        found = lesions_of(first, self.labels)
        stored, entries = self.paste(numbers, found)
        paths = self.paths(first["specs"][0].case)
        sidecar = build_sidecar(
            first["image"],
            first["label"],
            self.weights,
            self.settings,
            entries,
            found.scan.affine,
            self.difference_outside(found, stored),
            self.bundle_root,
            self.background,
        )
        paths["sidecar"].unlink(missing_ok=True)
        write_scan(found.scan, stored, paths["image"], DESCRIPTION)
        lesion = found.instances > 0
        values = found.instances if len(self.labels.classes) == 1 else np.where(lesion, found.label, 0)
        kind = np.uint8 if values.max() < 256 else np.int16
        write_scan(found.scan, values.astype(kind), paths["mask"], DESCRIPTION, scaled=False)
        if self.panel:
            self.draw_panel(numbers, found, stored, paths["panel"])
        text = json.dumps(sidecar, indent=2) + "\n"
        write_atomically(paths["sidecar"], lambda path: path.write_text(text))

    def paste(self, numbers: Sequence[int], found: CaseLesions) -> tuple[np.ndarray, list[dict[str, Any]]]:
        """A case's scan with its lesions (X, Y, Z), as stored, and the lesions' entries in the sidecar.

        Raises:
            RuntimeError: where a voxel changed outside the lesions, or outside the crops that are pasted whole.
        """
        stored = found.scan.stored.copy()
        entries = []
        allowed = found.instances > 0
        if self.whole_crops:
            for number in numbers:
                self._paste_background(number, found, stored, allowed)
        for number in numbers:
            crop, crop_masks, affine = self.crops.pop(number)
            for spec in self.items[number]["specs"]:
                own = crop_masks[self.labels.names.index(spec.lesion_class)]
                entries.append(self._paste(spec, crop, own, affine, found, stored))
        self.check_outside(self.case_names[numbers[0]], found, stored, allowed)
        return stored, entries

    @staticmethod
    def check_outside(case: str, found: CaseLesions, stored: np.ndarray, allowed: np.ndarray | None = None) -> None:
        """Raises RuntimeError where a voxel changed that is not ``allowed`` to: one outside the lesions, by default."""
        allowed = found.instances > 0 if allowed is None else allowed
        if ((stored != found.scan.stored) & ~allowed).any():
            raise RuntimeError(f"case {case}: voxels outside the mask changed; nothing was written.")

    def difference_outside(self, found: CaseLesions, stored: np.ndarray) -> float:
        """Largest absolute difference to the scan outside all lesions, in its units; 0 unless crops are whole."""
        return largest_difference(stored, found.scan, found.instances) if self.whole_crops else 0

    def draw_panel(self, numbers: Sequence[int], found: CaseLesions, stored: np.ndarray, path: Path) -> None:
        """The picture of a case's lesions."""
        from ..panels import save_case_panel  # here, since matplotlib is needed for pictures alone

        scan = found.scan
        specs = [spec for number in numbers for spec in self.items[number]["specs"]]
        lesion = found.instances > 0
        masks = {name: lesion & (found.label == value) for name, value in self.labels.classes.items()}
        write_atomically(
            path,
            lambda temporary: save_case_panel(
                scan.stored,
                stored,
                masks,
                scan.affine,
                specs,
                temporary,
                self.panel_width_mm,
                to_values=lambda part: (scan.slope * part + scan.intercept).astype(np.float32),
            ),
        )

    def _paste_background(self, number: int, found: CaseLesions, stored: np.ndarray, allowed: np.ndarray) -> None:
        """Puts a crop's voxels outside all lesions into ``stored``, in place, and marks them in ``allowed``."""
        crop, _, affine = self.crops[number]
        scan, (low, high) = found.scan, self.items[number]["specs"][0].window
        box, inside = covered_by_crop(affine, crop.shape, scan.affine, scan.stored.shape)
        inside &= found.instances[box] == 0
        values = low + (from_crop(crop, affine, scan.affine, box) + 1) * (high - low) / 2
        stored[box][inside] = scan.to_stored(values)[inside]
        allowed[box][inside] = True

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

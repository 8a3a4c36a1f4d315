"""Measures every repainted lesion of an evaluation against the real one and two trivial fillings."""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from ignite.engine import Engine, Events
from tqdm import tqdm

from ..conditioners import lesion_histogram
from ..errors import InputError, as_flag
from ..files import check_writable, write_atomically
from ..metrics import fill_from_surroundings, histogram_distance, psnr, ssim
from ..panels import save_sample_grid

__all__ = ["LesionEvaluation"]


class LesionEvaluation:
    """Attached to an evaluator that repaints real lesions; writes a table of measures.

    Three fillings of each lesion's mask are measured against the real lesion: ``painted`` (the model),
    ``surroundings`` (every voxel takes its nearest neighbour outside the mask: the scan left healthy) and ``mean``
    (the lesion's own mean, which no method can know).

    Measures: PSNR (range 2) and SSIM over the crop and over the lesion, histogram distance (earth mover's, [-1, 1]
    units) to the request and to the real lesion, difference of the means in HU (or the scan's unit), ratio of the
    standard deviations, largest difference outside the mask.

    Files in ``output_dir``: ``metrics.csv`` (a row per lesion and filling), ``summary.json`` (means over lesions) and
    ``lesions.png``.

    Args:
        output_dir: folder.
        window: the scan's values at -1 and 1.
        overwrite: replace an earlier evaluation.
        pictures: lesions shown in the picture.
    """

    def __init__(
        self,
        output_dir: str | Path,
        window: tuple[float, float] = (-1000, 400),
        overwrite: bool = False,
        pictures: int = 8,
    ) -> None:
        self.output_dir, self.window, self.pictures = Path(output_dir), window, pictures
        self.overwrite = as_flag(overwrite, "overwrite")
        self.rows: list[dict[str, Any]] = []
        self.shown: list[tuple[torch.Tensor, torch.Tensor, torch.Tensor]] = []

    def check(self) -> None:
        """Raises InputError where results are there already or the folder cannot be written to."""
        check_writable(self.output_dir)
        summary = self.output_dir / "summary.json"
        if summary.exists() and not self.overwrite:
            raise InputError(f"{summary} exists already: pass --overwrite true or another --output_dir.")

    def attach(self, engine: Engine) -> None:
        engine.add_event_handler(Events.STARTED, self._start)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self)
        engine.add_event_handler(Events.COMPLETED, self.write)

    def _start(self, engine: Engine) -> None:
        self.rows, self.shown = [], []
        self.bar = tqdm(total=len(engine.state.dataloader.dataset), desc="repainting")

    def __call__(self, engine: Engine) -> None:
        batch = engine.state.batch
        painted = torch.as_tensor(engine.state.output["pred"]).float().cpu()
        images = torch.as_tensor(batch["image"]).cpu()
        masks = torch.as_tensor(batch["label"]).cpu()
        for image, label, prediction, request in zip(images, masks, painted, batch["histogram"], strict=True):
            self._measure(image[0].numpy(), label, prediction[0].numpy(), torch.as_tensor(request)[0].cpu().numpy())
            if len(self.shown) < self.pictures:
                self.shown.append((image, prediction, label))
            self.bar.update()

    def _measure(self, real: np.ndarray, label: torch.Tensor, painted: np.ndarray, request: np.ndarray) -> None:
        mask = label.sum(dim=0).numpy() > 0
        own = lesion_histogram(torch.from_numpy(real), torch.from_numpy(mask)).numpy()
        fillings = {
            "painted": painted,
            "surroundings": fill_from_surroundings(real, mask),
            "mean": np.where(mask, real[mask].mean(), real),
        }
        hu = (self.window[1] - self.window[0]) / 2
        lesion = len(self.rows) // len(fillings)
        for name, filled in fillings.items():
            achieved = lesion_histogram(torch.from_numpy(filled), torch.from_numpy(mask)).numpy()
            ssim_crop, ssim_lesion = ssim(real, filled, mask)
            self.rows.append(
                {
                    "lesion": lesion,
                    "filling": name,
                    "voxels": int(mask.sum()),
                    "psnr_crop": psnr(real, filled),
                    "psnr_lesion": psnr(real, filled, mask),
                    "ssim_crop": ssim_crop,
                    "ssim_lesion": ssim_lesion,
                    "distance_to_request": (
                        histogram_distance(request, achieved) if request.sum() > 0 else float("nan")
                    ),
                    "distance_to_real": histogram_distance(own, achieved),
                    "mean_difference": float((filled[mask].mean() - real[mask].mean()) * hu),
                    "spread_ratio": float(filled[mask].std() / real[mask].std())
                    if real[mask].std() > 1e-6
                    else float("nan"),
                    "max_outside": float(np.abs(filled[~mask] - real[~mask]).max()),
                }
            )

    def summary(self) -> dict[str, dict[str, float]]:
        """Means over lesions, per filling; of ``mean_difference`` the mean of absolute values, of
        ``max_outside`` the largest. A lesion without a value for a measure (equal images, no spread) is left out of
        that measure."""
        out: dict[str, dict[str, float]] = {}
        for filling in ("painted", "surroundings", "mean"):
            rows = [row for row in self.rows if row["filling"] == filling]
            names = [name for name in rows[0] if name not in ("lesion", "filling", "voxels")]
            values: Mapping[str, np.ndarray] = {name: np.array([row[name] for row in rows]) for name in names}
            finite = {name: value[np.isfinite(value)] for name, value in values.items()}
            out[filling] = {name: float(value.mean()) if value.size else np.nan for name, value in finite.items()}
            out[filling]["mean_difference"] = float(np.abs(values["mean_difference"]).mean())
            out[filling]["max_outside"] = float(values["max_outside"].max())
        return out

    def write(self, engine: Engine) -> None:
        """Writes the files and prints the means."""
        self.bar.close()
        summary = self.summary()
        engine.state.metrics.update(summary["painted"])

        def write_rows(path: Path) -> None:
            with open(path, "w", newline="") as stream:
                writer = csv.DictWriter(stream, fieldnames=list(self.rows[0]))
                writer.writeheader()
                writer.writerows(self.rows)

        finite = {  # JSON knows neither NaN nor infinity
            filling: {name: value if np.isfinite(value) else None for name, value in values.items()}
            for filling, values in summary.items()
        }
        text = json.dumps({"lesions": len(self.rows) // 3, "fillings": finite}, indent=2) + "\n"
        write_atomically(self.output_dir / "metrics.csv", write_rows)
        write_atomically(self.output_dir / "lesions.png", lambda path: save_sample_grid(self.shown, path))
        write_atomically(self.output_dir / "summary.json", lambda path: path.write_text(text))
        names = list(summary["painted"])
        print(f"{'measure':22s}" + "".join(f"{filling:>14s}" for filling in summary))
        for name in names:
            print(f"{name:22s}" + "".join(f"{summary[filling][name]:14.4f}" for filling in summary))
        print(f"{len(self.rows) // 3} lesions; files in {self.output_dir}")

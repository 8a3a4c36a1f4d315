"""Measures every repainted lesion of an evaluation against the real one and two trivial fillings."""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from ignite.engine import Engine

from ..conditioners import lesion_histogram
from ..files import write_atomically
from ..metrics import fill_from_surroundings, histogram_distance, psnr, ssim
from .evaluation_results import EvaluationResults

__all__ = ["LesionEvaluation"]


FILLINGS = ("painted", "surroundings", "mean")


class LesionEvaluation(EvaluationResults):
    """Attached to an evaluator that repaints real lesions; writes a table of measures.

    Three fillings of each lesion's mask are measured against the real lesion: ``painted`` (the model),
    ``surroundings`` (every voxel takes its nearest neighbour outside the lesions: the scan left healthy) and ``mean``
    (each class filled with its own mean, which no method can know).

    Measures, for each class of a lesion: PSNR (range 2) and SSIM over the crop and over the class's voxels, histogram
    distance (earth mover's, [-1, 1] units) to the request and to the real lesion, difference of the means in
    ``window``'s units, ratio of the standard deviations; and the largest difference outside the masks.

    Files in ``output_dir``: ``metrics.csv`` (a row per lesion, class and filling), ``summary.json`` (means over
    lesions) and ``lesions.png``.

    Args:
        output_dir: folder.
        window: the scan's values at -1 and 1; None leaves differences in units of [-1, 1].
        classes: the lesion classes, in the order of the label's channels.
        anatomy: other structures, in the order of the channels of the batch's ``anatomy``.
        contrasts: pairs of classes or anatomy (darker, brighter); the share of lesions in which the means of a pair
            are in order is counted, for the real and the painted lesion.
        overwrite: replace an earlier evaluation.
        pictures: lesions shown in the picture.
    """

    activity = "repainting"

    def __init__(
        self,
        output_dir: str | Path,
        window: Sequence[float] | None = (-1000, 400),
        classes: Sequence[str] = ("lesion",),
        anatomy: Sequence[str] = (),
        contrasts: Sequence[Sequence[str]] = (),
        overwrite: bool = False,
        pictures: int = 8,
    ) -> None:
        super().__init__(output_dir, overwrite)
        self.pictures = pictures
        self.unit = 1.0 if window is None else (window[1] - window[0]) / 2
        self.classes, self.anatomy, self.contrasts = list(classes), list(anatomy), contrasts
        self.clear()

    def clear(self) -> None:
        super().clear()
        self.count = 0
        self.ordered: dict[str, list[tuple[bool, bool]]] = {}
        self.shown: list[tuple[torch.Tensor, torch.Tensor, torch.Tensor]] = []

    def __call__(self, engine: Engine) -> None:
        batch = engine.state.batch
        painted = torch.as_tensor(engine.state.output["pred"]).float().cpu()
        images, masks = (torch.as_tensor(batch[key]).cpu() for key in ("image", "label"))
        anatomy = torch.as_tensor(batch["anatomy"]).cpu() if self.anatomy else [()] * len(images)
        requests = torch.as_tensor(batch["histogram"]).cpu()
        for image, label, structures, prediction, request in zip(
            images, masks, anatomy, painted, requests, strict=True
        ):
            real, new = image[0].numpy(), prediction[0].numpy()
            regions = dict(zip(self.classes, label.numpy() > 0, strict=True))
            self._measure(real, regions, new, request.numpy())
            structures = {name: part.numpy() > 0 for name, part in zip(self.anatomy, structures, strict=True)}
            self._compare(real, new, {**structures, **regions})
            if len(self.shown) < self.pictures:
                self.shown.append((image, prediction, label))
            self.count += 1
            self.bar.update()

    def _measure(
        self, real: np.ndarray, regions: Mapping[str, np.ndarray], painted: np.ndarray, request: np.ndarray
    ) -> None:
        lesion = np.logical_or.reduce(list(regions.values()))
        mean = real.copy()
        for mask in regions.values():
            mean[mask] = real[mask].mean() if mask.any() else 0
        fillings = dict(zip(FILLINGS, (painted, fill_from_surroundings(real, lesion), mean), strict=True))
        for (name, mask), wanted in zip(regions.items(), request, strict=True):
            if not mask.any():
                continue
            own = lesion_histogram(torch.from_numpy(real), torch.from_numpy(mask)).numpy()
            for filling, filled in fillings.items():
                achieved = lesion_histogram(torch.from_numpy(filled), torch.from_numpy(mask)).numpy()
                ssim_crop, ssim_lesion = ssim(real, filled, mask)
                spread = real[mask].std()
                self.rows.append(
                    {
                        "lesion": self.count,
                        "class": name,
                        "filling": filling,
                        "voxels": int(mask.sum()),
                        "psnr_crop": psnr(real, filled),
                        "psnr_lesion": psnr(real, filled, mask),
                        "ssim_crop": ssim_crop,
                        "ssim_lesion": ssim_lesion,
                        "distance_to_request": histogram_distance(wanted, achieved) if wanted.sum() > 0 else np.nan,
                        "distance_to_real": histogram_distance(own, achieved),
                        "mean_difference": float((filled[mask].mean() - real[mask].mean()) * self.unit),
                        "spread_ratio": float(filled[mask].std() / spread) if spread > 1e-6 else np.nan,
                        "max_outside": float(np.abs(filled[~lesion] - real[~lesion]).max()),
                    }
                )

    def _compare(self, real: np.ndarray, painted: np.ndarray, regions: Mapping[str, np.ndarray]) -> None:
        """Whether darker is darker, for each pair of regions that the lesion has."""
        for dark, bright in self.contrasts:
            if regions[dark].any() and regions[bright].any():
                order = [bool(v[regions[dark]].mean() < v[regions[bright]].mean()) for v in (real, painted)]
                self.ordered.setdefault(f"{dark} < {bright}", []).append((order[0], order[1]))

    def summary(self, lesion_class: str) -> dict[str, dict[str, float]]:
        """Means over the lesions that have a class, per filling; of ``mean_difference`` the mean of absolute values,
        of ``max_outside`` the largest. A lesion without a value for a measure (equal images, no spread) is left out
        of that measure."""
        out: dict[str, dict[str, float]] = {}
        for filling in FILLINGS:
            rows = [row for row in self.rows if row["filling"] == filling and row["class"] == lesion_class]
            if not rows:
                continue
            names = [name for name in rows[0] if name not in ("lesion", "class", "filling", "voxels")]
            values: Mapping[str, np.ndarray] = {name: np.array([row[name] for row in rows]) for name in names}
            finite = {name: value[np.isfinite(value)] for name, value in values.items()}
            out[filling] = {name: float(value.mean()) if value.size else np.nan for name, value in finite.items()}
            out[filling]["mean_difference"] = float(np.abs(values["mean_difference"]).mean())
            out[filling]["max_outside"] = float(values["max_outside"].max())
        return out

    def write(self, engine: Engine) -> None:
        """Writes the files and prints the means."""
        from ..panels import save_sample_grid  # here, since matplotlib is needed for pictures alone

        summaries = {name: summary for name in self.classes if (summary := self.summary(name))}
        counts = {name: sum(row["class"] == name for row in self.rows) // len(FILLINGS) for name in summaries}
        for name, summary in summaries.items():
            prefix = "" if len(self.classes) == 1 else f"{name}_"
            engine.state.metrics.update({prefix + key: value for key, value in summary["painted"].items()})
        contrasts = {
            pair: {
                "lesions": len(order),
                "real": np.mean([a for a, _ in order]),
                "painted": np.mean([b for _, b in order]),
            }
            for pair, order in self.ordered.items()
        }

        def write_rows(path: Path) -> None:
            with open(path, "w", newline="") as stream:
                writer = csv.DictWriter(stream, fieldnames=list(self.rows[0]))
                writer.writeheader()
                writer.writerows(self.rows)

        content = {
            "lesions": self.count,
            "classes": {
                name: {"lesions": counts[name], "fillings": _finite(summary)} for name, summary in summaries.items()
            },
            "contrasts": contrasts,
        }
        text = json.dumps(content, indent=2) + "\n"
        write_atomically(self.output_dir / "metrics.csv", write_rows)
        write_atomically(self.output_dir / "lesions.png", lambda path: save_sample_grid(self.shown, path))
        write_atomically(self.output_dir / "summary.json", lambda path: path.write_text(text))
        for name, summary in summaries.items():
            title = "measure" if len(self.classes) == 1 else f"{name} ({counts[name]})"
            print(f"{title:22s}" + "".join(f"{filling:>14s}" for filling in summary))
            for measure in summary["painted"]:
                print(f"{measure:22s}" + "".join(f"{summary[filling][measure]:14.4f}" for filling in summary))
        for pair, found in contrasts.items():
            shares = f"{found['painted']:.0%} of the painted, {found['real']:.0%} of the real"
            print(f"{pair}: {shares}, of {found['lesions']} lesions")
        print(f"{self.count} lesions; files in {self.output_dir}")


def _finite(summary: Mapping[str, Mapping[str, float]]) -> dict[str, dict[str, float | None]]:
    """JSON knows neither NaN nor infinity."""
    return {
        filling: {name: value if np.isfinite(value) else None for name, value in values.items()}
        for filling, values in summary.items()
    }

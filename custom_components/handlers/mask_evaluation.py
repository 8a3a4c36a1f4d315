"""How far drawn masks' smallest enclosing spheres are from the control spheres they were drawn for."""

from __future__ import annotations

import json

import numpy as np
import torch
from ignite.engine import Engine

from ..files import write_atomically
from ..masks import bounding_sphere, tidy_masks
from .evaluation_results import EvaluationResults

__all__ = ["MaskEvaluation"]


class MaskEvaluation(EvaluationResults):
    """Measures each mask that the evaluator draws on the model's grid and writes ``masks.json``.

    Args:
        output_dir: folder of the file.
        overwrite: replace an earlier one.

    The batch holds ``sphere`` and ``control`` (N, 4), centre and radius in mm, and ``masks`` with their affines.
    """

    main_file = "masks.json"

    def __call__(self, engine: Engine) -> None:
        batch = engine.state.batch
        drawn = torch.as_tensor(engine.state.output["pred"]).float().cpu().numpy()
        for values, real, control in zip(drawn, batch["masks"], batch["control"], strict=True):
            mask = tidy_masks(values).any(axis=0)
            row = {"radius_mm": float(control[3]), "empty": not mask.any()}
            if mask.any():
                centre, radius = bounding_sphere(mask, np.asarray(real.affine, dtype=np.float64))
                row["centre_error_mm"] = float(np.linalg.norm(centre - np.asarray(control[:3])))
                row["radius_error_mm"] = radius - row["radius_mm"]
                row["volume_ratio"] = float(mask.sum() / max(1, (torch.as_tensor(real) > 0).any(dim=0).sum()))
            self.rows.append(row)

    def write(self, engine: Engine) -> None:
        """Writes the rows and their medians, and prints the medians."""
        names = ("centre_error_mm", "radius_error_mm", "volume_ratio")
        found = {name: [abs(row[name]) for row in self.rows if name in row] for name in names}
        summary = {f"{name}_median": float(np.median(values)) for name, values in found.items() if values}
        summary |= {"masks": len(self.rows), "empty": sum(row["empty"] for row in self.rows)}
        text = json.dumps({"summary": summary, "masks": self.rows}, indent=2) + "\n"
        write_atomically(self.output_dir / self.main_file, lambda path: path.write_text(text))
        print(json.dumps(summary, indent=2))

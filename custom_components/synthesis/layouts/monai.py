"""The layout that MONAI's data lists describe."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from .folds import folds_of
from .plain import PlainLayout

__all__ = ["MONAILayout"]


class MONAILayout(PlainLayout):
    """The plain folders and a ``datalist.json`` in the form of the Medical Segmentation Decathlon.

    ``monai.data.load_decathlon_datalist`` reads it, and so does a bundle's ``dataset_dir``. Every entry of
    ``training`` has ``image``, ``label``, ``instances`` and ``sidecar`` (relative to the file), ``case``, ``patient``
    (the scan, so that no split parts the cases of one) and ``fold`` for a cross-validation.
    """

    name = "monai"

    def documents(self, records: Sequence[Mapping[str, Any]]) -> dict[Path, str]:
        """``datalist.json``."""
        content = {
            "name": self.title,
            "description": "SYNTHETIC lesions painted into real scans by LeFusion-MONAI; research use only",
            "licence": "that of the source scans and of the model's weights",
            "tensorImageSize": "3D",
            "modality": {"0": self.modality},
            "labels": {"0": "background", **{str(value): name for name, value in self.label_values.items()}},
            "numTraining": len(records),
            "numTest": 0,
            "training": [
                {
                    **{role: record["files"][role] for role in ("image", "label", "instances", "sidecar")},
                    "case": record["case"],
                    "patient": record["scan"],
                    "fold": fold,
                }
                for record, fold in zip(records, folds_of(records), strict=True)
            ],
            "test": [],
        }
        return {self.root / "datalist.json": json.dumps(content, indent=2) + "\n"}

"""The raw data set of nnU-Net v2."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ...errors import InputError
from ...labels import LesionLabels
from .folds import FOLDS, folds_of
from .layout import Layout
from .names import PORTABLE, file_name

__all__ = ["NNUNetLayout"]

NUMBER = 500  # of a set whose title has none; small ones belong to the Decathlon and to published sets
RESERVED = ("background", "ignore")  # label names with a meaning of their own


class NNUNetLayout(Layout):
    """A folder that nnU-Net v2 takes as ``nnUNet_raw``: ``Dataset500_LeFusion/{imagesTr,labelsTr,dataset.json}``.

    Everything nnU-Net does not know lies in ``extras``, beside the data set. There is also a ``splits_final.json``,
    which, copied to the data set's folder in ``nnUNet_preprocessed``, keeps the cases of one scan in one fold.

    nnU-Net wants label values 1, 2, ... without a gap: the lesion classes get theirs in the order of their values in
    ``labels``.

    Args:
        title: ``Dataset042_Name`` with a number of three digits, or a name alone.
        others: see :class:`Layout`.

    Raises:
        InputError: for a lesion class called ``background`` or ``ignore``.
    """

    name = "nnunet"

    def __init__(self, root: str | Path, labels: LesionLabels, title: str = "LeFusion", **others: Any) -> None:
        super().__init__(root, labels, title, **others)
        for name in labels.names:
            if name in RESERVED:
                raise InputError(f"layout nnunet takes no lesion class {name!r}: that label has a meaning of its own.")
        numbered = re.fullmatch(r"Dataset\d{3}_.+", title)
        self.folder = self.root / file_name(title if numbered else f"Dataset{NUMBER}_{title}", PORTABLE)

    @property
    def label_values(self) -> dict[str, int]:
        """Lesion class -> 1, 2, ... in the order of the values in ``labels``."""
        ordered = sorted(self.labels.classes, key=lambda name: self.labels.classes[name])
        return {name: ordered.index(name) + 1 for name in self.labels.classes}

    def paths(self, case: str) -> dict[str, Path]:
        stem, extras = file_name(case, PORTABLE), self.root / "extras"
        return {
            "image": self.folder / "imagesTr" / f"{stem}_0000.nii.gz",
            "label": self.folder / "labelsTr" / f"{stem}.nii.gz",
            "instances": extras / "instances" / f"{stem}.nii.gz",
            "panel": extras / "panels" / f"{stem}.png",
            "sidecar": extras / "sidecars" / f"{stem}.json",
        }

    def documents(self, records: Sequence[Mapping[str, Any]]) -> dict[Path, str]:
        """``dataset.json`` and, with enough scans, ``splits_final.json``."""
        labels = sorted(self.label_values.items(), key=lambda entry: entry[1])
        content = {
            "channel_names": {"0": self.modality},
            "labels": {"background": 0, **dict(labels)},
            "numTraining": len(records),
            "file_ending": ".nii.gz",
            "name": self.folder.name,
            "description": "SYNTHETIC lesions painted into real scans by LeFusion-MONAI; research use only",
            "licence": "that of the source scans and of the model's weights",
        }
        documents = {self.folder / "dataset.json": json.dumps(content, indent=2) + "\n"}
        if len({record["scan"] for record in records}) >= FOLDS:
            documents[self.root / "extras" / "splits_final.json"] = json.dumps(self._splits(records), indent=2) + "\n"
        return documents

    def _splits(self, records: Sequence[Mapping[str, Any]]) -> list[dict[str, list[str]]]:
        """Case identifiers of the two parts of each fold."""
        pairs = list(zip((file_name(record["case"], PORTABLE) for record in records), folds_of(records), strict=True))
        return [
            {
                "train": [name for name, fold in pairs if fold != number],
                "val": [name for name, fold in pairs if fold == number],
            }
            for number in range(FOLDS)
        ]

"""What every layout of a synthetic data set promises."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ...files import write_atomically
from ...labels import LesionLabels

__all__ = ["ROLES", "Layout"]

# The files of a case. The sidecar is written last: a case that has it is complete.
ROLES = ("image", "label", "instances", "panel", "sidecar")


class Layout(ABC):
    """Names the files of each case, and writes what the whole set needs when all cases are there.

    Every path lies within ``root``, is valid whatever the case is called, and no two cases share one;
    ``root/manifest.jsonl`` is not among them.

    Args:
        root: folder of the set.
        labels: the meaning of the label maps.
        title: name of the set, where the convention asks for one.
        modality: of the images: ``CT`` where values are HU, else the modality's name.
        source: the input that the set was made from, where the convention asks for it.
    """

    name: str

    def __init__(
        self,
        root: str | Path,
        labels: LesionLabels,
        title: str = "LeFusion",
        modality: str = "CT",
        source: str | Path | None = None,
    ) -> None:
        self.root, self.labels, self.title = Path(str(root)), labels, title
        self.modality, self.source = modality, source

    @abstractmethod
    def paths(self, case: str) -> dict[str, Path]:
        """The files of a case, one for each of ``ROLES``."""

    @abstractmethod
    def documents(self, records: Sequence[Mapping[str, Any]]) -> dict[Path, str]:
        """The set's own files (``dataset.json``, ``datalist.json``, ...): what each holds.

        It depends on the manifest's records alone, which are those of all complete cases in the order of their names.
        """

    @property
    def label_values(self) -> dict[str, int]:
        """Lesion class -> its value in the label files: that of ``labels``, unless the convention has its own rules."""
        return dict(self.labels.classes)

    def stored_label(self, label: np.ndarray) -> np.ndarray:
        """A label map as it is to be written.

        Args:
            label: whole numbers of any shape with the values of ``labels``.

        Returns:
            uint8 of the same shape: ``label_values``, and 0 where no lesion is.
        """
        table = np.zeros(256, dtype=np.uint8)
        for name, value in self.labels.classes.items():
            table[value] = self.label_values[name]
        return table[label]

    def case_folders(self) -> list[Path]:
        """The folders that hold cases' files, and beside these at most ``documents``."""
        return sorted({path.parent for path in self.paths("case").values()})

    def finish(self, records: Sequence[Mapping[str, Any]]) -> None:
        """Writes the set's own files from the manifest's records.

        Called after every run with all complete cases, in the order of their names; replaces what it wrote before.
        """
        for path, text in self.documents(records).items():
            content = text.encode()
            if not path.is_file() or path.read_bytes() != content:
                write_atomically(path, lambda temporary, content=content: temporary.write_bytes(content))

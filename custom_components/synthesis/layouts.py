"""Where the files of a synthetic data set lie, so that what reads it next finds them: one class a convention."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ..labels import LesionLabels

__all__ = ["ROLES", "Layout", "PlainLayout"]

# The files of a case. The sidecar is written last: a case that has it is complete.
ROLES = ("image", "label", "instances", "panel", "sidecar")


class Layout(ABC):
    """Names the files of each case, and writes what the whole set needs when all cases are there.

    Every path lies within ``root``, no two cases share one, and ``root/manifest.jsonl`` is not among them.

    Args:
        root: folder of the set.
        labels: the meaning of the label maps.
        title: name of the set, where the convention asks for one.
    """

    name: str

    def __init__(self, root: str | Path, labels: LesionLabels, title: str = "LeFusion") -> None:
        self.root, self.labels, self.title = Path(str(root)), labels, title

    @abstractmethod
    def paths(self, case: str) -> dict[str, Path]:
        """The files of a case, one for each of ``ROLES``."""

    @abstractmethod
    def finish(self, records: Sequence[Mapping[str, Any]]) -> None:
        """Writes the set's own files (``dataset.json``, ``datalist.json``, ...) from the manifest's records.

        Called after every run with all complete cases, in the order of their names; replaces what it wrote before.
        """


class PlainLayout(Layout):
    """A folder for each kind of file, and the case's name: ``images/a.nii.gz``, ``labels/a.nii.gz``, ..."""

    name = "plain"

    def paths(self, case: str) -> dict[str, Path]:
        folders = {
            "image": ("images", "nii.gz"),
            "label": ("labels", "nii.gz"),
            "instances": ("instances", "nii.gz"),
            "panel": ("panels", "png"),
            "sidecar": ("sidecars", "json"),
        }
        return {role: self.root / folder / f"{case}.{ending}" for role, (folder, ending) in folders.items()}

    def finish(self, records: Sequence[Mapping[str, Any]]) -> None:
        """Nothing more: the manifest says it all."""

"""The plain layout."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from .layout import Layout
from .names import file_name

__all__ = ["PlainLayout"]


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
        stem = file_name(case)
        return {role: self.root / folder / f"{stem}.{ending}" for role, (folder, ending) in folders.items()}

    def documents(self, records: Sequence[Mapping[str, Any]]) -> dict[Path, str]:
        """Nothing more: the manifest says it all."""
        return {}

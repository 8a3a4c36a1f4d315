"""The weights a bundle can run with: its own, and those trained here."""

from __future__ import annotations

import re
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from custom_components.errors import InputError
from custom_components.files import write_atomically

from .options import read_choice

__all__ = ["OWN", "WeightsFolder"]

OWN = "bundle"  # stands for the weights that the bundle brings along


class WeightsFolder:
    """Weights trained by this app, a file for each name.

    Args:
        folder: where they lie; created with the first ones.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)

    def names(self) -> list[str]:
        """All weights to choose from, the bundle's own first."""
        return [OWN, *sorted(path.stem for path in self.folder.glob("*.pt"))]

    def chosen(self, request: Mapping[str, Any]) -> Path | None:
        """The file that a request's ``weights`` names; None for the bundle's own.

        Raises:
            InputError: for an unknown name.
        """
        name = read_choice(request, "weights", self.names())
        return None if name == OWN else self.folder / f"{name}.pt"

    def new_name(self, request: Mapping[str, Any]) -> str:
        """The name that a training gives its weights: the request's ``name``, or ``trained_1``, ``trained_2``, ...

        Raises:
            InputError: for a name that is taken or does not do as a file name.
        """
        name = str(request.get("name") or "").strip()
        if not name:
            number = 1
            while f"trained_{number}" in self.names() or self.run(f"trained_{number}").exists():
                number += 1
            return f"trained_{number}"
        if not re.fullmatch(r"\w[\w-]*", name, re.ASCII):
            raise InputError(f"name must consist of letters, digits, _ and -, got {name!r}.")
        if name in self.names() or self.run(name).exists():
            raise InputError(f"weights named {name!r} exist already: choose another name.")
        return name

    def run(self, name: str) -> Path:
        """The folder of the training that makes the weights of a name."""
        return self.folder / "runs" / name

    def add(self, name: str, source: Path) -> None:
        """Takes over the weights of a finished training."""
        write_atomically(self.folder / f"{name}.pt", lambda path: shutil.copyfile(source, path))

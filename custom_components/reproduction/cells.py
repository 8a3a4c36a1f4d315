"""A cell of the grid: a folder, the commands that fill it, and what became of them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..files import write_atomically

__all__ = ["Cell", "Step", "write_record"]

COMMANDS = "lefusion_scripts.cli"


@dataclass(frozen=True)
class Step:
    """A process of a cell.

    Attributes:
        name: within the cell.
        arguments: of the command.
        module: what Python runs; the ``lefusion`` command by default.
        checkpoint: a training's latest checkpoint: where it exists, the training goes on from it.
        needs: without this file there is nothing to do.
        output: folder that it alone writes; what another command has left there is removed.
        accepted: exit codes with which it has done its work.
    """

    name: str
    arguments: tuple[str, ...]
    module: str = COMMANDS
    checkpoint: Path | None = None
    needs: Path | None = None
    output: Path | None = None
    accepted: tuple[int, ...] = (0,)

    @property
    def command(self) -> list[str]:
        """After the name of the Python."""
        return ["-m", self.module, *self.arguments]


@dataclass(frozen=True)
class Cell:
    """A cell.

    Attributes:
        id: kind, data set, fold and what it is of, with slashes; its folder below the work folder.
        steps: the processes that fill it, in order.
        needs: ids of the cells whose files it reads.
        about: method, seed, fold, budget and whatever else is to be recorded.
        read: how its result is read: a name that :func:`~.results.read_result` knows.
        like: cells of which this is the same cost as much for each unit.
        units: how much is to be done: optimiser steps of a training, cases of a set.
        effort: kind of training and number of its steps that cost about as much as the cell; None where nothing is
            known to.
    """

    id: str
    steps: tuple[Step, ...]
    needs: tuple[str, ...] = ()
    about: Mapping[str, Any] = field(default_factory=dict)
    read: str = "nothing"
    like: str = ""
    units: float = 1.0
    effort: tuple[str, float] | None = None

    @property
    def kind(self) -> str:
        """generator, set, warm_up, segmenter or quality."""
        return self.id.split("/")[0]

    def folder(self, work: Path) -> Path:
        """Where it lies."""
        return work / self.id

    def result(self, work: Path) -> dict[str, Any] | None:
        """What was found; None where the cell is not complete."""
        path = self.folder(work) / "result.json"
        return json.loads(path.read_text()) if path.is_file() else None


def write_record(path: Path, content: Mapping[str, Any]) -> None:
    """Writes a JSON for people to read, which appears whole or not at all."""
    text = json.dumps(content, indent=2) + "\n"
    write_atomically(path, lambda temporary: temporary.write_text(text))

"""What is left of a grid costs: from the cells that are complete, and else from a few measured steps."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from .cells import Cell

__all__ = ["Costs", "duration"]


class Costs:
    """Seconds of a cell, estimated from complete cells that are alike.

    Args:
        work: folder of the grid.
        cells: all of it.
        measured: kind of cells (see :attr:`~.cells.Cell.like`) -> seconds a unit and at the start, for kinds of which
            no cell is complete.
    """

    def __init__(
        self, work: Path, cells: Sequence[Cell], measured: dict[str, tuple[float, float]] | None = None
    ) -> None:
        self.measured = measured or {}
        seconds: dict[str, list[float]] = defaultdict(list)
        for cell in cells:
            result = cell.result(work)
            if result is not None:
                seconds[cell.like].append(result["seconds"] / max(cell.units, 1e-9))
        self.per_unit = {kind: float(np.mean(values)) for kind, values in seconds.items()}

    def of(self, cell: Cell) -> float | None:
        """Seconds of a cell; None where nothing like it is known."""
        if cell.like in self.per_unit:
            return self.per_unit[cell.like] * cell.units
        if cell.like in self.measured:
            unit, start = self.measured[cell.like]
            return unit * cell.units + start
        if cell.effort is not None:
            kind, steps = cell.effort
            unit, start = self.measured.get(kind, (self.per_unit.get(kind), 0.0))
            if unit is not None:
                return unit * steps + start
        near = [value for kind, value in self.per_unit.items() if kind.split("/")[:2] == cell.like.split("/")[:2]]
        return float(np.mean(near)) * cell.units if near else None

    def left(self, cells: Sequence[Cell]) -> float | None:
        """Seconds of several cells; None where one of them is not known."""
        each = [self.of(cell) for cell in cells]
        return None if None in each else float(sum(each))


def duration(seconds: float) -> str:
    """In words: 40 s, 12 min, 3.4 h, 12 d."""
    for limit, size, unit in ((120, 1, "s"), (7200, 60, "min"), (172800, 3600, "h")):
        if seconds < limit:
            return f"{seconds / size:.3g} {unit}" if unit == "h" else f"{round(seconds / size)} {unit}"
    return f"{seconds / 86400:.3g} d"

"""All cells of a table, each once, in an order in which every cell comes after those it needs."""

from __future__ import annotations

from collections.abc import Sequence

from ..errors import InputError
from .cells import Cell
from .generators import generator_cell
from .paper import PaperTable, Row
from .plan import Plan
from .qualities import quality_cell
from .segmenters import segmenter_cell
from .sets import MASKS_OF, set_cell

__all__ = ["chosen_rows", "list_cells", "row_cells"]


def chosen_rows(table: PaperTable, methods: Sequence[str] | None) -> list[Row]:
    """The rows that the methods take part in, and the baseline.

    Raises:
        InputError: for a method that the table does not have.
    """
    known = sorted({name for row in table.rows for name in row.methods})
    for name in methods or ():
        if name not in known:
            raise InputError(f"methods of table {table.name} are {', '.join(known)}, got {name!r}.")
    return [row for row in table.rows if methods is None or row.methods <= set(methods)]


def row_cells(plan: Plan, table: PaperTable, row: Row, segmenter: str | None) -> list[Cell]:
    """The cells whose results make up an entry of a table: one for each fold and seed."""
    if table.kind == "quality":
        return [quality_cell(plan, fold, row.method) for fold in plan.folds]
    return [segmenter_cell(plan, fold, row, segmenter, seed) for fold in plan.folds for seed in range(plan.seeds)]


def list_cells(plan: Plan, table: PaperTable) -> list[Cell]:
    """The cells of a table for the plan's methods."""
    cells: dict[str, Cell] = {}

    def add(cell: Cell | None) -> None:
        if cell is not None:
            cells.setdefault(cell.id, cell)

    rows = chosen_rows(table, plan.methods)
    for fold in plan.folds:
        for row in rows:
            for name in sorted(row.methods):
                add(generator_cell(plan, fold, name))
            for name in row.sets:
                if len(plan.method(name.method).passes) > 1 and name.masks != "given":
                    add(set_cell(plan, fold, name._replace(method=MASKS_OF)))
                add(set_cell(plan, fold, name))
    for row in rows:
        for segmenter in plan.segmenters if table.kind == "segmentation" else (None,):
            for cell in row_cells(plan, table, row, segmenter):
                add(cell)
    order = {"generator": 0, "set": 1, "segmenter": 2, "quality": 2}
    return sorted(cells.values(), key=lambda cell: order[cell.kind])

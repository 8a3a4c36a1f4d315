"""All cells of a table, each once, in an order in which every cell comes after those it needs."""

from __future__ import annotations

from ..errors import InputError
from .cells import Cell
from .generators import generator_cell
from .paper import PaperTable, Row
from .plan import Plan
from .qualities import quality_cell
from .segmenters import segmenter_cell, warm_up_cell
from .sets import MASKS_OF, set_cell

__all__ = ["chosen_rows", "list_cells", "row_cells"]


def chosen_rows(plan: Plan, table: PaperTable) -> list[Row]:
    """The rows that the plan's methods take part in, and the baseline; of these, those of its settings.

    Raises:
        InputError: for a method or a setting that the table does not have.
    """
    known = {
        "methods": sorted({name for row in table.rows for name in row.methods}),
        "settings": list(dict.fromkeys(row.key for row in table.rows)),
    }
    for key, given in (("methods", plan.methods), ("settings", plan.settings)):
        for name in given or ():
            if name not in known[key]:
                raise InputError(f"{key} of table {table.name} are {', '.join(known[key])}, got {name!r}.")
    rows = [row for row in table.rows if plan.methods is None or row.methods <= set(plan.methods)]
    return [row for row in rows if plan.settings is None or row.key in plan.settings]


def row_cells(plan: Plan, table: PaperTable, row: Row, segmenter: str | None) -> list[Cell]:
    """The cells whose results make up an entry of a table: one for each fold and seed."""
    if table.kind == "quality":
        return [quality_cell(plan, fold, row.method) for fold in plan.folds]
    return [segmenter_cell(plan, fold, row, segmenter, seed) for fold in plan.folds for seed in range(plan.seeds)]


def list_cells(plan: Plan, table: PaperTable) -> list[Cell]:
    """The cells of a table for the plan's methods and settings."""
    cells: dict[str, Cell] = {}

    def add(cell: Cell | None) -> None:
        if cell is not None:
            cells.setdefault(cell.id, cell)

    rows = chosen_rows(plan, table)
    for fold in plan.folds:
        for row in rows:
            for name in sorted(row.methods):
                add(generator_cell(plan, fold, name))
            for name in row.sets:
                if len(plan.method(name.method).passes) > 1 and name.masks != "given":
                    add(generator_cell(plan, fold, MASKS_OF))
                    add(set_cell(plan, fold, name._replace(method=MASKS_OF)))
                add(set_cell(plan, fold, name))
    for row in rows:
        for segmenter in plan.segmenters if table.kind == "segmentation" else (None,):
            for cell in row_cells(plan, table, row, segmenter):
                add(cell)
    for segmenter in plan.segmenters if table.kind == "segmentation" else ():
        for fold in plan.folds:
            for seed in range(plan.seeds):
                add(warm_up_cell(plan, fold, segmenter, seed))
    order = {"generator": 0, "set": 1, "warm_up": 2, "segmenter": 3, "quality": 3}
    return sorted(cells.values(), key=lambda cell: order[cell.kind])

"""The entries of a table: mean and spread over folds and seeds of what the cells have found."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from .grid import chosen_rows, row_cells
from .paper import Column, PaperTable, Row
from .plan import Plan
from .sets import set_cell

__all__ = ["Entry", "TableResults", "collect"]


PAIRED_NOTE = (
    "Every held-out lesion is repainted by its own mask, and by its own histogram where the method is told one. "
    "The paper does not tell over which voxels it measures; ours are given for the crop and for the lesion."
)
DISTANCE_NOTE = (
    "Ours are distances between features of the lesions (first-order, shape and texture, or those of the network "
    "named by --features), standardised by the training lesions; the paper's are distances between features of a "
    "network trained on photographs. The two cannot be compared with each other."
)
QUALITY_NOTES = {"A2": PAIRED_NOTE, "A3": DISTANCE_NOTE, "A4": DISTANCE_NOTE}


@dataclass(frozen=True)
class Entry:
    """What was found for a row and column, as it is shown.

    Attributes:
        values: of each run that has one, a run being a fold and, of segmenters, a seed.
        planned: how many runs there are to be.
    """

    values: tuple[float, ...]
    planned: int

    @property
    def mean(self) -> float | None:
        """None without a run."""
        return float(np.mean(self.values)) if self.values else None

    @property
    def spread(self) -> float | None:
        """Standard deviation (n - 1) over the runs; None with fewer than two."""
        return float(np.std(self.values, ddof=1)) if len(self.values) > 1 else None


@dataclass(frozen=True)
class TableResults:
    """A table with what was found.

    Attributes:
        table: the paper's.
        columns, rows: those that were run.
        entries: of each row, one for each column.
        notes: what a reader has to know.
    """

    table: PaperTable
    columns: Sequence[Column]
    rows: Sequence[Row]
    entries: Sequence[Sequence[Entry]]
    notes: Sequence[str]

    def paper(self, row: Row, column: Column) -> float | None:
        """The paper's number."""
        return row.values[list(self.table.columns).index(column)]


def collect(plan: Plan, table: PaperTable) -> TableResults:
    """Reads the results of all cells of a table that are complete."""
    rows = chosen_rows(table, plan.methods)
    columns = [one for one in table.columns if one.segmenter is None or one.segmenter in plan.segmenters]
    entries = []
    for row in rows:
        line = []
        for column in columns:
            found = [cell.result(plan.work) for cell in row_cells(plan, table, row, column.segmenter)]
            values = [
                result["measures"][column.measure] * column.scale
                for result in found
                if result is not None and result["measures"].get(column.measure) is not None
            ]
            line.append(Entry(tuple(values), len(found)))
        entries.append(line)
    return TableResults(table, columns, rows, entries, _notes(plan, table, rows))


def _notes(plan: Plan, table: PaperTable, rows: Sequence[Row]) -> list[str]:
    counts = [fold.counts for fold in plan.folds]
    words = "{train} to learn from, {val} to choose by, {test} held out, {normal} normal"
    cases = "; ".join(words.format(**count) for count in counts)
    runs = f"{len(plan.folds)} fold{'s' * (len(plan.folds) > 1)}"
    if table.kind == "segmentation":
        runs += f" x {plan.seeds} seed{'s' * (plan.seeds > 1)}"
    notes = [
        f"Ours: mean ± standard deviation over runs ({runs}), in brackets the number of runs. Cases by fold: {cases}.",
        f"Budget {plan.budget.name}: {plan.budget.content.get('description', 'no description')}",
        "The paper's numbers were measured on its own data, split and budget: compare differences between rows, "
        "rather than the numbers themselves.",
    ]
    names = {name.masks for row in rows for name in row.sets}
    if "diffmask" in names:
        notes.append(
            "DiffMask draws with the weights shipped with the mask bundle, which were trained on public lesion masks; "
            "masks of held-out cases, though no image of them, may be among these."
        )
    if table.kind == "quality":
        notes.append(QUALITY_NOTES[table.name])
    notes += [f"{row.label}, {row.setting or table.name}: {row.note}." for row in rows if row.note]
    notes += _failed_cases(plan, rows)
    return notes


def _failed_cases(plan: Plan, rows: Sequence[Row]) -> list[str]:
    """Sets that lack cases."""
    told = []
    for name in dict.fromkeys(name for row in rows for name in row.sets):
        for fold in plan.folds:
            result = set_cell(plan, fold, name).result(plan.work)
            if result and result["failed"]:
                told.append(f"{name} of fold {fold.number} lacks {result['failed']} cases that could not be made.")
    return told

"""The entries of a table: mean and spread over folds and seeds of what the cells have found."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from .grid import chosen_rows, row_cells
from .paper import Column, PaperTable, Row
from .plan import Plan
from .segmenters import warm_up_cell
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
        runs: the value of each run that there is to be, a run being a fold and, of segmenters, a seed; None where it
            has none.
    """

    runs: tuple[float | None, ...]

    @property
    def values(self) -> tuple[float, ...]:
        """Of the runs that have one."""
        return tuple(value for value in self.runs if value is not None)

    @property
    def planned(self) -> int:
        """How many runs there are to be."""
        return len(self.runs)

    @property
    def mean(self) -> float | None:
        """None without a run."""
        return float(np.mean(self.values)) if self.values else None

    @property
    def spread(self) -> float | None:
        """Standard deviation (n - 1) over the runs; None with fewer than two."""
        return float(np.std(self.values, ddof=1)) if len(self.values) > 1 else None

    def __sub__(self, other: Entry) -> Entry:
        """Run by run, the difference of two entries: of the same fold and seed, it varies less than either."""
        pairs = zip(self.runs, other.runs, strict=True)
        return Entry(tuple(None if None in pair else pair[0] - pair[1] for pair in pairs))


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
    """Reads the results of all cells of a table that are complete.

    Besides the plan's rows and segmenters, the table shows those of which an earlier command has results.
    """
    chosen, known = chosen_rows(plan, table), (None, *plan.budget.segmenters(plan.experiment.name))
    columns = [column for column in table.columns if column.segmenter in known]
    lines = {row: [_entry(plan, table, row, column) for column in columns] for row in table.rows}
    rows = [row for row in table.rows if row in chosen or any(entry.values for entry in lines[row])]
    shown = [
        place
        for place, column in enumerate(columns)
        if column.segmenter in (None, *plan.segmenters) or any(lines[row][place].values for row in rows)
    ]
    entries = [[lines[row][place] for place in shown] for row in rows]
    return TableResults(table, [columns[place] for place in shown], rows, entries, _notes(plan, table, rows))


def _entry(plan: Plan, table: PaperTable, row: Row, column: Column) -> Entry:
    runs: list[float | None] = []
    for cell in row_cells(plan, table, row, column.segmenter):
        result = cell.result(plan.work)
        value = None if result is None else result["measures"].get(column.measure)
        runs.append(None if value is None else value * column.scale)
    return Entry(tuple(runs))


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
    if table.kind == "segmentation" and any(
        warm_up_cell(plan, fold, s, 0) for s in plan.segmenters for fold in plan.folds
    ):
        notes.append(
            "Before the settings part, each segmenter was trained on the real cases alone; all settings of a fold and "
            "seed, the baseline too, go on from the same weights for as many steps."
        )
    names = {name.masks for row in rows for name in row.sets}
    if "diffmask" in names:
        notes.append(
            "DiffMask draws with the weights shipped with the mask bundle, which were trained on public lesion masks; "
            "masks of held-out cases, though no image of them, may be among these."
        )
    if any(column.measure.endswith("/nsd") for column in table.columns):
        notes.append("NSD is measured at the segmentation bundle's nsd_tolerance_mm; the paper does not tell its own.")
    if table.kind == "quality":
        notes.append(QUALITY_NOTES[table.name])
        single = [row.label for row in rows if len(plan.method(row.method).passes) > 1 and table.name == "A2"]
        notes += [f"{label} repaints one class at a time: the rest of its crop is the real one." for label in single]
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

"""The paper's tables: what they compare, and the numbers printed in them."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from ..errors import InputError

__all__ = ["Column", "PaperTable", "Row", "SetName", "read_table", "table_names"]

FILE = Path(__file__).with_name("paper_tables.json")


class SetName(NamedTuple):
    """A synthetic set: the method that paints it, the source of its masks, and P1, N1 or N2 (P', N', N'')."""

    method: str
    masks: str
    set: str

    def __str__(self) -> str:
        return "-".join(self)


@dataclass(frozen=True)
class Column:
    """A measure.

    Attributes:
        measure: class and measure, such as ``lesion/dice``.
        title: what it is called here.
        paper_title: what it is called in the paper; differs where that measures something else, None where it measures
            nothing like it.
        unit: of the numbers shown.
        scale: from the measured number to the one shown.
        better: ``higher`` or ``lower``.
        segmenter: which one it is measured on; None for image quality.
    """

    measure: str
    title: str
    unit: str
    scale: float
    better: str
    paper_title: str | None
    segmenter: str | None = None


@dataclass(frozen=True)
class Row:
    """A line of a table.

    Attributes:
        label: the method as printed.
        values: the paper's number in each column; None where it prints none.
        group: the heading it stands below.
        setting: the training setting as printed, such as P+P'.
        sets: what is added to the real training cases.
        method: whose image quality is measured.
        note: what has to be said of the line.
    """

    label: str
    values: tuple[float | None, ...]
    group: str | None = None
    setting: str | None = None
    sets: tuple[SetName, ...] = ()
    method: str | None = None
    note: str | None = None

    @property
    def key(self) -> str:
        """What stands for the line in folder names: the method, or the training setting."""
        return self.method if self.method is not None else "+".join(["P", *(str(name) for name in self.sets)])

    @property
    def methods(self) -> set[str]:
        """The methods that take part."""
        return {name.method for name in self.sets} | ({self.method} if self.method else set())


@dataclass(frozen=True)
class PaperTable:
    """A table for one data set; ``kind`` is ``segmentation`` or ``quality``."""

    name: str
    title: str
    kind: str
    dataset: str
    columns: tuple[Column, ...]
    rows: tuple[Row, ...]


def table_names() -> dict[str, tuple[str, ...]]:
    """Each table's data sets."""
    return {name: tuple(about["datasets"]) for name, about in json.loads(FILE.read_text()).items()}


def read_table(name: str, dataset: str) -> PaperTable:
    """A table by its number in the paper.

    Raises:
        InputError: for a table that the paper does not have for that data set.
    """
    names = table_names()
    if name not in names:
        raise InputError(f"table must be one of {', '.join(names)}, got {name!r}.")
    if dataset not in names[name]:
        raise InputError(f"table {name} is one of {' and '.join(names[name])}, not of {dataset}.")
    about = json.loads(FILE.read_text())[name]
    part = about["datasets"][dataset]
    columns = tuple(Column(**{"paper_title": column["title"], **column}) for column in part["columns"])
    rows = tuple(
        Row(**{**row, "values": tuple(row["values"]), "sets": tuple(SetName(**one) for one in row.get("sets", ()))})
        for row in part["rows"]
    )
    return PaperTable(name, about["title"], about["kind"], dataset, columns, rows)

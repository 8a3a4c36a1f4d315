"""Our table beside the paper's: in the terminal, as Markdown and as CSV."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence

from .entries import Entry, TableResults

__all__ = ["as_csv", "as_markdown", "as_text", "number_words", "title_of"]

EMPTY = "–"


def entry_words(entry: Entry) -> str:
    """Such as ``78.3 ± 1.2 (6)``; of an incomplete entry, how many of how many runs."""
    runs = str(len(entry.values)) if len(entry.values) == entry.planned else f"{len(entry.values)} of {entry.planned}"
    if entry.mean is None:
        return EMPTY if not entry.planned else f"{EMPTY} ({runs})"
    spread = "" if entry.spread is None else f" ± {number_words(entry.spread, abs(entry.mean))}"
    return f"{number_words(entry.mean)}{spread} ({runs})"


def number_words(value: float, size: float | None = None) -> str:
    """Two decimals, more where the number (or the one of that size that it belongs to) is small."""
    return f"{value:.2f}" if (abs(value) if size is None else size) >= 1 or value == 0 else f"{value:.3g}"


def _cells(results: TableResults) -> tuple[list[str], list[tuple[str | None, list[str]]]]:
    """The header, and each row with the group it stands below."""
    segmentation = results.table.kind == "segmentation"
    header = ["Method", *(["Setting"] if segmentation else [])]
    for column in results.columns:
        header.append(f"{column.title}{f' ({column.unit})' if column.unit else ''}")
        if column.paper_title is not None:
            header.append("paper" if column.paper_title == column.title else f"paper: {column.paper_title}")
    rows = []
    for row, entries in zip(results.rows, results.entries, strict=True):
        line = [row.label.replace(" (Ours)", ""), *([row.setting] if segmentation else [])]
        for column, entry in zip(results.columns, entries, strict=True):
            line.append(entry_words(entry))
            if column.paper_title is not None:
                value = results.paper(row, column)
                line.append(EMPTY if value is None else f"{value:.2f}")
        rows.append((row.group, line))
    return header, rows


def title_of(results: TableResults) -> str:
    """The table's heading."""
    return f"Table {results.table.name}: {results.table.title} ({results.table.dataset})"


def as_markdown(results: TableResults) -> str:
    """The table with its notes."""
    header, rows = _cells(results)
    first = 2 if results.table.kind == "segmentation" else 1
    lines = [f"# {title_of(results)}", "", _line(header)]
    lines.append(_line(["---"] * first + ["---:"] * (len(header) - first)))
    group = None
    for own, line in rows:
        if own != group:
            lines.append(_line([f"*{own}*"] + [""] * (len(header) - 1)))
            group = own
        lines.append(_line(line))
    return "\n".join([*lines, "", *(f"- {note}" for note in results.notes)]) + "\n"


def _line(parts: Sequence[str]) -> str:
    return "| " + " | ".join(part.replace("|", "\\|") for part in parts) + " |"


def as_text(results: TableResults) -> str:
    """The table for a terminal, a column below the other aligned."""
    header, rows = _cells(results)
    widths = [max(len(line[i]) for line in (header, *(row for _, row in rows))) for i in range(len(header))]
    lines = [title_of(results), "", _aligned(header, widths)]
    group = None
    for own, line in rows:
        if own != group:
            lines.append(f"-- {own}")
            group = own
        lines.append(_aligned(line, widths))
    return "\n".join(lines) + "\n"


def _aligned(parts: Sequence[str], widths: Sequence[int]) -> str:
    return "  ".join(part.ljust(width) for part, width in zip(parts, widths, strict=True)).rstrip()


def as_csv(results: TableResults) -> str:
    """One line for each entry: numbers as they are, with every run.

    ``difference`` is that to the baseline of a segmentation table, run by run; empty where the baseline was not run.
    """
    stream = io.StringIO()
    names = ("table", "dataset", "group", "method", "setting", "measure", "unit", "mean", "spread", "runs", "planned")
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow([*names, "difference", "difference_spread", "paper_measure", "paper", "values"])
    nothing = [None] * len(results.columns)
    whole = zip(results.rows, results.entries, strict=True)
    baseline = next((entries for row, entries in whole if not row.methods), nothing)
    for row, entries in zip(results.rows, results.entries, strict=True):
        for column, entry, first in zip(results.columns, entries, baseline, strict=True):
            about = [results.table.name, results.table.dataset, row.group or "", row.label, row.setting or ""]
            found = [entry.mean, entry.spread, len(entry.values), entry.planned]
            found += [None, None] if first is None else [(entry - first).mean, (entry - first).spread]
            values = " ".join(repr(value) for value in entry.values)
            writer.writerow(
                [*about, column.title, column.unit, *found, column.paper_title, results.paper(row, column), values]
            )
    return stream.getvalue()

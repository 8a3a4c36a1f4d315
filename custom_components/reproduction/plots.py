"""Bars of a table's entries with their spread, ours and the paper's."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from .entries import TableResults
from .tables import title_of

__all__ = ["save_plot"]

ACROSS = 2
OURS, PAPER = "#1f6f8b", "#c9c9c9"


def save_plot(results: TableResults, path: str | Path) -> None:
    """Draws a panel for each column: a bar for each row, its spread as a whisker, its runs as dots.

    The paper's numbers stand beside ours where the same thing is measured.
    """
    rows, count = results.rows, len(results.columns)
    across = min(ACROSS, count)
    down = math.ceil(count / across)
    labels = [f"{row.label.replace(' (Ours)', '')}{f', {row.setting}' if row.setting else ''}" for row in rows]
    size = (4.2 + 4.0 * across, down * (1.1 + 0.34 * len(rows)) + 0.5)
    figure = Figure(figsize=size, layout="constrained")
    FigureCanvasAgg(figure)
    figure.suptitle(title_of(results), fontsize=11)
    axes = figure.subplots(down, across, squeeze=False, sharey=True).ravel()
    places = np.arange(len(rows))
    for number, axis in enumerate(axes):
        if number >= count:
            axis.set_visible(False)
            continue
        column = results.columns[number]
        entries = [line[number] for line in results.entries]
        same = column.paper_title == column.title
        width = 0.4 if same else 0.7
        shift = width / 2 if same else 0
        means = np.array([np.nan if entry.mean is None else entry.mean for entry in entries])
        axis.barh(places - shift, means, width, color=OURS, label="ours")
        if same:
            paper = np.array([results.paper(row, column) for row in rows], dtype=float)
            axis.barh(places + shift, paper, width, color=PAPER, label="paper")
        for place, entry in zip(places - shift, entries, strict=True):
            if entry.spread is not None:
                axis.errorbar(entry.mean, place, xerr=entry.spread, color="black", capsize=2.5, linewidth=1)
            axis.plot(entry.values, [place] * len(entry.values), ".", color="black", markersize=3.5, alpha=0.6)
        unit = f" ({column.unit})" if column.unit else ""
        axis.set_title(f"{column.title}{unit}, {column.better} is better", fontsize=9)
        axis.set_yticks(places, labels, fontsize=8)
        axis.set_ylim(len(rows) - 0.4, -0.6)
        axis.tick_params(axis="x", labelsize=8)
        axis.set_xlim(*_limits(entries, [results.paper(row, column) for row in rows] if same else []))
        axis.grid(axis="x", linewidth=0.4, alpha=0.5)
        axis.set_axisbelow(True)
    axes[0].legend(fontsize=8, loc="lower left")
    figure.savefig(path, dpi=130)


def _limits(entries: list, paper: list) -> tuple[float, float]:
    """From 0, or from below the smallest number where all are close to each other, to beyond the largest."""
    values = [value for entry in entries for value in entry.values]
    values += [
        entry.mean + sign * (entry.spread or 0) for entry in entries if entry.mean is not None for sign in (-1, 1)
    ]
    values += [value for value in paper if value is not None]
    if not values:
        return 0.0, 1.0
    low, high = min(values), max(values)
    room = 0.08 * (high - low) or 0.05 * abs(high) or 1.0
    return (low - room if low < 0 or low > 0.6 * high else 0.0), high + room

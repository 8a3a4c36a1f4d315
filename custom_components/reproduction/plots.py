"""Bars of a table's entries with their spread, ours and the paper's."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from .entries import TableResults
from .paper import Column, Row
from .tables import number_words, title_of

__all__ = ["save_plot"]

ACROSS = 2
MASKS = {"handcrafted": "drawn", "copy": "copied"}
OURS, PAPER = "#1f6f8b", "#c9c9c9"


def save_plot(results: TableResults, path: str | Path) -> None:
    """Draws a panel for each column: a bar for each row, its spread as a whisker, its runs as dots.

    The paper's numbers stand beside ours where the same thing is measured.
    """
    rows, count = results.rows, len(results.columns)
    across = min(ACROSS, count)
    down = math.ceil(count / across)
    labels = [_label(row) for row in rows]
    size = (3.6 + 3.8 * across, down * (0.9 + 0.36 * len(rows)) + 0.6)
    figure = Figure(figsize=size, layout="constrained")
    FigureCanvasAgg(figure)
    figure.suptitle(title_of(results), fontsize=11)
    axes = figure.subplots(down, across, squeeze=False, sharey=True).ravel()
    for number, axis in enumerate(axes):
        if number < count:
            _draw_column(axis, results, number)
        else:
            axis.set_visible(False)
    for axis in axes[::across]:
        axis.set_yticks(np.arange(len(rows)), labels, fontsize=8)
    axes[0].set_ylim(len(rows) - 0.4, -0.6)  # shared by all
    if any(_same(column) for column in results.columns):
        figure.legend(*axes[0].get_legend_handles_labels(), fontsize=8, loc="outside lower center", ncols=2)
    figure.savefig(path, dpi=130)


def _label(row: Row) -> str:
    """A row's method and setting, and where the masks of its sets come from."""
    method = row.label.replace(" (Ours)", "")
    if row.setting is None:
        return method
    masks = {MASKS[name.masks] for name in row.sets if name.masks in MASKS}
    return f"{method}, {row.setting}{f' ({masks.pop()} masks)' if masks else ''}"


def _same(column: Column) -> bool:
    """Whether the paper measures the same thing."""
    return column.paper_title == column.title


def _draw_column(axis: Axes, results: TableResults, number: int) -> None:
    column = results.columns[number]
    entries = [line[number] for line in results.entries]
    places, same = np.arange(len(entries)), _same(column)
    width = 0.42 if same else 0.7
    shift = width / 2 if same else 0.0
    means = np.array([np.nan if entry.mean is None else entry.mean for entry in entries])
    axis.barh(places - shift, means, width, color=OURS, label="ours")
    tops = []
    for place, entry in zip(places - shift, entries, strict=True):
        if entry.mean is not None:
            spread = entry.spread or 0.0
            axis.errorbar(entry.mean, place, xerr=spread or None, color="black", capsize=2.5, linewidth=1)
            axis.plot(entry.values, [place] * len(entry.values), ".", color="black", markersize=3)
            tops.append(max(*entry.values, entry.mean + spread))
            axis.annotate(
                number_words(entry.mean),
                (max(tops[-1], 0), place),
                (4, 0),
                textcoords="offset points",
                va="center",
                fontsize=6.5,
            )
    if same:
        paper = np.array([results.paper(row, column) for row in results.rows], dtype=float)
        axis.barh(places + shift, paper, width, color=PAPER, label="paper")
        for place, value in zip(places + shift, paper, strict=True):
            if np.isfinite(value):
                axis.annotate(
                    number_words(value),
                    (value, place),
                    (4, 0),
                    textcoords="offset points",
                    va="center",
                    fontsize=6.5,
                    color="#777777",
                )
        tops += list(paper[np.isfinite(paper)])
    axis.set_xlim(right=1.12 * max(tops, default=1.0) or 1.0)
    unit = f" ({column.unit})" if column.unit else ""
    axis.set_title(f"{column.title}{unit}, {column.better} is better", fontsize=9)
    axis.tick_params(axis="x", labelsize=8)
    axis.grid(axis="x", linewidth=0.4, alpha=0.5)
    axis.set_axisbelow(True)

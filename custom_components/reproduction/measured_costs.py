"""What a step of a training costs on this machine, measured by running a few."""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from tqdm import tqdm

from .cells import Cell
from .runner import environment

__all__ = ["measure_costs", "read_bar"]

LIMIT_S = 90.0  # for a training, its start included
ENOUGH_S = 8.0  # of steps
BAR = re.compile(r"training[^|]*\|[^|]*\|\s*(\d+)/(\d+) \[(?:(\d+):)?(\d+):(\d+)<")


def measure_costs(cells: Sequence[Cell], work: Path, threads: int) -> dict[str, tuple[float, float]]:
    """Seconds a unit, and at the start, of each kind of training of which no cell is complete.

    Its first training is run on the real data for a few steps, in a temporary folder.

    Args:
        cells: of the grid.
        work: its folder.
        threads: of each process.

    Returns:
        Kind (see :attr:`~.cells.Cell.like`) -> (seconds a step, seconds at the start); kinds whose training cannot
        be started yet, did not get to a step in time, or is known to cost as much as another's, are left out.
    """
    done = {cell.like for cell in cells if cell.result(work) is not None}
    kinds: dict[str, Cell] = {}
    for cell in cells:
        if cell.steps[0].checkpoint is not None and cell.effort is None and cell.like not in done:
            known = kinds.get(cell.like)
            if known is None or len(cell.needs) < len(known.needs):
                kinds[cell.like] = cell
    found = {}
    for kind, cell in tqdm(kinds.items(), desc="measuring steps", unit="training", disable=not kinds):
        cost = _measure(cell.steps[0].arguments, threads)
        if cost is not None:
            found[kind] = cost
    return found


def _measure(arguments: Sequence[str], threads: int) -> tuple[float, float] | None:
    with tempfile.TemporaryDirectory() as folder:
        words = list(arguments)
        words[words.index("--output_dir") + 1] = folder + "/run"
        log = Path(folder) / "log.txt"
        with open(log, "wb") as stream:
            begun = time.monotonic()
            process = subprocess.Popen(
                [sys.executable, "-m", "lefusion_scripts.cli", *words],
                stdin=subprocess.DEVNULL,
                stdout=stream,
                stderr=subprocess.STDOUT,
                env=environment(threads),
            )
            try:
                while process.poll() is None and time.monotonic() - begun < LIMIT_S:
                    time.sleep(0.2)
                    marks = read_bar(log)
                    if len(marks) > 1 and marks[-1][1] - marks[0][1] >= ENOUGH_S:
                        break
            finally:
                process.kill()
                process.wait()
        marks, lasted = read_bar(log), time.monotonic() - begun
    if len(marks) < 2 or marks[-1][0] == marks[0][0]:
        return None
    (first, early), (last, late) = marks[0], marks[-1]
    return max(late - early, 0.1) / (last - first), max(0.0, lasted - late)


def read_bar(log: Path) -> list[tuple[int, float]]:
    """Steps and seconds that a training's progress bar told in a log, from its first step on."""
    marks = []
    for match in BAR.finditer(log.read_bytes().decode(errors="replace")):
        count, _, hours, minutes, seconds = match.groups()
        marks.append((int(count), 3600.0 * int(hours or 0) + 60 * int(minutes) + int(seconds)))
    return [mark for mark in marks if mark[0] > 0]

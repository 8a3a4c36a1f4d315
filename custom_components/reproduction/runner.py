"""Runs what is missing of a grid, cell after cell, each as processes of its own."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from tqdm import tqdm

from .. import __version__
from ..errors import InputError
from .cells import Cell, Step, write_record
from .costs import Costs, duration
from .results import read_result
from .work_folder import revision

__all__ = ["environment", "run_cells"]


def run_cells(
    cells: Sequence[Cell], work: Path, threads: int = 1, lock: int | None = None, progress: bool = True
) -> dict[str, str]:
    """Runs the cells that have no result yet, in the order given.

    A cell that fails is told and left; those that need it are passed over, the others go on.

    Args:
        cells: each after those it needs.
        work: folder of the grid.
        threads: of each process.
        lock: descriptor that the processes inherit.
        progress: show a bar.

    Returns:
        The failed cells and those that wait for them: id -> what went wrong.
    """
    pending = [cell for cell in cells if cell.result(work) is None]
    failures: dict[str, str] = {}
    made_by = revision()
    form = "{l_bar}{bar}| {n_fmt}/{total_fmt} [{elapsed}{postfix}]"
    with tqdm(total=len(cells), desc="cells", disable=not progress, bar_format=form) as bar:
        bar.update(len(cells) - len(pending))
        for number, cell in enumerate(pending):
            costs = Costs(work, cells)
            left = costs.left([one for one in pending[number:] if one.id not in failures])
            bar.set_postfix_str(f"{'' if left is None else duration(left) + ' left, '}{cell.id}")
            broken = next((name for name in cell.needs if name in failures), None)
            if broken is not None:
                failures[cell.id] = f"it needs {broken}"
                bar.write(f"{cell.id} is passed over: {failures[cell.id]}", file=sys.stderr)
            else:
                try:
                    _run(cell, work, threads, lock, made_by)
                except InputError as error:
                    failures[cell.id] = str(error)
                    bar.write(f"{cell.id} failed: {error}", file=sys.stderr)
            bar.update()
    return failures


def _run(cell: Cell, work: Path, threads: int, lock: int | None, made_by: str) -> None:
    """Runs the steps of a cell that are not done, and writes its result last."""
    folder = cell.folder(work)
    _clear_changed(cell, folder)
    record = {
        "id": cell.id,
        "about": dict(cell.about),
        "needs": list(cell.needs),
        "commands": {step.name: step.command for step in cell.steps},
        "version": __version__,
        "revision": made_by,
        "begun": datetime.now(timezone.utc).isoformat(timespec="seconds"),
    }
    write_record(folder / "cell.json", record)
    for step in cell.steps:
        done = _read_step(folder, step)
        if done is None or done["command"] != step.command:
            seconds = _execute(step, folder, threads, lock)
            write_record(_step_file(folder, step), {"command": step.command, "seconds": seconds})
    result = read_result(cell.read, folder)
    seconds = sum(_read_step(folder, step)["seconds"] for step in cell.steps)
    for path in folder.rglob("checkpoint_latest.pt"):  # as large as everything else, and of no more use
        path.unlink()
    about = {"seconds": round(seconds, 3), "units": cell.units, "revision": made_by, "version": __version__}
    write_record(folder / "result.json", {**about, **result})


def _clear_changed(cell: Cell, folder: Path) -> None:
    """Removes what an earlier version of the code has begun by other commands: nothing could go on from it.

    The steps after a changed one are done again, too: they have read what it wrote.
    """
    path = folder / "cell.json"
    earlier = json.loads(path.read_text())["commands"] if path.is_file() else {}
    changed = False
    for step in cell.steps:
        changed = changed or earlier.get(step.name, step.command) != step.command
        if changed:
            _step_file(folder, step).unlink(missing_ok=True)
            if step.output is not None:
                shutil.rmtree(step.output, ignore_errors=True)


def _step_file(folder: Path, step: Step) -> Path:
    return folder / "steps" / f"{step.name}.json"


def _read_step(folder: Path, step: Step) -> dict[str, Any] | None:
    path = _step_file(folder, step)
    return json.loads(path.read_text()) if path.is_file() else None


def _execute(step: Step, folder: Path, threads: int, lock: int | None) -> float:
    """Runs a step and returns how long it took.

    Raises:
        InputError: where it fails, with its last words and the path of its log.
    """
    if step.needs is not None and not step.needs.is_file():
        return 0.0
    command = [sys.executable, *step.command]
    if step.checkpoint is not None and step.checkpoint.is_file():
        command += ["--resume", "true"]
    log, begun = folder / "log.txt", time.monotonic()
    with open(log, "ab") as stream:
        stream.write(f"\n$ {' '.join(command)}\n".encode())
        stream.flush()
        kept = () if lock is None else (lock,)
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=stream,
            stderr=subprocess.STDOUT,
            env=environment(threads),
            pass_fds=kept,
        )
        try:
            code = process.wait()
        finally:
            if process.poll() is None:  # interrupted: nothing of it lives on
                process.terminate()
                process.wait()
    if code not in step.accepted:
        raise InputError(f"{_last_words(log)} (exit code {code} of step {step.name}; log in {log})")
    return round(time.monotonic() - begun, 3)


def environment(threads: int) -> Mapping[str, str]:
    """Of a process with so many threads of PyTorch."""
    count = str(threads)
    return {**os.environ, "OMP_NUM_THREADS": count, "MKL_NUM_THREADS": count, "PYTHONUNBUFFERED": "1"}


def _last_words(log: Path) -> str:
    """The sentence in which a process told what was wrong, the first exception of its traceback, or its last line."""
    words = log.read_bytes().decode(errors="replace").rpartition("\n$ ")[2]  # of the last command
    lines = [line.strip() for line in re.split(r"[\r\n]+", words) if line.strip()]
    told = [line.removeprefix("error: ") for line in lines if line.startswith("error: ")]
    raised = [line for line in lines if re.match(r"[\w.]*(Error|Exception)\b", line)]
    return (told[-1:] or raised[:1] or lines[-1:])[0][:300]

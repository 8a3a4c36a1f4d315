"""What handlers that measure an evaluator's results have in common."""

from __future__ import annotations

from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any

from ignite.engine import Engine, Events
from tqdm import tqdm

from ..errors import InputError, as_flag
from ..files import check_writable

__all__ = ["EvaluationResults"]


class EvaluationResults(ABC):
    """Measures every batch of an evaluator, called with the engine, and writes files at the end.

    Args:
        output_dir: folder of the files.
        overwrite: replace those of an earlier evaluation.

    Attributes:
        main_file: the file that tells whether there was one.
        activity: what the bar over the data set says; None: no bar.
    """

    main_file = "summary.json"
    activity: str | None = None

    def __init__(self, output_dir: str | Path, overwrite: bool = False) -> None:
        self.output_dir, self.overwrite = Path(str(output_dir)), as_flag(overwrite, "overwrite")
        self.rows: list[dict[str, Any]] = []

    def check(self) -> None:
        """Raises InputError where results are there already or the folder cannot be written to."""
        check_writable(self.output_dir)
        path = self.output_dir / self.main_file
        if path.exists() and not self.overwrite:
            raise InputError(f"{path} exists already: pass --overwrite true or another --output_dir.")

    def attach(self, engine: Engine) -> None:
        engine.add_event_handler(Events.STARTED, self._start)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self)
        engine.add_event_handler(Events.COMPLETED, self._finish)

    def _start(self, engine: Engine) -> None:
        self.clear()
        total = None if self.activity is None else len(engine.state.dataloader.dataset)
        self.bar = tqdm(total=total, desc=self.activity, disable=self.activity is None)

    def _finish(self, engine: Engine) -> None:
        self.bar.close()
        self.write(engine)

    def clear(self) -> None:
        """Forgets what was measured before."""
        self.rows = []

    @abstractmethod
    def __call__(self, engine: Engine) -> None:
        """Measures a batch."""

    @abstractmethod
    def write(self, engine: Engine) -> None:
        """Writes the files and prints a summary."""

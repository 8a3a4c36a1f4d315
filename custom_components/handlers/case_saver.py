"""What savers of whole cases share: which files exist, what is still to do, and when a case is complete."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ignite.engine import Engine, Events
from tqdm import tqdm

from ..errors import InputError, as_flag
from ..files import check_writable

__all__ = ["CaseSaver"]


class CaseSaver(ABC):
    """Collects an evaluator's samples; when the last one of a case is there, writes the case.

    Args:
        items: the samples of all cases, numbered by their place.
        case_names: the case of each.
        output_dir: folder of the outputs.
        weights: weights file, for the sidecar.
        settings: run settings for the sidecar.
        bundle_root: bundle whose name and version go into the sidecar.
        overwrite: replace existing outputs.
        resume: skip cases whose sidecar is there.
        panel: draw the PNG.
        progress: show a bar over the samples.
    """

    noun = "samples"  # what the progress bar counts
    sidecar = "sidecar"  # role of the file that is written last: a case that has it is complete

    def __init__(
        self,
        items: Sequence[Mapping[str, Any]],
        case_names: Sequence[str],
        output_dir: str | Path,
        weights: str | Path | None = None,
        settings: Mapping[str, Any] | None = None,
        bundle_root: str | Path | None = None,
        overwrite: bool = False,
        resume: bool = False,
        panel: bool = True,
        progress: bool = True,
    ) -> None:
        self.items, self.case_names, self.output_dir = items, case_names, Path(str(output_dir))
        self.weights, self.settings, self.bundle_root = weights, settings or {}, bundle_root
        self.overwrite, self.resume = as_flag(overwrite, "overwrite"), as_flag(resume, "resume")
        self.panel, self.progress = as_flag(panel, "panel"), as_flag(progress, "progress")
        self.crops: dict[int, tuple] = {}
        self.cases: dict[str, list[int]] = defaultdict(list)
        for number, case in enumerate(case_names):
            self.cases[case].append(number)

    @abstractmethod
    def paths(self, case: str) -> dict[str, Path]:
        """The files of a case, by role."""

    @abstractmethod
    def collect(self, batch: Mapping[str, Any], i: int, prediction: Any) -> tuple:
        """What is kept of sample ``i`` of a batch until its case is complete."""

    @abstractmethod
    def finish(self, numbers: Sequence[int]) -> None:
        """Takes a case's samples out of ``crops`` and writes its files."""

    def check(self) -> None:
        """Raises InputError where an output exists already or the folder cannot be written to."""
        check_writable(self.output_dir)
        for case in self.cases:
            existing = [path for path in self.paths(case).values() if path.exists()]
            if existing and not (self.overwrite or self.resume):
                raise InputError(f"{existing[0]} exists already: pass --overwrite true or another --output_dir.")

    def pending(self) -> list[Mapping[str, Any]]:
        """The samples still to make: all of them, or with ``resume`` those of cases without a sidecar."""
        if not self.resume:
            return list(self.items)
        pairs = zip(self.items, self.case_names, strict=True)
        return [item for item, case in pairs if not self.paths(case)[self.sidecar].exists()]

    def attach(self, engine: Engine) -> None:
        engine.add_event_handler(Events.STARTED, self._start)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self)
        engine.add_event_handler(Events.COMPLETED, lambda _: self.bar.close())

    def _start(self, engine: Engine) -> None:
        self.bar = tqdm(total=len(self.pending()), desc=self.noun, disable=not self.progress)

    def __call__(self, engine: Engine) -> None:
        batch, output = engine.state.batch, engine.state.output
        predictions = output["pred"] if isinstance(output, Mapping) else [part["pred"] for part in output]
        for i, index in enumerate(int(number) for number in batch["index"]):
            self.crops[index] = self.collect(batch, i, predictions[i])
            self.bar.update()
            numbers = self.cases[self.case_names[index]]
            if all(number in self.crops for number in numbers):
                self.finish(numbers)

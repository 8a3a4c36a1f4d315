"""What the cells of a data set have in common: where they lie, what they compare, and by how much work."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .budgets import Budget
from .experiments import Experiment, Method
from .folds import Fold

__all__ = ["Plan"]


@dataclass(frozen=True)
class Plan:
    """The choices that all cells of a data set share.

    Attributes:
        work: folder of the grid.
        experiment, budget: what is compared, by how much work.
        folds: the cases.
        seeds: how many trainings of each segmenter.
        segmenters: by name.
        methods: that take part; None: all.
        settings: rows of the tables by their :attr:`~.paper.Row.key`; None: all.
        threads: of PyTorch, for each process.
        features: by which sets of lesions are compared, see
            :func:`~custom_components.metrics.features.choose_features`.
    """

    work: Path
    experiment: Experiment
    budget: Budget
    folds: Sequence[Fold]
    seeds: int
    segmenters: Sequence[str]
    methods: Sequence[str] | None = None
    settings: Sequence[str] | None = None
    threads: int = 1
    features: str = "lesion"

    def id(self, kind: str, fold: Fold, *names: str) -> str:
        """Of a cell."""
        return "/".join([kind, self.experiment.name, str(fold.number), *names])

    def about(self, fold: Fold, **others: Any) -> dict[str, Any]:
        """What every cell records."""
        common = {"dataset": self.experiment.name, "fold": fold.number, "cases": fold.counts}
        return {**common, "budget": self.budget.name, "threads": self.threads, **others}

    def cases(self, fold: Fold, part: str) -> list[dict[str, Any]]:
        """Of a fold's datalist."""
        return json.loads((fold.path(part) / "datalist.json").read_text())

    def method(self, name: str) -> Method:
        """A method by name."""
        return self.experiment.methods[name]

    def network_keys(self, method: str) -> Mapping[str, Any]:
        """Keys that make a method's network as large as the budget says; for training, painting and measuring."""
        return self.budget.stage(self.experiment.name, "network", method).keys

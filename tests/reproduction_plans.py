"""Plans of a grid over cases that exist by name only: what several test files need."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from bundle_runs import save_nifti

from custom_components.preparation import write_json
from custom_components.reproduction.budgets import read_budget
from custom_components.reproduction.experiments import read_experiments
from custom_components.reproduction.folds import Fold, deal_folds
from custom_components.reproduction.plan import Plan


def made_up_cases(count: int, letter: str = "p") -> list[dict[str, Any]]:
    """Cases of a patient each."""
    names = [f"{letter}{number:02d}" for number in range(count)]
    return [{"image": f"/{n}.nii.gz", "label": f"/{n}_label.nii.gz", "case": n, "patient": n} for n in names]


def plan_of(
    work: Path,
    dataset: str = "lidc",
    folds: int = 1,
    budget: str = "tiny",
    seeds: int = 1,
    segmenters: Sequence[str] = ("dynunet", "swinunetr"),
    methods: Sequence[str] | None = None,
) -> Plan:
    """A plan of 20 pathological and 6 normal cases."""
    chosen, made = read_budget(budget), []
    # One label map for all: every heart has both classes.
    label = save_nifti(work / "label.nii.gz", np.arange(5, dtype=np.uint8).reshape(5, 1, 1))
    dealt = deal_folds(made_up_cases(20), [], made_up_cases(6, "n"), folds, chosen.val_fraction)
    for number, parts in enumerate(dealt):
        fold = Fold(number, work / "folds" / str(number), {part: len(cases) for part, cases in parts.items()})
        for part, cases in parts.items():
            found = [{**case, "image": str(label), "label": str(label)} for case in cases]
            write_json(fold.path(part) / "datalist.json", found)
        made.append(fold)
    return Plan(work, read_experiments()[dataset], chosen, made, seeds, segmenters, methods)


def option(arguments: Sequence[str], name: str) -> str | None:
    """The value of a command's option, None where it is not given."""
    words = list(arguments)
    return words[words.index(f"--{name}") + 1] if f"--{name}" in words else None

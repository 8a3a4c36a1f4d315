"""What a data set's experiment consists of: the painting bundle, its lesion classes, and the compared methods."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from ..datasets import list_cases
from ..errors import InputError
from ..volumes import read_nifti

__all__ = ["Experiment", "Method", "Pass", "find_experiment", "read_experiments"]

FILE = Path(__file__).with_name("experiments.json")


@dataclass(frozen=True)
class Pass:
    """One painting of a method; several where classes are painted one after the other.

    Attributes:
        config: overlays of the painting bundle.
        trained: whether it has a network to be trained.
        autoencoder: overlays by which its autoencoder is trained first; empty where it has none.
        lesion_class: the one class it paints; None where it paints all.
    """

    config: tuple[str, ...]
    trained: bool = True
    autoencoder: tuple[str, ...] = ()
    lesion_class: str | None = None


@dataclass(frozen=True)
class Method:
    """A texture method of the paper's comparison.

    Attributes:
        name: as in the tables' file.
        passes: its paintings, in order.
        histogram: whether it is told a texture; its presets are then fitted on the fold's training lesions.
        levels: whether it draws around grey levels, which are then fitted on the fold's training lesions.
        keys: keys of the painting bundle's inference config that belong to the method.
    """

    name: str
    passes: tuple[Pass, ...]
    histogram: bool = False
    levels: bool = False
    keys: Mapping[str, Any] = field(default_factory=dict)

    @property
    def learns(self) -> bool:
        """Whether anything of it is trained or fitted."""
        return self.histogram or self.levels or any(part.trained for part in self.passes)


@dataclass(frozen=True)
class Experiment:
    """A data set of the paper.

    Attributes:
        name, title: short name, and what it shows.
        bundle: that paints.
        classes: lesion class -> label.
        joint: whether all lesions of a scan count as one.
        organ: folder of the organ masks beside the normal cases' images; None where label maps show the organ.
        segmenter_config: overlays of the segmentation bundle.
        spacing_mm, window: at which lesions are compared; a window of None is measured on the training cases.
        sets: set -> options of ``lefusion synthesize``.
        methods: by name.
    """

    name: str
    title: str
    bundle: str
    classes: Mapping[str, int]
    joint: bool
    organ: str | None
    segmenter_config: tuple[str, ...]
    spacing_mm: tuple[float, ...]
    window: tuple[float, float] | None
    sets: Mapping[str, Mapping[str, Any]]
    methods: Mapping[str, Method]


def read_experiments(path: str | Path = FILE) -> dict[str, Experiment]:
    """The experiments by name."""
    return {name: _experiment(name, about) for name, about in json.loads(Path(path).read_text()).items()}


def _experiment(name: str, about: Mapping[str, Any]) -> Experiment:
    methods = {
        key: Method(
            key,
            tuple(
                Pass(
                    tuple(part["config"]),
                    part.get("trained", True),
                    tuple(part.get("autoencoder", ())),
                    part.get("class"),
                )
                for part in given["passes"]
            ),
            given.get("histogram", False),
            given.get("levels", False),
            given.get("keys", {}),
        )
        for key, given in about["methods"].items()
    }
    lists = {"segmenter_config": tuple(about["segmenter_config"]), "spacing_mm": tuple(about["spacing_mm"])}
    window = None if about["window"] is None else tuple(about["window"])
    return Experiment(**{**about, **lists, "name": name, "window": window, "methods": methods})


def find_experiment(data: str | Path) -> Experiment:
    """The experiment that a data set belongs to, told by the labels of its pathological cases.

    Args:
        data: folder with ``Pathological``.

    Raises:
        InputError: where none of the experiments has all of its labels there and no other.
    """
    cases = list_cases(Path(str(data)) / "Pathological")
    found: set[int] = set()
    experiments = read_experiments()
    for case in cases:
        found |= {int(value) for value in np.unique(read_nifti(Path(case["label"]), "label").stored)}
    for experiment in sorted(experiments.values(), key=lambda one: -max(one.classes.values())):
        if set(experiment.classes.values()) <= found and max(found) == max(experiment.classes.values()):
            return experiment
    raise InputError(
        f"the labels in {data} are {', '.join(str(value) for value in sorted(found))}: pass --dataset "
        f"{' or '.join(experiments)}."
    )

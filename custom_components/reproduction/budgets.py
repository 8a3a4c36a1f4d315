"""How long everything is trained and how large it is: the same for all methods of a comparison."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..bundle_configs import bundle_root
from ..datasets import split_by_patient
from ..errors import InputError
from .plain_values import plain_values, whole_number

__all__ = ["Budget", "Length", "Stage", "read_budget", "shipped_weights", "training_length"]

FOLDER = Path(__file__).with_name("budgets")
STAGES = ("generator", "autoencoder", "painting", "network", "masks")


@dataclass(frozen=True)
class Stage:
    """What a budget says of one stage.

    Attributes:
        config: overlays, laid below those of the method.
        keys: keys of the configs and their values.
        steps: optimiser steps at least; None where the stage trains nothing, or counts epochs by its keys.
        warm_up: keys of a training on the real cases alone, from whose weights the trainings of all settings begin.
        shipped: whether the weights that come with the bundle are used: a generator paints with them and is not
            trained, a segmenter's trainings begin from them.
    """

    config: tuple[str, ...] = ()
    keys: Mapping[str, Any] = ()
    steps: int | None = None
    warm_up: Mapping[str, Any] | None = None
    shipped: bool = False


@dataclass(frozen=True)
class Budget:
    """A budget.

    Attributes:
        name: paper, small, tiny, or the path of a file.
        content: the file's content.
    """

    name: str
    content: Mapping[str, Any]

    @property
    def val_fraction(self) -> float:
        """Share of the patients that are not held out by which weights are chosen."""
        return float(self.content.get("val_fraction", 0.1))

    def of(self, experiment: str) -> Mapping[str, Any]:
        """The part for an experiment.

        Raises:
            InputError: where it has none.
        """
        try:
            return self.content["experiments"][experiment]
        except KeyError:
            raise InputError(f"budget {self.name} says nothing of {experiment}.") from None

    def trained_on(self, experiment: str) -> frozenset[str] | None:
        """Patients that the shipped weights which are used have learnt from; None where none are used."""
        patients = self.of(experiment).get("trained_on")
        return None if patients is None else frozenset(patients)

    def compared(self, experiment: str) -> Sequence[str] | None:
        """The only methods whose comparison is fair; None: all."""
        return self.of(experiment).get("compared")

    def stage(self, experiment: str, name: str, method: str | None = None) -> Stage:
        """A stage of an experiment, as the method has it: its own keys are laid over those of all methods.

        Keys of the ``network`` take the place of the others' instead: another network has other keys.
        """
        part = self.of(experiment)
        own = part.get("methods", {}).get(method, {}).get(name, {})
        common = part.get(name, {})
        return Stage(
            tuple(own.get("config", common.get("config", ()))),
            {**({} if name == "network" and own else common.get("keys", {})), **own.get("keys", {})},
            own.get("steps", common.get("steps")),
            shipped=own.get("weights", common.get("weights")) is not None,
        )

    def segmenters(self, experiment: str) -> Sequence[str]:
        """Those whose training it tells."""
        return list(self.of(experiment).get("segmenters", {}))

    def segmenter(self, experiment: str, name: str) -> Stage:
        """The training of a segmenter.

        Raises:
            InputError: for one that the budget does not know.
        """
        known = self.of(experiment).get("segmenters", {})
        if name not in known:
            raise InputError(f"segmenters must be among {', '.join(known)}, got {name!r}.")
        own = known[name]
        shipped = own.get("weights") is not None
        return Stage(tuple(own.get("config", ())), own.get("keys", {}), warm_up=own.get("warm_up"), shipped=shipped)


def read_budget(name: str) -> Budget:
    """A shipped budget by name, or one of a JSON file.

    Raises:
        InputError: where it is neither, or not of the right form.
    """
    shipped = FOLDER / f"{name}.json"
    path = shipped if shipped.is_file() else Path(str(name))
    if not path.is_file():
        known = ", ".join(sorted(one.stem for one in FOLDER.glob("*.json")))
        raise InputError(f"budget must be one of {known} or a JSON file, got {name!r}.")
    try:
        content = json.loads(path.read_text())
        for part in content["experiments"].values():
            for stage in STAGES:
                _check_stage(part.get(stage, {}))
            for own in part.get("methods", {}).values():
                for stage in own.values():
                    _check_stage(stage)
            for stage in part.get("segmenters", {}).values():
                _check_stage(stage)
            for key in ("trained_on", "compared"):
                names = part.get(key, [])
                if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
                    raise ValueError(f"{key} must be a list of names, not {names!r}")
            if "trained_on" not in part and '"weights"' in json.dumps(part):
                raise ValueError("where weights are shipped, trained_on lists the patients they have learnt from")
        fraction = content.get("val_fraction", 0.1)
        if isinstance(fraction, bool) or not isinstance(fraction, int | float) or not 0 < fraction < 1:
            raise ValueError(f"val_fraction must lie between 0 and 1, not {fraction!r}")
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(f"budget {path} cannot be read: {error!r}.") from error
    return Budget(str(name), content)


def _check_stage(stage: Mapping[str, Any]) -> None:
    """Raises ValueError for something that is no stage."""
    if not isinstance(stage, Mapping):
        raise ValueError(f"a stage is an object, not {stage!r}")
    unknown = set(stage) - {"config", "keys", "steps", "warm_up", "weights"}
    if unknown:
        raise ValueError(f"a stage has config, keys, steps, warm_up and weights, not {', '.join(sorted(unknown))}")
    if stage.get("weights", "shipped") != "shipped":
        raise ValueError(f"weights must be 'shipped', or be left out where they are trained, not {stage['weights']!r}")
    config = stage.get("config", [])
    if not isinstance(config, list) or not all(isinstance(name, str) for name in config):
        raise ValueError(f"config must be a list of overlays, not {config!r}")
    for key in ("keys", "warm_up"):
        if not isinstance(stage.get(key) or {}, Mapping):
            raise ValueError(f"{key} must be an object, not {stage[key]!r}")
    steps = stage.get("steps")
    if steps is not None and (isinstance(steps, bool) or not isinstance(steps, int) or steps < 1):
        raise ValueError(f"steps must be a whole number above 0, not {steps!r}")


def shipped_weights(bundle: str) -> Path:
    """The weights that come with a bundle; InputError where there are none."""
    path = bundle_root(bundle) / "models" / "model.pt"
    if not path.is_file():
        raise InputError(f"bundle {bundle} has no weights of its own in {path}.")
    return path


@dataclass(frozen=True)
class Length:
    """A training in epochs: as many steps as were asked for, rounded up to whole epochs."""

    epochs: int
    steps: int
    val_fraction: float

    @property
    def keys(self) -> dict[str, Any]:
        """Keys of a painting bundle's training; checkpoints and validations cost little of it."""
        return {
            "max_epochs": self.epochs,
            "val_fraction": self.val_fraction,
            "val_interval": max(1, self.epochs // 10),
            "checkpoint_interval": max(1, self.epochs // 20),
            "picture_interval": 0,
        }


def training_length(
    bundle: str, overlays: Sequence[str], stage: Stage, cases: Sequence[Mapping[str, Any]], val_fraction: float
) -> Length:
    """How many epochs make up a stage's steps.

    Args:
        bundle: that is trained.
        overlays: over its training config.
        stage: with ``steps`` and keys, of which ``batch_size`` and ``repeats`` decide on the length of an epoch.
        cases: that it is given, dictionaries with ``patient``.
        val_fraction: share of the patients by which weights are chosen, at least one.
    """
    value = plain_values(bundle, "training", overlays, stage.keys)
    patients = len({case["patient"] for case in cases})
    fraction = max(1, round(val_fraction * patients)) / patients
    learnt = split_by_patient(list(cases), fraction, "training")
    epoch = math.ceil(len(learnt) * whole_number(value, "repeats") / whole_number(value, "batch_size"))
    epochs = math.ceil((stage.steps or epoch) / epoch)
    return Length(epochs, epochs * epoch, fraction)

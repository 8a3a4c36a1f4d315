"""Cells that judge a training setting: a segmenter trained on real and synthetic cases, measured on those held out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .budgets import shipped_weights
from .cells import Cell, Step
from .commands import evaluate_segmenter, train_segmenter
from .folds import Fold
from .paper import Row
from .plain_values import plain_values, whole_number
from .plan import Plan
from .sets import set_folder

__all__ = ["BUNDLE", "segmenter_cell", "warm_up_cell"]

BUNDLE = "lesion_segmentation"
# Keys that a training shares with the measuring: of the network, of what it is shown, and of the sliding window.
NETWORK_KEYS = ("network_def", "width", "kernel_size", "strides", "in_plane")
SHARED_KEYS = (*NETWORK_KEYS, "spacing_mm", "hu_window", "spatial_size", "overlap")


def warm_up_cell(plan: Plan, fold: Fold, segmenter: str, seed: int) -> Cell | None:
    """The cell that trains a segmenter on the fold's real cases, before the settings part; None where all begin anew.

    A few hundred steps say little of a segmenter that knows nothing. Where a budget is as small as that, all settings
    begin from the same weights instead, the baseline too, and then take equally many steps.
    """
    stage = plan.budget.segmenter(plan.experiment.name, segmenter)
    if stage.warm_up is None:
        return None
    id_ = plan.id("warm_up", fold, segmenter, str(seed))
    overlays, keys = (*stage.config, *plan.experiment.segmenter_config), {**stage.keys, **stage.warm_up}
    output = plan.work / id_ / "training"
    training = train_segmenter(BUNDLE, overlays, [fold.path("train")], fold.path("val"), output, {**keys, "seed": seed})
    step = Step("train", training, checkpoint=output / "checkpoints" / "checkpoint_latest.pt", output=output)
    units = _steps(overlays, keys)
    about = plan.about(fold, segmenter=segmenter, seed=seed, optimiser_steps=units)
    return Cell(id_, (step,), (), about, like=f"warm_up/{plan.experiment.name}/{segmenter}", units=units)


def segmenter_cell(plan: Plan, fold: Fold, row: Row, segmenter: str, seed: int) -> Cell:
    """The cell that trains and measures a segmenter in the setting of a table's row."""
    id_ = plan.id("segmenter", fold, row.key, segmenter, str(seed))
    folder = plan.work / id_
    stage = plan.budget.segmenter(plan.experiment.name, segmenter)
    overlays = (*stage.config, *plan.experiment.segmenter_config)
    lists = [fold.path("train"), *(set_folder(plan, fold, name) for name in row.sets)]
    output = folder / "training"
    keys: dict[str, Any] = {**stage.keys, "seed": seed}
    needs = tuple(plan.id("set", fold, str(name)) for name in row.sets)
    begun = warm_up_cell(plan, fold, segmenter, seed)
    effort = None
    if begun is not None:
        needs += (begun.id,)
        effort = (begun.like, _steps(overlays, stage.keys))
        keys["pretrained"] = plan.work / begun.id / "training" / "checkpoints" / "model_final.pt"
    elif stage.shipped:
        keys["pretrained"] = shipped_weights(BUNDLE)
    training = train_segmenter(BUNDLE, overlays, lists, fold.path("val"), output, keys)
    weights = output / "checkpoints" / "model.pt"
    shared = {key: value for key, value in stage.keys.items() if key.split("#")[0] in SHARED_KEYS}
    measuring = evaluate_segmenter(BUNDLE, overlays, fold.path("test"), weights, folder / "evaluation", shared)
    steps = (
        Step("train", training, checkpoint=output / "checkpoints" / "checkpoint_latest.pt", output=output),
        Step("evaluate", measuring, output=folder / "evaluation"),
    )
    units = _steps(overlays, stage.keys)
    about = plan.about(fold, setting=row.key, segmenter=segmenter, seed=seed, optimiser_steps=units)
    like = f"segmenter/{plan.experiment.name}/{segmenter}"
    return Cell(id_, steps, needs, about, "segmenter", like, units, effort)


def _steps(overlays: tuple[str, ...], keys: Mapping[str, Any]) -> int:
    """Optimiser steps of a training: the same for every setting, however many cases it mixes."""
    values = plain_values(BUNDLE, "training", overlays, keys)
    return whole_number(values, "max_epochs") * whole_number(values, "steps_per_epoch")

"""Cells that train what paints: a method's networks on a fold's training cases, and its texture presets or levels."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

from ..datasets import list_cases, with_lesions
from ..labels import LesionLabels
from ..schedules import resampling_walk
from .budgets import Stage, shipped_weights, training_length
from .cells import Cell, Step
from .commands import fit, train
from .folds import Fold
from .plain_values import plain_values
from .plan import Plan

__all__ = [
    "GENERATOR_SEED",
    "generator_cell",
    "painting_effort",
    "painting_keys",
    "painting_overlays",
    "trained_weights",
]

GENERATOR_SEED = 0
FORWARD_SHARE = 1 / 3  # of a training step


def generator_cell(plan: Plan, fold: Fold, name: str) -> Cell | None:
    """The cell that trains a method and fits its textures; None where there is nothing of either."""
    method = plan.method(name)
    if not method.learns:
        return None
    id_ = plan.id("generator", fold, name)
    folder, dataset = plan.work / id_, fold.path("train")
    steps, units = [], 0
    for number, part in enumerate(method.passes):
        if not part.trained:
            continue
        keys: dict[str, Any] = {}
        for stage_name, overlays in (("autoencoder", part.autoencoder), ("generator", part.config)):
            if stage_name == "autoencoder" and not overlays:
                continue
            stage = plan.budget.stage(plan.experiment.name, stage_name, name)
            if stage.shipped:
                continue
            network = plan.network_keys(name) if stage_name == "generator" else {}
            output = folder / _run_name(plan, name, number, stage_name)
            cases = _cases_of(plan, fold, part.lesion_class)
            step, done = _training(plan, cases, stage, stage_name, overlays, output, {**network, **keys}, dataset)
            steps.append(step)
            units += done
            keys = {"autoencoder_weights": output / "checkpoints" / "model.pt"}
    bundle = plan.experiment.bundle
    if method.histogram:
        presets = fit("fit_presets", bundle, method.passes[0].config, dataset, folder / "texture_presets.json")
        steps.append(Step("presets", presets))
    if method.levels:
        steps.append(Step("levels", fit("fit_texture_levels", bundle, (), dataset, folder / "texture_levels.json")))
    if not steps:  # it paints with the weights that come with the bundle, and is told nothing
        return None
    about = plan.about(fold, method=name, seed=GENERATOR_SEED, optimiser_steps=units)
    kind = "generator" if units else "levels"  # a fit costs seconds, however long trainings are
    return Cell(id_, tuple(steps), about=about, like=f"{kind}/{plan.experiment.name}/{name}", units=units or 1)


def _training(
    plan: Plan,
    cases: Sequence[dict[str, Any]],
    stage: Stage,
    stage_name: str,
    overlays: tuple[str, ...],
    output: Path,
    keys: dict[str, Any],
    dataset: Path,
) -> tuple[Step, int]:
    """A training on some cases of a data set, and its number of optimiser steps."""
    overlays = (*stage.config, *overlays)
    length = training_length(plan.experiment.bundle, overlays, stage, cases, plan.budget.val_fraction)
    whole = {**length.keys, **({"val_patients": "None"} if plan.experiment.joint else {})}
    # What the budget says of checkpoints or pictures comes last.
    given = {**whole, "seed": GENERATOR_SEED, **keys, **stage.keys}
    command = train(plan.experiment.bundle, overlays, dataset, output, given)
    latest = output / "checkpoints" / "checkpoint_latest.pt"
    return Step(f"{stage_name}_{output.name}", command, checkpoint=latest, output=output), length.steps


def _cases_of(plan: Plan, fold: Fold, lesion_class: str | None) -> Sequence[dict[str, Any]]:
    """The fold's training cases, or those that have a class: a network of one class learns from no others."""
    if lesion_class is None:
        return plan.cases(fold, "train")
    return _cases_with(fold.path("train"), lesion_class, plan.experiment.classes[lesion_class])


@cache  # a grid asks for its cells again and again
def _cases_with(dataset: Path, lesion_class: str, label: int) -> Sequence[dict[str, Any]]:
    return with_lesions(list_cases(dataset), LesionLabels({lesion_class: label}))


def _run_name(plan: Plan, name: str, number: int, stage: str = "generator") -> str:
    """The folder of a training within the method's cell."""
    own = plan.method(name).passes[number].lesion_class
    return stage if own is None else f"{stage}_{own}"


def trained_weights(plan: Plan, fold: Fold, name: str, number: int) -> Path | None:
    """The weights of a method's painting; None where it has no network."""
    if not plan.method(name).passes[number].trained:
        return None
    if plan.budget.stage(plan.experiment.name, "generator", name).shipped:
        return shipped_weights(plan.experiment.bundle)
    folder = plan.work / plan.id("generator", fold, name)
    return folder / _run_name(plan, name, number) / "checkpoints" / "model.pt"


def painting_overlays(plan: Plan, name: str, number: int) -> tuple[str, ...]:
    """Overlays by which a method paints."""
    stage = plan.budget.stage(plan.experiment.name, "painting", name)
    return (*stage.config, *plan.method(name).passes[number].config)


def painting_keys(plan: Plan, fold: Fold, name: str, number: int) -> dict[str, Any]:
    """Keys by which a method's network or levels are loaded and it paints, without those of a texture asked for."""
    stage = plan.budget.stage(plan.experiment.name, "painting", name)
    weights = trained_weights(plan, fold, name, number)
    network = plan.network_keys(name) if weights is not None else {}
    fitted = plan.work / plan.id("generator", fold, name) / "texture_levels.json"
    levels = {"texture_levels": fitted} if plan.method(name).levels else {}
    return {"weights": weights, **network, **levels, **stage.keys}


def painting_effort(plan: Plan, name: str) -> float:
    """How many steps of a method's training cost as much as painting a lesion; 0 where it has no network.

    A step of the training runs the network forwards and backwards, which costs about as much as three times forwards,
    on a batch of its crops; painting runs it forwards on one crop at each step of the reverse process.
    """
    method, experiment, total = plan.method(name), plan.experiment, 0.0
    for number, part in enumerate(method.passes):
        if not part.trained:
            continue
        training, painting = (plan.budget.stage(experiment.name, stage, name) for stage in ("generator", "painting"))
        overlays = painting_overlays(plan, name, number)
        learnt = plain_values(experiment.bundle, "training", (*training.config, *part.config), training.keys)
        painted = plain_values(experiment.bundle, "inference", overlays, painting.keys)
        steps = len(resampling_walk(*(painted[key] for key in ("num_inference_steps", "jump_length", "jump_n_sample"))))
        crop = learnt.get("crop_size") or learnt["spatial_size"]
        larger = math.prod(painted["spatial_size"]) / math.prod(crop)
        total += FORWARD_SHARE * steps * larger / learnt["batch_size"]
    return total

"""Cells that measure image quality: lesions of the held-out cases repainted by a method, against the real ones."""

from __future__ import annotations

import json

from .cells import Cell, Step
from .commands import evaluate_texture
from .folds import Fold
from .generators import generator_cell, painting_keys, painting_overlays
from .paper import SetName
from .plan import Plan
from .sets import lesion_effort, paint_steps

__all__ = ["quality_cell"]


def quality_cell(plan: Plan, fold: Fold, name: str) -> Cell:
    """The cell that measures a method.

    Paired measures repaint each lesion by its own mask and, where the method is told one, its own histogram. For the
    distances between sets the same lesions are painted with textures drawn as for P'.
    """
    id_ = plan.id("quality", fold, name)
    folder, test = plan.work / id_, fold.path("test")
    method, bundle = plan.method(name), plan.experiment.bundle
    steps = []
    for number, part in enumerate(method.passes):
        suffix = "" if part.lesion_class is None else f"_{part.lesion_class}"
        overlays, keys = painting_overlays(plan, name, number), painting_keys(plan, fold, name, number)
        keys |= {"val_patients": "None"} if plan.experiment.joint else {}
        command = evaluate_texture(bundle, overlays, test, folder / f"evaluation{suffix}", keys)
        steps.append(Step(f"evaluate{suffix}", command, output=folder / f"evaluation{suffix}"))
    steps += paint_steps(plan, fold, SetName(name, "given", "P1"), test, folder)
    arguments = [str(fold.path("test")), str(folder / "set"), str(fold.path("train")), str(folder / "distances.json")]
    arguments += ["--classes", json.dumps(dict(plan.experiment.classes)), "--features", plan.features]
    arguments += ["--spacing", ",".join(map(str, plan.experiment.spacing_mm))]
    if plan.experiment.window is not None:
        arguments += ["--window=" + ",".join(map(str, plan.experiment.window))]
    arguments += ["--joint"] if plan.experiment.joint else []
    steps.append(Step("distances", tuple(arguments), "custom_components.reproduction.distances"))
    generator = generator_cell(plan, fold, name)
    needs = () if generator is None else (generator.id,)
    about = plan.about(fold, method=name, seed=fold.number)
    like = f"quality/{plan.experiment.name}/{name}"
    effort = lesion_effort(plan, name, 2 * fold.counts["test"])
    return Cell(id_, tuple(steps), needs, about, "quality", like, fold.counts["test"], effort)

"""Cells that make synthetic sets of a fold: P' of its training cases, N' and N'' of its normal ones."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from .cells import Cell, Step
from .commands import synthesize
from .folds import Fold
from .generators import generator_cell, painting_effort, painting_keys, painting_overlays
from .paper import SetName
from .plan import Plan

__all__ = ["lesion_effort", "paint_steps", "set_cell", "set_folder"]

COPY_PASTE = "copy_paste"  # the one method that copies intensities and paints nothing
MASKS_OF = "hand_crafted"  # needs no network: from its sets come the masks of methods that paint class by class
FAILED = 3  # exit code where some cases failed, and the others are there


def set_folder(plan: Plan, fold: Fold, name: SetName) -> Path:
    """Where a set's images and labels lie."""
    return plan.work / plan.id("set", fold, str(name)) / "set"


def set_cell(plan: Plan, fold: Fold, name: SetName) -> Cell:
    """The cell that makes a set."""
    id_ = plan.id("set", fold, str(name))
    part = "train" if name.masks == "given" else "normal"
    needs = _needs(plan, fold, name)
    cases = fold.counts[part] * _cases_per_scan(plan, name)
    about = plan.about(fold, **name._asdict(), seed=fold.number, source=part, note=_note(name))
    steps = paint_steps(plan, fold, name, fold.path(part), plan.work / id_)
    like = f"set/{plan.experiment.name}/{name.method}"
    return Cell(id_, steps, needs, about, "set", like, cases, lesion_effort(plan, name.method, cases))


def lesion_effort(plan: Plan, method: str, lesions: int) -> tuple[str, float] | None:
    """See :attr:`~.cells.Cell.effort`: of painting so many lesions."""
    each = 0.0 if method == COPY_PASTE else painting_effort(plan, method)
    return (f"generator/{plan.experiment.name}/{method}", lesions * each) if each else None


def _needs(plan: Plan, fold: Fold, name: SetName) -> tuple[str, ...]:
    generator = generator_cell(plan, fold, name.method)
    needs = () if generator is None else (generator.id,)
    if len(plan.method(name.method).passes) > 1 and name.masks != "given":
        needs += (plan.id("set", fold, str(name._replace(method=MASKS_OF))),)
    return needs


def _cases_per_scan(plan: Plan, name: SetName) -> int:
    given = plan.experiment.sets[name.set]
    counts = {"P1": 1, "N1": 2, "N2": 5} if plan.experiment.joint else {}
    return given.get("cases_per_scan", counts.get(name.set, 1))


def _note(name: SetName) -> str | None:
    if name.masks != "diffmask":
        return None
    return (
        "the masks come from the weights shipped with the mask bundle, which were trained on public masks that may "
        "include those of the held-out cases; no image took part in that training"
    )


def paint_steps(plan: Plan, fold: Fold, name: SetName, source: Path, folder: Path) -> tuple[Step, ...]:
    """The processes that paint a set into ``folder/set``; several passes where a method paints class by class.

    Args:
        source: datalist of the scans.
    """
    passes = plan.method(name.method).passes
    if len(passes) == 1:
        keys = {**_mask_keys(plan, fold, name), **_texture_keys(plan, fold, name), **_common(plan, fold, name, 0)}
        command = synthesize(plan.experiment.bundle, _overlays(plan, name, 0), source, folder / "set", keys)
        return (Step("synthesize", command, output=folder / "set", accepted=(0, FAILED)),)
    masks = None if name.masks == "given" else set_folder(plan, fold, name._replace(method=MASKS_OF))
    steps = []
    for number, part in enumerate(passes):
        cases = folder / f"pass_{number}.json"
        steps.append(_layers(plan, folder, number, source, masks))
        keys = {"set": "P'", "masks": "given", "texture": "none", **_common(plan, fold, name, number)}
        output = folder / f"pass_{number}"
        command = synthesize(plan.experiment.bundle, _overlays(plan, name, number), cases, output, keys)
        title = f"synthesize_{part.lesion_class}"
        steps.append(Step(title, command, needs=cases, output=output, accepted=(0, FAILED)))
    return (*steps, _layers(plan, folder, len(passes), source, masks))


def _layers(plan: Plan, folder: Path, number: int, source: Path, masks: Path | None) -> Step:
    """The step before a pass, or, after the last, the one that puts the set together."""
    labels = ",".join(str(value) for value in plan.experiment.classes.values())
    arguments = [str(folder), str(number), "--cases", str(source), "--labels", labels]
    arguments += [] if masks is None else ["--masks", str(masks)]
    return Step(f"layers_{number}", tuple(arguments), "custom_components.reproduction.class_passes")


def _overlays(plan: Plan, name: SetName, number: int) -> tuple[str, ...]:
    return () if name.method == COPY_PASTE else painting_overlays(plan, name.method, number)


def _common(plan: Plan, fold: Fold, name: SetName, number: int) -> dict[str, Any]:
    common = {"seed": fold.number, "threads": plan.threads}
    if name.method == COPY_PASTE:
        return common
    return {**common, **painting_keys(plan, fold, name.method, number), **plan.method(name.method).keys}


def _mask_keys(plan: Plan, fold: Fold, name: SetName) -> dict[str, Any]:
    """Options that say where the masks come from."""
    keys: dict[str, Any] = {**plan.experiment.sets[name.set], "masks": name.masks}
    if name.method == COPY_PASTE:
        keys = {"set": COPY_PASTE}
    if name.masks == "copy":
        keys["library"] = fold.path("train")
    if name.masks != "given":
        keys |= {"organ_mask": fold.organs, **plan.budget.stage(plan.experiment.name, "masks").keys}
    return keys


def _texture_keys(plan: Plan, fold: Fold, name: SetName) -> dict[str, Any]:
    """The texture asked for: by the fold's own presets in the paper's proportions, or none."""
    if name.method == COPY_PASTE:
        return {}
    if not plan.method(name.method).histogram:
        return {"texture": "none"}
    presets = plan.work / plan.id("generator", fold, name.method) / "texture_presets.json"
    return {"texture": "random", "texture_presets": presets}

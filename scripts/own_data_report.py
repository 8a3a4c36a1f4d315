"""What the preparation of a data set tells: its fingerprint in a few lines, and the commands that come next."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from custom_components.fingerprint import CaseMeasures
from custom_components.proposals import Proposal

from .own_data_config import ANY
from .own_data_plan import Plan


def print_fingerprint(fingerprint: Mapping[str, Any]) -> None:
    """The distributions over the cases, as median (least to most)."""

    def spread(values: Mapping[str, float] | None, digits: str = ".3g") -> str:
        return (
            "-" if values is None else f"{values['50']:{digits}} ({values['0']:{digits}} to {values['100']:{digits}})"
        )

    def axes(values: Mapping[str, Mapping[str, float]], digits: str = ".3g") -> str:
        return ", ".join(f"{axis} {spread(part, digits)}" for axis, part in values.items())

    print(f"\nfingerprint of {fingerprint['name']}: median (least to most)")
    cases, thick, normal = (fingerprint[key] for key in ("cases", "thick_cases", "normal_cases"))
    print(f"  cases             {cases}, of {fingerprint['patients']} patients; {normal} without lesion")
    print(f"  voxel size (mm)   {axes(fingerprint['spacing_mm'])}; {thick} with thick slices")
    print(f"  size (voxels)     {axes(fingerprint['size'], '.0f')}")
    told = ", ".join(f"{name} {count}" for name, count in fingerprint["orientations"].items())
    print(f"  orientation       {told}; {fingerprint['oblique_cases']} oblique")
    specks = fingerprint["specks"]
    rest = f"; {specks} specks of fewer than 5 voxels are no lesions" if specks else ""
    print(f"  lesions           {fingerprint['lesions']}, {spread(fingerprint['lesions_per_case'])} a case{rest}")
    print(f"  extent (mm)       {axes(fingerprint['extent_mm'], '.0f')}")
    for name, part in fingerprint["classes"].items():
        volume = {key: value / 1000 for key, value in part["volume_mm3"].items()}
        print(f"    {name} = {part['label']}: {part['lesions']} in {part['cases']} cases, {spread(volume)} ml")
    print("  intensity         5th, 50th and 95th percentile")
    for name, part in fingerprint["intensity"].items():
        title = {"whole": "whole scan", "around": "within 10 mm of lesions"}.get(name, f"inside {name}")
        if part is not None:
            print(f"    {title:<24}" + "".join(f"{part[p]:>9.4g}" for p in ("5", "50", "95")))


def print_proposals(proposals: Mapping[str, Proposal]) -> None:
    """One line a setting, with its reason."""
    width = max(map(len, proposals))
    for key, (value, reason) in proposals.items():
        told = value if isinstance(value, str) else json.dumps(value)
        print(f"  {key:<{width}}  {told}: {reason}")


def print_misfits(cases: Sequence[CaseMeasures], fitting: Mapping[str, Sequence[int]]) -> None:
    """Lists the lesions that are too large for the crop."""
    for case in cases:
        for lesion in case.lesions:
            if lesion.number not in fitting[case.case]:
                extent = " x ".join(f"{v:.0f}" for v in lesion.extent_mm)
                print(
                    f"  lesion {lesion.number} of case {case.case}, {extent} mm, does not fit the crop: not learnt from"
                )


def next_commands(plan: Plan, output: Path) -> list[str]:
    """Prints, and returns, the commands to train (on a GPU, on a CPU), to evaluate and to generate."""
    lesions = sum(len(case.lesions) for case in plan.training)
    repeats = plan.repeats
    config, run = shlex.quote(f"{output}/config.json"), "runs/mine"
    both = shlex.quote(f"[train_cpu,{output}/config.json]")
    bundle, data = f"--bundle {plan.base} --config", f"--dataset_dir {shlex.quote(str(output))}"
    weights = f"--weights {run}/checkpoints/model.pt"
    gpu = f" --batch_size {plan.batch_size}"
    cpu = f" --{'crop_size' if plan.base == ANY else 'spatial_size'} {shlex.quote(json.dumps(plan.small_size))}"
    commands = {
        f"next: train on a GPU ({lesions} training lesions, seen {repeats['gpu']} times an epoch)": (
            f"lefusion run training {bundle} {config} {data} --output_dir {run} --repeats {repeats['gpu']}{gpu}"
        ),
        "or on a CPU": (
            f"lefusion run training {bundle} {both} {data} --output_dir {run} --repeats {repeats['cpu']}"
            + (cpu if plan.small_size != plan.size else "")
        ),
        "then measure it on the patients held out": (
            f"lefusion run evaluate {bundle} {config} {data} {weights} --output_dir {run}/evaluation"
        ),
        "and paint into a healthy scan; MASK holds the classes' labels where lesions shall be": (
            f"lefusion generate IMAGE MASK painted {bundle} {config} {weights}"
        ),
    }
    for title, command in commands.items():
        print(f"\n{title}\n  {command}")
    return list(commands.values())

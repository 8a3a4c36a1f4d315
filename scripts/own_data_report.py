"""What the preparation of a data set tells: its fingerprint in a few lines, and the commands that come next."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from custom_components.fingerprint import CaseMeasures
from custom_components.proposals import smaller_crop

from .own_data_config import ANY, BATCH_SIZE, CROP_VOXELS, CROPS_AN_EPOCH


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
    print(f"  cases             {cases} of {fingerprint['patients']} patients, {normal} without lesion")
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


def next_commands(
    base: str,
    output: Path,
    cases: Sequence[CaseMeasures],
    size: Sequence[int],
    spacing_mm: Sequence[float] | None,
    divisor: Sequence[int],
    lesions: int,
) -> list[str]:
    """Prints, and returns, the commands to train (on a GPU, on a CPU), to evaluate and to generate.

    Args:
        base: the bundle.
        output: the prepared folder.
        cases: those with lesions to learn from.
        size, spacing_mm: of the crop.
        divisor: what the network needs each side to be a multiple of.
        lesions: number of training lesions.
    """
    voxels = math.prod(size)
    batch = min(BATCH_SIZE, max(1, 2 ** int(math.log2(BATCH_SIZE * CROP_VOXELS / voxels))))
    small = [min(a, b) for a, b in zip(smaller_crop(cases, spacing_mm, divisor), size, strict=True)]
    repeats = {device: max(1, round(crops / lesions)) for device, crops in CROPS_AN_EPOCH.items()}
    config, run = f"{output}/config.json", "runs/mine"
    common = f"--bundle {base} --config"
    data = f"--dataset_dir {output} --output_dir {run}"
    key = "crop_size" if base == ANY else "spatial_size"
    shorter = "" if small == list(size) else f' --{key} "{str(small).replace(" ", "")}"'
    weights = f"--weights {run}/checkpoints/model.pt"
    train = f"lefusion run training {common} {config} {data} --repeats {repeats['gpu']}"
    train += f" --batch_size {batch}" if batch < BATCH_SIZE else ""
    train_cpu = f'lefusion run training {common} "[train_cpu,{config}]" {data} --repeats {repeats["cpu"]}{shorter}'
    evaluate = f"lefusion run evaluate {common} {config} --dataset_dir {output} {weights} --output_dir {run}/evaluation"
    generate = f"lefusion generate IMAGE MASK painted {common} {config} {weights}"
    print(f"\nnext: train on a GPU ({lesions} training lesions, about {repeats['gpu'] * lesions} crops an epoch)")
    print(f"  {train}")
    print(f"or on a CPU\n  {train_cpu}")
    print(f"then measure it on the patients held out\n  {evaluate}")
    print(f"and paint into a healthy scan; MASK holds the classes' labels where lesions shall be\n  {generate}")
    return [train, train_cpu, evaluate, generate]

"""All that is decided about a data set before anything is written."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from custom_components.datasets import split_by_patient
from custom_components.errors import InputError
from custom_components.fingerprint import CaseMeasures
from custom_components.labels import LesionLabels
from custom_components.proposals import (
    Proposal,
    lesions_that_fit,
    propose_crop,
    propose_modality,
    propose_percentiles,
    propose_spacing,
    propose_split,
    propose_window,
    smaller_crop,
)

from .own_data_config import ANY, cached_size, choose_base, divisor, network_keys, overlay

CROP_VOXELS, BATCH_SIZE = 64 * 64 * 32, 16  # what the shipped weights were trained with
CROPS_AN_EPOCH = {"gpu": 720, "cpu": 288}  # likewise

__all__ = ["Plan", "make_plan"]


@dataclass(frozen=True)
class Plan:
    """What a training on a data set will be.

    Attributes:
        base: the bundle whose configs are nearest.
        proposals: setting -> value and reason.
        fitting: case -> numbers of its lesions that fit the crop.
        training: the cases to learn from, with those lesions only.
        size, small_size: voxels of a training crop for a GPU and for a CPU.
        batch_size: for a GPU.
        repeats: how often an epoch passes over the lesions, on a ``gpu`` and on a ``cpu``.
        config: the overlay, as yet without texture presets.
    """

    base: str
    proposals: dict[str, Proposal]
    fitting: dict[str, list[int]]
    training: list[CaseMeasures]
    size: list[int]
    small_size: list[int]
    batch_size: int
    repeats: dict[str, int]
    config: dict[str, Any]

    @property
    def first_class(self) -> str:
        return next(iter(self.config["lesion_classes"]))

    def size_mm(self, cases: Sequence[CaseMeasures]) -> list[float]:
        """Of the crop; on the scans' own grids, that of the median one."""
        spacing = self.config["spacing_mm"]
        spacing = np.median([case.spacing_mm for case in cases], axis=0) if spacing is None else spacing
        return [float(n * step) for n, step in zip(self.size, spacing, strict=True)]


def make_plan(cases: Sequence[CaseMeasures], labels: LesionLabels, modality: str) -> Plan:
    """Every setting with its reason.

    Args:
        cases: every class of ``labels`` has a lesion in one of them.
        labels: the meaning of the label maps.
        modality: CT, MR or auto.

    Raises:
        InputError: where no lesion of a class fits the crop, or too few patients are there to hold one out.
    """
    kind = propose_modality(cases) if modality == "auto" else Proposal(modality, "you say so")
    base, why = choose_base(kind.value, labels.classes, labels.anatomy)
    network = network_keys(base, len(labels.classes), in_plane=propose_spacing(cases).value is None)
    multiple = divisor(base, network)
    spacing, size = propose_crop(cases, multiple)
    proposals = {
        "modality": kind,
        "bundle": Proposal(base, why),
        "lesion_classes": Proposal(dict(labels.classes), "these labels are to be painted"),
    }
    if labels.anatomy:
        proposals["anatomy"] = Proposal(dict(labels.anatomy), "these labels may be there and are never painted into")
    proposals["spacing_mm"] = spacing
    wider = cached_size(size.value, spacing.value)
    around = Proposal(wider, "the crop with a margin, in which training crops lie at random")
    if base == ANY:
        proposals |= {"crop_size": size, "spatial_size": around}
    else:
        proposals |= {"spatial_size": size, "cached_size": around}
    window = percentiles = headroom = None
    if kind.value == "CT":
        window = proposals["hu_window"] = propose_window(cases, labels.names)
    else:
        percentiles, headroom = propose_percentiles(cases)
        proposals |= {"intensity_percentiles": percentiles, "intensity_headroom": headroom}

    fitting = {case.case: lesions_that_fit(case, size.value, spacing.value) for case in cases}
    kept = [replace(case, lesions=[x for x in case.lesions if x.number in fitting[case.case]]) for case in cases]
    kept = [case for case in kept if case.lesions]
    for name in labels.names:
        if not any(case.has(name) for case in kept):
            raise InputError(f"no lesion of class {name!r} fits a crop of {size.value} voxels.")
    split, val_patients = propose_split(kept, labels.names)
    proposals["val_fraction"] = split
    entries = [{"patient": case.patient} for case in kept]
    held_out = val_patients or [entry["patient"] for entry in split_by_patient(entries, split.value, "validation")]
    training = [case for case in kept if case.patient not in held_out]
    count = sum(len(case.lesions) for case in training)
    batch = min(BATCH_SIZE, max(1, 2 ** int(math.log2(BATCH_SIZE * CROP_VOXELS / math.prod(size.value)))))
    repeats = {device: max(1, round(crops / count)) for device, crops in CROPS_AN_EPOCH.items()}
    proposals["batch_size"] = Proposal(
        batch, f"on a GPU: at most {BATCH_SIZE} crops, and no more voxels than {BATCH_SIZE} crops of 64 x 64 x 32 have"
    )
    told = f"{count} training lesions, so that an epoch is about {CROPS_AN_EPOCH['gpu']} crops"
    proposals["repeats"] = Proposal(repeats["gpu"], f"{told}; on a CPU {repeats['cpu']}, with train_cpu's settings")
    small = [min(a, b) for a, b in zip(smaller_crop(kept, spacing.value, multiple), size.value, strict=True)]
    if small != size.value:
        proposals["crop on a CPU"] = Proposal(small, "it holds three quarters of the lesions")
    return Plan(
        base=base,
        proposals=proposals,
        fitting=fitting,
        training=training,
        size=size.value,
        small_size=small,
        batch_size=batch,
        repeats=repeats,
        config=overlay(
            base,
            labels,
            size.value,
            spacing.value,
            window and window.value,
            percentiles and percentiles.value,
            headroom.value if headroom else 0.0,
            split.value,
            val_patients,
            network,
        ),
    )

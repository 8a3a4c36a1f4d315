"""Histogram-based texture control (section 3.2, Eq. 5, appendix F)."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from numbers import Real
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from .errors import InputError

__all__ = [
    "HistogramConditioner",
    "class_conditioners",
    "histogram_mean",
    "lesion_histogram",
    "match_texture_mean",
]

NUM_BINS = 16


def lesion_histogram(image: Tensor, mask: Tensor, num_bins: int = NUM_BINS) -> Tensor:
    """Texture histogram of a lesion: bin counts over [-1, 1] inside the mask, divided by the voxel count.

    Args:
        image: any shape, values in [-1, 1] (values outside fall into no bin, as in the published program).
        mask: the same shape; voxels above 0 count.

    Returns:
        (num_bins,) float32 summing to 1 where all values lie in the range, or all zeros for an empty mask.
    """
    values = torch.as_tensor(image)[torch.as_tensor(mask) > 0].float()
    counts = torch.histc(values, bins=num_bins, min=-1, max=1)
    return counts / max(values.numel(), 1)


def histogram_mean(histogram: np.ndarray, value_range: tuple[float, float] = (-1, 1)) -> float:
    """Mean of a histogram (num_bins,) over equal bins of ``value_range``."""
    values = np.asarray(histogram, dtype=np.float64)
    low, high = value_range
    centres = low + (np.arange(values.size) + 0.5) * (high - low) / values.size
    return float((values * centres).sum() / values.sum())


def match_texture_mean(x_0: Tensor, masks: Tensor, histograms: Tensor, strength: float = 1.0) -> Tensor:
    """Shifts an estimate of the lesions so that the mean of each is that of its requested histogram.

    What the network has seen little of, such as a small nodule of solid texture, it draws towards what it knows. The
    shift leaves the structure to the network and the overall intensity to the request.

    Args:
        x_0: (N, n, X, Y, Z) in [-1, 1].
        masks: (N, n, X, Y, Z) in {0, 1}.
        histograms: (N, n, num_bins); a class with the null condition (all zeros) is left alone.
        strength: share of the shift that is made, 0 to 1.

    Returns:
        (N, n, X, Y, Z), changed inside the masks only.
    """
    num_bins = histograms.shape[-1]
    centres = (torch.arange(num_bins, device=x_0.device, dtype=x_0.dtype) + 0.5) * 2 / num_bins - 1
    mass = histograms.sum(dim=-1)
    wanted = (histograms * centres).sum(dim=-1) / mass.clamp(min=1e-6)
    inside = masks > 0
    voxels = inside.sum(dim=(2, 3, 4))
    mean = torch.where(inside, x_0, 0).sum(dim=(2, 3, 4)) / voxels.clamp(min=1)
    shift = strength * torch.where((mass > 1e-6) & (voxels > 0), wanted - mean, 0)
    return torch.where(inside, x_0 + shift[..., None, None, None], x_0)


class HistogramConditioner:
    """Turns a texture request into the histogram that conditions the network.

    A request is a preset's name, an explicit histogram of ``num_bins`` values, ``none`` (the null condition: all
    zeros, learned through condition dropout), or ``random`` (a preset drawn by ``weights``).

    Args:
        presets: name -> histogram, or the path of a JSON file ``{"presets": {name: [...]}}`` of cluster centres.
            A published cluster file, a list of histograms ordered from dark to bright, works too: its clusters are
            named by ``texture_names``.
        weights: name -> weight for ``random``. The paper draws solid : part-solid : ground-glass as 75:20:5.
        perturbation: each bin is multiplied by a factor drawn within 1 +- perturbation, then the sum is made 1 again
            (appendix F: 0.1). Only presets are perturbed; an explicit histogram is used as given.
        num_bins: length of a histogram.
        texture_names: names for an unnamed cluster file, by rising mean intensity.

    Raises:
        InputError: for a presets file that cannot be read, unknown names, or histograms of the wrong length, with
            negative or non-finite values, or not summing to 1.
    """

    def __init__(
        self,
        presets: Mapping[str, Sequence[float]] | str | Path,
        weights: Mapping[str, float] | None = None,
        perturbation: float = 0.1,
        num_bins: int = NUM_BINS,
        texture_names: Sequence[str] = ("ground_glass", "part_solid", "solid"),
    ) -> None:
        self.num_bins = num_bins
        if not 0 <= perturbation < 1:
            raise InputError(f"perturbation must lie within 0 and 1, got {perturbation}.")
        self.perturbation = perturbation
        if not isinstance(presets, Mapping):
            presets = self._read(Path(presets), texture_names)
        self.presets = {
            name: self.checked(values, f"preset {name!r}", tolerance=1e-2) for name, values in presets.items()
        }
        for name in ("none", "random"):
            if name in self.presets:
                raise InputError(f"a texture preset cannot be named {name!r}, which has its own meaning.")
        weights = dict.fromkeys(self.presets, 1.0) if weights is None else dict(weights)
        for name, weight in weights.items():
            if name not in self.presets:
                raise InputError(f"texture weight for unknown texture {name!r}; known: {', '.join(self.presets)}.")
            if not (isinstance(weight, Real) and 0 <= weight < float("inf")):
                raise InputError(
                    f"texture weight of {name!r} must be a number, finite and not negative, got {weight!r}."
                )
        if not self.presets:
            raise InputError("there are no texture presets.")
        if not sum(weights.values()) > 0:
            raise InputError("texture weights must not all be 0.")
        self.weights = weights

    @staticmethod
    def _read(path: Path, names: Sequence[str]) -> Mapping[str, Sequence[float]]:
        try:
            content = json.loads(path.read_text())
        except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
            raise InputError(f"cannot read texture presets from {path}: {error}.") from error
        content = content.get("presets", content) if isinstance(content, dict) else content
        if isinstance(content, list):
            if len(content) != len(names):
                raise InputError(f"{path} holds {len(content)} clusters, expected {len(names)}.")
            try:
                content = dict(zip(names, sorted(content, key=histogram_mean), strict=True))
            except (TypeError, ValueError) as error:
                raise InputError(f"the clusters in {path} are not lists of numbers.") from error
        if not isinstance(content, dict):
            raise InputError(f"{path} holds no texture presets.")
        return content

    def checked(self, values: Sequence[float], name: str = "histogram", tolerance: float = 1e-3) -> np.ndarray:
        """The histogram as float32 (num_bins,), its sum exactly 1 up to rounding; an InputError if it is none."""
        try:
            histogram = np.asarray(values, dtype=np.float64)
        except (TypeError, ValueError) as error:
            raise InputError(f"{name} must be a list of {self.num_bins} numbers, got {values!r}.") from error
        if histogram.shape != (self.num_bins,):
            raise InputError(f"{name} must have {self.num_bins} bins, got shape {histogram.shape}.")
        if not np.isfinite(histogram).all():
            raise InputError(f"{name} holds NaN or infinite values.")
        if (histogram < 0).any():
            raise InputError(f"{name} holds negative values (lowest {histogram.min():g}).")
        if abs(histogram.sum() - 1) > tolerance:
            raise InputError(f"{name} must sum to 1, it sums to {histogram.sum():g}.")
        return (histogram / histogram.sum()).astype(np.float32)

    def sample_texture(self, rng: np.random.Generator) -> str:
        """A preset's name drawn by the weights."""
        names = list(self.weights)
        weights = np.array([self.weights[name] for name in names], dtype=np.float64)
        return names[rng.choice(len(names), p=weights / weights.sum())]

    def check_request(self, request: str | Sequence[float] | None) -> None:
        """Raises InputError where ``request`` is neither a known texture, ``random``, ``none`` nor a histogram."""
        if request is None or (isinstance(request, str) and request in ("none", "random", *self.presets)):
            return
        if isinstance(request, str):
            known = ", ".join([*self.presets, "random", "none"])
            raise InputError(f"unknown texture {request!r}; known: {known}, or a list of {self.num_bins} numbers.")
        self.checked(request)

    def __call__(self, request: str | Sequence[float] | None, rng: np.random.Generator) -> tuple[str, np.ndarray]:
        """The texture's name (``custom`` for an explicit histogram) and its histogram, float32 (num_bins,)."""
        self.check_request(request)
        if request is None or (isinstance(request, str) and request == "none"):
            return "none", np.zeros(self.num_bins, dtype=np.float32)
        if not isinstance(request, str):
            return "custom", self.checked(request)
        name = self.sample_texture(rng) if request == "random" else request
        factors = 1 + self.perturbation * rng.uniform(-1, 1, self.num_bins)
        histogram = self.presets[name] * factors
        return name, (histogram / histogram.sum()).astype(np.float32)


def class_conditioners(
    classes: Sequence[str],
    presets: Mapping[str, Any] | str | Path,
    weights: Mapping[str, Mapping[str, float]] | None = None,
    perturbation: float = 0.1,
) -> dict[str, HistogramConditioner]:
    """One :class:`HistogramConditioner` for each lesion class.

    Args:
        classes: the lesion classes.
        presets: ``{"classes": {class: {"presets": {name: [...]}}}}``, or a JSON file of it; for one class its own part
            is enough. A published cluster file works too: a list of clusters, each with 16 numbers for every class,
            one after the other or as lists; they are named control_1, control_2, ... by rising mean intensity of each
            class, and drawn alike.
        weights: class -> (name -> weight for ``random``); all names alike for a class that is not in it.
        perturbation: see :class:`HistogramConditioner`.

    Raises:
        InputError: for a file that cannot be read or lacks a class, and as :class:`HistogramConditioner`.
    """
    try:
        content = presets if isinstance(presets, Mapping) else json.loads(Path(presets).read_text())
        if isinstance(content, list):
            clusters = np.array(content, dtype=np.float64).reshape(len(content), len(classes), NUM_BINS)
            own, weights = {name: _named(clusters[:, channel]) for channel, name in enumerate(classes)}, None
        else:
            content = content if len(classes) > 1 or "classes" in content else {"classes": {classes[0]: content}}
            own = {name: content["classes"][name]["presets"] for name in classes if name in content["classes"]}
    except (OSError, UnicodeDecodeError, KeyError, TypeError, ValueError) as error:
        raise InputError(f"cannot read texture presets by class from {presets}: {error!r}.") from error
    for name in classes:
        if name not in own:
            raise InputError(f"texture presets {presets} lack the class {name!r}.")
    weights = weights or {}
    return {name: HistogramConditioner(own[name], weights.get(name), perturbation) for name in classes}


def _named(clusters: np.ndarray) -> dict[str, np.ndarray]:
    """Histograms (count, num_bins) by rising mean."""
    return {f"control_{rank}": values for rank, values in enumerate(sorted(clusters, key=histogram_mean), start=1)}

"""What two sets of lesions are compared by: features of each lesion, by hand or of a network that the user names."""

from __future__ import annotations

import importlib
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ..errors import InputError, first_line
from ..lesion_crops import LesionCrop
from .lesion_features import LESION_FEATURES, lesion_features

__all__ = ["FeatureSpace", "LesionFeatures", "NetworkFeatures", "choose_features"]


class LesionFeatures:
    """First-order, shape and texture features, see :func:`lesion_features`."""

    title = "first-order, shape and texture features"

    def __call__(self, crops: Sequence[LesionCrop]) -> np.ndarray:
        """Features (n, d) float64."""
        return np.array([lesion_features(crop) for crop in crops])

    def names(self, size: int) -> list[str]:
        """One a feature."""
        return list(LESION_FEATURES)


class NetworkFeatures:
    """Features of a network; nothing is downloaded.

    Args:
        network: takes (n, 1, x, y, z) float32 in [-1, 1], the crops' cubes, and gives (n, d), or (n, d, ...), of which
            the mean over the further axes is taken.
        name: by which the user knows it.
        batch_size: crops at a time.
    """

    def __init__(self, network: Callable[[torch.Tensor], Any], name: str, batch_size: int = 8) -> None:
        self.network, self.title, self.batch_size = network, f"features of {name}", batch_size

    @torch.no_grad()
    def __call__(self, crops: Sequence[LesionCrop]) -> np.ndarray:
        """Features (n, d) float64.

        Raises:
            InputError: where the network fails or gives something else.
        """
        parts = []
        for start in range(0, len(crops), self.batch_size):
            part = crops[start : start + self.batch_size]
            inputs = np.stack([crop.scaled(crop.values) for crop in part])[:, None].astype(np.float32)
            try:
                given = self.network(torch.from_numpy(inputs))
            except Exception as error:
                raise InputError(f"{self.title}: it fails on crops {inputs.shape}: {first_line(error)}.") from error
            if not isinstance(given, torch.Tensor) or given.ndim < 2 or len(given) != len(part):
                raise InputError(f"{self.title}: it must give a tensor (n, d) for crops (n, 1, x, y, z).")
            parts.append(given.double().flatten(2).mean(dim=2) if given.ndim > 2 else given.double())
        features = torch.cat(parts).cpu().numpy()
        if not np.isfinite(features).all():
            raise InputError(f"{self.title}: some are not finite.")
        return features

    def names(self, size: int) -> list[str]:
        """One a feature."""
        return [f"feature_{number}" for number in range(1, size + 1)]


def choose_features(name: str) -> LesionFeatures | NetworkFeatures:
    """The features of a name: ``lesion``, the path of a TorchScript file, or ``package.module:callable``.

    Raises:
        InputError: where it is none of these, or cannot be loaded.
    """
    name = str(name)
    if name == "lesion":
        return LesionFeatures()
    if Path(name).is_file():
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", DeprecationWarning)  # TorchScript's own, of newer releases
                network = torch.jit.load(name, map_location="cpu").eval()
        except Exception as error:
            raise InputError(f"features {name} is no TorchScript file: {first_line(error)}") from error
        return NetworkFeatures(network, Path(name).name)
    module, _, attribute = name.partition(":")
    if not attribute:
        raise InputError(
            f"features must be 'lesion', a TorchScript file or 'package.module:callable', got {name!r}, "
            "which is no such file."
        )
    try:
        network = getattr(importlib.import_module(module), attribute)
    except Exception as error:
        raise InputError(f"cannot import features {name}: {first_line(error)}.") from error
    if not callable(network) or isinstance(network, type):
        raise InputError(f"features {name} must be a function or a network, it is {type(network).__name__}.")
    return NetworkFeatures(network.eval() if isinstance(network, torch.nn.Module) else network, name)


class FeatureSpace:
    """Features standardised by a set: mean 0 and deviation 1 there; those that are all alike in it are left out.

    Args:
        features: (n, d) of the set, n at least 2.
        components: principal components of the set to keep, in place of the features.

    Raises:
        InputError: where no feature differs, or for more components than there can be.
    """

    def __init__(self, features: np.ndarray, components: int | None = None) -> None:
        self.mean, deviation = features.mean(axis=0), features.std(axis=0, ddof=1)
        self.kept = deviation > 1e-9 * np.maximum(1.0, np.abs(self.mean))
        if not self.kept.any():
            raise InputError("all features are the same for every real lesion: nothing can be compared by them.")
        self.deviation, self.axes = deviation[self.kept], np.eye(int(self.kept.sum()))
        if components is not None:
            most = min(len(features) - 1, int(self.kept.sum()))
            if isinstance(components, bool) or not isinstance(components, int) or not 1 <= components <= most:
                raise InputError(f"components must be a whole number from 1 to {most} here, got {components!r}.")
            self.axes = np.linalg.svd(self(features), full_matrices=False)[2][:components].T

    def __call__(self, features: np.ndarray) -> np.ndarray:
        """Features (n, d) as (n, number of those kept) in units of the set's deviations."""
        return (features - self.mean)[:, self.kept] / self.deviation @ self.axes

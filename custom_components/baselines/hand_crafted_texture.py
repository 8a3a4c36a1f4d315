"""Hand-Crafted lesion texture (section 4.1): softened Gaussian noise around an intensity level, no network."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from numbers import Real
from typing import Any

import numpy as np
import torch
from monai.inferers import Inferer
from scipy import ndimage
from torch import Tensor, nn

from ..combiners import MultiChannelCombiner
from ..errors import InputError, as_flag
from ..metrics import fill_from_surroundings
from ..seeds import derive_seed

__all__ = ["HandCraftedTexture", "NoNetwork", "refuse_training"]

Range = Sequence[float]


class HandCraftedTexture(Inferer):
    """Takes the place of :class:`~custom_components.inferers.LesionInpaintingInferer`; needs no network, no training.

    For each class of a lesion a mean m and a standard deviation s are drawn from ranges that real lesions have.
    Gaussian noise, drawn on a coarse grid, is interpolated to voxels and smoothed by a Gaussian filter, then shifted
    and scaled to m and s within the mask. Towards the mask's border it passes softly into the surroundings: each voxel
    of the lesion mixes the texture with its nearest voxel outside all lesions, by the smoothed mask. What was inside
    the mask before plays no part; outside it the image is the input, bit for bit.

    Args:
        classes: the lesion classes, in the order of the masks' channels.
        levels: class -> ``{"mean": [low, high], "std": [low, high]}`` in the network's units, [-1, 1] over the window.
        coarseness: smallest and largest step of the coarse grid in voxels, drawn for each class of a lesion.
        smoothing: standard deviation of the Gaussian filter on the texture, in voxels.
        softness: standard deviation of the Gaussian filter on the mask, in voxels; 0 for a hard border.
        in_plane: interpolate and smooth along the first two axes only, for stacks of few thick slices.
        seed: run seed, used where the call gives no ``seeds``.

    Raises:
        InputError: for a class without levels, or numbers outside their ranges.
    """

    def __init__(
        self,
        classes: Sequence[str],
        levels: Mapping[str, Mapping[str, Range]],
        coarseness: Range = (1.5, 4.0),
        smoothing: float = 0.7,
        softness: float = 1.0,
        in_plane: bool = False,
        seed: int = 0,
    ) -> None:
        super().__init__()
        for name in classes:
            if name not in levels:
                raise InputError(
                    f"levels lack the class {name!r}: a mean and a std range are needed for each "
                    "(lefusion fit_texture_levels measures them)."
                )
            for key, least in (("mean", -1), ("std", 0)):
                _check_range(f"levels of class {name!r}: {key}", levels[name].get(key), least, 1)
        _check_range("coarseness", coarseness, 1, np.inf)
        for key, value in (("smoothing", smoothing), ("softness", softness)):
            if not (isinstance(value, Real) and 0 <= value < np.inf):
                raise InputError(f"{key} must be a number of at least 0, got {value!r}.")
        self.classes, self.levels = list(classes), levels
        self.coarseness, self.smoothing, self.softness = coarseness, smoothing, softness
        self.in_plane, self.seed = as_flag(in_plane, "in_plane"), seed
        self.combiner = MultiChannelCombiner(len(self.classes))

    def __call__(
        self, inputs: Tensor, network: nn.Module | None = None, *, seeds: Sequence[int] | None = None, **kwargs: Any
    ) -> Tensor:
        """
        Args:
            inputs: (N, 1 + n, X, Y, Z): the image in [-1, 1], then one mask per class in {0, 1}.
            network: not used.
            seeds: one seed per sample.

        Returns:
            (N, 1, X, Y, Z), the painted image.
        """
        inputs = torch.as_tensor(inputs).as_subclass(Tensor)
        image, masks = self.combiner.split(inputs)
        self.combiner.check_disjoint(masks)
        seeds = [derive_seed(self.seed, i) for i in range(len(inputs))] if seeds is None else seeds
        painted = [
            self._paint(one[0], regions > 0, np.random.default_rng(int(seed)))
            for one, regions, seed in zip(image.cpu().numpy(), masks.cpu().numpy(), seeds, strict=True)
        ]
        return torch.from_numpy(np.stack(painted)[:, None]).to(image)

    def _paint(self, image: np.ndarray, regions: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """An image (X, Y, Z) with its classes' regions (n, X, Y, Z) bool textured."""
        lesion = regions.any(axis=0)
        if not lesion.any():
            return image
        texture = np.zeros(image.shape)
        for name, region in zip(self.classes, regions, strict=True):
            own = self._texture(name, region, rng)
            texture[region] = own[region]
        surroundings = fill_from_surroundings(image, lesion) if not lesion.all() else texture
        weight = ndimage.gaussian_filter(lesion.astype(np.float64), self._sigma(self.softness))
        weight /= weight[lesion].max()  # a lesion of a few voxels, too, is there
        mixed = weight * texture + (1 - weight) * surroundings
        return np.where(lesion, mixed.clip(-1, 1), image).astype(image.dtype)

    def _texture(self, name: str, region: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Softened noise (X, Y, Z) of one class, its moments within the region (X, Y, Z) bool as drawn."""
        mean, std = (rng.uniform(*self.levels[name][key]) for key in ("mean", "std"))
        step = np.full(3, rng.uniform(*self.coarseness))
        if self.in_plane:
            step[2] = 1
        coarse = rng.standard_normal(np.ceil((np.array(region.shape) - 1) / step).astype(int) + 1)
        place = np.indices(region.shape) / step.reshape(3, 1, 1, 1)
        noise = ndimage.map_coordinates(coarse, place, order=3 if min(coarse.shape[:2]) > 3 else 1, mode="nearest")
        noise = ndimage.gaussian_filter(noise, self._sigma(self.smoothing))
        if not region.any():
            return noise
        spread = noise[region].std()
        return mean + std * (noise - noise[region].mean()) / (spread if spread > 1e-6 else 1.0)

    def _sigma(self, voxels: float) -> tuple[float, float, float]:
        return voxels, voxels, 0.0 if self.in_plane else voxels


class NoNetwork(nn.Module):
    """Stands where a config names the network of a method that has none; takes a crop of any size.

    Args:
        weights: None.

    Raises:
        InputError: for weights, which nothing could be done with.
    """

    def __init__(self, weights: Any = None) -> None:
        super().__init__()
        if weights is not None:
            raise InputError(f"hand-crafted texture has no network: it takes no weights, got {weights}.")

    def check_size(self, spatial_size: Sequence[int]) -> None:
        """Every size will do."""


def refuse_training() -> None:
    """Raises InputError: a method without a network has nothing to train."""
    raise InputError("hand-crafted texture has no network to train: run inference, evaluate or synthesize with it.")


def _check_range(name: str, value: Any, least: float, most: float) -> None:
    numbers = isinstance(value, Sequence) and len(value) == 2 and all(isinstance(v, Real) for v in value)
    if not numbers or not least <= value[0] <= value[1] <= most:
        raise InputError(f"{name} must be two numbers, not falling, from {least:g} to {most:g}, got {value!r}.")

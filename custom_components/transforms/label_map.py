"""Label maps as one mask per lesion class, and intensities by a window."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from monai.config import KeysCollection
from monai.data import MetaTensor
from monai.transforms import MapTransform

from ..errors import InputError
from ..grids import through_plane_last, turn
from ..labels import LesionLabels
from ..metrics import fill_from_surroundings
from ..windows import Window

__all__ = ["FillRegionsd", "LesionMasksd", "OrientSlicesd", "ScaleToWindowd"]


class FillRegionsd(MapTransform):
    """Fills structures with the nearest voxels outside them and outside the lesions, as if they were not there.

    For an evaluation of models that paint one class each: none may see the other class's true texture.

    Args:
        keys: the image (1, X, Y, Z).
        names: structures to fill.
        known: all structures, in the order of the channels under ``anatomy_key``.
        mask_key: masks of the lesions (n, X, Y, Z), which are left as they are.
        anatomy_key: masks of the structures.

    Raises:
        InputError: for a name that is not known.
    """

    def __init__(
        self,
        keys: KeysCollection = "image",
        names: Sequence[str] = (),
        known: Sequence[str] = (),
        mask_key: str = "label",
        anatomy_key: str = "anatomy",
        allow_missing_keys: bool = False,
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        for name in names:
            if name not in known:
                raise InputError(f"hidden names {name!r}; known: {', '.join(known)}.")
        self.channels = [list(known).index(name) for name in names]
        self.mask_key, self.anatomy_key = mask_key, anatomy_key

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        out = dict(data)
        if not self.channels:
            return out
        hidden = (np.asarray(out[self.anatomy_key])[self.channels] > 0).any(axis=0)
        lesion = (np.asarray(out[self.mask_key]) > 0).any(axis=0)
        for key in self.key_iterator(out):
            image = np.asarray(out[key])[0]
            filled = np.where(hidden, fill_from_surroundings(image, hidden | lesion), image)
            out[key] = _like(out[key], filled[None])
        return out


class LesionMasksd(MapTransform):
    """A label map (1, X, Y, Z) becomes one mask in {0, 1} per lesion class, (n, X, Y, Z) float32.

    Args:
        keys: the label map.
        labels: the meaning of its values.
        region_key: where the mask (1, X, Y, Z) of what a crop is centred on goes.
        anatomy_key: where the masks (a, X, Y, Z) of the anatomy go, if the labels name any.

    Raises:
        InputError: for unknown values or a label map without lesion.
    """

    def __init__(
        self,
        keys: KeysCollection = "label",
        labels: LesionLabels | None = None,
        region_key: str = "region",
        anatomy_key: str = "anatomy",
        allow_missing_keys: bool = False,
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        self.labels = LesionLabels() if labels is None else labels
        self.region_key, self.anatomy_key = region_key, anatomy_key

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        out = dict(data)
        for key in self.key_iterator(out):
            volume = out[key]
            values = np.asarray(volume)[0]
            name = volume.meta.get("filename_or_obj", "") if isinstance(volume, MetaTensor) else ""
            self.labels.check(values, f"label {name}".rstrip())
            found = {self.region_key: self.labels.region(values)[None]}
            if self.labels.anatomy:
                found[self.anatomy_key] = np.stack([values == value for value in self.labels.anatomy.values()])
            found[key] = np.stack([values == value for value in self.labels.classes.values()])
            for target, mask in found.items():
                out[target] = _like(volume, mask.astype(np.float32))
        return out


class OrientSlicesd(MapTransform):
    """Turns a volume, without resampling, to the axes closest to RAS+, but with the slices of a thick stack last.

    The same axes as :func:`~custom_components.grids.crop_affine` uses where the scan's own spacing is kept.
    """

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        out = dict(data)
        for key in self.key_iterator(out):
            volume = out[key]
            affine = volume.affine.numpy()
            turned, new_affine = turn(np.asarray(volume)[0], affine, through_plane_last(affine))
            meta = {name: value for name, value in volume.meta.items() if name != "affine"}
            tensor = torch.from_numpy(np.ascontiguousarray(turned))[None]
            out[key] = MetaTensor(tensor, affine=torch.from_numpy(new_affine), meta=meta)
        return out


class ScaleToWindowd(MapTransform):
    """Scales intensities so that a window becomes [-1, 1], and clips.

    Args:
        keys: the image (1, X, Y, Z).
        window: finds the window from the voxels outside the masks; None: the item has it under ``window_key``.
        mask_key: masks (n, X, Y, Z).
        window_key: where the window, two values in the scan's units, lies or goes.
    """

    def __init__(
        self,
        keys: KeysCollection = "image",
        window: Window | None = None,
        mask_key: str = "label",
        window_key: str = "window",
        allow_missing_keys: bool = False,
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        self.window, self.mask_key, self.window_key = window, mask_key, window_key

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        out = dict(data)
        for key in self.key_iterator(out):
            if self.window is not None:
                outside = ~(np.asarray(out[self.mask_key]) > 0).any(axis=0)
                found = self.window(np.asarray(out[key])[0][outside])
                out[self.window_key] = torch.tensor(found, dtype=torch.float64)
            low, high = (float(value) for value in out[self.window_key])
            out[key] = ((out[key] - low) * (2 / (high - low)) - 1).clamp(-1, 1)
        return out


def _like(volume: Any, values: np.ndarray) -> Any:
    tensor = torch.from_numpy(values)
    if not isinstance(volume, MetaTensor):
        return tensor
    meta = {name: value for name, value in volume.meta.items() if name != "affine"}
    return MetaTensor(tensor, affine=volume.affine, meta=meta)

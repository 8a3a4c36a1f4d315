"""Training patches, a share of which is sure to hold a lesion."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from monai.config import KeysCollection
from monai.transforms import MapTransform, Randomizable, SpatialCrop

from ..errors import InputError

__all__ = ["RandCropForegroundd"]


class RandCropForegroundd(Randomizable, MapTransform):
    """Crops to a patch at a random place, or, with a given probability, around a random lesion voxel.

    As nnU-Net oversamples: first a class among those that the case has, then a voxel of it, so that small classes
    come as often as large ones. Such a patch is centred on its voxel as far as the volume reaches. Unlike MONAI's
    RandCropByPosNegLabeld it gives one dictionary, not a list, and makes no index of the background's voxels, which are
    tens of millions in a whole scan.

    Args:
        keys: volumes (C, X, Y, Z) on one grid, at least as large as the patch.
        roi_size: voxels of the patch.
        label_key: class numbers (1, X, Y, Z), 0 background.
        prob: share of patches around a lesion voxel, where the case has any.

    Raises:
        InputError: for a probability outside [0, 1].
    """

    def __init__(
        self,
        keys: KeysCollection,
        roi_size: Sequence[int],
        label_key: str = "label",
        prob: float = 0.33,
        allow_missing_keys: bool = False,
    ) -> None:
        MapTransform.__init__(self, keys, allow_missing_keys)
        if not 0 <= prob <= 1:
            raise InputError(f"foreground_prob must lie within 0 and 1, got {prob}.")
        self.roi_size, self.label_key, self.prob = tuple(int(size) for size in roi_size), label_key, prob

    def randomize(self, label: torch.Tensor) -> None:
        """Draws ``self.start``, the patch's first voxel along each axis."""
        label = label.as_subclass(torch.Tensor)[0]
        room = [max(0, extent - size) for extent, size in zip(label.shape, self.roi_size, strict=True)]
        self.start = [int(self.R.randint(0, free + 1)) for free in room]
        if self.R.random_sample() >= self.prob:
            return
        voxels = torch.nonzero(label)
        if len(voxels) == 0:
            return
        classes = label[tuple(voxels.T)]
        own = voxels[classes == classes.unique()[int(self.R.randint(len(classes.unique())))]]
        centre = own[int(self.R.randint(len(own)))].tolist()
        self.start = [
            int(np.clip(middle - size // 2, 0, free))
            for middle, size, free in zip(centre, self.roi_size, room, strict=True)
        ]

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        out = dict(data)
        self.randomize(out[self.label_key])
        ends = [start + size for start, size in zip(self.start, self.roi_size, strict=True)]
        crop = SpatialCrop(roi_start=self.start, roi_end=ends)
        for key in self.key_iterator(out):
            out[key] = crop(out[key])
        return out

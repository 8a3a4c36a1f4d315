"""Training crops that hold the lesion, not always in the centre."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import torch
from monai.config import KeysCollection
from monai.transforms import MapTransform, Randomizable, SpatialCrop, SpatialPad
from monai.utils import ensure_tuple

__all__ = ["RandCropToLesiond"]


class RandCropToLesiond(Randomizable, MapTransform):
    """Crops (and where needed pads) to ``roi_size`` at a random place that holds the whole lesion.

    Along an axis where the lesion is longer than the crop, the crop lies at random within the lesion's extent.
    Padding repeats an image's border, so that no artificial edge enters the picture, and holds no lesion.

    Args:
        keys: what to crop, image and masks (C, X, Y, Z) on one grid.
        roi_size: voxels (X, Y, Z).
        mask_key: the masks that say where the lesion is.
        margin: free voxels kept around the lesion where the crop has room for them.
        random_centre: False puts the lesion's bounding box in the middle (validation).
        image_keys: whose padding repeats the border; that of the others, the masks, is 0.
    """

    def __init__(
        self,
        keys: KeysCollection,
        roi_size: Sequence[int],
        mask_key: str = "label",
        margin: int = 2,
        random_centre: bool = True,
        image_keys: KeysCollection = "image",
        allow_missing_keys: bool = False,
    ) -> None:
        MapTransform.__init__(self, keys, allow_missing_keys)
        self.roi_size = tuple(int(size) for size in roi_size)
        self.mask_key, self.margin, self.random_centre = mask_key, margin, random_centre
        self.image_keys = ensure_tuple(image_keys)

    def randomize(self, data: torch.Tensor) -> None:
        """Draws ``self.start``, the crop's first voxel (may be negative) along each axis."""
        voxels = torch.nonzero(data.sum(dim=0))
        if len(voxels) == 0:
            voxels = torch.tensor([[size // 2 for size in data.shape[1:]]])
        self.start = []
        first, last = voxels.amin(dim=0).tolist(), voxels.amax(dim=0).tolist()
        for low, high, size, extent in zip(first, last, self.roi_size, data.shape[1:], strict=True):
            margin = max(0, min(self.margin, (size - (high - low + 1)) // 2))
            bounds = sorted((high + 1 + margin - size, low - margin))
            # Where the crop can hold the lesion without leaving the scan, it does: less padding.
            inside = max(bounds[0], min(0, extent - size)), min(bounds[1], max(0, extent - size))
            bounds = inside if inside[0] <= inside[1] else bounds
            if self.random_centre:
                self.start.append(int(self.R.randint(bounds[0], bounds[1] + 1)))
            else:
                self.start.append((low + high + 1 - size) // 2)

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        out = dict(data)
        self.randomize(torch.as_tensor(out[self.mask_key]))
        for key in self.key_iterator(out):
            shape = out[key].shape[1:]
            before = [max(0, -start) for start in self.start]
            after = [max(0, start + size - n) for start, size, n in zip(self.start, self.roi_size, shape, strict=True)]
            first = [start + pad for start, pad in zip(self.start, before, strict=True)]
            padded = out[key]
            if any(before) or any(after):
                target = [n + b + a for n, b, a in zip(shape, before, after, strict=True)]
                mode = "edge" if key in self.image_keys else "constant"
                padded = _Pad(list(zip(before, after, strict=True)), target, mode)(padded)
            last = [f + size for f, size in zip(first, self.roi_size, strict=True)]
            out[key] = SpatialCrop(roi_start=first, roi_end=last)(padded)
        return out


class _Pad(SpatialPad):
    """Pads by given amounts before and after each axis."""

    def __init__(self, amounts: list[tuple[int, int]], target: list[int], mode: str) -> None:
        super().__init__(spatial_size=target, mode=mode)
        self.amounts = amounts

    def compute_pad_width(self, spatial_shape: Sequence[int]) -> tuple[tuple[int, int], ...]:
        return ((0, 0), *self.amounts)

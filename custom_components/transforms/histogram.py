"""The lesion's texture histogram as a training condition (Eq. 5), and its dropout."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any

import torch
from monai.config import KeysCollection
from monai.transforms import MapTransform, RandomizableTransform

from ..conditioners import NUM_BINS, lesion_histogram

__all__ = ["LesionHistogramd", "RandDropConditiond"]


class LesionHistogramd(MapTransform):
    """Writes the texture histogram of every lesion class, (n, num_bins) float32, under ``histogram_key``.

    Args:
        keys: the image (1, X, Y, Z) in [-1, 1].
        mask_key: its masks (n, X, Y, Z).
        histogram_key: where the result goes.
        num_bins: bins over [-1, 1].
    """

    def __init__(
        self,
        keys: KeysCollection = "image",
        mask_key: str = "label",
        histogram_key: str = "histogram",
        num_bins: int = NUM_BINS,
        allow_missing_keys: bool = False,
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        self.mask_key, self.histogram_key, self.num_bins = mask_key, histogram_key, num_bins

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        out = dict(data)
        for key in self.key_iterator(out):
            image = torch.as_tensor(out[key])[0]
            rows = [lesion_histogram(image, mask, self.num_bins) for mask in torch.as_tensor(out[self.mask_key])]
            out[self.histogram_key] = torch.stack(rows)
        return out


class RandDropConditiond(RandomizableTransform, MapTransform):
    """Replaces a condition by the null condition (zeros) with probability ``prob``, for classifier-free guidance."""

    def __init__(self, keys: KeysCollection = "histogram", prob: float = 0.1, allow_missing_keys: bool = False) -> None:
        MapTransform.__init__(self, keys, allow_missing_keys)
        RandomizableTransform.__init__(self, prob)

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        out = dict(data)
        self.randomize(None)
        if self._do_transform:
            for key in self.key_iterator(out):
                out[key] = torch.zeros_like(out[key])
        return out

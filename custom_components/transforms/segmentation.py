"""Between label maps and what a segmentation network learns and predicts."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any

import numpy as np
import torch
from monai.config import KeysCollection
from monai.data import MetaTensor
from monai.transforms import MapTransform

from ..grids import resample
from ..labels import LesionLabels

__all__ = ["LesionClassesd", "SegmentationOnScand"]


class LesionClassesd(MapTransform):
    """The values of a label map (C, X, Y, Z) become class numbers: 1, 2, ... in the order of the classes, 0 elsewhere.

    Every value that is no lesion class, anatomy for one, is background.

    Args:
        keys: label maps.
        labels: the meaning of their values.
    """

    def __init__(
        self, keys: KeysCollection = "label", labels: LesionLabels | None = None, allow_missing_keys: bool = False
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        self.labels = LesionLabels() if labels is None else labels

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        out = dict(data)
        for key in self.key_iterator(out):
            classes = torch.zeros_like(out[key])
            for number, value in enumerate(self.labels.classes.values(), start=1):
                classes[out[key] == value] = number
            out[key] = classes
        return out


class SegmentationOnScand(MapTransform):
    """A network's output becomes a label map on the scan's own grid.

    The probabilities are interpolated, not the labels: borders stay smooth on any grid.

    Args:
        keys: logits (1 + n, X, Y, Z) on the grid of the image.
        labels: the values of the n classes.
        image_key: the image, read by :class:`LoadScand` and brought to the network's grid.

    Each becomes a MetaTensor (1, X, Y, Z) uint8 on the grid of the image's file.
    """

    def __init__(
        self,
        keys: KeysCollection = "pred",
        labels: LesionLabels | None = None,
        image_key: str = "image",
        allow_missing_keys: bool = False,
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        self.labels = LesionLabels() if labels is None else labels
        self.image_key = image_key

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        out = dict(data)
        image = out[self.image_key]
        affine = np.asarray(image.affine.cpu(), dtype=np.float64)
        scan_affine = np.asarray(image.meta["scan_affine"], dtype=np.float64).reshape(4, 4)
        shape = [int(size) for size in np.asarray(image.meta["scan_shape"]).reshape(-1)]
        for key in self.key_iterator(out):
            logits = torch.as_tensor(out[key]).as_subclass(torch.Tensor).float().cpu()
            shares = torch.softmax(logits, dim=0)[1:].numpy()
            lesions = np.stack([resample(share, affine, scan_affine, shape, "border") for share in shares])
            largest = lesions.argmax(axis=0)
            # Interpolation keeps the sum of all probabilities, so the background's is what is left.
            found = np.take_along_axis(lesions, largest[None], axis=0)[0] > 1 - lesions.sum(axis=0)
            values = np.array(list(self.labels.classes.values()), dtype=np.uint8)
            label = np.where(found, values[largest], 0).astype(np.uint8)
            out[key] = MetaTensor(torch.from_numpy(label)[None], affine=torch.from_numpy(scan_affine))
        return out

"""The crop around a lesion of a scan, at the model's spacing."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from monai.config import KeysCollection
from monai.data import MetaTensor
from monai.transforms import MapTransform

from ..grids import covering_box, crop_affine, resample, shifted, to_crop
from ..specs import LesionSpec, read_lesions

__all__ = ["LesionCropd"]


class LesionCropd(MapTransform):
    """Reads a scan and cuts out one lesion's crop, whatever the scan's spacing and orientation.

    Args:
        keys: the image's key, whose value is a path.
        spatial_size: voxels of the crop, in RAS+ axes.
        spacing_mm: voxel size of the crop.
        mask_key: the mask's key, whose value is a path.
        spec_key: the item's :class:`LesionSpec`.

    Adds or replaces:
        image: (1, X, Y, Z) float32 in the scan's units, a MetaTensor with the crop's affine; beyond the scan its
            border is repeated. label: (1, X, Y, Z) float32 in {0, 1}, this lesion only. histogram: (1, 16). seed.
    """

    def __init__(
        self,
        keys: KeysCollection = "image",
        spatial_size: Sequence[int] = (64, 64, 32),
        spacing_mm: Sequence[float] = (1.0, 1.0, 1.0),
        mask_key: str = "label",
        spec_key: str = "spec",
        allow_missing_keys: bool = False,
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        self.spatial_size, self.spacing_mm = tuple(spatial_size), tuple(spacing_mm)
        self.mask_key, self.spec_key = mask_key, spec_key

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        out = dict(data)
        spec: LesionSpec = out.pop(self.spec_key)
        for key in self.key_iterator(out):
            scan, labels, _ = read_lesions(out[key], out[self.mask_key])
            affine = crop_affine(spec.centre_mm, scan.affine, self.spatial_size, self.spacing_mm)
            box = covering_box(affine, self.spatial_size, scan.affine, scan.stored.shape)
            image = resample(scan.values(box), shifted(scan.affine, box), affine, self.spatial_size, "border")
            share = to_crop(labels == spec.lesion, scan.affine, affine, self.spatial_size, outside="zeros")
            # A lesion thinner than the crop's voxels never fills half of one: keep its fullest voxels.
            mask = share >= min(0.5, max(float(share.max()) / 2, 1e-3))
            out[key] = MetaTensor(torch.from_numpy(image)[None], affine=torch.as_tensor(affine))
            out[self.mask_key] = MetaTensor(
                torch.from_numpy(mask.astype(np.float32))[None], affine=torch.as_tensor(affine)
            )
        out["histogram"] = torch.tensor([spec.histogram], dtype=torch.float32)
        out["seed"] = spec.seed
        return out

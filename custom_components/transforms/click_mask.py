"""One mask drawn around a click and put onto the scan's grid: what a viewer that runs the bundle step by step needs."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from monai.config import KeysCollection
from monai.data import MetaTensor
from monai.transforms import MapTransform

from ..errors import InputError
from ..mask_grids import masks_on_grid
from ..mask_specs import plan_masks
from ..mask_targets import MaskTarget, read_target
from .mask_grid import MaskTargetCropd

__all__ = ["ClickCropd", "MaskOntoScand"]


class ClickCropd(MapTransform):
    """The model's input for a control sphere around a click.

    Args:
        keys: the image's key, whose value is a path.
        crop: cuts out sphere and boundary.
        radius_mm: of the sphere.
        max_radius_mm: the largest that the crop holds.
        click_key: voxel indices ``[[i, j, k]]`` of the click.

    Raises:
        InputError: for anything but one click, and as :func:`~custom_components.mask_specs.plan_masks`.

    Replaces the image by sphere and boundary, a MetaTensor (2, X, Y, Z) float32 with the crop's ``affine`` and the
    scan's ``spatial_shape`` and ``original_affine``, as MONAI's loaders name them. Adds mask_target and mask_spec.
    """

    def __init__(
        self,
        keys: KeysCollection,
        crop: MaskTargetCropd,
        radius_mm: float,
        max_radius_mm: float,
        click_key: str = "foreground",
        allow_missing_keys: bool = False,
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        self.crop, self.radius_mm, self.max_radius_mm, self.click_key = crop, radius_mm, max_radius_mm, click_key

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        out = dict(data)
        clicks = out.get(self.click_key)
        if not isinstance(clicks, Sequence) or len(clicks) != 1:
            raise InputError(f"{self.click_key} must hold one click, [[i, j, k]] in voxels, got {clicks!r}.")
        for key in self.key_iterator(out):
            target = MaskTarget("click", str(out[key]))
            sphere = [*clicks[0], self.radius_mm]
            items = plan_masks([target], [sphere], coordinates="voxel", max_radius_mm=self.max_radius_mm)
            scan, _ = read_target(target)
            parts = self.crop({"target": target, "spec": items[0]["spec"]})
            meta = {"spatial_shape": np.array(scan.stored.shape), "original_affine": scan.affine}
            channels = torch.cat([parts["sphere"], parts["boundary"]]).as_subclass(torch.Tensor)
            out[key] = MetaTensor(channels, affine=parts["sphere"].affine, meta=meta)
            out["mask_target"], out["mask_spec"] = target, items[0]["spec"]
        return out


class MaskOntoScand(MapTransform):
    """Puts a drawn crop onto the scan's grid.

    Args:
        keys: the drawn crop's key, (n, X, Y, Z) in [-1, 1].
        image_key: what :class:`ClickCropd` made of the image.
        class_labels: the value of each lesion class.
        fit_sphere: see :class:`~custom_components.handlers.MaskSaver`.
        tidy: see :func:`~custom_components.mask_grids.masks_on_grid`: ``smoothing``, ``fill_holes``,
            ``largest_component``.

    Replaces the crop by a label map (1, X, Y, Z) uint8 on the scan's grid.
    """

    def __init__(
        self,
        keys: KeysCollection,
        image_key: str = "image",
        class_labels: Sequence[int] = (1,),
        fit_sphere: bool = False,
        allow_missing_keys: bool = False,
        **tidy: Any,
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        self.image_key, self.class_labels, self.fit_sphere, self.tidy = image_key, class_labels, fit_sphere, tidy

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        out = dict(data)
        scan, organ = read_target(out["mask_target"])
        spec = out["mask_spec"]
        sphere = (spec.centre_mm, spec.radius_mm) if self.fit_sphere else None
        affine = np.asarray(out[self.image_key].affine)
        for key in self.key_iterator(out):
            values = torch.as_tensor(out[key]).as_subclass(torch.Tensor).float().cpu().numpy()
            box, masks = masks_on_grid(
                values, affine, scan.affine, scan.stored.shape, organ, sphere=sphere, **self.tidy
            )
            label = np.zeros((1, *scan.stored.shape), np.uint8)
            for value, mask in zip(self.class_labels, masks, strict=True):
                label[0][box][mask] = value
            out[key] = MetaTensor(torch.from_numpy(label), affine=torch.as_tensor(scan.affine))
        return out

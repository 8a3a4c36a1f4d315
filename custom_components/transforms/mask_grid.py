"""Masks, control sphere and boundary on the model's grid: what mask diffusion learns from and draws on."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from monai.config import KeysCollection
from monai.data import MetaTensor
from monai.transforms import MapTransform, Randomizable

from ..errors import InputError
from ..grids import resample, to_crop
from ..mask_grids import mask_crop_affine
from ..mask_targets import read_target
from ..masks import bounding_sphere, sphere_channel

__all__ = ["ControlSphered", "MaskTargetCropd", "RandMaskCropd"]


class ControlSphered(MapTransform):
    """Takes a label map apart: one mask per class, the boundary, and the control sphere of all classes together.

    Args:
        keys: the label's key, (1, X, Y, Z), a MetaTensor.
        class_labels: the label of each lesion class.
        boundary_labels: the labels a lesion may lie in (the lesion's own among them); None for no boundary.

    Adds:
        masks: (n, x, y, z) uint8, cut to where lesion or boundary are, with one voxel around. boundary: (1, x, y, z)
            uint8, ones without ``boundary_labels``. affine: (4, 4) float64 of both. control: (4,) float64, centre and
            radius in mm. Removes the label.
    """

    def __init__(
        self,
        keys: KeysCollection = "label",
        class_labels: Sequence[int] = (1,),
        boundary_labels: Sequence[int] | None = None,
        allow_missing_keys: bool = False,
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        self.class_labels = list(class_labels)
        self.boundary_labels = None if boundary_labels is None else list(boundary_labels)

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        out = dict(data)
        for key in self.key_iterator(data):
            label = out.pop(key)
            values, affine = np.asarray(torch.as_tensor(label[0])), np.asarray(label.affine, dtype=np.float64)
            masks = np.stack([values == number for number in self.class_labels])
            lesion = masks.any(axis=0)
            if not lesion.any():
                raise InputError(f"label {label.meta.get('filename_or_obj')} holds none of {self.class_labels}.")
            centre, radius = bounding_sphere(lesion, affine)
            boundary = np.ones_like(lesion) if self.boundary_labels is None else np.isin(values, self.boundary_labels)
            wanted = np.argwhere(lesion if self.boundary_labels is None else lesion | boundary)
            low = np.maximum(wanted.min(axis=0) - 1, 0)
            box = tuple(slice(a, b + 2) for a, b in zip(low, wanted.max(axis=0), strict=True))
            affine = affine.copy()
            affine[:3, 3] = (affine @ [*low, 1.0])[:3]
            out["masks"] = torch.from_numpy(masks[(slice(None), *box)].astype(np.uint8))
            out["boundary"] = torch.from_numpy(boundary[box][None].astype(np.uint8))
            out["affine"] = torch.from_numpy(affine)
            out["control"] = torch.tensor([*centre, radius], dtype=torch.float64)
        return out


class RandMaskCropd(Randomizable, MapTransform):
    """Puts masks and boundary onto the model's grid around the control sphere, turned, shifted and scaled at random.

    Args:
        keys: the masks' key, as :class:`ControlSphered` leaves it.
        spatial_size: voxels of the crop.
        radius_voxels, spacing_mm: see :func:`~custom_components.mask_grids.mask_crop_affine`.
        shift_voxels: the sphere's centre lies up to so many voxels further from the crop's along each axis, whole ones
            where the voxel size is fixed.
        scale: the crop's voxels are larger or smaller by up to this share.
        mirror: mirror the lesion along each axis, and swap the first two, with probability 1/2 each.
        sphere_falloff_mm: see :func:`~custom_components.masks.sphere_channel`.

    Replaces masks by (n, X, Y, Z) float32 in [-1, 1], lesion above 0 (twice the interpolated share minus one); boundary
    by (1, X, Y, Z) float32 in {0, 1}. Adds sphere, (1, X, Y, Z), see
    :func:`~custom_components.masks.sphere_channel`.
    """

    def __init__(
        self,
        keys: KeysCollection = "masks",
        spatial_size: Sequence[int] = (24, 24, 24),
        radius_voxels: float | None = 9.0,
        spacing_mm: Sequence[float] | None = None,
        shift_voxels: Sequence[float] = (0, 0, 0),
        scale: float = 0.0,
        mirror: Sequence[bool] = (False, False, False, False),
        sphere_falloff_mm: float = 10.0,
        allow_missing_keys: bool = False,
    ) -> None:
        MapTransform.__init__(self, keys, allow_missing_keys)
        self.spatial_size, self.radius_voxels, self.spacing_mm = tuple(spatial_size), radius_voxels, spacing_mm
        self.shift_voxels, self.scale, self.mirror = np.array(shift_voxels, dtype=float), scale, mirror
        self.sphere_falloff_mm = checked_falloff(sphere_falloff_mm)

    def randomize(self) -> None:
        """Draws ``shift`` (voxels), ``factor`` and ``turn`` (3, 3), a signed permutation of the axes."""
        self.shift = self.R.uniform(-1, 1, 3) * self.shift_voxels
        if self.radius_voxels is None:
            self.shift = np.rint(self.shift)
        self.factor = np.exp(self.R.uniform(-1, 1) * np.log1p(self.scale))
        flips = (self.R.uniform(size=4) < 0.5) & np.array(self.mirror)
        self.turn = np.diag(np.where(flips[:3], -1.0, 1.0))
        if flips[3]:
            self.turn = self.turn[[1, 0, 2]]

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        out = dict(data)
        self.randomize()
        source, (*centre, radius) = np.asarray(out.pop("affine")), (float(v) for v in out["control"])
        crop = mask_crop_affine(centre, radius, source, self.spatial_size, self.radius_voxels, self.spacing_mm)
        middle_index = (np.array(self.spatial_size) - 1) / 2
        middle_mm = crop[:3, :3] @ (middle_index + self.shift) + crop[:3, 3]
        turned = crop.copy()
        turned[:3, :3] = self.factor * crop[:3, :3] @ self.turn
        turned[:3, 3] = middle_mm - turned[:3, :3] @ middle_index
        sphere = sphere_channel(centre, radius, turned, self.spatial_size, self.sphere_falloff_mm)
        out["sphere"] = torch.from_numpy(sphere[None])
        for key in self.key_iterator(data):
            shares = [resample(mask, source, turned, self.spatial_size, "zeros") for mask in out[key].numpy()]
            out[key] = MetaTensor(torch.from_numpy(2 * np.stack(shares) - 1), affine=torch.as_tensor(turned))
        boundary = np.ones(self.spatial_size, np.float32)
        if not bool((out["boundary"] > 0).all()):  # resampling takes time
            boundary = resample(out["boundary"][0].numpy(), source, turned, self.spatial_size, "zeros") >= 0.5
        out["boundary"] = torch.from_numpy(boundary.astype(np.float32)[None])
        return out


class MaskTargetCropd(MapTransform):
    """The control sphere and the boundary of one mask to draw, on the model's grid around the sphere.

    Args:
        keys: the key of the item's :class:`~custom_components.mask_targets.MaskTarget`.
        spatial_size: voxels of the crop.
        radius_voxels, spacing_mm: see :func:`~custom_components.mask_grids.mask_crop_affine`.
        spec_key: the item's :class:`~custom_components.mask_specs.MaskSpec`.
        sphere_falloff_mm: see :func:`~custom_components.masks.sphere_channel`.

    Raises:
        InputError: where ``sphere_falloff_mm`` is negative.

    Adds sphere and boundary, (1, X, Y, Z) float32, MetaTensors with the crop's affine, control (4,): centre and radius
    in mm; and seed. Removes target, spec.
    """

    def __init__(
        self,
        keys: KeysCollection = "target",
        spatial_size: Sequence[int] = (24, 24, 24),
        radius_voxels: float | None = 9.0,
        spacing_mm: Sequence[float] | None = None,
        spec_key: str = "spec",
        sphere_falloff_mm: float = 10.0,
        allow_missing_keys: bool = False,
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        self.spatial_size, self.radius_voxels, self.spacing_mm = tuple(spatial_size), radius_voxels, spacing_mm
        self.spec_key, self.sphere_falloff_mm = spec_key, checked_falloff(sphere_falloff_mm)

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        out = dict(data)
        spec = out.pop(self.spec_key)
        for key in self.key_iterator(data):
            scan, organ = read_target(out.pop(key))
            affine = mask_crop_affine(
                spec.centre_mm, spec.radius_mm, scan.affine, self.spatial_size, self.radius_voxels, self.spacing_mm
            )
            sphere = sphere_channel(spec.centre_mm, spec.radius_mm, affine, self.spatial_size, self.sphere_falloff_mm)
            boundary = np.ones(self.spatial_size, np.float32)
            if organ is not None:
                share = to_crop(organ, scan.affine, affine, self.spatial_size, outside="zeros")
                boundary = (share >= min(0.5, max(float(share.max()), 1e-3))).astype(np.float32)
            for name, channel in (("sphere", sphere), ("boundary", boundary)):
                out[name] = MetaTensor(torch.from_numpy(channel[None]), affine=torch.as_tensor(affine))
        out["control"] = np.array([*spec.centre_mm, spec.radius_mm])
        out["seed"] = spec.seed
        return out


def checked_falloff(value: float) -> float:
    """The falloff of the control sphere's channel; InputError where it is negative."""
    if not value >= 0:
        raise InputError(f"sphere_falloff_mm must not be negative, got {value!r}.")
    return float(value)

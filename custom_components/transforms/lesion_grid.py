"""The crop around a lesion of a scan, at the model's spacing."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from monai.config import KeysCollection
from monai.data import MetaTensor
from monai.transforms import MapTransform

from ..conditioners import NUM_BINS
from ..errors import InputError
from ..grids import covering_box, crop_affine, resample, shifted
from ..labels import LesionLabels
from ..specs import CaseLesions, LesionSpec, box_centre_mm, lesions_of, read_lesions
from ..windows import FixedWindow, Window

__all__ = ["LesionCropd", "RealLesionCropd", "read_crop"]


def read_crop(
    lesions: CaseLesions,
    centre_mm: Sequence[float],
    spatial_size: Sequence[int],
    spacing_mm: Sequence[float] | None,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A crop of a scan around a point.

    Returns:
        The image (X, Y, Z) float32 in the scan's units, beyond the scan its border is repeated; the label map of the
        nearest voxels (X, Y, Z) uint8, beyond the scan 0; and the crop's affine.
    """
    scan = lesions.scan
    affine = crop_affine(centre_mm, scan.affine, spatial_size, spacing_mm)
    box = covering_box(affine, spatial_size, scan.affine, scan.stored.shape)
    local = shifted(scan.affine, box)
    image = resample(scan.values(box), local, affine, spatial_size, "border")
    label = resample(lesions.label[box], local, affine, spatial_size, "zeros", order=0)
    return image, label.astype(np.uint8), affine


class LesionCropd(MapTransform):
    """Reads a scan and cuts out one lesion's crop, whatever the scan's spacing and orientation.

    Args:
        keys: the image's key, whose value is a path.
        spatial_size: voxels of the crop.
        spacing_mm: voxel size of the crop, which then lies along RAS+; None keeps the scan's own grid (see
            :func:`~custom_components.grids.crop_axes`).
        mask_key: the mask's key, whose value is a path.
        labels: the meaning of the label map; a mask of 0 and 1 by default.
        specs_key: the item's list of :class:`LesionSpec`, one for each class that the lesion has.

    Adds or replaces:
        image: (1, X, Y, Z) float32 in the scan's units, a MetaTensor with the crop's affine; beyond the scan its
        border is repeated. label: (n, X, Y, Z) float32 in {0, 1}, this lesion only. histogram: (n, 16), zeros for a
        class that the lesion lacks. window: (2,) float64. seed.
    """

    def __init__(
        self,
        keys: KeysCollection = "image",
        spatial_size: Sequence[int] = (64, 64, 32),
        spacing_mm: Sequence[float] | None = (1.0, 1.0, 1.0),
        mask_key: str = "label",
        labels: LesionLabels | None = None,
        specs_key: str = "specs",
        allow_missing_keys: bool = False,
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        self.spatial_size = tuple(spatial_size)
        self.spacing_mm = None if spacing_mm is None else tuple(spacing_mm)
        self.labels = LesionLabels() if labels is None else labels
        self.mask_key, self.specs_key = mask_key, specs_key

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        out = dict(data)
        specs: list[LesionSpec] = out.pop(self.specs_key)
        histograms = np.zeros((len(self.labels.classes), NUM_BINS), dtype=np.float32)
        for spec in specs:
            histograms[self.labels.names.index(spec.lesion_class)] = spec.histogram
        loaded = {"lesions": out.pop("lesions")} if "lesions" in out else {}
        for key in self.key_iterator(out):
            lesions = lesions_of({**loaded, "image": out[key], "label": out[self.mask_key]}, self.labels)
            image, _, affine = read_crop(lesions, specs[0].crop_centre_mm, self.spatial_size, self.spacing_mm)
            masks = crop_masks(lesions, specs[0].lesion, self.labels, self.spatial_size, affine)
            out[key] = _volume(image[None], affine)
            out[self.mask_key] = _volume(masks, affine)
        out["histogram"] = torch.from_numpy(histograms)
        out["window"] = torch.tensor(specs[0].window, dtype=torch.float64)
        out["seed"] = specs[0].seed
        return out


class RealLesionCropd(MapTransform):
    """Reads a scan and cuts out one of its real lesions, to learn from, on the grid in which it would be painted.

    Args:
        keys: the image's key, whose value is a path.
        spatial_size, spacing_mm, mask_key, labels: see :class:`LesionCropd`.
        window: finds the values that become -1 and 1 from the crop's voxels outside all lesions.
        lesion_key: the item's number of the lesion, whose bounding box comes to lie in the middle.

    Adds or replaces:
        image: (1, X, Y, Z) float32 in the scan's units. label: (n, X, Y, Z) float32 in {0, 1}, this lesion only; the
        scan's other lesions belong to the image. window: (2,) float64. anatomy: (a, X, Y, Z), if the labels name any.

    Raises:
        InputError: for files that cannot be read, or a lesion that is not there.
    """

    def __init__(
        self,
        keys: KeysCollection = "image",
        spatial_size: Sequence[int] = (64, 64, 32),
        spacing_mm: Sequence[float] | None = (1.0, 1.0, 1.0),
        window: Window | None = None,
        mask_key: str = "label",
        labels: LesionLabels | None = None,
        lesion_key: str = "lesion",
        allow_missing_keys: bool = False,
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        self.spatial_size = tuple(int(size) for size in spatial_size)
        self.spacing_mm = None if spacing_mm is None else tuple(spacing_mm)
        self.window = FixedWindow(-1000, 400) if window is None else window
        self.labels = LesionLabels() if labels is None else labels
        self.mask_key, self.lesion_key = mask_key, lesion_key

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        out = dict(data)
        number = int(out.pop(self.lesion_key))
        for key in self.key_iterator(out):
            lesions = read_lesions(out[key], out[self.mask_key], self.labels)
            if not 1 <= number <= len(lesions.boxes):
                raise InputError(
                    f"label {out[self.mask_key]} has {len(lesions.boxes)} lesions, none of number {number}."
                )
            centre = box_centre_mm(lesions.boxes[number - 1], lesions.scan.affine)
            image, label, affine = read_crop(lesions, centre, self.spatial_size, self.spacing_mm)
            outside = ~self.labels.lesion(label)
            window = self.window(image[outside] if outside.any() else image)
            out[key] = _volume(image[None], affine)
            out[self.mask_key] = _volume(crop_masks(lesions, number, self.labels, self.spatial_size, affine), affine)
            out["window"] = torch.tensor(window, dtype=torch.float64)
            if self.labels.anatomy:
                structures = [label == value for value in self.labels.anatomy.values()]
                out["anatomy"] = _volume(np.stack(structures), affine)
        return out


def crop_masks(
    lesions: CaseLesions, number: int, labels: LesionLabels, shape: Sequence[int], affine: np.ndarray
) -> np.ndarray:
    """The masks of one lesion's classes on a crop's grid, (n, X, Y, Z) bool, without overlap."""
    box = covering_box(affine, shape, lesions.scan.affine, lesions.label.shape)
    local = shifted(lesions.scan.affine, box)
    own = np.where(lesions.instances[box] == number, lesions.label[box], 0)
    # How much of each voxel of the crop every class fills, within 0 and 1.
    shares = np.stack([resample(own == value, local, affine, shape, "zeros") for value in labels.classes.values()])
    # A lesion thinner than the crop's voxels never fills half of one: keep its fullest voxels.
    enough = np.clip(shares.max(axis=(1, 2, 3), keepdims=True) / 2, 1e-3, 0.5)
    first = shares.argmax(axis=0) == np.arange(len(shares))[:, None, None, None]
    return (shares >= enough) & first


def _volume(values: np.ndarray, affine: np.ndarray) -> MetaTensor:
    return MetaTensor(torch.from_numpy(values.astype(np.float32)), affine=torch.as_tensor(affine))

"""Whole scans and their label maps as tensors that know the grid they came from."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from monai.config import KeysCollection
from monai.data import MetaTensor
from monai.transforms import MapTransform
from monai.utils import ensure_tuple

from ..errors import InputError
from ..volumes import check_same_grid, read_nifti, read_scan

__all__ = ["LoadScand"]


class LoadScand(MapTransform):
    """Reads scans (NIfTI, or a folder with a DICOM series) and label maps in their own units.

    Args:
        keys: what to read; each value is a path.
        label_keys: those that are label maps, on the grid of the scan that comes before them in ``keys``.

    Each becomes a MetaTensor (1, X, Y, Z) float32 with its affine; ``meta`` holds the file's own ``scan_affine`` (4x4)
    and ``scan_shape``, whatever turns and resamples the volume later.

    Raises:
        InputError: for files that cannot be read or lie on different grids, voxels that are not finite, or labels that
            are no whole numbers.
    """

    def __init__(
        self, keys: KeysCollection = ("image", "label"), label_keys: KeysCollection = "label", allow_missing_keys=False
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        self.label_keys = ensure_tuple(label_keys)

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        out, scan = dict(data), None
        for key in self.key_iterator(out):
            path = Path(str(out[key]))
            if key in self.label_keys:
                if not path.is_file():
                    raise InputError(f"{key} {path} does not exist or is not a file.")
                volume = read_nifti(path, str(key))
                values = volume.values()
                if scan is not None:
                    check_same_grid(volume, scan, str(key))
                if not np.array_equal(values, np.rint(values)):
                    raise InputError(f"{key} {path} must hold whole numbers.")
            else:
                volume = scan = read_scan(path)
                values = volume.values()
                if not np.isfinite(values).all():
                    raise InputError(f"{key} {path} holds NaN or infinite voxels.")
            meta = {
                "filename_or_obj": str(path),
                "scan_affine": torch.from_numpy(volume.affine.copy()),
                "scan_shape": torch.tensor(values.shape),
            }
            out[key] = MetaTensor(torch.from_numpy(values)[None], affine=torch.from_numpy(volume.affine), meta=meta)
        return out

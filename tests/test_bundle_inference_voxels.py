"""Painted scans keep their data type and scaling, and every voxel outside of the mask."""

from __future__ import annotations

from dataclasses import dataclass

import nibabel as nib
import numpy as np
import pytest
from bundle_runs import (
    RAS,
    Output,
    same_excepthook,  # noqa: F401 (a fixture)
)
from lung_runs import (
    paint_fixture,  # noqa: F401 (a fixture)
    weights_fixture,  # noqa: F401 (a fixture)
)
from small_chest import LESIONS, balls, chest, save_case

HU = chest()
STORED = {
    "int16": (HU, (1.0, 0.0)),
    "uint16 with intercept": ((HU + 1024).astype(np.uint16), (1.0, -1024.0)),
    "uint16 with slope 0.5": ((2 * (HU.astype(int) + 1024)).astype(np.uint16), (0.5, -1024.0)),
    "uint8 with slope 8": (((HU.astype(int) + 1024) // 8).astype(np.uint8), (8.0, -1024.0)),
    "big-endian int16": (HU.astype(">i2"), (1.0, 0.0)),
    "int32": (HU.astype(np.int32), (1.0, 0.0)),
    "float32": ((HU + 0.37).astype(np.float32), (1.0, 0.0)),
    "float64": (HU + 1 / 3, (1.0, 0.0)),
}


@dataclass(frozen=True)
class StoredCase:
    name: str
    stored: np.ndarray
    scaling: tuple[float, float]
    output: Output


@pytest.fixture(scope="module", params=STORED)
def painted(request, paint, tmp_path_factory) -> StoredCase:
    """The same scan in one of several data types, painted."""
    folder = tmp_path_factory.mktemp("stored")
    stored, scaling = STORED[request.param]
    header = nib.Nifti1Header(endianness=">") if stored.dtype.byteorder == ">" else None
    files = save_case(folder / "in", stored, scaling=scaling, header=header)
    return StoredCase(request.param, stored, scaling, paint(folder / "out", **files, texture="solid"))


def test_background_is_bit_exact_outside_the_mask_in_the_scan_s_own_type(painted):
    result, mask = painted.output.stored, balls()
    assert result.dtype == painted.stored.dtype
    assert result[~mask].tobytes() == painted.stored[~mask].tobytes()
    assert np.mean(result[mask] != painted.stored[mask]) > 0.95
    data = painted.output.image.dataobj
    assert (data.slope, data.inter) == painted.scaling


def test_painted_values_are_hu_within_the_window(painted):
    values = painted.output.image.get_fdata()[balls()]
    assert values.min() >= -1000 - painted.scaling[0]
    assert values.max() <= 400 + painted.scaling[0]
    assert -500 < values.mean() < 150, "solid"


def test_mask_output_numbers_the_lesions_from_the_feet_to_the_head(painted):
    values = painted.output.mask.get_fdata()
    assert painted.output.mask.get_data_dtype() == np.uint8
    assert np.array_equal(painted.output.mask.affine, RAS)
    for number, lesion in enumerate(LESIONS, start=1):
        assert np.array_equal(values == number, balls(lesions=[lesion]))
    assert np.array_equal(values > 0, balls())

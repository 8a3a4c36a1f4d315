"""What is cut out around a lesion: the scan's own voxels, the whole lesion and no other."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from bundle_runs import (
    same_excepthook,  # noqa: F401 (a fixture)
)
from lung_runs import (
    BUNDLE,
    paint_fixture,  # noqa: F401 (a fixture)
    weights_fixture,  # noqa: F401 (a fixture)
)
from small_chest import GEOMETRIES, SHAPE, affine_of, balls, chest, save_case

from custom_components.conditioners import HistogramConditioner
from custom_components.planning import plan_lesions
from custom_components.transforms import LesionCropd


def crops(files: dict[str, str], size: Sequence[int] = (16, 16, 16)) -> list[dict[str, Any]]:
    cases = [{"image": files["image"], "label": files["mask"], "case": "case"}]
    presets = HistogramConditioner(BUNDLE / "configs" / "texture_presets.json")
    return [LesionCropd("image", size)(item) for item in plan_lesions(cases, presets, "solid", spatial_size=size)]


@pytest.mark.parametrize("flips", [(1, 1, 1), (-1, -1, 1), (1, -1, -1)])
def test_crop_of_a_scan_at_the_model_s_spacing_is_the_scan_itself(tmp_path, flips):
    files = save_case(tmp_path, affine=affine_of((1, 1, 1), flips))
    to_ras = nib.as_closest_canonical(nib.load(files["image"]))
    lesions = nib.as_closest_canonical(nib.load(files["mask"])).get_fdata() > 0
    values = to_ras.get_fdata().astype(np.float32)
    for item in crops(files):
        corner = np.linalg.solve(to_ras.affine, item["image"].affine.numpy()[:, 3])[:3]
        start = np.rint(corner).astype(int)
        assert np.allclose(corner, start)
        box = tuple(slice(first, first + 16) for first in start)
        assert (start > 0).all()
        assert np.array_equal(item["image"][0].numpy(), values[box])
        own = item["label"][0].numpy() > 0
        assert own.sum() > 100
        assert (lesions[box] & own).sum() == own.sum()


def test_crop_holds_only_the_lesion_it_belongs_to(tmp_path):
    mask = balls(lesions=[((12, 13, 9), 3.0), ((19, 13, 9), 2.0)])
    sizes = [int(item["label"].sum()) for item in crops(save_case(tmp_path, mask=mask))]
    assert sizes == [balls(lesions=[((12, 13, 9), 3.0)]).sum(), balls(lesions=[((19, 13, 9), 2.0)]).sum()]


@pytest.mark.parametrize(
    ("flips", "start"),
    [
        ((1, 1, 1), 4),
        ((1, 1, 1), 5),
        ((-1, -1, -1), 4),
        ((-1, -1, -1), 5),
    ],
)
def test_lesion_as_large_as_the_crop_lies_in_it_whole(tmp_path, flips, start):
    mask = np.zeros(SHAPE, dtype=bool)
    mask[start : start + 16, start : start + 16, start : start + 16] = True
    (item,) = crops(save_case(tmp_path, mask=mask, affine=affine_of((1, 1, 1), flips)))
    assert int(item["label"].sum()) == 16**3


@pytest.mark.parametrize("corner", [0, 1])
def test_lesion_that_touches_the_scan_s_edge_is_painted(paint, tmp_path, corner):
    centre = np.multiply(corner, np.array(SHAPE) - 1)
    mask = balls(lesions=[(centre, 5.0)])
    output = paint(tmp_path / "out", **save_case(tmp_path / "in", mask=mask), texture="solid")
    assert np.mean(output.stored[mask] != chest()[mask]) > 0.95
    assert np.array_equal(output.stored[~mask], chest()[~mask])
    assert output.specs[0]["voxels"] == mask.sum()


def test_lesion_of_one_voxel_of_thick_slices_is_painted(paint, tmp_path):
    shape = (40, 40, 9)
    mask = np.zeros(shape, dtype=bool)
    mask[20, 19, 4] = True
    files = save_case(tmp_path / "in", chest(shape), mask, GEOMETRIES["anisotropic"])
    output = paint(tmp_path / "out", **files, texture="solid")
    assert output.stored[20, 19, 4] > chest(shape)[20, 19, 4] + 50
    assert np.array_equal(output.stored[~mask], chest(shape)[~mask])

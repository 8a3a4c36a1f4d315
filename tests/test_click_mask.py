"""A click becomes the model's input, and what the model draws comes back on the scan's grid."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch
from bundle_runs import save_nifti

from custom_components.errors import InputError
from custom_components.mask_inferers import MaskDiffusionInferer
from custom_components.schedules import NoiseSchedule
from custom_components.transforms import ClickCropd, MaskOntoScand, MaskTargetCropd

AFFINE = nib.affines.from_matvec(np.array([[0, -1.5, 0], [2.0, 0, 0], [0, 0, 1.0]]), [10.0, -20, 30])
SHAPE, CLICK, RADIUS = (30, 36, 40), [14, 20, 18], 6.0


@pytest.fixture
def scan(tmp_path: Path) -> Path:
    return save_nifti(tmp_path / "scan.nii.gz", np.zeros(SHAPE, np.int16), AFFINE)


def click(scan: Path, clicks: object, radius_mm: float = RADIUS) -> dict:
    return ClickCropd("image", MaskTargetCropd(), radius_mm, max_radius_mm=32)(
        {"image": str(scan), "foreground": clicks}
    )


def test_crop_lies_around_the_click(scan):
    image = click(scan, [CLICK])["image"]
    assert image.shape == (2, 24, 24, 24)
    middle = np.asarray(image.affine) @ [11.5, 11.5, 11.5, 1]
    np.testing.assert_allclose(middle, AFFINE @ [*CLICK, 1], atol=1e-6)
    assert (image[1] == 1).all()  # nothing bounds it
    np.testing.assert_array_equal(image.meta["spatial_shape"], SHAPE)
    np.testing.assert_allclose(image.meta["original_affine"], AFFINE)


def test_drawn_ball_lies_on_the_scan_where_it_was_drawn(scan):
    data = click(scan, [CLICK])
    steps = torch.stack(torch.meshgrid(*[torch.arange(24.0) - 11.5] * 3, indexing="ij"))
    drawn = 1 - steps.norm(dim=0)[None] / 9  # above 0 within the control sphere, whose radius is 9 voxels
    label = MaskOntoScand("pred", class_labels=[7])({**data, "pred": drawn})["pred"]
    assert label.shape == (1, *SHAPE)
    places = np.indices(SHAPE).reshape(3, -1).T @ AFFINE[:3, :3].T + AFFINE[:3, 3]
    distances = np.linalg.norm(places - (AFFINE @ [*CLICK, 1])[:3], axis=1).reshape(SHAPE)
    found = np.asarray(label[0]) == 7
    assert found[distances < RADIUS - 0.5].all()
    assert not found[distances > RADIUS + 0.5].any()
    assert set(np.unique(label)) == {0, 7}


@pytest.mark.parametrize("clicks", [None, [], [CLICK, CLICK]])
def test_anything_but_one_click_is_refused(scan, clicks):
    with pytest.raises(InputError, match="must hold one click"):
        click(scan, clicks)


def test_click_outside_the_scan_is_refused(scan):
    with pytest.raises(InputError, match="outside the scan"):
        click(scan, [[14, 20, 40]])


def test_inferer_takes_its_own_radius_where_the_call_tells_none():
    guidance = [[3, 1.0], [12, 2.0]]
    inferer = MaskDiffusionInferer(NoiseSchedule(10), shape_guidance=guidance, radius_mm=6, num_inference_steps=2)
    assert inferer.guidance_factors(2) == pytest.approx([1.5, 1.5])
    assert inferer.guidance_factors(1, [12.0]) == pytest.approx([2.0])

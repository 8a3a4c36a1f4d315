"""Label maps as masks by class, slices turned as in a crop, and intensities by a window."""

from __future__ import annotations

import nibabel as nib
import numpy as np
import pytest
import torch
from bundle_runs import save_nifti
from monai.data import MetaTensor
from monai.transforms import LoadImaged
from thick_stacks import LABELS, STORED_WAYS, TILTS, affine_of, ring, signal, stored_as

from custom_components.errors import InputError, find_input_error
from custom_components.labels import LesionLabels
from custom_components.specs import read_lesions
from custom_components.transforms import FillRegionsd, LesionMasksd, OrientSlicesd, ScaleToWindowd, read_crop
from custom_components.windows import PercentileWindow

# ----------------------------------------------------------------------------------------- masks by class


def label_map(values: np.ndarray, name: str = "heart.nii.gz") -> MetaTensor:
    return MetaTensor(torch.as_tensor(values[None]), affine=torch.eye(4) * 2, meta={"filename_or_obj": name})


def test_label_map_becomes_a_mask_for_each_class_in_the_order_of_the_classes():
    values = ring()
    out = LesionMasksd(labels=LABELS)({"label": label_map(values)})
    assert out["label"].shape == (2, *values.shape)
    assert out["label"].dtype == torch.float32
    np.testing.assert_array_equal(out["label"], np.stack([values == 3, values == 4]))
    turned = LesionLabels({"core": 4, "scar": 3}, LABELS.anatomy)
    other = LesionMasksd(labels=turned)({"label": label_map(values)})
    np.testing.assert_array_equal(other["label"], np.stack([values == 4, values == 3]))


def test_region_and_anatomy_come_beside_the_masks_on_the_same_grid():
    values = ring()
    out = LesionMasksd(labels=LABELS)({"label": label_map(values)})
    np.testing.assert_array_equal(out["region"], (values >= 2)[None])
    np.testing.assert_array_equal(out["anatomy"], np.stack([values == 1, values == 2]))
    for key in ("label", "region", "anatomy"):
        assert torch.equal(out[key].affine.float(), torch.eye(4) * 2)


def test_plain_mask_is_one_class_without_anatomy():
    out = LesionMasksd()({"label": torch.tensor([[[[0, 1, 1]]]])})
    np.testing.assert_array_equal(out["label"], [[[[0, 1, 1]]]])
    assert "anatomy" not in out


def test_class_that_a_lesion_lacks_is_an_empty_mask():
    out = LesionMasksd(labels=LABELS)({"label": label_map(ring(core=False))})
    assert out["label"][0].any() and not out["label"][1].any()


def test_label_map_that_cannot_be_is_told_with_its_file():
    strange = ring()
    strange[0, 0, 0] = 9
    with pytest.raises(InputError, match=r"label heart\.nii\.gz must hold 0, 1, 2, 3 and 4 only, it holds 9"):
        LesionMasksd(labels=LABELS)({"label": label_map(strange)})
    with pytest.raises(InputError, match=r"label heart\.nii\.gz holds no lesion"):
        LesionMasksd(labels=LABELS)({"label": label_map(ring(lesion=False))})


# ----------------------------------------------------------------------------------------- orientation


@pytest.mark.parametrize("tilt", TILTS)
@pytest.mark.parametrize("way", STORED_WAYS[::7], ids=str)
def test_training_and_inference_see_a_scan_alike_however_it_is_stored(tmp_path, tilt, way):
    """The turned volume, as training reads it, has the voxels of a crop on the scan's own grid, in the same places."""
    values, affine = stored_as(ring(), affine_of(TILTS[tilt]), way)
    image = signal(values).astype(np.uint8)
    paths = {
        "image": str(save_nifti(tmp_path / "image.nii.gz", image, affine)),
        "label": str(save_nifti(tmp_path / "label.nii.gz", values, affine)),
    }
    item = LoadImaged(["image", "label"], image_only=True, ensure_channel_first=True)(paths)
    turned = OrientSlicesd(["image", "label"])(item)
    lesions = read_lesions(paths["image"], paths["label"], LABELS)
    size = turned["image"].shape[1:]
    middle = nib.affines.apply_affine(turned["image"].affine.numpy(), (np.array(size) - 1) / 2)
    crop, label, grid = read_crop(lesions, middle, size, None)
    np.testing.assert_array_equal(turned["image"][0], crop)
    np.testing.assert_array_equal(turned["label"][0], label)
    np.testing.assert_allclose(turned["image"].affine, grid, atol=1e-6)


def test_turned_volume_keeps_its_file_name():
    volume = label_map(ring())
    assert OrientSlicesd("label")({"label": volume})["label"].meta["filename_or_obj"] == "heart.nii.gz"


# ----------------------------------------------------------------------------------------- intensities


def test_window_is_found_outside_the_lesions_of_any_class_and_written_down():
    image = torch.arange(201.0).reshape(1, 201, 1, 1).repeat(1, 1, 2, 1)
    masks = torch.zeros(2, 201, 2, 1)
    image[0, :, 1] = torch.linspace(5000, 9000, 201)[:, None]
    masks[0, :100, 1] = masks[1, 100:, 1] = 1
    out = ScaleToWindowd(window=PercentileWindow(1, 99))({"image": image, "label": masks})
    assert out["window"].tolist() == [2.0, 198.0]
    assert out["window"].dtype == torch.float64


def test_window_s_ends_become_minus_one_and_one_and_what_lies_beyond_is_clipped():
    image = torch.tensor([0.0, 10, 20, 30, 40, 50]).reshape(1, 6, 1, 1)
    item = {"image": image, "window": torch.tensor([10.0, 30.0], dtype=torch.float64)}
    out = ScaleToWindowd()(item)["image"]
    assert out.flatten().tolist() == [-1, -1, 0, 1, 1, 1]
    assert torch.equal(item["image"], image), "the input is left as it was"


def test_given_window_is_used_even_where_masks_are_there_and_stays_as_it_was():
    item = {"image": torch.full((1, 2, 1, 1), 3.0), "label": torch.ones(1, 2, 1, 1), "window": torch.tensor([1.0, 5.0])}
    out = ScaleToWindowd()(item)
    assert (out["image"] == 0).all()
    assert out["window"].tolist() == [1, 5]


def test_scaling_is_undone_by_the_window_it_wrote():
    image = torch.tensor(signal(ring())).float()[None]
    masks = torch.tensor(np.stack([ring() == 3, ring() == 4]))
    out = ScaleToWindowd(window=PercentileWindow(0, 100))({"image": image, "label": masks})
    low, high = out["window"].tolist()
    outside = ~masks.any(dim=0)
    back = low + (out["image"][0].double() + 1) * (high - low) / 2
    np.testing.assert_allclose(back[outside], image[0][outside], atol=1e-4)
    assert out["image"][0][outside].min() == -1 and out["image"][0][outside].max() == 1


def test_scan_without_contrast_is_told():
    item = {"image": torch.full((1, 4, 4, 4), 7.0), "label": torch.zeros(1, 4, 4, 4)}
    with pytest.raises(Exception, match="same value, 7") as error:
        ScaleToWindowd(window=PercentileWindow())(item)
    assert find_input_error(error.value)


# ----------------------------------------------------------------------------------------- hidden structures


def hidden_case() -> dict[str, torch.Tensor]:
    """Along one axis: background 1 2, a lesion, a structure, background 5 6; every voxel tells its place."""
    image = torch.arange(1.0, 7.0).reshape(1, 6, 1, 1)
    mask, structure = torch.zeros_like(image), torch.zeros(2, 6, 1, 1)
    mask[0, 2], structure[1, 3] = 1, 1
    return {"image": image, "label": mask, "anatomy": structure}


def test_hidden_structure_takes_the_nearest_voxel_outside_it_and_the_lesion():
    out = FillRegionsd("image", names=["core"], known=["wall", "core"])(hidden_case())
    assert out["image"].flatten().tolist() == [1, 2, 3, 5, 5, 6]


def test_nothing_hidden_changes_nothing():
    case = hidden_case()
    assert torch.equal(FillRegionsd("image", known=["wall", "core"])(case)["image"], case["image"])


def test_unknown_structure_to_hide_is_named():
    with pytest.raises(InputError, match="hidden names 'cavity'; known: wall, core"):
        FillRegionsd("image", names=["cavity"], known=["wall", "core"])

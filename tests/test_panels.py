"""Pictures of lesions of several classes, in volumes and in stacks of thick slices."""

from __future__ import annotations

import matplotlib.image
import numpy as np
import pytest
import torch
from thick_stacks import LABELS, STORED_WAYS, affine_of, ring, signal, stored_as

from custom_components.panels import save_case_panel, save_sample_grid
from custom_components.specs import LesionSpec, box_centre_mm


def spec_of(mask: np.ndarray, affine: np.ndarray, lesion: int = 1, lesion_class: str = "scar") -> LesionSpec:
    """The specification of the lesion that a mask marks."""
    voxels = np.argwhere(mask)
    box = tuple((int(a), int(b) + 1) for a, b in zip(voxels.min(axis=0), voxels.max(axis=0), strict=True))
    centre = box_centre_mm([slice(*part) for part in box], affine)
    return LesionSpec(
        case="case",
        lesion=lesion,
        lesion_class=lesion_class,
        centre_mm=centre,
        voxels=len(voxels),
        volume_mm3=18.0 * len(voxels),
        radius_mm=5.0,
        box=box,
        texture="bright",
        histogram=(1 / 16,) * 16,
        seed=1,
        crop_centre_mm=centre,
        window=(0.0, 255.0),
    )


def panel(path, label: np.ndarray, affine: np.ndarray, after: np.ndarray | None = None, parts: int = 1, **settings):
    """Draws the joint lesion of a label map (``parts`` times); returns the picture's pixels."""
    before = signal(label if "scan" not in settings else settings.pop("scan"))
    masks = {name: label == value for name, value in LABELS.classes.items()}
    specs = [
        spec_of(mask, affine, number + 1, name) for number in range(parts) for name, mask in masks.items() if mask.any()
    ]
    save_case_panel(before, before if after is None else after, masks, affine, specs, path, **settings)
    return matplotlib.image.imread(path)[..., :3]


def fields(picture: np.ndarray) -> list[list[np.ndarray]]:
    """Rows and columns of a picture of one lesion."""
    return [np.array_split(row, 4, axis=1) for row in np.array_split(picture, 3)]


def test_three_slices_of_a_thick_stack_are_shown_with_original_mask_result_and_difference(tmp_path):
    label = ring()
    after = signal(label)
    after[label >= 3] = 10
    picture = panel(tmp_path / "panel.png", label, affine_of(), after)
    height, width = picture.shape[:2]
    assert height / width == pytest.approx(7.6 / 10, rel=0.01)
    for row in fields(picture):
        original, outlined, result, difference = row
        assert np.ptp(original, axis=-1).max() < 0.01, "gray"
        assert np.ptp(outlined, axis=-1).max() > 0.5, "with an outline in colour"
        assert np.abs(result - original[:, : result.shape[1]]).max() > 0.3
        assert np.ptp(difference, axis=-1).max() > 0.5


@pytest.mark.parametrize("change", ["scar", "core", "scan"])
def test_picture_changes_when_a_mask_or_the_scan_does(tmp_path, change):
    label, scan = ring(), ring()
    first = panel(tmp_path / "first.png", label, affine_of(), scan=scan)
    assert np.array_equal(first, panel(tmp_path / "again.png", label, affine_of(), scan=scan))
    if change == "scan":
        scan[14, 12, 3] = 3
    elif change == "scar":
        label[10, 6:8, 3] = 3
    else:
        label[16:18, 17, 3] = 4
    other = panel(tmp_path / "other.png", label, affine_of(), scan=scan)
    assert not np.array_equal(first, other)


def test_each_class_has_an_outline_of_its_own_colour(tmp_path):
    def colours(picture: np.ndarray) -> tuple[bool, bool]:
        pixels = picture.reshape(-1, 3)
        return tuple(
            bool((np.abs(pixels - wanted).max(axis=1) < 0.05).any()) for wanted in ((1, 0.5, 0.05), (0.84, 0.15, 0.16))
        )

    assert colours(panel(tmp_path / "both.png", ring(), affine_of())) == (True, True)
    assert colours(panel(tmp_path / "scar.png", ring(core=False), affine_of())) == (True, False)


def test_stack_is_shown_alike_however_it_is_stored(tmp_path):
    pictures = []
    for number, way in enumerate((STORED_WAYS[0], STORED_WAYS[13], STORED_WAYS[38])):
        label, affine = stored_as(ring(), affine_of(), way)
        scan = stored_as(signal(ring()), affine_of(), way)[0]
        masks = {name: label == value for name, value in LABELS.classes.items()}
        specs = [spec_of(mask, affine, 1, name) for name, mask in masks.items()]
        save_case_panel(scan, scan, masks, affine, specs, tmp_path / f"{number}.png")
        pictures.append(matplotlib.image.imread(tmp_path / f"{number}.png"))
    for other in pictures[1:]:
        np.testing.assert_allclose(other, pictures[0], atol=0.02)


@pytest.mark.parametrize("slices", [1, 2, 6])
def test_stack_of_few_slices_is_shown(tmp_path, slices):
    label = ring()[..., 3 : 3 + slices] if slices < 6 else ring()
    picture = panel(tmp_path / "panel.png", label, affine_of())
    for row in fields(picture):
        assert row[0].std() > 0.02


def test_volume_of_thin_slices_is_shown_in_three_planes(tmp_path):
    label = np.repeat(ring((28, 26, 6)), 4, axis=2)
    picture = panel(tmp_path / "panel.png", label, affine_of((0, 0, 0), (1.5, 1.5, 2)))
    axial, coronal, sagittal = (row[0] for row in fields(picture))
    assert not np.allclose(axial[:, :100].mean(), coronal[:, :100].mean(), atol=1e-3)
    assert not np.allclose(coronal, sagittal[: coronal.shape[0]], atol=1e-3)


def test_first_lesions_are_shown_where_there_are_many(tmp_path):
    picture = panel(tmp_path / "panel.png", ring(), affine_of(), parts=3, max_lesions=2)
    height, width = picture.shape[:2]
    assert height / width == pytest.approx(2 * 7.6 / 10, rel=0.01)


def test_sample_grid_outlines_every_class_in_the_slice_where_the_lesion_is_largest(tmp_path):
    label = ring()
    image = torch.tensor(signal(label) / 127.5 - 1)[None]
    masks = torch.tensor(np.stack([label == 3, label == 4]).astype(np.float32))
    masks[:, ..., (2, 4)] = 0
    merged = torch.stack([masks.sum(dim=0), torch.zeros(label.shape)])
    both, one = (save_sample_grid([(image, image, m)], tmp_path / "grid.png") for m in (masks, merged))
    assert (matplotlib.image.imread(tmp_path / "grid.png").shape[:2]) == both.shape[:2]
    assert (both != one).any()
